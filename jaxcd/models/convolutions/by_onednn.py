"""A convolution and its gradients out of oneDNN's calls."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcd.models.convolutions import calls
from jaxcd.models.convolutions.geometry import Window

_TYPES = (jnp.float32, jnp.bfloat16)


def takes(x: Array, kernel: Array) -> bool:
    """Say whether the calls take images and kernel: both of one of their types, and not empty."""
    return x.dtype in _TYPES and kernel.dtype == x.dtype and x.size > 0 and kernel.size > 0


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c_in d"], window: Window, groups: int = 1
) -> Float[Array, "b _ _ d"]:
    """Convolve images, in groups of channels."""
    return calls.convolution(x, kernel, window, groups)


def has_input_gradient(window: Window) -> bool:
    """Say whether `input_gradient` takes this window."""
    return window.stride == 1


def input_gradient(
    kernel: Float[Array, "k k c d"], gradient: Float[Array, "b h w d"], window: Window
) -> Float[Array, "b h w c"]:
    """Return the gradient of the images: a convolution with the kernel turned about."""
    turned = Window(window.kernel, 1, window.kernel - 1 - window.before)
    return calls.convolution(gradient, jnp.swapaxes(kernel[::-1, ::-1], 2, 3), turned, 1)


def has_kernel_gradient(x: Array, window: Window) -> bool:
    """Say whether `kernel_gradient` takes these images and this window; in bfloat16 it is no faster than XLA's own."""
    return window == Window(3, 1, 1) and x.dtype == jnp.float32


def kernel_gradient(x: Float[Array, "b h w c"], gradient: Float[Array, "b h w d"]) -> Float[Array, "3 3 c d"]:
    """Return the gradient of a 3x3 kernel as one product [3 c, pixels] [pixels, 3 d].

    Beside the channels of `x` stand those of its neighbours left and right, beside those of the gradient the ones above
    and below. The barriers keep XLA from fusing pads and shifts into one loop, which is slower than their copies.
    """
    (_, h, w, c), d, keep = x.shape, gradient.shape[3], jax.lax.optimization_barrier
    wide = keep(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))
    high = keep(jnp.pad(gradient, ((0, 0), (2, 2), (0, 0), (0, 0))))
    seen = keep(jnp.concatenate([wide[:, :, j : j + w] for j in range(3)], axis=-1)).reshape(-1, 3 * c)
    given = keep(jnp.concatenate([high[:, 2 - i : 4 - i + h] for i in range(3)], axis=-1)).reshape(-1, 3 * d)
    return calls.product(seen, given, transposed="a").reshape(3, c, 3, d).transpose(2, 0, 1, 3)
