"""What is labelled: a pair of images before and after, on one grid."""

from dataclasses import dataclass

from affine import Affine

Box = tuple[float, float, float, float]
"""West, south, east, north."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Images before and after of one piece of ground.

    Coordinates of a pair are those of its reference system; without one they are pixels: x to the right, y = -row.

    Attributes:
        id: unique among the pairs of a store.
        title: for readers.
        pre: files or URLs of before.
        post: files or URLs of after.
        footprints: file of building footprints, or None.
        epsg: code of the reference system of the pair's grid, or None for pictures without a place.
        bounds: of the grid, in the pair's coordinates.
        width: of the grid in pixels.
        height: of the grid in pixels.
    """

    id: str
    title: str
    pre: tuple[str, ...]
    post: tuple[str, ...]
    footprints: str | None
    epsg: int | None
    bounds: Box
    width: int
    height: int

    @property
    def transform(self) -> Affine:
        """From (column, row) of the grid to the pair's coordinates."""
        west, south, east, north = self.bounds
        return Affine.translation(west, north) @ Affine.scale((east - west) / self.width, (south - north) / self.height)
