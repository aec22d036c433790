"""The mean of a network's answers over flips and quarter turns, at eight times the work.

A network is not quite the same seen from another side; the mean is steadier than any one answer. What it gained on
test tiles is in docs/results.md.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

_VIEWS = 8  # four quarter turns, each also mirrored

Answer = Callable[[Any, Any, Array, Array], Float[Array, "b h w *k"]]
"""A network's probabilities for parameters, statistics, and the images [b, h, w, 3] of both dates."""


def averaged(answer: Answer) -> Answer:
    """Return a function that gives the mean of what `answer` gives for eight views of the same images."""

    def mean(params: Any, stats: Any, pre: Array, post: Array) -> Float[Array, "b h w *k"]:
        views = [_unseen(answer(params, stats, _seen(pre, k), _seen(post, k)), k) for k in range(_VIEWS)]
        return sum(views[1:], views[0]) / _VIEWS

    return mean


def _seen(images: Array, view: int) -> Array:
    """Turn images by quarters, the second four views after a flip."""
    images = images[:, :, ::-1] if view >= 4 else images
    return jnp.rot90(images, view % 4, axes=(1, 2))


def _unseen(maps: Array, view: int) -> Array:
    maps = jnp.rot90(maps, -(view % 4), axes=(1, 2))
    return maps[:, :, ::-1] if view >= 4 else maps
