"""ResNet-18, -34 and -50 down to stride 16, as encoders.

Source: K. He, X. Zhang, S. Ren, J. Sun 2015 (arXiv:1512.03385). In a bottleneck, the 3x3 convolution has the stride, as
in torchvision and timm.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float, Key

from jaxcd.models.convolutions.geometry import Window, centred
from jaxcd.models.pretrained.layers import ConvNorm, max_pool

EPSILON = 1e-5
UNUSED = ("layer4.", "fc.")
"""Beginnings of names in a file of weights that these encoders do not use: stride 32 and the classifier."""

_STEM = 64
_WIDTHS = (64, 128, 256)


class Depth(NamedTuple):
    """Layers of a ResNet.

    Attributes:
        repeats: number of blocks in the three rows, which have strides 4, 8 and 16.
        bottleneck: if True, a block has 1x1, 3x3 and 1x1 convolutions, the last with four times the channels; if False,
            two 3x3 convolutions.
    """

    repeats: tuple[int, int, int]
    bottleneck: bool

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features of strides 2, 4, 8 and 16."""
        return (_STEM, *(width * (4 if self.bottleneck else 1) for width in _WIDTHS))

    @property
    def stages(self) -> tuple[tuple[Window, ...], ...]:
        """Windows of the layers from one stride to the next."""
        rows = [
            [window for stride in self._strides(row) for window in self.windows(stride)] for row in range(len(_WIDTHS))
        ]
        return (centred(7, 2),), (centred(3, 2), *rows[0]), tuple(rows[1]), tuple(rows[2])

    def windows(self, stride: int) -> tuple[Window, ...]:
        """Windows of a block's convolutions."""
        if self.bottleneck:
            return centred(1), centred(3, stride), centred(1)
        return centred(3, stride), centred(3)

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """Yield row, width and stride of each block."""
        for row, width in enumerate(_WIDTHS):
            yield from ((row, width, stride) for stride in self._strides(row))

    def _strides(self, row: int) -> Iterator[int]:
        # The max pooling has halved the resolution before the first row.
        return (2 if i == 0 and row else 1 for i in range(self.repeats[row]))


RESNET18 = Depth((2, 2, 2), bottleneck=False)
RESNET34 = Depth((3, 4, 6), bottleneck=False)
RESNET50 = Depth((3, 4, 6), bottleneck=True)


class _Block(nnx.Module):
    """Convolutions whose result is added to the input; a 1x1 convolution adapts the input if shapes differ."""

    def __init__(self, c_in: int, width: int, stride: int, depth: Depth, *, dtype: Any, rngs: nnx.Rngs):
        layer = partial(ConvNorm, epsilon=EPSILON, dtype=dtype, rngs=rngs)
        windows, c_out, c = depth.windows(stride), width * (4 if depth.bottleneck else 1), c_in
        self.layers = nnx.List()
        for i, window in enumerate(windows):
            last = i == len(windows) - 1
            wide = c_out if last else width
            self.layers.append(layer(c, wide, window, activation=None if last else jax.nn.relu))
            c = wide
        same_shape = stride == 1 and c_in == c_out
        self.shortcut = None if same_shape else layer(c_in, c_out, centred(1, stride), activation=None)

    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b _ _ d"]:
        y = x
        for layer in self.layers:
            y = layer(y)
        return jax.nn.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    """The encoder."""

    def __init__(self, depth: Depth, *, dtype: Any, rngs: nnx.Rngs):
        self.stem = ConvNorm(3, _STEM, centred(7, 2), activation=jax.nn.relu, epsilon=EPSILON, dtype=dtype, rngs=rngs)
        self.rows = nnx.List(nnx.List() for _ in _WIDTHS)
        c = _STEM
        for row, width, stride in depth.blocks():
            self.rows[row].append(_Block(c, width, stride, depth, dtype=dtype, rngs=rngs))
            c = depth.channels[row + 1]
        self.deterministic = True
        self.dates_together = True

    def __call__(
        self, x: Float[Array, "b h w 3"], *, key: Key[Array, ""] | None = None
    ) -> tuple[tuple[Float[Array, "b _ _ _"], ...], Float[Array, "b h_n w_n c_n"]]:
        """Return the features of strides 2, 4 and 8, and those of stride 16; `key` is ignored: there is no dropout."""
        x = self.stem(x)
        levels = [x]
        x = max_pool(x)
        for blocks in self.rows:
            for block in blocks:
                x = block(x)
            levels.append(x)
        return tuple(levels[:-1]), levels[-1]

    def entries(self) -> Iterator[tuple[str, str, nnx.Module]]:
        """Yield the names of kernel and BatchNorm in torchvision and timm, and the layer, for each layer."""
        yield "conv1", "bn1", self.stem
        for row, blocks in enumerate(self.rows, start=1):
            for i, block in enumerate(blocks):
                name = f"layer{row}.{i}"
                for j, layer in enumerate(block.layers, start=1):
                    yield f"{name}.conv{j}", f"{name}.bn{j}", layer
                if block.shortcut is not None:
                    yield f"{name}.downsample.0", f"{name}.downsample.1", block.shortcut
