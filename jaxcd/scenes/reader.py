"""Reads windows of scenes on a grid.

Where the pixels of scene and grid coincide, they are copied; else they are warped. A whole scene is read decimated
only.
"""

import functools
import math
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import shapely
from affine import Affine
from jaxtyping import Bool, Num, UInt8
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.features import shapes as shapes_of
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_geom
from rasterio.windows import Window as RasterWindow
from scipy import ndimage

from jaxcd.base.errors import ImageError, SceneError
from jaxcd.scenes.dates import date_in
from jaxcd.scenes.quality import black_pixels, empty_border
from jaxcd.scenes.raster import check_bands, drawn, is_remote, open_raster, reading, scaled
from jaxcd.scenes.windows import Grid, grid_of, offset_between, rotation

Pixels = UInt8[np.ndarray, "h w 3"]
Mask = Bool[np.ndarray, "h w"]


class Reading(NamedTuple):
    """Pixels read on a grid, with masks.

    Attributes:
        pixels: RGB 0..255; 0 where the file declares that there is no data.
        valid: where there is data.
        inside: where the scene's file covers the grid, with or without data.
    """

    pixels: Pixels
    valid: Mask
    inside: Mask


_KEPT_OPEN = 64
_MOST_AREA = 20  # a grid this many times larger than its scenes shows that one of them lies far away
_BANDS = (1, 2, 3)
_SAMPLE = 1024  # side of the decimated image that percentiles of a scene are taken from
_LEAST_BLACK = 64  # a window with fewer black pixels is not searched for the border
_RINGING = 3  # width in pixels of the strip along the border in which JPEG compression mixes black and image


class SceneReader:
    """An open scene under the input contract (see `jaxcd.scenes.raster`)."""

    def __init__(self, location: str, *, scaling: tuple[str, float, float] | None = None):
        self.location = location
        with reading(location):
            self._source: DatasetReader = open_raster(location)
            source = self._source
            check_bands(location, source)
            if source.crs is None or source.transform.is_identity:
                raise SceneError(f"{location}: has no reference system, so its location is unknown")
            self.crs: CRS = source.crs
            self.transform: Affine = source.transform
            self.height: int = source.height
            self.width: int = source.width
            self.has_overviews = bool(source.overviews(1))
            # Acquisition date from the provider's metadata, or "". The file's own date is that of processing.
            self.taken = date_in(source.tags(ns="IMAGERY").get("ACQUISITIONDATETIME", ""))
            self.placed: list = [
                source.crs.to_wkt(),
                list(source.transform)[:6],
                *source.shape,
                list(source.nodatavals),
            ]
            """Reference system, transform, shape and nodata values; files beside the scene may hold some of them."""
            self.files: tuple[str, ...] = tuple(source.files)
            """The scene's file, and the files beside it that belong to it."""
            self._declares_nodata = any(MaskFlags.all_valid not in flags for flags in source.mask_flag_enums[:3])
            self._value_range = self._value_range_of(scaling)

    def read(self, grid: Grid, *, coarse: int = 1) -> Reading:
        """Read the scene on a grid.

        Args:
            grid: any grid; its part outside the scene has no data.
            coarse: how many times larger than the grid's the pixels of the result are. Overviews of the file are used.

        Raises:
            ImageError: this part of the file is damaged, or the URL can't be reached.
        """
        with reading(self.location):
            values, valid = self._unwarped(grid, coarse) or self._warped(grid.coarser(coarse))
        return self.finished(values, valid, grid.coarser(coarse))

    @property
    def dataset(self) -> DatasetReader:
        """The open file, for readers of their own; only the thread that opened the scene may use it."""
        return self._source

    def finished(self, values: Num[np.ndarray, "3 h w"], valid: Mask, grid: Grid) -> Reading:
        """Make a reading of the scene's own values, read on a grid: 8 bits, without its empty border.

        Args:
            values: as they are in the file; changed in place.
            valid: where the file declares data; changed in place.
            grid: what they were read on.
        """
        if not np.issubdtype(values.dtype, np.integer):
            valid &= np.isfinite(values).all(axis=0)
        if self._value_range is not None:
            values = scaled(values, valid, self._value_range)
        if not valid.all():
            values[:, ~valid] = 0
        inside = self.inside(grid)
        valid &= inside
        border = self._border_on(grid, values, valid)
        pixels = np.asarray(cv2.merge(list(values)))
        if border is not None:
            valid = valid & ~border
        return Reading(pixels, valid, inside)

    def outline(self, crs: CRS) -> shapely.geometry.base.BaseGeometry:
        """Return the outline of the scene in coordinates of a reference system."""
        corners = [self.transform @ at for at in ((0, 0), (self.width, 0), (self.width, self.height), (0, self.height))]
        outline = shapely.segmentize(shapely.Polygon(corners), abs(self.transform.a) * max(self.width, self.height) / 4)
        if crs == self.crs:
            return outline
        return shapely.geometry.shape(transform_geom(self.crs, crs, shapely.geometry.mapping(outline)))

    def inside(self, grid: Grid) -> Mask:
        """Mark the pixels of a grid that the file covers, with or without data."""
        outline = self.outline(grid.crs)
        if shapely.contains(outline, shapely.box(*grid.bounds)):
            return np.ones((grid.height, grid.width), bool)
        return drawn([outline], grid.shape, grid.transform)

    def _unwarped(self, grid: Grid, coarse: int) -> tuple[np.ndarray, Mask] | None:
        source = self._source
        if grid.crs != self.crs or rotation(self.transform, self.height, self.width):
            return None
        # An offset of half a pixel does not matter to a decimated read.
        offset = offset_between(self.transform, (self.height, self.width), grid, within=0.1 if coarse == 1 else 0.5)
        if offset is None:
            return None
        top, left = offset
        rows = slice(max(top, 0), min(top + grid.height, self.height))
        columns = slice(max(left, 0), min(left + grid.width, self.width))
        if coarse > 1:
            # GDAL decimates while it reads, but only a window that lies wholly on the scene.
            if (rows.stop - rows.start, columns.stop - columns.start) != (grid.height, grid.width):
                return None
            shape = 3, *grid.coarser(coarse).shape
            window: Any = RasterWindow.from_slices(rows, columns)
            values = source.read(_BANDS, window=window, out_shape=shape)
            if not self._declares_nodata:
                return values, np.ones(shape[1:], bool)
            return values, (source.read_masks(_BANDS, window=window, out_shape=shape) != 0).any(axis=0)
        if (rows.stop - rows.start, columns.stop - columns.start) == grid.shape and not self._declares_nodata:
            whole: Any = RasterWindow.from_slices(rows, columns)
            return source.read(_BANDS, window=whole), np.ones(grid.shape, bool)  # most tiles end here, without a copy
        values = np.zeros((3, *grid.shape), source.dtypes[0])
        valid = np.zeros(grid.shape, bool)
        if rows.start < rows.stop and columns.start < columns.stop:
            window = RasterWindow.from_slices(rows, columns)
            inside = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
            values[:, *inside] = source.read(_BANDS, window=window)
            # A pixel has no data only if all its bands have none: pure red has zeros in two bands.
            valid[inside] = (
                (source.read_masks(_BANDS, window=window) != 0).any(axis=0) if self._declares_nodata else True
            )
        return values, valid

    def _warped(self, grid: Grid) -> tuple[np.ndarray, Mask]:
        with _warping(self._source, grid, Resampling.cubic) as vrt:
            return _with_validity(vrt, _BANDS)

    def _border_on(self, grid: Grid, values: UInt8[np.ndarray, "3 h w"], valid: Mask) -> Mask | None:
        """Mark the black pixels of a window that lie in the empty border of the whole scene; None if there are none."""
        black = black_pixels(list(values), 255)
        # What lies beside the scene is black, too, and no reason to search the scene.
        if self._declares_nodata or np.count_nonzero(black & valid) < _LEAST_BLACK or not self._border:
            return None
        shapes: Any = self._border
        if grid.crs != self.crs:
            shapes = [transform_geom(self.crs, grid.crs, shape) for shape in shapes]
        border = black & drawn(shapes, grid.shape, grid.transform, touched=True)
        return ndimage.binary_dilation(border, iterations=_RINGING) if border.any() else None

    @functools.cached_property
    def _border(self) -> list[dict]:
        """Outlines of the empty border in the scene's coordinates: black areas at its edge, not declared as nodata.

        They are computed once, from the whole scene (decimated, before scaling), because the edge of a window is not
        the edge of the scene.
        """
        if is_remote(self.location) and not self.has_overviews:
            return []  # the whole scene would have to be downloaded
        try:
            with reading(self.location):
                values, _ = self._sample()
        except ImageError:
            return []  # the file is damaged: reading the damaged window will report it
        empty = empty_border(values)
        if empty is None:
            return []
        height, width = empty.shape
        affine = self.transform @ Affine.scale(self.width / width, self.height / height)
        widened = ndimage.binary_dilation(empty, iterations=2).astype(np.uint8)
        return [shape for shape, _ in shapes_of(widened, mask=widened > 0, transform=affine)]

    def _sample(self) -> tuple[np.ndarray, Mask]:
        """Read the whole scene, decimated, and a mask of the pixels with data."""
        source = self._source
        factor = max(1, math.ceil(max(source.shape) / _SAMPLE))
        shape = 3, -(-source.height // factor), -(-source.width // factor)
        values = source.read(_BANDS, out_shape=shape)
        return values, (source.read_masks(_BANDS, out_shape=shape) != 0).any(axis=0) & np.isfinite(values).all(axis=0)

    def _value_range_of(self, scaling: tuple[str, float, float] | None) -> tuple[str, float, float] | None:
        """Return the range of values that becomes 0..255, the same for all windows; None for 8-bit scenes."""
        source = self._source
        kind = np.dtype(source.dtypes[0])
        if kind == np.uint8:
            return None
        if scaling is None:
            raise ImageError(
                f"{self.location}: pixels are {kind}, expected uint8; give --scaling range:LOW,HIGH or "
                "percentiles:LOW,HIGH to say how they become 8 bits"
            )
        if scaling[0] == "range":
            return scaling
        values, seen = self._sample()
        empty = None if self._declares_nodata else empty_border(values)
        seen = seen if empty is None else seen & ~empty
        low, high = np.percentile(values[:, seen], scaling[1:]) if seen.any() else (0.0, 1.0)
        return "range", float(low), float(high)


def read_band(location: str, grid: Grid) -> tuple[UInt8[np.ndarray, "h w"], Mask]:
    """Read a raster of one band (a mask) on a grid, by nearest neighbour; also mark where it has data.

    Raises:
        ImageError: it can't be read, or is not one band of uint8.
        SceneError: it has no reference system.
    """
    with reading(location), open_raster(location) as source:
        if source.count != 1 or source.dtypes[0] != "uint8":
            raise ImageError(
                f"{location}: {source.count} bands of {source.dtypes[0]}, expected a mask of one uint8 band; export it "
                "anew"
            )
        if source.crs is None or source.transform.is_identity:
            raise SceneError(f"{location}: has no reference system, so its location is unknown")
        with _warping(source, grid, Resampling.nearest) as vrt:
            values, valid = _with_validity(vrt, (1,))
            return values[0], valid


def _with_validity(vrt: WarpedVRT, bands: tuple[int, ...]) -> tuple[np.ndarray, Mask]:
    """Read bands of a warped raster, and mark where it has data: any band differs from nodata, or alpha is not 0."""
    if vrt.nodata is not None:
        return vrt.read(bands), (vrt.read_masks(bands) != 0).any(axis=0)
    # One read, because each read warps anew. GDAL's own mask uses an alpha band only if it is the second or fourth.
    everything = vrt.read((*bands, vrt.count))
    return everything[:-1], everything[-1] != 0


def _warping(source: DatasetReader, grid: Grid, resampling: Resampling) -> WarpedVRT:
    has_alpha = source.colorinterp[-1] == ColorInterp.alpha
    alpha = {} if source.nodata is not None or has_alpha else {"add_alpha": True}
    return WarpedVRT(
        source,
        crs=grid.crs,
        transform=grid.transform,
        height=grid.height,
        width=grid.width,
        resampling=resampling,
        warp_mem_limit=64,
        **alpha,
    )


def open_scene(location: str, scaling: tuple[str, float, float] | None = None) -> SceneReader:
    """Return an open scene. Each thread opens its own, because threads must not share a dataset of GDAL."""
    return _opened_by(threading.get_ident(), location, scaling)


@functools.lru_cache(maxsize=_KEPT_OPEN)
def _opened_by(_: int, location: str, scaling: tuple[str, float, float] | None) -> SceneReader:
    return SceneReader(location, scaling=scaling)


def close_scenes() -> None:
    """Forget all open scenes, so that `open_scene` opens them anew: their files may have changed."""
    _opened_by.cache_clear()


def read_mosaic(
    locations: Sequence[str],
    grid: Grid,
    *,
    scaling: tuple[str, float, float] | None = None,
    coarse: int = 1,
) -> Reading:
    """Read several scenes on one grid: where several have data, the first is used.

    Raises:
        ImageError, SceneError: one of them can't be read.
    """
    return mosaic(open_scene(location, scaling).read(grid, coarse=coarse) for location in locations)


def mosaic(readings: Iterable[Reading]) -> Reading:
    """Merge readings into one; where several have data, the first one is used.

    Args:
        readings: at least one, all of one shape; the first is changed in place. Once all pixels have data, no further
            reading is requested, so a generator reads only the scenes that are needed.
    """
    readings = iter(readings)
    merged = next(readings)
    while not merged.valid.all():
        other = next(readings, None)
        if other is None:
            break
        new = other.valid & ~merged.valid
        merged.pixels[new] = other.pixels[new]
        merged = Reading(merged.pixels, merged.valid | new, merged.inside | other.inside)
    return merged


def common_grid(
    locations: Sequence[str], scaling: tuple[str, float, float] | None, *, crs: str = "", gsd: float = 0
) -> Grid:
    """Return the first scene's grid, extended by whole pixels to cover all scenes.

    With `crs` or `gsd`, the grid has that reference system or pixel size instead of the first scene's.

    Args:
        locations: the scenes.
        scaling: how 16-bit and float scenes become 8 bits.
        crs: wanted reference system, such as EPSG:32637; empty for the first scene's.
        gsd: wanted side of a pixel in units of the reference system; 0 for the first scene's.

    Raises:
        ImageError: a scene can't be read, or lies outside the input contract.
        SceneError: a scene has no reference system, the first one is rotated or can't be warped to `crs` and `gsd`, or
            the scenes lie far apart.
    """
    scene = open_scene(locations[0], scaling)
    try:
        grid = grid_of(scene.crs, scene.transform, scene.height, scene.width, to=crs, gsd=gsd)
    except SceneError as error:
        raise SceneError(f"{locations[0]}: {error}") from error
    left, top, right, bottom = 0, 0, grid.width, grid.height
    covered = grid.height * grid.width
    for location in locations[1:]:
        outline = open_scene(location, scaling).outline(grid.crs)
        covered += outline.area / abs(grid.transform.a * grid.transform.e)
        bounds = outline.bounds
        (x, y), (far_x, far_y) = (~grid.transform @ at for at in ((bounds[0], bounds[3]), (bounds[2], bounds[1])))
        # A hundredth of a pixel is rounding of coordinates.
        left, top = min(left, math.floor(x + 0.01)), min(top, math.floor(y + 0.01))
        right, bottom = max(right, math.ceil(far_x - 0.01)), max(bottom, math.ceil(far_y - 0.01))
        if (bottom - top) * (right - left) > _MOST_AREA * covered:
            raise SceneError(f"{location}: lies far from {locations[0]}; make a map of each (--pairs makes many)")
    origin = grid.transform @ Affine.translation(left, top)
    return Grid(crs=grid.crs, transform=origin, height=bottom - top, width=right - left)
