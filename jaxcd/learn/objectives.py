"""What a training step minimises, by task: network, and augmentation and loss of one micro-batch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int32, Key, Num

from jaxcd import models
from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import SCALES, Scale
from jaxcd.base.types import Batch
from jaxcd.config import Config
from jaxcd.learn import losses, ordinal
from jaxcd.learn.augmentation.augment import augment
from jaxcd.learn.contrastive import contrastive

Loss = Callable[[Any, Any, Batch, Key[Array, ""]], tuple[Float[Array, ""], Any]]
"""`(params, stats, batch, key) -> (loss, stats after the batch)`."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What the network of a task learns.

    Attributes:
        loss: makes the loss of a network's graph.
        network: makes the network, from the arguments of `models.create`.
        maps: whether this network maps damage.
        together: how many image pairs make one element of a batch.
        check: raises a `ConfigError` where the configuration does not fit the task.
    """

    loss: Callable[[nnx.GraphDef, Config], Loss]
    network: Callable[..., nnx.Module]
    maps: bool
    together: Callable[[Config], int]
    check: Callable[[Config], None]


def _segmentation(graph: nnx.GraphDef, config: Config) -> Loss:
    wanted, scale = models.describe(config.model).normalisation, SCALES[config.data.scale]

    def objective(params: Any, stats: Any, batch: Batch, key: Key[Array, ""]) -> tuple[Float[Array, ""], Any]:
        augmentation, dropout = jax.random.split(key)
        pre, post, labels, valid = augment(augmentation, batch, config.augment, wanted, damaged=scale.damaged)
        logits, stats = models.apply(graph, params, stats, pre, post, key=dropout)
        loss = ordinal.weighted if scale.buildings else losses.weighted
        return loss(logits, labels, valid=valid, weights=config.loss), stats

    return objective


def _contrastive(graph: nnx.GraphDef, config: Config) -> Loss:
    wanted, together = models.describe(config.model).normalisation, pairs_an_element(config)
    scale = SCALES[config.data.scale]

    def objective(params: Any, stats: Any, batch: Batch, key: Key[Array, ""]) -> tuple[Float[Array, ""], Any]:
        augmentation, dropout = jax.random.split(key)
        # The warp may move damage out of the crop, so a pair's kind comes from the labels after it.
        pre, post, labels, valid = augment(augmentation, batch, config.augment, wanted, damaged=scale.damaged)
        first, second = embedding_stacks(pre, post, together)
        z, stats = models.apply(graph, params, stats, first, second, key=dropout)
        differ = kinds_differ(shows_damage(labels, valid, scale, together))
        c = config.contrast
        return contrastive(z[0], z[1], differ, margin=c.margin, normalise=c.normalise), stats

    return objective


def _check_contrastive(config: Config) -> None:
    if config.freeze.encoder:
        raise ConfigError("config.freeze.encoder: expected False: the encoder is what pretraining learns, got True")
    if config.data.weights:
        raise ConfigError(f"config.data.weights: expected none with task = contrastive, got {config.data.weights}")
    if config.data.balance != "place":
        raise ConfigError(
            f"config.data.balance: expected place with task = contrastive, whose batches are balanced by damage, got "
            f"{config.data.balance!r}"
        )
    # Half of a (micro-)batch differs; where pairs are compared with pairs, half of them also show damage.
    even, batch = 2 * pairs_an_element(config) * config.train.accumulation, config.train.batch
    if batch % even:
        raise ConfigError(
            f"config.train.batch: expected a multiple of {even}, so that batches are balanced, got {batch}"
        )


OBJECTIVES: dict[str, Objective] = {
    "segmentation": Objective(
        loss=_segmentation,
        network=models.create,
        maps=True,
        together=lambda config: 1,
        check=lambda config: None,
    ),
    "contrastive": Objective(
        loss=_contrastive,
        network=models.Embedding,
        maps=False,
        together=lambda config: models.describe(config.model).pairs_compared,
        check=_check_contrastive,
    ),
}
"""By the names of tasks; `jaxcd.tasks.tasks.TASKS` has the same names."""


def objective_of(config: Config) -> Objective:
    """Return the objective of the configured task.

    Raises:
        ConfigError: there is no such task.
    """
    if config.task not in OBJECTIVES:
        raise ConfigError(f"config.task: expected one of {', '.join(OBJECTIVES)}, got {config.task!r}")
    return OBJECTIVES[config.task]


def check_maps(config: Config, where: str) -> None:
    """Refuse a configuration whose network maps no damage.

    Args:
        config: of a run, or of runs to come.
        where: what the message begins with: the run's folder, or the field.

    Raises:
        ConfigError: it maps none.
    """
    if not objective_of(config).maps:
        others = " or ".join(name for name, objective in OBJECTIVES.items() if objective.maps)
        raise ConfigError(
            f"{where}: a network of task {config.task} maps no damage; take one of task {others}, which can begin with "
            "its encoder (config.init.encoder_from)"
        )


def pairs_an_element(config: Config) -> int:
    """Return how many image pairs make one element of a batch: more than one only where those are compared."""
    return objective_of(config).together(config)


def embedding_stacks(
    pre: Float[Array, "p h w 3"], post: Float[Array, "p h w 3"], together: int
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
    """Arrange a batch's pairs as the two stacks whose embeddings are compared.

    Source: docs/method.md, Contrastive pretraining.

    Args:
        pre: images before the event.
        post: images after it.
        together: pairs an element. With 1 (FC-Siam) the stacks are `pre` and `post`. With 2 (FC-EF) they are the even
            and the odd pairs, each with six channels of pre and post, and b = p / 2.
    """
    if together == 1:
        return pre, post
    pairs = jnp.concatenate([pre, post], axis=-1)
    pairs = pairs.reshape(-1, 2, *pairs.shape[1:])
    return pairs[:, 0], pairs[:, 1]


def shows_damage(
    labels: Num[Array, "p h w"], valid: Num[Array, "p h w"], scale: Scale, together: int
) -> Int32[Array, "b k"]:
    """Say of each of the k = `together` pairs of an element whether it shows a pixel that counts as damaged (1).

    Args:
        labels: codes of the scale.
        valid: 1 where the label is known, else 0.
        scale: of the labels.
        together: pairs an element.
    """
    labels, valid = ordinal.damage_alone(labels, valid, scale)
    return (labels * valid > 0).any(axis=(1, 2)).astype(jnp.int32).reshape(-1, together)


def kinds_differ(damaged: Int32[Array, "b k"]) -> Int32[Array, "b"]:
    """Say which elements compare two different kinds.

    With k = 1 (FC-Siam), pre and post differ where there is damage; with k = 2 (FC-EF), two pairs differ where one of
    them shows damage and the other does not.
    """
    return damaged.sum(axis=1) % 2
