"""Map tiles of a pair, straight from its files: warped to Web Mercator by rio-tiler, or cut from pictures."""

import functools
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import shapely
import shapely.affinity
from jaxtyping import UInt8
from rasterio.crs import CRS
from rasterio.transform import from_bounds
from rasterio.warp import transform
from rio_tiler import reader as rio_reader

from jaxcd.config import check_scaling
from jaxcd.labelling.workspace import OpenPair
from jaxcd.mapping.predict.scene_pair import Source
from jaxcd.scenes.raster import Raster, is_remote, read_rgb, reading
from jaxcd.scenes.reader import Reading, mosaic, open_scene
from jaxcd.scenes.window_cache import read_window
from jaxcd.scenes.windows import Grid

SIDE = 256
"""Side of a map tile in pixels."""
DEEPEST = 24
PICTURE_ZOOMS = (-12, 6)
_MERCATOR = CRS.from_epsg(3857)
_HALF = 20037508.342789244  # metres from the middle of Web Mercator to its edge
_FARTHER = 3  # zooms beyond the one at which a map fits into a tile that are shown; farther away it is a dot
_OVER = 2  # zooms beyond the images' own that are shown
_QUALITY = 85
_PICTURES = 24  # kept decoded

Tile = UInt8[np.ndarray, "256 256 4"]


class Imagery:
    """The map tiles of a pair; may be asked by several threads at once."""

    def __init__(self, opened: OpenPair, scaling: str):
        self._scaling = check_scaling(scaling, "--scaling")
        self._opened = opened
        scenes = opened.scenes
        if scenes is None:
            side = max(opened.pair.width, opened.pair.height)
            self.zooms = max(PICTURE_ZOOMS[0], -math.ceil(math.log2(max(1.0, side / SIDE)))), 4
            return
        self._sources = {
            "pre": [(source, *_reach(source, scenes.grid)) for source in scenes.pre],
            "post": [(source, *_reach(source, scenes.grid)) for source in scenes.post],
        }
        self.zooms = _zooms(scenes.grid, opened.bounds)

    def etag(self, when: str, z: int, x: int, y: int, low: int, high: int) -> str:
        """Return what changes when the tile does."""
        return f'"{self._opened.state}-{when}-{z}-{x}-{y}-{low}-{high}"'

    def tile(self, when: str, z: int, x: int, y: int) -> Tile | None:
        """Read a map tile.

        Args:
            when: pre or post.
            z: zoom; of pictures 0 is one screen pixel for each of theirs.
            x: column.
            y: row.

        Returns:
            Colours as OpenCV has them (blue, green, red) and opacity; None where nothing was seen.

        Raises:
            ImageError: a file is damaged there, or a URL can't be reached.
        """
        pictures = self._opened.scenes is None
        if z < self.zooms[0] - _FARTHER or (pictures and z > PICTURE_ZOOMS[1]):  # closer: margins fill the memory
            return None
        if pictures:
            (location,) = self._opened.pair.pre if when == "pre" else self._opened.pair.post
            return self._of_picture(location, z, x, y)
        seen = mosaic_or_none(self._readings(when, mercator_grid(z, x, y)))
        return None if seen is None else _bgra(seen.pixels, seen.valid)

    def _readings(self, when: str, grid: Grid) -> Iterator[Reading]:
        """Read each scene that reaches a tile, as far as the mosaic needs it."""
        west, south, east, north = grid.bounds
        for source, (left, bottom, right, top), (east_by, north_by) in self._sources[when]:
            if left < east and right > west and bottom < north and top > south:
                moved = grid.moved(-north_by / abs(grid.transform.e), east_by / grid.transform.a)
                yield self._read(source, moved)

    def _read(self, source: Source, grid: Grid) -> Reading:
        """Read a scene on a Web Mercator grid; content that was shifted is read where it lies."""
        if is_remote(source.location):
            assert self._opened.scenes is not None
            return read_window((source.location,), grid, scaling=self._scaling, folder=self._opened.scenes.windows)
        scene = open_scene(source.location, self._scaling)
        with reading(source.location):
            image = rio_reader.part(
                scene.dataset,
                grid.bounds,
                height=SIDE,
                width=SIDE,
                dst_crs=_MERCATOR,
                bounds_crs=_MERCATOR,
                indexes=(1, 2, 3),
                resampling_method="cubic",
                reproject_method="cubic",
            )
        seen = np.any(~np.ma.getmaskarray(image.array), axis=0, keepdims=True)[0]
        return scene.finished(image.array.data, seen, grid)

    def _of_picture(self, location: str, z: int, x: int, y: int) -> Tile | None:
        picture = _picture(location, Path(location).stat().st_mtime_ns, self._scaling)
        height, width = picture.valid.shape
        step = 2.0**-z  # the picture's pixels in a tile's pixel
        left, top = x * SIDE * step, y * SIDE * step
        if left >= width or top >= height or left + SIDE * step <= 0 or top + SIDE * step <= 0:
            return None
        # Around the tile, so that colours run on over its edges: as many pixels as interpolation looks at.
        margin = 2 if step < 1 else 0
        rows, columns = (_span(at, SIDE * step, margin) for at in (top, left))
        pixels = _padded(picture.pixels, rows, columns, cv2.BORDER_REPLICATE)
        opaque = _padded(picture.valid.astype(np.uint8) * 255, rows, columns, cv2.BORDER_CONSTANT)
        size = tuple(round((span[1] - span[0]) / step) for span in (columns, rows))
        how = cv2.INTER_AREA if step >= 1 else cv2.INTER_LINEAR
        pixels, opaque = cv2.resize(pixels, size, interpolation=how), cv2.resize(opaque, size, interpolation=how)
        down, right = (round((at - span[0]) / step) for at, span in ((top, rows), (left, columns)))
        part = slice(down, down + SIDE), slice(right, right + SIDE)
        return _bgra(np.ascontiguousarray(pixels[part]), opaque[part] > 127)


def mosaic_or_none(readings: Iterator[Reading]) -> Reading | None:
    """Make one reading of several, the first that has data counting; None where there is no data at all."""
    first = next(readings, None)
    if first is None:
        return None

    def all_of_them() -> Iterator[Reading]:
        yield first
        yield from readings

    found = mosaic(all_of_them())
    return found if found.valid.any() else None


def encoded(tile: Tile, low: int, high: int) -> bytes:
    """Encode a tile as WebP, its colours stretched so that `low` becomes 0 and `high` 255."""
    if (low, high) != (0, 255):
        tile = tile.copy()
        tile[..., :3] = _stretch(low, high)[tile[..., :3]]
    image = tile if not (tile[..., 3] == 255).all() else np.ascontiguousarray(tile[..., :3])
    done, content = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    assert done
    return content.tobytes()


@functools.cache
def empty() -> bytes:
    """Return the tile where nothing was seen."""
    return encoded(np.zeros((SIDE, SIDE, 4), np.uint8), 0, 255)


def mercator_grid(z: int, x: int, y: int) -> Grid:
    """Return the pixels of a map tile in Web Mercator."""
    side = 2 * _HALF / 2**z
    west, north = x * side - _HALF, _HALF - y * side
    affine = from_bounds(west, north - side, west + side, north, SIDE, SIDE)
    return Grid(crs=_MERCATOR, transform=affine, height=SIDE, width=SIDE)


@functools.lru_cache(maxsize=64)
def _stretch(low: int, high: int) -> UInt8[np.ndarray, "256"]:
    values = (np.arange(256) - low) / max(1, high - low)
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


@functools.lru_cache(maxsize=_PICTURES)
def _picture(location: str, _: int, scaling: tuple[str, float, float] | None) -> Raster:
    """Read a picture whole; the second argument tells its states apart."""
    return read_rgb(Path(location), scaling=scaling)


def _span(at: float, length: float, margin: int) -> tuple[int, int]:
    return math.floor(at) - margin, math.ceil(at + length) + margin


def _padded(image: np.ndarray, rows: tuple[int, int], columns: tuple[int, int], border: int) -> np.ndarray:
    """Cut rows and columns out of an image, also such beside it."""
    height, width = image.shape[:2]
    top, bottom = (min(max(at, 0), height - 1) for at in (rows[0], rows[1] - 1))
    left, right = (min(max(at, 0), width - 1) for at in (columns[0], columns[1] - 1))
    return cv2.copyMakeBorder(
        image[top : bottom + 1, left : right + 1],
        top - rows[0],
        rows[1] - 1 - bottom,
        left - columns[0],
        columns[1] - 1 - right,
        border,
    )


def _bgra(pixels: UInt8[np.ndarray, "h w 3"], valid: np.ndarray) -> Tile:
    made = np.dstack([pixels[..., ::-1], valid.astype(np.uint8) * 255])
    if not valid.all():
        made[~valid] = 0
    return made


def _reach(source: Source, grid: Grid) -> tuple[tuple[float, float, float, float], tuple[float, float]]:
    """Return where a scene's content is shown in Web Mercator, and the metres there by which it lies too far."""
    rows, columns = source.shift
    east, north = grid.transform.a * columns, grid.transform.e * rows
    shown = shapely.affinity.translate(source.outline, -east, -north)
    xs, ys = shapely.get_coordinates(shown).T
    x, y = transform(grid.crs, _MERCATOR, xs.tolist(), ys.tolist())[:2]
    middle = shapely.centroid(shown)
    there = transform(grid.crs, _MERCATOR, [middle.x, middle.x + east], [middle.y, middle.y + north])
    shift = there[0][1] - there[0][0], there[1][1] - there[1][0]
    return (min(x), min(y), max(x), max(y)), shift


def _zooms(grid: Grid, bounds: tuple[float, float, float, float]) -> tuple[int, int]:
    """Return the zoom at which a map fits into a tile, and the closest one at which its pixels are shown."""
    west, south, east, north = bounds
    latitude = math.radians((south + north) / 2)
    native = math.ceil(math.log2(2 * _HALF / SIDE * math.cos(latitude) / grid.metres))
    across = max((east - west) / 360, (north - south) / 360 / max(0.1, math.cos(latitude)))
    return max(0, min(native, math.floor(-math.log2(max(across, 1e-9))))), min(DEEPEST, native + _OVER)
