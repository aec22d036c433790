"""The building blocks of the U-Nets: convolution layers with PyTorch's BatchNorm, encoder, decoder."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxcd.models.convolutions.convolution import convolve, multiply
from jaxcd.models.convolutions.geometry import centred
from jaxcd.models.draws import dropout
from jaxcd.models.functional import BATCHNORM_MOMENTUM
from jaxcd.models.kernels import BATCHNORM_EPSILON, batch_normalise, max_pool

# PyTorch's default for convolutions, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), from which the reference was trained.
_kernel_init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def _bias_init(fan_in: int) -> nnx.Initializer:
    def init(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class BatchNorm(nnx.Module):
    """BatchNorm with PyTorch's defaults and PyTorch's running variance; with `relu`, ReLU follows in the same pass.

    `nnx.BatchNorm` is not used, because its running variance is the biased one. PyTorch's is unbiased (n / (n - 1)),
    and imported networks have to give the same results as there.

    Attributes:
        streams: number of images in an element of the batch. `apply_streams` sets 2 if the batch holds both dates of
            each pair, one behind the other. Each stream is normalised by its own statistics. The running statistics are
            updated with one stream after the other, in their order (docs/method.md, BatchNorm).
    """

    def __init__(self, features: int, *, epsilon: float = BATCHNORM_EPSILON, relu: bool = False):
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.epsilon = epsilon
        self.relu = relu
        self.use_running_average = True
        self.streams = 1

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Normalise over batch and pixels in at least float32; the result has the type of `x`."""
        if self.use_running_average:
            factor, shift = self.running_factors()
            y = x.astype(jnp.promote_types(x.dtype, jnp.float32)) * factor + shift
            return (jax.nn.relu(y) if self.relu else y).astype(x.dtype)
        streams = x.reshape(-1, self.streams, *x.shape[1:])
        y, mean, var = batch_normalise(streams, self.scale[...], self.bias[...], self.epsilon, self.relu)  # type: ignore[misc]
        n, m = x.size // x.shape[-1] // self.streams, BATCHNORM_MOMENTUM
        for t in range(self.streams):
            self.mean[...] = (1 - m) * self.mean[...] + m * mean[t]
            self.var[...] = (1 - m) * self.var[...] + m * var[t] * (n / max(n - 1, 1))
        return y.reshape(x.shape)

    def running_factors(self) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
        """Return the factor and the shift that eval mode applies to each channel."""
        factor = self.scale[...] * jax.lax.rsqrt(self.var[...] + self.epsilon)
        return factor, self.bias[...] - self.mean[...] * factor


class ConvLayer(nnx.Module):
    """3x3 convolution; all but the network's last one are followed by BatchNorm, ReLU and dropout.

    Dropout removes single elements in the encoder, and whole channels in the decoder (docs/method.md). Dropout before
    or after a ReLU gives the same, because it multiplies kept values by a positive number.
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
        self.norm = None if last else BatchNorm(c_out, epsilon=epsilon, relu=True)
        self.dropout = dropout
        self.decoder = decoder
        self.deterministic = True
        self.onednn = False
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"], *, key: Key[Array, ""] | None) -> Float[Array, "b h w d"]:
        """Apply the layer; `key` is needed in train mode with dropout above 0."""
        kernel, bias = self.conv.kernel[...], self.conv.bias[...]  # type: ignore[index]
        if self.norm is None:
            return self._convolve(x, kernel, bias)
        if self.norm.use_running_average:
            factor, shift = self.norm.running_factors()
            x = jax.nn.relu(self._convolve(x, kernel * factor, bias * factor + shift))
        else:
            # BatchNorm subtracts the mean and with it the bias: the bias's gradient is 0, but rounding errors would
            # move it.
            x = self.norm(self._convolve(x, kernel, jax.lax.stop_gradient(bias)))
        if self.dropout == 0 or self.deterministic:
            return x
        if key is None:
            raise ValueError("a network in train mode with dropout needs key=...")
        return dropout(x, self.dropout, key, (x.shape[0], 1, 1, x.shape[-1]) if self.decoder else x.shape)

    def _convolve(self, x: Array, kernel: Array, bias: Array) -> Array:
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), centred(3), onednn=self.onednn)
        return y + bias.astype(self.dtype)


class UpConv(nnx.Module):
    """2x2 transposed convolution of stride 2.

    Its windows do not overlap, so it is one matrix product, which gives 4 output pixels for each input pixel.
    `nnx.ConvTranspose` is not used: it convolves an image that is spread with zeros, which takes a seventh of a
    training step on a CPU (benchmarks/NOTES.md). Names, shapes and orientation of the parameters are the same as there.
    """

    def __init__(self, channels: int, *, dtype: Any, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_kernel_init(rngs.params(), (2, 2, channels, channels), jnp.float32))
        self.bias = nnx.Param(_bias_init(4 * channels)(rngs.params(), (channels,)))
        self.onednn = False
        self.dtype = dtype

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
        """Double height and width."""
        b, h, w, c = x.shape
        kernel = self.kernel[...][::-1, ::-1].transpose(2, 0, 1, 3).reshape(c, 4 * c).astype(self.dtype)
        y = multiply(x.astype(self.dtype), kernel, onednn=self.onednn).reshape(b, h, w, 2, 2, c).swapaxes(2, 3)
        return y.reshape(b, 2 * h, 2 * w, c) + self.bias[...].astype(self.dtype)


def as_logits(x: Float[Array, "b h w k"]) -> Float[Array, "b h w *k"]:
    """Return a network's outputs in float32; a single output loses its axis."""
    return (x[..., 0] if x.shape[-1] == 1 else x).astype(jnp.float32)


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
            x = max_pool(x)
        return tuple(skips), x


class Decoder(nnx.Module):
    """Blocks of a 2x2 transposed convolution, concatenation with the skips, and convolutions; the last gives logits."""

    def __init__(
        self,
        bottom: int,
        blocks: Sequence[Sequence[int]],
        *,
        copies: int,
        outputs: int,
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
                c_out = outputs if last else c_out
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
    ) -> Float[Array, "b h w *k"]:
        """Return logits in float32; `skips` holds, shallowest first, the arrays to concatenate at each level."""
        step = 0
        for up, layers, skip in zip(self.ups, self.blocks, reversed(skips), strict=True):
            x = jnp.concatenate([up(x), *skip], axis=-1)
            for layer in layers:
                x = layer(x, key=_fold(key, step))
                step += 1
        return as_logits(x)
