"""Divides an image into windows whose predictions together equal the prediction on the whole image, without seams.

Three rules make them equal:
- An image whose sides are no multiples of the network's stride is padded at the bottom and right with black pixels.
- Windows begin at multiples of the stride, so that pooling groups the same pixels.
- A window gives the result only for pixels at least the network's receptive radius inside its edges. This does not
  hold at edges of the (padded) image itself: there each convolution adds the same zeros as on the whole image.
"""

import math
from typing import NamedTuple

from jaxcd.models import Description

# Work of an inner window divided by the work of its own pixels alone, at most. It decides the default window size.
_MOST_WORK = 1.5
# In pixels. The halos of a small network add 10 % of work in windows of 1024 pixels and 5 % in these, and on a CPU a
# pixel takes an eighth less time in these. Larger windows need more memory (these need 2 GB).
_LEAST_WINDOW = 2048


class Span(NamedTuple):
    """A window along one axis: it begins at pixel `start` and gives the result of the pixels `first` to `last` - 1."""

    start: int
    first: int
    last: int


class Axis(NamedTuple):
    """The windows along one axis of an image: their length, the axis's length with padding, and where they lie."""

    window: int
    padded: int
    spans: tuple[Span, ...]


def halo(network: Description) -> int:
    """Return the receptive radius, rounded up to a multiple of the network's stride."""
    return _up(network.receptive_radius, network.stride)


def default_window(network: Description) -> int:
    """Return the least window side with which halos make at most 1.5 times the work; at least 2048 pixels."""
    least = 2 * halo(network) / (1 - 1 / math.sqrt(_MOST_WORK))
    return _up(max(least, _LEAST_WINDOW), network.stride)


def least_window(network: Description) -> int:
    """Return the least window side that leaves pixels between the two halos."""
    return 2 * halo(network) + network.stride


def cover(length: int, network: Description, *, most: int) -> Axis:
    """Cover an axis with as few windows as `most` allows; all have the same length, the shortest that suffices.

    Args:
        length: length of the axis in pixels.
        network: description of the network, with stride and receptive radius.
        most: largest window side in pixels; must be more than two halos.
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
