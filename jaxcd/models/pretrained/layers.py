"""Layers of the pretrained encoders: convolutions without bias, each followed by BatchNorm."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxcd.models.blocks import BatchNorm
from jaxcd.models.convolutions.convolution import convolve, multiply
from jaxcd.models.convolutions.depthwise import depthwise
from jaxcd.models.convolutions.geometry import Window

Activation = Callable[[Array], Array]

# Initial weights of encoders without ImageNet weights: He et al. 2015, from which the ResNets were trained.
_kernel_init = nnx.initializers.he_uniform()


class Conv(nnx.Module):
    """Convolution without bias; a 1x1 convolution is a matrix product, whose gradient is faster on a CPU."""

    def __init__(self, c_in: int, c_out: int, window: Window, *, dtype: Any, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_kernel_init(rngs.params(), (window.kernel, window.kernel, c_in, c_out), jnp.float32))
        self.window = window
        self.onednn = False
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ d"]:
        """Apply the layer."""
        x, kernel, (size, stride, _) = x.astype(self.dtype), self.kernel[...].astype(self.dtype), self.window
        if size == 1:
            return multiply(x[:, ::stride, ::stride], kernel[0, 0], onednn=self.onednn)
        return convolve(x, kernel, self.window, onednn=self.onednn)


class ConvNorm(nnx.Module):
    """Convolution, BatchNorm and, if one is given, an activation."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        window: Window,
        *,
        activation: Activation | None,
        epsilon: float,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        self.conv = Conv(c_in, c_out, window, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(c_out, epsilon=epsilon)
        self.activation = activation

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ d"]:
        """Apply the layer."""
        x = self.norm(self.conv(x))
        return x if self.activation is None else self.activation(x)


class DepthwiseConv(nnx.Module):
    """Depthwise convolution: each channel has a kernel of its own."""

    def __init__(self, channels: int, window: Window, *, dtype: Any, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_kernel_init(rngs.params(), (window.kernel, window.kernel, 1, channels), jnp.float32))
        self.window = window
        self.onednn = False
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
        """Apply the layer."""
        kernel = self.kernel[...].astype(self.dtype)
        return depthwise(x.astype(self.dtype), kernel, self.window, self.onednn)


class DepthwiseNorm(nnx.Module):
    """Depthwise convolution, BatchNorm and activation."""

    def __init__(
        self, channels: int, window: Window, *, activation: Activation, epsilon: float, dtype: Any, rngs: nnx.Rngs
    ):
        self.conv = DepthwiseConv(channels, window, dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(channels, epsilon=epsilon)
        self.activation = activation

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ c"]:
        """Apply the layer."""
        return self.activation(self.norm(self.conv(x)))


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h/2 w/2 c"]:
    """Return the maximum of 3x3 pixels around every second pixel (`centred(3, 2)`); values must not be negative.

    Pixels outside the image count as 0, which changes no maximum of such values. The maximum is taken by comparing
    shifted images, because the gradient of a window reduction is slow on a CPU (`jaxcd.models.kernels.max_pool`).
    """
    before = jnp.pad(x, ((0, 0), (1, 0), (0, 0), (0, 0)))[:, :-1:2]
    x = jnp.maximum(jnp.maximum(x[:, ::2], x[:, 1::2]), before)
    before = jnp.pad(x, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1:2]
    return jnp.maximum(jnp.maximum(x[:, :, ::2], x[:, :, 1::2]), before)
