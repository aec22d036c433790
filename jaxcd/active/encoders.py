"""Frozen encoders that features of buildings come from: ImageNet's, a run's, one of random weights, raw colours."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from jaxcd import models
from jaxcd.base.errors import ConfigError
from jaxcd.config import Config
from jaxcd.learn import steps
from jaxcd.learn.augmentation.augment import normalise
from jaxcd.models import ENCODER
from jaxcd.models.description import Normalisation
from jaxcd.models.functional import merge
from jaxcd.models.pretrained.weights import IMAGENET_WEIGHTS
from jaxcd.runs import inference, run_folder

STRIDE = 16
"""Images have sides that are multiples of this; no level of an encoder is coarser."""

_NETWORK = "siam_lite0"
_COLOUR_STRIDE = 2

Levels = tuple[Float[Array, "b _ _ _"], ...]


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """Turns images into features of several resolutions; its weights never change.

    Attributes:
        name: for the user.
        digest: of its weights and of how they are used.
        radius: most pixels away at which an image can change a feature.
    """

    name: str
    digest: str
    radius: int
    levels: Callable[[UInt8[np.ndarray, "b h w 3"]], Levels]

    def __call__(self, images: UInt8[np.ndarray, "b h w 3"]) -> list[Float[np.ndarray, "b _ _ _"]]:
        """Return the features of images, RGB 0..255 with sides that are multiples of `STRIDE`, at each level.

        A level has `h / stride` rows and `w / stride` columns, for strides 1 to 16.
        """
        return [np.asarray(level) for level in self.levels(images)]


def pretrained() -> Encoder:
    """Make the encoder with ImageNet weights that comes in a package (EfficientNet-Lite0).

    Raises:
        ConfigError: the package is not installed.
        CheckpointError: its file is damaged.
    """
    config = _lite0()
    network, params, stats = steps.build_network(config, weights=False)
    weights = models.load_pretrained(config.model, IMAGENET_WEIGHTS)
    params, stats = params | {ENCODER: weights.params}, stats | {ENCODER: weights.stats}
    return _encoder("ImageNet's EfficientNet-Lite0", config, network, params, stats)


def of_run(run: Path) -> Encoder:
    """Make the encoder of a run.

    Raises:
        RunError: no run, or no checkpoint in it.
        ConfigError: its network's encoder sees both dates at once.
        CheckpointError: a checkpoint of another network.
    """
    config = run_folder.read_config(run)
    if models.describe(config.model).pairs_compared != 1:
        raise ConfigError(
            f"{run}: the encoder of {config.model.name} sees both dates at once, expected a network that sees one at a "
            "time, such as siam_lite0"
        )
    trained = inference.load(config, run)
    return _encoder(f"the encoder of {run}", config, trained.network, trained.params, trained.stats)


def random(seed: int) -> Encoder:
    """Make an encoder of random weights: what the architecture alone is worth."""
    config = _lite0()
    config.seed = seed
    network, params, stats = steps.build_network(config)
    return _encoder(f"random EfficientNet-Lite0 ({seed})", config, network, params, stats)


def colours() -> Encoder:
    """Make features out of an image's colours alone: its mean and its squares in squares of 2 pixels."""

    @jax.jit
    def levels(images: UInt8[Array, "b h w 3"]) -> Levels:
        b, h, w, c = images.shape
        s = _COLOUR_STRIDE
        values = (images.astype(jnp.float32) / 255).reshape(b, h // s, s, w // s, s, c)
        return (jnp.concatenate([values.mean((2, 4)), (values**2).mean((2, 4))], axis=-1),)

    return Encoder(name="raw colours", digest="colours", radius=0, levels=levels)


def _lite0() -> Config:
    config = Config()
    config.model.name, config.model.size = _NETWORK, "small"
    return config


def _encoder(name: str, config: Config, network: models.Network, params: Any, stats: Any) -> Encoder:
    wanted = models.describe(config.model).normalisation
    weights = {ENCODER: params[ENCODER]}, {ENCODER: stats.get(ENCODER, {})}  # statistics: none without BatchNorm
    levels = _levels(config, network, wanted, params, stats)
    return Encoder(
        name=name,
        digest=_digest(weights, [config.model.name, config.model.size, config.model.dtype, *wanted]),
        radius=models.describe(config.model).receptive_radius,
        levels=levels,
    )


def _levels(
    config: Config, network: models.Network, wanted: Normalisation, params: Any, stats: Any
) -> Callable[[UInt8[np.ndarray, "b h w 3"]], Levels]:
    # What lies beyond the encoder is never run; where it has no weights yet, anything of the right shape will do.
    params, stats = (jax.tree.map(_filled, tree) for tree in (params, stats))

    @jax.jit
    def levels(params: Any, stats: Any, images: UInt8[Array, "b h w 3"]) -> Levels:
        encoder = getattr(merge(network.eval, params, stats), ENCODER)
        skips, bottom = encoder(normalise(images, wanted).astype(steps.DTYPES[config.model.dtype]), key=None)
        height = images.shape[1]
        found = [level for level in (*skips, bottom) if height // level.shape[1] <= STRIDE]
        return tuple(level.astype(jnp.float32) for level in found)

    return lambda images: levels(params, stats, images)


def _filled(leaf: Any) -> Any:
    return jnp.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, jax.ShapeDtypeStruct) else leaf


def _digest(weights: Any, use: list) -> str:
    found = hashlib.sha256(repr(use).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
        found.update(jax.tree_util.keystr(path).encode())
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()
