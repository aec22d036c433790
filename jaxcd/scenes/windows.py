"""Grids of pixels on the ground, and the tiles that a grid is cut into."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import shapely
from affine import Affine
from jaxtyping import Float
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.transform import array_bounds
from rasterio.warp import calculate_default_transform, transform, transform_bounds, transform_geom

from jaxcd.base.errors import SceneError

DEGREES = CRS.from_epsg(4326)
# A rotation that moves the far corner of a raster by at most this many pixels is a rounding error.
_ROUNDING = 0.5
_PLAUSIBLE = (0.01, 100.0)  # least and largest side of a pixel in metres


class Window(NamedTuple):
    """A tile of `height` x `width` pixels, of which the upper left `rows` x `columns` lie on the grid.

    Attributes:
        index: number of the tile, row by row.
        row: grid row of its top left corner.
        column: grid column of its top left corner.
        rows: its rows that lie on the grid.
        columns: its columns that lie on the grid.
        height: all its rows.
        width: all its columns.
    """

    index: int
    row: int
    column: int
    rows: int
    columns: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where pixels lie on the ground.

    Attributes:
        crs: reference system.
        transform: (column, row) to coordinates; neither rotated nor sheared.
        height: rows.
        width: columns.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    def part(self, window: Window) -> "Grid":
        """Return the grid of a whole tile, even where it reaches beyond this grid."""
        origin = self.transform @ Affine.translation(window.column, window.row)
        return Grid(crs=self.crs, transform=origin, height=window.height, width=window.width)

    def moved(self, rows: float, columns: float) -> "Grid":
        """Return the grid moved down and right by numbers of pixels."""
        origin = self.transform @ Affine.translation(columns, rows)
        return Grid(crs=self.crs, transform=origin, height=self.height, width=self.width)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width

    def coarser(self, factor: int) -> "Grid":
        """Return the grid of the same ground with pixels `factor` times as large; its sides are rounded up."""
        height, width = (-(-side // factor) for side in (self.height, self.width))
        return Grid(crs=self.crs, transform=self.transform @ Affine.scale(factor), height=height, width=width)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in coordinates of `crs`."""
        west, south, east, north = array_bounds(self.height, self.width, self.transform)
        return west, south, east, north

    @property
    def bounds_degrees(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        west, south, east, north = transform_bounds(self.crs, DEGREES, *self.bounds)
        return west, south, east + 360 if east < west else east, north  # across the date line

    @property
    def metres(self) -> float:
        """Side of a pixel in metres, in the middle of the grid."""
        return pixel_metres(self.crs, self.transform, self.height, self.width)

    @property
    def sides(self) -> tuple[float, float]:
        """Width and height of a pixel in metres, in the middle of the grid; in degrees they differ."""
        return pixel_sides(self.crs, self.transform, self.height, self.width)


def footprint_of(crs: CRS, transform: Affine, height: int, width: int) -> shapely.geometry.base.BaseGeometry:
    """Return a raster's outline in degrees; the raster may be rotated.

    Raises:
        SceneError: the coordinates do not fit the reference system.
    """
    corners = [transform @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height), (0, 0))]
    outline = shapely.segmentize(
        shapely.Polygon(corners), max(abs(transform.a), abs(transform.b)) * max(height, width) / 4
    )
    try:
        moved = shapely.geometry.shape(transform_geom(crs, DEGREES, shapely.geometry.mapping(outline)))
    except (RasterioError, CPLE_BaseError) as error:
        raise SceneError(
            f"its coordinates cannot be converted to degrees ({error}); set the right reference system"
        ) from error
    west, south, east, north = moved.bounds
    # A raster that crosses the date line may reach beyond 180 degrees.
    if not np.isfinite(moved.bounds).all() or west < -360.1 or east > 360.1 or south < -90.1 or north > 90.1:
        raise SceneError(_misplaced(crs))
    return moved


def _misplaced(crs: CRS) -> str:
    return f"its coordinates lie outside of the area of its reference system {crs}; set the right one"


def pixel_metres(crs: CRS, affine: Affine, height: int, width: int) -> float:
    """Return the side of a pixel in metres: the root of its area in the middle of a raster."""
    return float(math.sqrt(abs(np.linalg.det(_pixel_steps(crs, affine, height, width)))))


def pixel_sides(crs: CRS, affine: Affine, height: int, width: int) -> tuple[float, float]:
    """Return how many metres wide and high a pixel is, in the middle of a raster."""
    across, down = np.linalg.norm(_pixel_steps(crs, affine, height, width), axis=1)
    return float(across), float(down)


def _pixel_steps(crs: CRS, affine: Affine, height: int, width: int) -> Float[np.ndarray, "2 2"]:
    """Return how many metres (east, north) a step to the next column leads, and a step to the next row.

    Raises:
        SceneError: the coordinates do not fit the reference system.
    """
    x, y = affine @ (width / 2, height / 2)
    columns, rows = [x, x + affine.a, x + affine.b], [y, y + affine.d, y + affine.e]
    try:
        longitude, latitude, *_ = transform(crs, DEGREES, columns, rows)
    except (RasterioError, CPLE_BaseError) as error:
        raise SceneError(_misplaced(crs)) from error
    if not np.isfinite([longitude, latitude]).all() or max(map(abs, latitude)) > 90:
        raise SceneError(_misplaced(crs))
    around = CRS.from_string(f"+proj=aeqd +lat_0={latitude[0]} +lon_0={longitude[0]} +datum=WGS84")
    east, north = (np.array(values[1:]) for values in transform(DEGREES, around, longitude, latitude)[:2])
    return np.stack([east, north], axis=1)


def rotation(affine: Affine, height: int, width: int) -> float:
    """Return the degrees by which a raster is rotated or sheared against north; 0 if it is a rounding error."""
    across = (
        max(abs(affine.b / affine.e) * height, abs(affine.d / affine.a) * width) if affine.a and affine.e else math.inf
    )
    if across <= _ROUNDING:
        return 0.0
    return math.degrees(max(math.atan2(affine.d, affine.a), math.atan2(affine.b, -affine.e), key=abs))


def grid_of(crs: CRS, affine: Affine, height: int, width: int, *, to: str = "", gsd: float = 0) -> Grid:
    """Return the grid of a raster, or one of the same ground in a given reference system or pixel size.

    Args:
        crs: reference system of the raster.
        affine: transform of the raster.
        height: height of the raster in pixels.
        width: width of the raster in pixels.
        to: reference system of the grid, such as EPSG:32637; empty for the raster's own.
        gsd: side of a pixel in units of the grid's reference system; 0 for the raster's own.

    Raises:
        SceneError: the raster is rotated against north, and neither `to` nor `gsd` is given; `to` is no reference
            system; or the raster can't be warped to it, or to pixels of this size.
    """
    if not to and not gsd:
        angle = rotation(affine, height, width)
        if angle:
            raise SceneError(
                f"its grid is rotated by {angle:.1f} degrees against north; give --crs or --gsd to warp it"
            )
        # North up and east right, whatever the file's order of rows is.
        left = affine.c + min(affine.a, 0) * width
        top = affine.f + max(affine.e, 0) * height
        straight = Affine(abs(affine.a), 0, left, 0, -abs(affine.e), top)
        return Grid(crs=crs, transform=straight, height=height, width=width)
    target = parsed_crs(to) if to else crs
    corners = [affine @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
    (left, right), (bottom, top) = ((min(axis), max(axis)) for axis in zip(*corners, strict=True))
    resolution = {"resolution": gsd} if gsd else {}
    try:
        warped, columns, rows = calculate_default_transform(
            crs, target, width, height, left=left, bottom=bottom, right=right, top=top, **resolution
        )
        assert columns and rows
        if gsd and target == crs:  # GDAL may add a pixel because of rounding
            columns, rows = (math.ceil(count - 0.01) for count in ((right - left) / gsd, (top - bottom) / gsd))
        grid = Grid(crs=target, transform=warped, height=rows, width=columns)
        metres = grid.metres
    except (SceneError, RasterioError, CPLE_BaseError) as error:
        raise SceneError(
            f"cannot be warped to {target} with pixels of this size ({error}); check --crs and --gsd"
        ) from error
    if not _PLAUSIBLE[0] <= metres <= _PLAUSIBLE[1]:
        raise SceneError(
            f"pixels would be {metres:.3g} m wide, expected {_PLAUSIBLE[0]:g} to {_PLAUSIBLE[1]:g} m; give --gsd in "
            f"units of the reference system ({target})"
        )
    return grid


def parsed_crs(text: str) -> CRS:
    """Parse the name of a reference system.

    Raises:
        SceneError: no such system exists, or it is neither projected nor geographic.
    """
    try:
        crs = CRS.from_user_input(text)
    except CRSError as error:
        raise SceneError(f"--crs {text}: not a reference system; expected one such as EPSG:32637") from error
    if not crs.is_geographic and not crs.is_projected:
        raise SceneError(f"--crs {text}: neither a projected nor a geographic reference system, such as EPSG:32637")
    return crs


def tile_windows(grid: Grid, tile: int, *, edges: str) -> Iterator[Window]:
    """Cut a grid into tiles, row by row, to its last row and column.

    Args:
        grid: the grid.
        tile: side of a tile in pixels.
        edges: what happens to the last tile of a row or column that would reach beyond the grid. pad: it does reach
            beyond. shift: it is moved inward, so that it overlaps the tile before; if the grid is smaller than a tile,
            pad is used.
    """
    index = 0
    for top in range(0, grid.height, tile):
        row = max(0, min(top, grid.height - tile)) if edges == "shift" else top
        for left in range(0, grid.width, tile):
            column = max(0, min(left, grid.width - tile)) if edges == "shift" else left
            rows, columns = min(tile, grid.height - row), min(tile, grid.width - column)
            yield Window(index, row, column, rows, columns, tile, tile)
            index += 1


def offset_between(source: Affine, size: tuple[int, int], grid: Grid, *, within: float = 0.1) -> tuple[int, int] | None:
    """Return the (row, column) of a raster at which a grid begins, or None where their pixels do not coincide.

    Args:
        source: transform of the raster.
        size: height and width of the raster.
        grid: a grid in the same reference system.
        within: largest offset in pixels that is ignored; to ignore a tenth does less harm than resampling.
    """
    mapped = ~source @ grid.transform
    far = max(*size, grid.height, grid.width)
    drift = max(abs(mapped.a - 1), abs(mapped.e - 1), abs(mapped.b), abs(mapped.d)) * far
    column, row = round(mapped.c), round(mapped.f)
    return (row, column) if drift < 0.1 and max(abs(mapped.c - column), abs(mapped.f - row)) <= within else None
