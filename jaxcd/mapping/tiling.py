"""Windows that give the network's answer for a whole image, piece by piece and without seams.

Three rules make the pieces equal the whole:
- An image whose sides are no multiples of the network's stride is padded at the bottom and right with black pixels.
- Windows begin at multiples of the stride, so that pooling groups the same pixels.
- A window answers for what lies at least the network's receptive radius away from its edges, but for edges that it
  shares with the (padded) image: there the zeros that each convolution adds lie where they do for the whole image.
"""

import math
from typing import NamedTuple

from jaxcd.models import DECODER_BLOCKS, ENCODER_BLOCKS

# Work over the work without halos that an inner window may cost: the issue of a window's size.
_MOST_WORK = 1.5
# Smaller windows only add work: of a small network's 10 % at 1024 pixels 5 % are left, and on a CPU a pixel of such a
# window takes an eighth less time. Larger ones take memory (2 GB for these).
_LEAST_WINDOW = 2048


class Span(NamedTuple):
    """A window along one axis: it begins at `start`, and answers for the pixels from `first` up to `last`."""

    start: int
    first: int
    last: int


class Axis(NamedTuple):
    """How an axis of an image is covered: windows of `window` pixels; `padded` is the length with its padding."""

    window: int
    padded: int
    spans: tuple[Span, ...]


def receptive_radius(size: str) -> int:
    """Return how many pixels away an input pixel may lie and still change an output pixel.

    Walks the network from the output to the input: a 3x3 convolution widens what is needed by 1 on each side, a step
    down a level maps pixels to pairs of them. What is needed depends on where a pixel lies within the stride; this is
    the largest over all such places.

    Args:
        size: small, medium or large.
    """
    down = [len(block) for block in ENCODER_BLOCKS[size]]
    up = [len(block) for block in reversed(DECODER_BLOCKS[size])]
    return max(_reach(at, down, up) for at in range(2 ** len(down)))


def _reach(at: int, down: list[int], up: list[int]) -> int:
    """Return the reach of the output pixel at a place; `down` and `up` count convolutions, shallowest level first."""
    low = high = at
    skips = []
    for convolutions in up:
        low, high = low - convolutions, high + convolutions
        skips.append((low, high))
        low, high = low // 2, high // 2
    for convolutions, skip in zip(reversed(down), reversed(skips), strict=True):
        low, high = min(2 * low, skip[0]) - convolutions, max(2 * high + 1, skip[1]) + convolutions
    return max(at - low, high - at)


def halo(size: str) -> int:
    """Return the receptive radius, rounded up to a multiple of the network's stride."""
    return _up(receptive_radius(size), 2 ** len(ENCODER_BLOCKS[size]))


def default_window(size: str) -> int:
    """Return the least side of a window whose halo costs at most 1.5 times the work, and at least 2048 pixels."""
    stride = 2 ** len(ENCODER_BLOCKS[size])
    least = 2 * halo(size) / (1 - 1 / math.sqrt(_MOST_WORK))
    return _up(max(least, _LEAST_WINDOW), stride)


def cover(length: int, size: str, *, most: int) -> Axis:
    """Cover an axis with windows of one length, as few as `most` allows, and no longer than they need be.

    Args:
        length: pixels of the axis.
        size: of the network.
        most: largest window in pixels; more than two halos.
    """
    stride, margin = 2 ** len(ENCODER_BLOCKS[size]), halo(size)
    padded, most = _up(length, stride), most // stride * stride
    if padded <= most:
        return Axis(padded, padded, (Span(0, 0, length),))
    count = math.ceil((padded - 2 * margin) / (most - 2 * margin))
    window = _up((padded - 2 * margin) / count, stride) + 2 * margin
    starts = [min(i * (window - 2 * margin), padded - window) for i in range(count)]
    edges = [0, *(start + margin for start in starts[1:]), length]
    return Axis(window, padded, tuple(map(Span, starts, edges[:-1], edges[1:])))


def _up(value: float, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple
