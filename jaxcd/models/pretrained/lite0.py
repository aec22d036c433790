"""EfficientNet-Lite0 down to stride 16, as an encoder.

Source: M. Tan, Q. Le 2019 (arXiv:1905.11946), in the variant Lite of TensorFlow's repository tpu: with ReLU6, and
without squeeze-and-excitation, so that no layer depends on the whole image.
"""

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxcd.models.convolutions.geometry import Window, same
from jaxcd.models.pretrained.layers import ConvNorm, DepthwiseNorm

EPSILON = 1e-3
UNUSED = (*(f"_blocks.{i}." for i in range(11, 16)), "_conv_head.", "_bn1.", "_fc.")
"""Beginnings of names in a file of weights that this encoder does not use: the blocks of stride 32, the classifier."""


class _Row(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STEM = 32
# A level has one or more rows. A row's stride is that of its first block; its other blocks have stride 1. The levels
# end at strides 2, 4, 8 and 16.
_LEVELS = (
    (_Row(1, 3, 1, 1, 16),),
    (_Row(2, 3, 2, 6, 24),),
    (_Row(2, 5, 2, 6, 40),),
    (_Row(3, 3, 2, 6, 80), _Row(3, 5, 1, 6, 112)),
)
CHANNELS = tuple(rows[-1].channels for rows in _LEVELS)


def _blocks(rows: tuple[_Row, ...]) -> Iterator[tuple[_Row, Window]]:
    """Yield the row and the window of the depthwise convolution of each block of a level."""
    for row in rows:
        for i in range(row.repeats):
            yield row, same(row.kernel, row.stride if i == 0 else 1)


STAGES = tuple(
    (*((same(3, 2),) if level == 0 else ()), *(window for _, window in _blocks(rows)))
    for level, rows in enumerate(_LEVELS)
)


class _Block(nnx.Module):
    """Inverted residual: widen, depthwise convolution, narrow; added to the input where the shapes allow it."""

    def __init__(self, c_in: int, row: _Row, window: Window, *, dtype: Any, rngs: nnx.Rngs):
        wide, layer = c_in * row.expansion, partial(ConvNorm, epsilon=EPSILON, dtype=dtype, rngs=rngs)
        widens = row.expansion > 1
        self.expand = layer(c_in, wide, same(1), activation=jax.nn.relu6) if widens else None
        self.depthwise = DepthwiseNorm(wide, window, activation=jax.nn.relu6, epsilon=EPSILON, dtype=dtype, rngs=rngs)
        self.project = layer(wide, row.channels, same(1), activation=None)
        self.residual = window.stride == 1 and c_in == row.channels

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ d"]:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class Lite0(nnx.Module):
    """The encoder. It has no drop-connect, which in the original drops whole blocks in training."""

    def __init__(self, *, dtype: Any, rngs: nnx.Rngs):
        self.stem = ConvNorm(3, _STEM, same(3, 2), activation=jax.nn.relu6, epsilon=EPSILON, dtype=dtype, rngs=rngs)
        self.levels, c = nnx.List(), _STEM
        for rows in _LEVELS:
            blocks = nnx.List()
            for row, window in _blocks(rows):
                blocks.append(_Block(c, row, window, dtype=dtype, rngs=rngs))
                c = row.channels
            self.levels.append(blocks)
        self.deterministic = True
        self.dates_together = True

    def __call__(
        self, x: Float[Array, "b h w 3"], *, key: Key[Array, ""] | None = None
    ) -> tuple[tuple[Float[Array, "b _ _ _"], ...], Float[Array, "b h_n w_n c_n"]]:
        """Return the features of strides 2, 4 and 8, and those of stride 16; `key` is ignored: there is no dropout."""
        x, features = self.stem(x), []
        for blocks in self.levels:
            for block in blocks:
                x = block(x)
            features.append(x)
        return tuple(features[:-1]), features[-1]

    def entries(self) -> Iterator[tuple[str, str, nnx.Module]]:
        """Yield the names of kernel and BatchNorm in `efficientnet-lite-pytorch`, and the layer, for each layer."""
        yield "_conv_stem", "_bn0", self.stem
        for i, block in enumerate(chain.from_iterable(self.levels)):
            if block.expand is not None:
                yield f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0", block.expand
            yield f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1", block.depthwise
            yield f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2", block.project
