"""Where buildings lie on the pixels of a scene: how many pixels of each cell of a level belong to a building."""

from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from jaxtyping import Bool
from scipy import sparse

from jaxcd.active.encoders import STRIDE
from jaxcd.base.errors import LabelError
from jaxcd.mapping.products.cells import shape_of
from jaxcd.scenes.raster import drawn
from jaxcd.scenes.windows import Grid


class Drawn(NamedTuple):
    """A polygon on the pixels of a scene.

    Attributes:
        row: of the scene, of the mask's first pixel; a multiple of `STRIDE`.
        column: likewise.
        mask: pixels that belong to it; its sides are multiples of `STRIDE`.
    """

    row: int
    column: int
    mask: Bool[np.ndarray, "h w"]


def in_pixels(frame: gpd.GeoDataFrame, grid: Grid) -> np.ndarray:
    """Bring footprints to a scene's grid: polygons whose coordinates are columns and rows.

    Raises:
        LabelError: there is none, or none lies on the scene.
    """
    if not len(frame):
        raise LabelError("no footprints: give a file that holds some, or use a grid of cells")
    moved: Any = frame.geometry.to_crs(grid.crs.to_wkt()).to_numpy()
    # A grid is neither rotated nor sheared.
    place, step = grid.transform, [grid.transform.a, grid.transform.e]
    outlines = shapely.transform(moved, lambda points: (points - [place.c, place.f]) / step)
    if not shapely.intersects(outlines, shapely.box(0, 0, grid.width, grid.height)).any():
        west, south, east, north = grid.bounds_degrees
        raise LabelError(
            f"none of the {len(frame)} footprints lies in the scene ({west:.5f} to {east:.5f} east, {south:.5f} to "
            f"{north:.5f} north); give footprints of this place, or correct their reference system"
        )
    return outlines


def cells(grid: Grid, side: float) -> gpd.GeoDataFrame:
    """Cut a scene into square cells, which are judged where there are no footprints.

    Args:
        grid: of the scene.
        side: of a cell in metres, rounded to whole pixels; the last ones of a row or column end at the scene's edge.

    Raises:
        ConfigError: so small that there are too many of them.
    """
    height, width = shape_of(grid, side)
    rows, columns = np.meshgrid(np.arange(0, grid.height, height), np.arange(0, grid.width, width), indexing="ij")
    top, left = rows.ravel(), columns.ravel()
    boxes = shapely.box(left, top, np.minimum(left + width, grid.width), np.minimum(top + height, grid.height))
    place = grid.transform
    squares = shapely.transform(boxes, lambda points: points * [place.a, place.e] + [place.c, place.f])
    return gpd.GeoDataFrame(geometry=squares, crs=grid.crs.to_wkt())


def draw(outline: Any) -> Drawn:
    """Draw a polygon of pixel coordinates: pixels whose centres lie in it, or, if there is none, all that it touches.

    It is drawn as a whole, also beyond the scene, so that blocks which share it agree on its pixels.
    """
    left, top, right, bottom = outline.bounds
    column, row = (int(np.floor(edge / STRIDE)) * STRIDE for edge in (left, top))
    width = max(STRIDE, int(np.ceil((right - column) / STRIDE)) * STRIDE)
    height = max(STRIDE, int(np.ceil((bottom - row) / STRIDE)) * STRIDE)
    where = Affine.translation(column, row)
    mask = drawn([outline], (height, width), where)
    return Drawn(row, column, mask if mask.any() else drawn([outline], (height, width), where, touched=True))


def within(found: Drawn, row: int, column: int, size: tuple[int, int]) -> Drawn | None:
    """Cut a drawn polygon to a part of the scene; None where it has no pixel there.

    Args:
        found: of `draw`.
        row: of the scene, first of the part; a multiple of `STRIDE`, like all that follow.
        column: likewise.
        size: height and width of the part.
    """
    height, width = found.mask.shape
    top, left = max(found.row, row), max(found.column, column)
    bottom, right = min(found.row + height, row + size[0]), min(found.column + width, column + size[1])
    if bottom <= top or right <= left:
        return None
    mask = found.mask[top - found.row : bottom - found.row, left - found.column : right - found.column]
    return Drawn(top - row, left - column, mask) if mask.any() else None


def weights(parts: list[Drawn], size: tuple[int, int], stride: int) -> sparse.csr_array:
    """Count the pixels of each polygon in each cell of a level.

    Args:
        parts: of `within`.
        size: height and width of the part of the scene.
        stride: of the level.

    Returns:
        Row by row the polygons, column by column the level's cells in the order of their pixels.
    """
    across = size[1] // stride
    rows, columns, counts = [], [], []
    for index, part in enumerate(parts):
        height, width = part.mask.shape
        summed = part.mask.reshape(height // stride, stride, width // stride, stride).sum((1, 3))
        down, right = np.nonzero(summed)
        rows.append(np.full(len(down), index))
        columns.append((part.row // stride + down) * across + part.column // stride + right)
        counts.append(summed[down, right])
    shape = (len(parts), (size[0] // stride) * across)
    if not parts:
        return sparse.csr_array(shape, dtype=np.float32)
    entries = np.concatenate(counts).astype(np.float32)
    return sparse.csr_array((entries, (np.concatenate(rows), np.concatenate(columns))), shape=shape)
