"""The building blocks of the U-Nets: convolution layers with PyTorch's BatchNorm, encoder, decoder."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxcd.models.functional import BATCHNORM_MOMENTUM

BATCHNORM_EPSILON = 1e-5

# torch's default for convolutions, U(-1/sqrt(fan_in), 1/sqrt(fan_in)): the reference trained from it.
_kernel_init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def _bias_init(fan_in: int) -> nnx.Initializer:
    def init(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class BatchNorm(nnx.Module):
    """BatchNorm with torch's defaults and torch's running variance.

    Not `nnx.BatchNorm`: that one keeps the biased variance, torch the unbiased one (n / (n - 1)), and a
    network imported from torch has to behave as it did there.
    """

    def __init__(self, features: int, *, epsilon: float = BATCHNORM_EPSILON):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.epsilon = epsilon
        self.use_running_average = True

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Normalise over batch and pixels in at least float32; the result has the type of `x`."""
        x32 = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            # Both moments in one pass over x, which is what bounds this layer on an accelerator.
            mean = jnp.mean(x32, axis=(0, 1, 2))
            var = jnp.maximum(jnp.mean(jnp.square(x32), axis=(0, 1, 2)) - jnp.square(mean), 0)
            n, m = x.size // x.shape[-1], BATCHNORM_MOMENTUM
            self.mean[...] = (1 - m) * self.mean[...] + m * mean
            self.var[...] = (1 - m) * self.var[...] + m * var * (n / max(n - 1, 1))
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return (x32 * factor + (self.bias[...] - mean * factor)).astype(x.dtype)


def _dropout(x: Array, rate: float, key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
    keep = jax.random.bernoulli(key, 1 - rate, shape)
    return jnp.where(keep, x / (1 - rate), 0)


class ConvLayer(nnx.Module):
    """3x3 convolution; unless it is the network's last: BatchNorm, dropout and ReLU in the side's order.

    Encoder: norm, dropout of elements, ReLU. Decoder: norm, ReLU, dropout of whole channels (docs/method.md).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        dropout: float,
        decoder: bool,
        last: bool,
        dtype: Any,
        rngs: nnx.Rngs,
        epsilon: float = BATCHNORM_EPSILON,
    ):
        self.conv = nnx.Conv(
            c_in,
            c_out,
            (3, 3),
            padding=((1, 1), (1, 1)),
            dtype=dtype,
            kernel_init=_kernel_init,
            bias_init=_bias_init(9 * c_in),
            rngs=rngs,
        )
        self.norm = None if last else BatchNorm(c_out, epsilon=epsilon)
        self.dropout = dropout
        self.decoder = decoder
        self.deterministic = True

    def __call__(self, x: Float[Array, "b h w c"], *, key: Key[Array, ""] | None) -> Float[Array, "b h w d"]:
        """Apply the layer; `key` is used in train mode with dropout above 0."""
        x = self.conv(x)
        if self.norm is None:
            return x
        x = self.norm(x)
        drops = self.dropout > 0 and not self.deterministic
        if drops and key is None:
            raise ValueError("a network in train mode with dropout needs key=...")
        if self.decoder:
            x = jax.nn.relu(x)
            return _dropout(x, self.dropout, key, (x.shape[0], 1, 1, x.shape[-1])) if drops else x  # type: ignore[arg-type]
        return jax.nn.relu(_dropout(x, self.dropout, key, x.shape) if drops else x)  # type: ignore[arg-type]


def _max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h/2 w/2 c"]:
    # Not nnx.max_pool: the gradient of a window reduction is a scatter, which on 2 CPU cores made the training
    # step of the small network 1.4 times as long (1.82 s against 1.26 s) as these two comparisons.
    b, h, w, c = x.shape
    x = x.reshape(b, h // 2, 2, w // 2, 2, c)
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


class UpConv(nnx.Module):
    """2x2 transposed convolution of stride 2.

    Its windows do not overlap, so it is one matrix product, whose 4 outputs a pixel are placed side by side. Not
    `nnx.ConvTranspose`, whose convolution over an image spread with zeros is a seventh of a training step on a CPU
    (benchmarks/NOTES.md); names, shapes and orientation of the parameters are as there.
    """

    def __init__(self, channels: int, *, dtype: Any, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_kernel_init(rngs.params(), (2, 2, channels, channels), jnp.float32))
        self.bias = nnx.Param(_bias_init(4 * channels)(rngs.params(), (channels,)))
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
        """Double height and width."""
        b, h, w, c = x.shape
        kernel = self.kernel[...][::-1, ::-1].astype(self.dtype)
        y = jnp.einsum("bhwc,ijco->bhiwjo", x.astype(self.dtype), kernel)
        return y.reshape(b, 2 * h, 2 * w, c) + self.bias[...].astype(self.dtype)


def _fold(key: Key[Array, ""] | None, i: int) -> Key[Array, ""] | None:
    return None if key is None else jax.random.fold_in(key, i)


class Encoder(nnx.Module):
    """Blocks of convolutions, each followed by 2x2 max pooling."""

    def __init__(self, c_in: int, blocks: Sequence[Sequence[int]], *, dropout: float, dtype: Any, rngs: nnx.Rngs):
        self.blocks = nnx.List()
        for channels in blocks:
            layers = nnx.List()
            for c_out in channels:
                layers.append(
                    ConvLayer(c_in, c_out, dropout=dropout, decoder=False, last=False, dtype=dtype, rngs=rngs)
                )
                c_in = c_out
            self.blocks.append(layers)
        self.deterministic = True

    def __call__(
        self, x: Float[Array, "b h w c"], *, key: Key[Array, ""] | None
    ) -> tuple[tuple[Float[Array, "b _ _ _"], ...], Float[Array, "b h_n w_n c_n"]]:
        """Return the skips (taken before each pool, shallowest first) and the pooled bottom."""
        skips, step = [], 0
        for layers in self.blocks:
            for layer in layers:
                x = layer(x, key=_fold(key, step))
                step += 1
            skips.append(x)
            x = _max_pool(x)
        return tuple(skips), x


class Decoder(nnx.Module):
    """Blocks of: 2x2 transposed convolution, concatenation with the skips, convolutions; down to one logit."""

    def __init__(
        self,
        bottom: int,
        blocks: Sequence[Sequence[int]],
        *,
        copies: int,
        dropout: float,
        dtype: Any,
        rngs: nnx.Rngs,
    ):
        self.ups, self.blocks = nnx.List(), nnx.List()
        c = bottom
        for i, channels in enumerate(blocks):
            self.ups.append(UpConv(c, dtype=dtype, rngs=rngs))
            layers, c_in = nnx.List(), copies * c
            for j, c_out in enumerate(channels):
                last = i == len(blocks) - 1 and j == len(channels) - 1
                layers.append(ConvLayer(c_in, c_out, dropout=dropout, decoder=True, last=last, dtype=dtype, rngs=rngs))
                c_in = c_out
            self.blocks.append(layers)
            c = channels[-1]

    def __call__(
        self,
        x: Float[Array, "b h_n w_n c_n"],
        skips: Sequence[Sequence[Float[Array, "b _ _ _"]]],
        *,
        key: Key[Array, ""] | None,
    ) -> Float[Array, "b h w"]:
        """Return logits in float32; `skips` holds, shallowest first, the arrays to concatenate at each level."""
        step = 0
        for up, layers, skip in zip(self.ups, self.blocks, reversed(skips), strict=True):
            x = jnp.concatenate([up(x), *skip], axis=-1)
            for layer in layers:
                x = layer(x, key=_fold(key, step))
                step += 1
        return x[..., 0].astype(jnp.float32)
