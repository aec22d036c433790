"""Says which arguments oneDNN's calls can take, and computes gradients of a convolution with these calls."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcd.models.convolutions import calls
from jaxcd.models.convolutions.geometry import Window

_TYPES = (jnp.float32, jnp.bfloat16)
_COLUMN, _ROW = 1, 2  # axes of images
_NARROW = 2  # ratio of channels from which nine copies of the narrower array beat three of both (benchmarks/NOTES.md)


def takes(x: Array, kernel: Array) -> bool:
    """Say whether the calls can take images and kernel: both have the same supported type, and neither is empty."""
    return x.dtype in _TYPES and kernel.dtype == x.dtype and x.size > 0 and kernel.size > 0


def has_input_gradient(window: Window) -> bool:
    """Say whether `input_gradient` can take this window."""
    return window.stride == 1


def input_gradient(
    kernel: Float[Array, "k k c d"], gradient: Float[Array, "b h w d"], window: Window
) -> Float[Array, "b h w c"]:
    """Return the gradient of the images: a convolution of the gradient with the kernel turned by 180 degrees."""
    turned = Window(window.kernel, 1, window.kernel - 1 - window.before)
    return calls.convolution(gradient, jnp.swapaxes(kernel[::-1, ::-1], 2, 3), turned)


def has_kernel_gradient(x: Array, window: Window) -> bool:
    """Say whether `kernel_gradient` can take images and window; bfloat16 is left to XLA, which is as fast there."""
    return window == Window(3, 1, 1) and x.dtype == jnp.float32


def kernel_gradient(x: Float[Array, "b h w c"], gradient: Float[Array, "b h w d"]) -> Float[Array, "3 3 c d"]:
    """Return the gradient of a 3x3 kernel as one product of two matrices with a row for each pixel.

    The nine positions of the kernel are nine shifts of the images against the gradient. If one of the two arrays has
    far fewer channels, nine shifted copies of it are made. Otherwise three copies of the images are shifted along the
    rows, and three copies of the gradient along the columns.
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
    """Sum the products of each channel of the images with each channel of the gradient over all pixels."""
    return calls.product(x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1]), transposed="a")


def _neighbours(x: Float[Array, "b h w c"], axis: int, *, back: bool = False) -> Float[Array, "b h w 3*c"]:
    """Join the channels of each pixel with those of its two neighbours along an axis, in reverse order if `back`.

    Without the barriers XLA would fuse padding and shifts into one loop, which is slower than separate copies.
    """
    around = [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)]
    padded = jax.lax.optimization_barrier(jnp.pad(x, around))
    shifted = [jax.lax.slice_in_dim(padded, k, k + x.shape[axis], axis=axis) for k in range(3)]
    return jax.lax.optimization_barrier(jnp.concatenate(shifted[::-1] if back else shifted, axis=-1))
