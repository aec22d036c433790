"""What all rooms share: the batch between loader, training step and evaluation, places on Earth."""

from typing import Any, NamedTuple

from jaxtyping import Int32, UInt8

Bounds = tuple[float, float, float, float]
"""West, south, east, north in degrees."""
METRES_PER_DEGREE = 111_320.0
"""Metres of a degree of latitude, and of longitude at the equator."""


class Batch(NamedTuple):
    """A batch of co-located image pairs as the host hands it to the device.

    Attributes:
        pre: images before the event, RGB 0..255.
        post: images after the event, RGB 0..255.
        labels: code of the scale, or UNKNOWN; with the scale `binary`, 1 where a building is damaged, else 0. 0 where
            `valid` is 0.
        valid: 1 where `labels` is known, else 0.
        ids: row of each pair in its `TileDataset.samples`, so that a step can name its tiles.
    """

    pre: UInt8[Any, "b h w 3"]
    post: UInt8[Any, "b h w 3"]
    labels: UInt8[Any, "b h w"]
    valid: UInt8[Any, "b h w"]
    ids: Int32[Any, "b"]


class Tile(NamedTuple):
    """What an evaluated pair of a batch is, as it was before padding.

    Attributes:
        place: id of the place.
        post: name of the post image: its file's stem.
        height: rows that are the tile's own; what lies below is padding.
        width: columns that are the tile's own.
    """

    place: str
    post: str
    height: int
    width: int
