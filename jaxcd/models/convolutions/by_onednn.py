"""What oneDNN's calls take, and the gradients of a convolution out of them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcd.models.convolutions import calls
from jaxcd.models.convolutions.geometry import Window

_TYPES = (jnp.float32, jnp.bfloat16)
_COLUMN, _ROW = 1, 2  # axes of images
_NARROW = 2  # times fewer channels that make nine copies of one side faster than three of each (benchmarks/NOTES.md)


def takes(x: Array, kernel: Array) -> bool:
    """Say whether the calls take images and kernel: both of one of their types, and not empty."""
    return x.dtype in _TYPES and kernel.dtype == x.dtype and x.size > 0 and kernel.size > 0


def has_input_gradient(window: Window) -> bool:
    """Say whether `input_gradient` takes this window."""
    return window.stride == 1


def input_gradient(
    kernel: Float[Array, "k k c d"], gradient: Float[Array, "b h w d"], window: Window
) -> Float[Array, "b h w c"]:
    """Return the gradient of the images: a convolution with the kernel turned about."""
    turned = Window(window.kernel, 1, window.kernel - 1 - window.before)
    return calls.convolution(gradient, jnp.swapaxes(kernel[::-1, ::-1], 2, 3), turned)


def has_kernel_gradient(x: Array, window: Window) -> bool:
    """Say whether `kernel_gradient` takes these images and this window; in bfloat16 it is no faster than XLA's own."""
    return window == Window(3, 1, 1) and x.dtype == jnp.float32


def kernel_gradient(x: Float[Array, "b h w c"], gradient: Float[Array, "b h w d"]) -> Float[Array, "3 3 c d"]:
    """Return the gradient of a 3x3 kernel as one product of two matrices with a row for each pixel.

    The nine places of the kernel are shifts of images against gradient. Where one of the two has far fewer channels, it
    is laid out in all nine; else the images in the three along a row, and the gradient in the three along a column.
    """
    c, d = x.shape[3], gradient.shape[3]
    if _NARROW * c < d:
        return _product(_neighbours(_neighbours(x, _ROW), _COLUMN), gradient).reshape(3, 3, c, d)
    if _NARROW * d < c:
        wide = _neighbours(_neighbours(gradient, _ROW, back=True), _COLUMN, back=True)
        return _product(x, wide).reshape(c, 3, 3, d).transpose(1, 2, 0, 3)
    products = _product(_neighbours(x, _ROW), _neighbours(gradient, _COLUMN, back=True))
    return products.reshape(3, c, 3, d).transpose(2, 0, 1, 3)


def _product(x: Float[Array, "b h w c"], gradient: Float[Array, "b h w d"]) -> Float[Array, "c d"]:
    """Add up the products of each channel of the images with each of the gradient."""
    return calls.product(x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1]), transposed="a")


def _neighbours(x: Float[Array, "b h w c"], axis: int, *, back: bool = False) -> Float[Array, "b h w 3*c"]:
    """Lay the channels of each pixel and its two neighbours along an axis side by side; `back`: the last one first.

    The barriers keep XLA from fusing padding and shifts into one loop, which is slower than their copies.
    """
    around = [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)]
    padded = jax.lax.optimization_barrier(jnp.pad(x, around))
    shifted = [jax.lax.slice_in_dim(padded, k, k + x.shape[axis], axis=axis) for k in range(3)]
    return jax.lax.optimization_barrier(jnp.concatenate(shifted[::-1] if back else shifted, axis=-1))
