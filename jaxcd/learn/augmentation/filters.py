"""Gaussian blur, the same for both dates of a pair or of its own strength for each."""

import functools
import math
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

_REACH = 3  # standard deviations that a window holds: beyond lies 0.3 % of the weight

Images = Float[Array, "h w t c"]


def gaussian_blur(images: Images, size: Num[Array, ""], *, largest: int) -> Images:
    """Blur with a Gaussian kernel of `size` pixels; sigma follows from the size, as in OpenCV.

    Args:
        images: images of any range.
        size: odd kernel side in pixels, at most `largest`; may be traced.
        largest: largest kernel side; the blur computes a window of this side for all sizes.
    """
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    offsets = jnp.arange(-(largest // 2), largest // 2 + 1)
    taps = jnp.where(jnp.abs(offsets) <= size // 2, jnp.exp(-0.5 * jnp.square(offsets / sigma)), 0.0)
    return _weighted(images, taps[:, None])


def blur_each(images: Images, sigma: Float[Array, " t"], *, largest: float) -> Images:
    """Blur each date by a standard deviation of its own, in pixels.

    Args:
        images: images of any range.
        sigma: at most `largest`; 0 leaves a date as it is; may be traced.
        largest: sets the window that is computed for all of them; an image is larger than half of it.
    """
    reach = math.ceil(_REACH * largest)
    offsets = jnp.arange(-reach, reach + 1)[:, None]
    spread = jnp.maximum(sigma, 1e-3)  # a Gaussian so narrow weighs the pixel itself alone, and is no division by 0
    return _weighted(images, jnp.exp(-0.5 * jnp.square(offsets / spread)))


def _weighted(images: Images, taps: Float[Array, "k _"]) -> Images:
    """Take means with the taps' weights along both axes; a column of taps for each date, or one for all."""
    taps = taps / jnp.sum(taps, axis=0)
    h, w, dates, bands = images.shape
    taps = jnp.repeat(jnp.broadcast_to(taps, (len(taps), dates)), bands, axis=1)
    radius = len(taps) // 2
    # With three axes: with four, XLA's compiler for GPUs takes three minutes to choose tiles for these sums.
    blurred = jnp.pad(images.reshape(h, w, -1), ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    for axis in (0, 1):
        n = images.shape[axis]
        shifted = [jax.lax.slice_in_dim(blurred, i, i + n, axis=axis) for i in range(len(taps))]
        blurred = functools.reduce(operator.add, [tap * image for tap, image in zip(taps, shifted, strict=True)])
    return blurred.reshape(images.shape)
