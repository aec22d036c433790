"""Convolutions, and products of pixels with a matrix, by XLA or (on a CPU, if wanted) by oneDNN."""

from functools import partial

import jax
from jaxtyping import Array, Float

from jaxcd.models.convolutions import by_onednn, calls
from jaxcd.models.convolutions.geometry import Window

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "k k c d"], window: Window, *, onednn: bool
) -> Float[Array, "b _ _ d"]:
    """Convolve images.

    Args:
        x: images; their sides are multiples of the window's stride.
        kernel: kernel of the same type as `x`.
        window: kernel size, stride and padding.
        onednn: if True, oneDNN computes convolution and gradient on a CPU, apart from shapes and types that it cannot
            take. It sums in another order than XLA, so the last bits differ.
    """
    if not (onednn and by_onednn.takes(x, kernel)):
        return _convolve(x, kernel, window)
    return _by_platform(x, kernel, window)


def _convolve(x: Array, kernel: Array, window: Window) -> Array:
    strides, padding = (window.stride,) * 2, (window.padding,) * 2
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_DIMENSIONS)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _by_platform(x: Array, kernel: Array, window: Window) -> Array:
    elsewhere = partial(_convolve, window=window)
    return jax.lax.platform_dependent(x, kernel, cpu=partial(calls.convolution, window=window), default=elsewhere)


def _forward(x: Array, kernel: Array, window: Window) -> tuple[Array, tuple[Array, Array]]:
    return _by_platform(x, kernel, window), (x, kernel)


def _backward(window: Window, given: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    def derived(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return jax.vjp(partial(_convolve, window=window), x, kernel)[1](gradient)

    def on_cpu(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        of_x, of_kernel = derived(x, kernel, gradient)  # XLA removes gradients that the next lines replace
        if by_onednn.has_input_gradient(window):
            of_x = by_onednn.input_gradient(kernel, gradient, window)
        if by_onednn.has_kernel_gradient(x, window):
            of_kernel = by_onednn.kernel_gradient(x, gradient)
        return of_x, of_kernel

    return jax.lax.platform_dependent(*given, gradient, cpu=on_cpu, default=derived)


_by_platform.defvjp(_forward, _backward)


def multiply(x: Float[Array, "b h w c"], kernel: Float[Array, "c d"], *, onednn: bool) -> Float[Array, "b h w d"]:
    """Multiply each pixel's channels by a matrix; arguments as those of `convolve`."""
    if not (onednn and by_onednn.takes(x, kernel)):
        return x @ kernel
    return _multiply(x.reshape(-1, x.shape[-1]), kernel).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def _multiply(x: Array, kernel: Array) -> Array:
    return jax.lax.platform_dependent(x, kernel, cpu=calls.product, default=jax.numpy.matmul)


def _multiply_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _multiply(x, kernel), (x, kernel)


def _multiply_backward(given: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    def on_cpu(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        # XLA's product would copy the transpose of x first.
        return calls.product(gradient, kernel, transposed="b"), calls.product(x, gradient, transposed="a")

    def derived(x: Array, kernel: Array, gradient: Array) -> tuple[Array, Array]:
        return gradient @ kernel.T, x.T @ gradient

    return jax.lax.platform_dependent(*given, gradient, cpu=on_cpu, default=derived)


_multiply.defvjp(_multiply_forward, _multiply_backward)
