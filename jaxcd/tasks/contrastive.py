"""The task of pretraining an encoder by contrast: balanced batches, validation of its embeddings."""

import functools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int32

from jaxcd import models
from jaxcd.base import hosts, progress
from jaxcd.base.scales import SCALES
from jaxcd.base.types import Batch
from jaxcd.config import Config
from jaxcd.feed.pretraining import contrast_batches, kinds, pretraining_splits
from jaxcd.feed.splits import Splits
from jaxcd.learn import sharding
from jaxcd.learn.augmentation.augment import normalise
from jaxcd.learn.contrastive import contrastive
from jaxcd.learn.objectives import embedding_stacks, pairs_an_element, shows_damage
from jaxcd.runs.figures import Figures, Histogram
from jaxcd.store.dataset import TileDataset
from jaxcd.tasks import embeddings
from jaxcd.tasks.embeddings import Embedded
from jaxcd.tasks.task import Diverged, Search, Validate, Validated, Watch

_COLLAPSED = 0.01
_FEW = 5  # with fewer places of a kind, a validation of embeddings says little
_Embed = Callable[[Any, Any, Batch], tuple[Float[Array, "2 b c"], Int32[Array, "b k"]]]


@dataclass(frozen=True, kw_only=True)
class EmbeddingFigures(Figures):
    """Of a validation of embeddings: what they tell of damage, and squared distances of one and of different kinds."""

    kind = "validation"
    curves = {"nearest_neighbour": "accuracy of nearest neighbours", "linear_probe": "accuracy of a linear probe"}
    nearest_neighbour: float
    linear_probe: float
    spread: float
    same_distance: float
    different_distance: float
    same_distances: Histogram
    different_distances: Histogram


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Where the batches of an encoder's pretraining come from; a `jaxcd.tasks.task.Task`.

    Attributes:
        places: elements of an epoch: damaged places, and as many pairs without damage.
        batches: balanced training batches from a position on; nothing is searched for.
        name: name of a place.
        training_batches: balanced batches of training places for validations: always the same ones, without end; of
            several processes, each has every so many-th one.
        validation_batches: likewise of validation places.
    """

    figures: type[Figures] = EmbeddingFigures
    places: int
    batches: Callable[[int, Sequence[Any]], Iterator[Batch]]
    name: Callable[[int], str]
    training_batches: Callable[[], Iterator[Batch]]
    validation_batches: Callable[[], Iterator[Batch]]

    @classmethod
    def split(cls, dataset: TileDataset, config: Config) -> Splits:
        """Split the places of a dataset; places that a damage network's split holds out are never trained on."""
        together = models.describe(config.model).pairs_compared
        return pretraining_splits(dataset.samples, config, pairs_compared=together)

    @classmethod
    def of(cls, dataset: TileDataset, splits: Splits, config: Config) -> "Pretraining":
        """Take the batches from a dataset; training batches hold this process's part of the batch."""
        sharding.training_mesh(config)
        network = models.describe(config.model)
        train, validation = (
            kinds(dataset, rows, config, stride=network.stride, split=name)
            for name, rows in (("train", splits.train), ("validation", splits.validation))
        )
        few = min(len(validation.damaged), len(validation.intact))
        if few < _FEW:
            print(
                f"WARNING: validation crops come from {few} places; what they say of embeddings is about these few",
                file=sys.stderr,
            )
        batches = functools.partial(
            contrast_batches,
            dataset,
            config=config,
            stride=network.stride,
            pairs_compared=network.pairs_compared,
        )
        own: dict[str, Any] = {"process_index": hosts.index(), "process_count": hosts.count()}
        # In a validation each process has a share of the batches, and embeds whole ones by itself.
        share: dict[str, Any] = {"start": hosts.index(), "every": hosts.count(), "seed": 0}
        return cls(
            places=2 * len(train.damaged) // network.pairs_compared,
            batches=lambda start, _: batches(found=train, seed=config.seed, start=start, **own),
            name=lambda row: dataset.samples[row].id,
            # The same pairs whatever the run's seed, so that runs can be compared.
            training_batches=lambda: batches(found=train, **share),
            validation_batches=lambda: batches(found=validation, **share),
        )

    @staticmethod
    def next_command(run: Path) -> str:
        """Say what to do with a finished run."""
        return f"begin a damage network with its encoder: --config.init.encoder_from={run}"

    def searcher(self, config: Config, network: models.Network) -> Search:
        """Search nothing: the configuration refuses `train.search_every` for this task."""
        return lambda params, stats, watch: []

    def validator(self, config: Config, network: models.Network, mesh: Mesh, run: Path) -> Validate:
        """Make the validation: the loss, and how well embeddings of validation places tell damaged from intact."""
        embed = embedding_step(network, config)
        total = math.ceil(config.contrast.samples / (config.train.batch * pairs_an_element(config)))
        count, own = len(range(hosts.index(), total, hosts.count())), sharding.evaluation_mesh(config)

        def embedded(params: Any, stats: Any, source: Iterator[Batch], title: str) -> Embedded:
            parts = []
            with progress.bar(count, unit="batch", title=title, leave=False) as bar:
                for batch, _ in zip(source, range(count), strict=False):
                    z, damaged = embed(params, stats, sharding.shard_batch(batch, own))
                    parts.append((np.asarray(z[0]), np.asarray(z[1]), np.asarray(damaged)))
                    bar.update()
            shares = hosts.exchange(parts)
            parts = [shares[j % hosts.count()][j // hosts.count()] for j in range(total)]
            return Embedded(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

        def validate(params: Any, stats: Any, step: int, watch: Watch) -> Validated | Diverged:
            params, stats = sharding.own_copy((params, stats), config)
            training = embedded(params, stats, watch(self.training_batches()), "embedding training places")
            validation = embedded(params, stats, watch(self.validation_batches()), "embedding validation places")
            return _measured(training, validation, config, run, step)

        return validate


def embedding_step(network: models.Network, config: Config) -> _Embed:
    """Make the step `(params, stats, batch) -> (embeddings of both sides, kinds of the pairs)`."""

    wanted, together = models.describe(config.model).normalisation, pairs_an_element(config)
    scale = SCALES[config.data.scale]

    def step(params: Any, stats: Any, batch: Batch) -> tuple[Float[Array, "2 b c"], Int32[Array, "b k"]]:
        first, second = embedding_stacks(normalise(batch.pre, wanted), normalise(batch.post, wanted), together)
        z, _ = models.apply(network.eval, params, stats, first, second)
        return z, shows_damage(batch.labels, batch.valid, scale, together)

    return jax.jit(step)


def _measured(training: Embedded, validation: Embedded, config: Config, run: Path, step: int) -> Validated | Diverged:
    c = config.contrast
    sides = (jnp.asarray(part) for part in (validation.first, validation.second, validation.differ))
    loss = float(contrastive(*sides, margin=c.margin, normalise=c.normalise))
    if not all(np.isfinite(z).all() for part in (training, validation) for z in part):
        return Diverged(math.nan)
    pairs = embeddings.of_pairs(training, c), embeddings.of_pairs(validation, c)
    nearest, probe = embeddings.nearest_neighbour(*pairs), embeddings.linear_probe(*pairs)
    values, differ = embeddings.distances(validation, c), validation.differ == 1
    spread = embeddings.spread(validation, c)
    if hosts.is_first():
        folder = run / "embeddings"
        folder.mkdir(exist_ok=True)
        embeddings.draw(*pairs, validation, c, folder / f"step_{step:07d}.png")
    same, other = float(values[~differ].mean()), float(values[differ].mean())
    collapsed = (
        f"embeddings of all images are nearly one point (mean squared distance {spread:.4f} margins): the encoder has "
        "learned nothing yet, or collapsed; if it stays, change config.optim.learning_rate or config.contrast.margin"
    )
    return Validated(
        figures=EmbeddingFigures(
            loss=loss,
            nearest_neighbour=nearest,
            linear_probe=probe,
            spread=spread,
            same_distance=same,
            different_distance=other,
            same_distances=embeddings.distance_histogram(values[~differ], c),
            different_distances=embeddings.distance_histogram(values[differ], c),
        ),
        score=-loss,
        threshold=None,
        summary=f"nearest neighbour {nearest:.3f}, linear probe {probe:.3f} (chance 0.5); "
        f"squared distance {same:.3f} of one kind, {other:.3f} of different kinds",
        warning=collapsed if spread < _COLLAPSED else "",
    )
