"""How far a layer, and a whole network of layers, looks: from it follow the halos of a map's windows."""

from collections.abc import Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """The pixels that one value of a layer's output comes from, along either axis.

    Output `i` sees `kernel` pixels of the input from `stride * i - before` on.

    Attributes:
        kernel: side in pixels.
        stride: input pixels between two outputs.
        before: pixels of padding above and on the left.
    """

    kernel: int
    stride: int
    before: int

    @property
    def padding(self) -> tuple[int, int]:
        """Padding before and after an axis whose length is a multiple of the stride."""
        return self.before, max(self.kernel - self.stride, 0) - self.before


def centred(kernel: int, stride: int = 1) -> Window:
    """Return the window that PyTorch's layers have: the same padding on all sides."""
    return Window(kernel, stride, kernel // 2)


def same(kernel: int, stride: int = 1) -> Window:
    """Return the window of TensorFlow's padding "same": a strided layer pads less above and left than below and right.

    TensorFlow's padding depends on the length of an axis; this is the one of all lengths that are multiples of the
    stride, which a network's input has (`Description.stride`).
    """
    return Window(kernel, stride, max(kernel - stride, 0) // 2)


def receptive_radius(stages: Sequence[Sequence[Window]], convolutions: Sequence[int]) -> int:
    """Return how many pixels away an input pixel may lie and still change an output pixel.

    Walks the network from the output to the input. What is needed depends on where a pixel lies within the stride; this
    is the largest over all such places.

    Args:
        stages: of the encoder, from the image down; the layers of each, which together halve the resolution.
        convolutions: 3x3 convolutions of each decoder level, from the full resolution down; between two levels lies an
            upsampling to nearest pixels.
    """
    return max(_reach(at, stages, convolutions) for at in range(2 ** len(stages)))


def _reach(at: int, stages: Sequence[Sequence[Window]], convolutions: Sequence[int]) -> int:
    low = high = at
    skips = []
    for count in convolutions:
        low, high = low - count, high + count
        skips.append((low, high))
        low, high = low // 2, high // 2
    for layers, skip in zip(reversed(stages), reversed(skips), strict=True):
        for window in reversed(layers):
            low, high = (window.stride * edge - window.before for edge in (low, high))
            high += window.kernel - 1
        low, high = min(low, skip[0]), max(high, skip[1])
    return max(at - low, high - at)
