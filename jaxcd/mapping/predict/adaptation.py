"""Fits a trained network to images without labels: its BatchNorm statistics are computed anew (AdaBN, Li et al. 2016).

In train mode a layer normalises with the statistics of the images at hand, so one pass gives the statistics of every
layer. They are means over all images; the variance also has the part by which the images' means differ. A layer that
sees both dates gets one set for both, as in training.
"""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from jaxcd import models
from jaxcd.base.errors import SceneError
from jaxcd.config import Config
from jaxcd.learn import steps
from jaxcd.learn.augmentation.augment import normalise
from jaxcd.models.functional import BATCHNORM_MOMENTUM

BN = "bn"
"""Name of this way of fitting."""
MOST = 32
"""Pairs of images that are enough: statistics are over all their pixels."""
SIDE = 512
"""Largest side of these images in pixels."""
SEEN = 0.9
"""Least share of an image that is seen, as black pixels would count as dark ground."""

Pairs = Iterable[tuple[UInt8[np.ndarray, "b h w 3"], UInt8[np.ndarray, "b h w 3"]]]


def estimator(config: Config) -> Callable[[Any, Any, Pairs], Any]:
    """Make the function `(params, stats, pairs) -> stats` that computes statistics anew.

    The given statistics are not used but for their shapes. Pairs of one size are compiled once.

    Raises:
        ConfigError: as `steps.build_network`.
        SceneError: (of the function) there are no pairs.
    """
    without_dropout = copy.deepcopy(config)
    without_dropout.model.dropout = 0.0
    network, _, _ = steps.build_network(without_dropout, weights=False)
    wanted = models.describe(config.model).normalisation

    @jax.jit
    def after(params: Any, stats: Any, pre: Any, post: Any) -> Any:
        return models.apply(network.train, params, stats, normalise(pre, wanted), normalise(post, wanted))[1]

    def estimate(params: Any, stats: Any, pairs: Pairs) -> Any:
        zeros, ones = (jax.tree.map(make, stats) for make in (np.zeros_like, np.ones_like))
        kept: Any = None  # share of old statistics that a pass keeps, which depends on the dates that a layer sees
        total: Any = None
        number = 0
        for pre, post in pairs:
            found = jax.device_get(after(params, zeros, pre, post))
            if kept is None:
                kept = jax.tree.map(_kept, jax.device_get(after(params, ones, pre, post)), found)
            own = jax.tree.map(lambda new, old: np.asarray(new, np.float64) / (1 - old), found, kept)
            own = _each_layer(own, lambda mean, var: (mean, var + mean**2))
            total = own if total is None else jax.tree.map(np.add, total, own)
            number += 1
        if total is None:
            raise SceneError("--adapt bn: no part of the images is seen before and after; leave --adapt out")
        means = jax.tree.map(lambda leaf: leaf / number, total)
        fitted = _each_layer(means, lambda mean, square: (mean, np.maximum(square - mean**2, 0)))
        return jax.tree.map(lambda new, old: new.astype(np.asarray(old).dtype), fitted, stats)

    return estimate


def _kept(after_ones: Any, after_zeros: Any) -> float:
    """Return the share that is kept: a power of one layer's, as differences of large numbers are not exact."""
    share = float(np.median(np.asarray(after_ones, np.float64) - after_zeros))
    return (1 - BATCHNORM_MOMENTUM) ** round(np.log(share) / np.log(1 - BATCHNORM_MOMENTUM))


def seen_parts(
    pre: UInt8[np.ndarray, "h w 3"], post: UInt8[np.ndarray, "h w 3"], stride: int
) -> Iterator[tuple[UInt8[np.ndarray, "1 s s 3"], UInt8[np.ndarray, "1 s s 3"]]]:
    """Cut a tile into parts of at most `SIDE` pixels a side; parts that are black in large part are left out."""
    side = min(SIDE, *(length // stride * stride for length in pre.shape[:2]))
    for row in range(0, pre.shape[0] - side + 1, side):
        for column in range(0, pre.shape[1] - side + 1, side):
            own = np.s_[None, row : row + side, column : column + side]
            if (pre[own].any(axis=-1) & post[own].any(axis=-1)).mean() >= SEEN:
                yield pre[own], post[own]


def _each_layer(stats: Any, change: Callable[[Any, Any], tuple[Any, Any]]) -> Any:
    """Apply a function to the mean and the variance of every layer of a tree of statistics."""
    if not isinstance(stats, dict):
        return stats
    if set(stats) == {"mean", "var"}:
        return dict(zip(("mean", "var"), change(stats["mean"], stats["var"]), strict=True))
    return {name: _each_layer(own, change) for name, own in stats.items()}
