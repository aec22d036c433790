"""Windows of layers, and the receptive radius of a whole network, from which the halos of a map's windows follow."""

from collections.abc import Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """The input pixels from which a layer computes one output pixel, along either axis.

    Output pixel `i` is computed from `kernel` pixels of the input; the first one is pixel `stride * i - before`.

    Attributes:
        kernel: side in pixels.
        stride: distance of two output pixels, in input pixels.
        before: pixels of padding above and on the left.
    """

    kernel: int
    stride: int
    before: int

    @property
    def padding(self) -> tuple[int, int]:
        """Padding at the beginning and the end of an axis whose length is a multiple of the stride."""
        return self.before, max(self.kernel - self.stride, 0) - self.before


def centred(kernel: int, stride: int = 1) -> Window:
    """Return the window that PyTorch's layers have: the same padding on all sides."""
    return Window(kernel, stride, kernel // 2)


def same(kernel: int, stride: int = 1) -> Window:
    """Return the window of TensorFlow's padding "same": a strided layer pads less above and left than below and right.

    TensorFlow's padding depends on the length of the axis. This one holds for multiples of the stride, and inputs of a
    network have such sides (`Description.stride`).
    """
    return Window(kernel, stride, max(kernel - stride, 0) // 2)


def receptive_radius(stages: Sequence[Sequence[Window]], convolutions: Sequence[int]) -> int:
    """Return how many pixels away an input pixel may lie and still change an output pixel.

    The range of needed pixels is followed from the output back to the input. It depends on the position of the output
    pixel within the stride, so the result is the maximum over these positions.

    Args:
        stages: windows of the encoder's layers, from the image down; the layers of a stage together halve the
            resolution.
        convolutions: number of 3x3 convolutions of each decoder level, from the full resolution down; between two
            levels lies a nearest-neighbour upsampling.
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
