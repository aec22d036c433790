"""Windows that give the network's answer for a whole image, piece by piece and without seams.

Three rules make the pieces equal the whole:
- An image whose sides are no multiples of the network's stride is padded at the bottom and right with black pixels.
- Windows begin at multiples of the stride, so that pooling groups the same pixels.
- A window answers for what lies at least the network's receptive radius away from its edges, but for edges that it
  shares with the (padded) image: there the zeros that each convolution adds lie where they do for the whole image.
"""

import math
from typing import NamedTuple

from jaxcd.models import Description

# Most work of an inner window, over the work of its own pixels alone: it decides a window's default size.
_MOST_WORK = 1.5
# Smaller windows only add work: a small network's halos cost 10 % at 1024 pixels and 5 % here, and on a CPU a pixel
# takes an eighth less time here. Larger windows take more memory (these take 2 GB).
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


def halo(network: Description) -> int:
    """Return the receptive radius, rounded up to a multiple of the network's stride."""
    return _up(network.receptive_radius, network.stride)


def default_window(network: Description) -> int:
    """Return the least side of a window whose halo costs at most 1.5 times the work, and at least 2048 pixels."""
    least = 2 * halo(network) / (1 - 1 / math.sqrt(_MOST_WORK))
    return _up(max(least, _LEAST_WINDOW), network.stride)


def least_window(network: Description) -> int:
    """Return the least side of a window that answers for any pixels of its own: more than two halos."""
    return 2 * halo(network) + network.stride


def cover(length: int, network: Description, *, most: int) -> Axis:
    """Cover an axis with windows of one length, as few as `most` allows, and no longer than they need be.

    Args:
        length: pixels of the axis.
        network: says its stride and receptive radius.
        most: largest window in pixels; more than two halos.
    """
    stride, margin = network.stride, halo(network)
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
