"""Operations with gradients of their own, because the gradients that JAX derives move more bytes than necessary."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BATCHNORM_EPSILON = 1e-5

_PIXELS = (0, 2, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_normalise(
    x: Float[Array, "b t h w c"], scale: Float[Array, " c"], bias: Float[Array, " c"], epsilon: float, relu: bool
) -> tuple[Float[Array, "b t h w c"], Float[Array, "t c"], Float[Array, "t c"]]:
    """Normalise each stream over batch and pixels, and apply ReLU if `relu` is True.

    The backward pass keeps only `x`, and computes the normalised values and ReLU's mask again, in passes over the data
    that read `x` anyway. The gradient that JAX derives also reads the result, writes the masked gradient to memory, and
    reads that twice.

    Args:
        x: images of t streams.
        scale: scale of each channel.
        bias: bias of each channel.
        epsilon: number that is added to the variance.
        relu: whether ReLU follows.

    Returns:
        The images in the type of `x`; mean and biased variance in at least float32, whose gradients are ignored.
    """
    return _normalise(x, scale, bias, epsilon, relu)[0]


def _normalise(x: Array, scale: Array, bias: Array, epsilon: float, relu: bool) -> tuple[Any, Any]:
    x32 = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    # Both moments in one pass over x, because reading x takes most of this layer's time on an accelerator.
    n = x.size // (x.shape[1] * x.shape[-1])
    mean = _sum(x32) / n
    var = jnp.maximum(_sum(jnp.square(x32)) / n - jnp.square(mean), 0)
    factor = scale * jax.lax.rsqrt(var + epsilon)
    y = x32 * _wide(factor) + _wide(bias - mean * factor)
    y = (jnp.maximum(y, 0) if relu else y).astype(x.dtype)
    return (y, mean, var), (x, scale, bias, mean, var)


def _normalise_gradient(epsilon: float, relu: bool, kept: Any, gradients: Any) -> tuple[Array, Array, Array]:
    x, scale, bias, mean, var = kept
    rate = jax.lax.rsqrt(var + epsilon)
    factor = scale * rate
    shift = bias - mean * factor
    x, g = x.astype(mean.dtype), gradients[0].astype(mean.dtype)
    first = second = third = g
    if relu:
        first, second, third = jax.lax.platform_dependent(
            x, _wide(factor), _wide(shift), g, cpu=_passed_once, default=_passed_in_three_forms
        )
    of_bias, of_x = _sum(first), _sum(second * x)
    of_scale = (of_x - mean * of_bias) * rate
    n = x.size // mean.size
    slope = factor * rate * of_scale / n
    x_gradient = _wide(factor) * third - x * _wide(slope) + _wide(mean * slope - factor * of_bias / n)
    return x_gradient.astype(kept[0].dtype), jnp.sum(of_scale, axis=0), jnp.sum(of_bias, axis=0)


def _passed_once(x: Array, factor: Array, shift: Array, g: Array) -> tuple[Array, Array, Array]:
    """Return the gradient that passes the ReLU, once for each of the three sums that use it."""
    passed = jnp.where(x * factor + shift > 0, g, 0)
    return passed, passed, passed


def _passed_in_three_forms(x: Array, factor: Array, shift: Array, g: Array) -> tuple[Array, Array, Array]:
    """Return the same as `_passed_once`, with ReLU's mask in three forms that give equal values in floating point.

    If the forms were the same, XLA would on a GPU compute the masked gradient once, write it to memory, and read it in
    each sum. With three forms each sum computes it from x and g. On a CPU, three forms would make a step with dropout
    1.5 times as long (benchmarks/NOTES.md).
    """
    return (
        jnp.where(x * -factor < shift, g, 0),
        jnp.where(x * factor > -shift, g, 0),
        jnp.where(x * factor + shift > 0, g, 0),
    )


def _sum(x: Float[Array, "b t h w c"]) -> Float[Array, "t c"]:
    """Sum over batch and pixels; on a CPU row by row, which takes XLA at most half the time."""
    return jax.lax.platform_dependent(
        x, cpu=lambda x: jnp.sum(jnp.sum(x, axis=3), axis=(0, 2)), default=lambda x: jnp.sum(x, axis=_PIXELS)
    )


def _wide(per_stream: Float[Array, "t c"]) -> Float[Array, "t 1 1 c"]:
    return per_stream[:, None, None]


batch_normalise.defvjp(_normalise, _normalise_gradient)


@jax.custom_vjp
def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h/2 w/2 c"]:
    """Take the maximum of each 2x2 window.

    Of equal pixels, the first one (row by row) gets the gradient, as in PyTorch. The backward pass keeps one byte for
    each window in place of both images. `nnx.max_pool` is not used, because its gradient is a scatter, which is slow on
    a CPU (benchmarks/NOTES.md).
    """
    return _max_pool(x)[0]


def _max_pool(x: Array) -> tuple[Array, Array]:
    b, h, w, c = x.shape
    windows = x.reshape(b, h // 2, 2, w // 2, 2, c)
    largest, index = windows[:, :, 0, :, 0], jnp.zeros((b, h // 2, w // 2, c), jnp.uint8)
    for k in range(1, 4):
        pixel = windows[:, :, k // 2, :, k % 2]
        larger = pixel > largest
        largest, index = jnp.where(larger, pixel, largest), jnp.where(larger, jnp.uint8(k), index)
    return largest, index


def _max_pool_gradient(index: Array, g: Array) -> tuple[Array]:
    b, h, w, c = g.shape
    place = jnp.arange(4, dtype=jnp.uint8).reshape(2, 1, 2, 1)
    spread = jnp.where(index[:, :, None, :, None] == place, g[:, :, None, :, None], 0)
    return (spread.reshape(b, 2 * h, 2 * w, c),)


max_pool.defvjp(_max_pool, _max_pool_gradient)
