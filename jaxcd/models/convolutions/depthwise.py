"""Depthwise convolution (each channel has a kernel of its own), in forms that are fast on a CPU.

For each position of the kernel, the image is shifted and multiplied by the weight there, and these products are added
up. XLA's convolution with as many groups as channels takes 3 to 40 times as long on 2 CPU cores, and its gradient 2 to
9 times (benchmarks/NOTES.md).
"""

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcd.models.convolutions import by_onednn, calls
from jaxcd.models.convolutions.geometry import Window


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(
    x: Float[Array, "b h w c"], kernel: Float[Array, "size size 1 c"], window: Window, onednn: bool = False
) -> Float[Array, "b _ _ c"]:
    """Convolve each channel of images.

    Args:
        x: images; their sides are multiples of the window's stride.
        kernel: kernel of the same type as `x`.
        window: kernel size, stride and padding.
        onednn: if True, oneDNN computes the convolution on a CPU, and at stride 1 also the gradient of the images.

    Returns:
        The result in the type of `x`; sums are taken in at least float32.
    """
    if not (onednn and by_onednn.takes(x, kernel)):
        return _convolved(x, kernel, window)
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=partial(calls.convolution, window=window, groups=x.shape[-1]),
        default=partial(_convolved, window=window),
    )


def _convolved(x: Array, kernel: Array, window: Window) -> Array:
    wide = jnp.promote_types(x.dtype, jnp.float32)
    total = jnp.zeros((), wide)
    for (i, j), shifted in _shifted(_padded(x, window), window):
        total = total + shifted.astype(wide) * kernel[i, j, 0].astype(wide)
    return total.astype(x.dtype)


def _forward(x: Array, kernel: Array, window: Window, onednn: bool) -> tuple[Array, tuple[Array, Array]]:
    return depthwise(x, kernel, window, onednn), (x, kernel)


def _backward(window: Window, onednn: bool, given: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = given
    if window.stride == 1:
        turned = Window(window.kernel, 1, window.kernel - 1 - window.before)
        to_x: Array = depthwise(gradient, kernel[::-1, ::-1], turned, onednn)
    else:
        to_x, *_ = jax.vjp(lambda x: _convolved(x, kernel, window), x)[1](gradient)
    of_kernel = jax.lax.platform_dependent(
        x, gradient, cpu=partial(_by_rows, window), default=partial(_at_once, window)
    )
    return to_x, of_kernel.reshape(kernel.shape).astype(kernel.dtype)


depthwise.defvjp(_forward, _backward)


def _at_once(window: Window, x: Array, gradient: Array) -> Float[Array, "places c"]:
    """Return the gradient of the kernel: for each of its positions, the sum of gradient times shifted image."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    shifted = _shifted(_padded(x, window), window)
    return jnp.stack([jnp.sum(image.astype(wide) * gradient.astype(wide), axis=(0, 1, 2)) for _, image in shifted])


def _by_rows(window: Window, x: Array, gradient: Array) -> Float[Array, "places c"]:
    """Return the same as `_at_once`, summed row by row: XLA's sum over three axes takes ten times as long on a CPU."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    images, height, *row = gradient.shape
    padded, size = _padded(x, window), window.kernel

    def add(at: Array, totals: tuple[Array, ...]) -> tuple[Array, ...]:
        image, y = at // height, at % height
        rows = jax.lax.dynamic_slice(padded, (image, y * window.stride, 0, 0), (1, size, *padded.shape[2:]))
        products = jax.lax.dynamic_slice(gradient, (image, y, 0, 0), (1, 1, *row))[0, 0].astype(wide)
        shifted = (part[0, 0] for _, part in _shifted(rows, window))
        return tuple(total + part.astype(wide) * products for total, part in zip(totals, shifted, strict=True))

    zeros = tuple(jnp.zeros(row, wide) for _ in range(size * size))
    totals = jax.lax.fori_loop(0, images * height, add, zeros)
    return jnp.stack([jnp.sum(total, axis=0) for total in totals])


def _padded(x: Array, window: Window) -> Array:
    return jnp.pad(x, ((0, 0), window.padding, window.padding, (0, 0)))


def _shifted(padded: Array, window: Window) -> Iterator[tuple[tuple[int, int], Array]]:
    """Yield each position of the kernel, and the input pixels that its weight is multiplied by."""
    (b, h, w, c), (size, stride, _) = padded.shape, window
    # One more than the last row and column that the first position reaches.
    down, across = (n - size - (n - size) % stride + 1 for n in (h, w))
    for i in range(size):
        for j in range(size):
            yield (i, j), jax.lax.slice(padded, (0, i, j, 0), (b, i + down, j + across, c), (1, stride, stride, 1))
