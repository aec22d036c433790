"""The scenes of a map, before and after the event, and how their windows are read on the grid of the map."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import Bool, UInt8
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError

from jaxcd.base.errors import LabelError, SceneError
from jaxcd.base.fingerprints import digest, file_digest
from jaxcd.config import check_scaling
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.dates import date_in
from jaxcd.scenes.polygons import around, read_frame
from jaxcd.scenes.raster import drawn, is_remote
from jaxcd.scenes.reader import Reading, close_scenes, common_grid, mosaic, open_scene
from jaxcd.scenes.registration import REGISTERED, View, register
from jaxcd.scenes.window_cache import read_window
from jaxcd.scenes.windows import Grid, Window, pixel_metres

_SAMPLES = 5  # a scene's shift is estimated in at most so many windows across and down
_SAMPLE = 1024  # side of such a window in pixels
_SEEN = 0.25  # least share of it that must be seen before and after
_COARSE = 1.5  # a note names scenes whose pixels are larger than the map's by this factor


@dataclass(frozen=True, kw_only=True)
class Source:
    """A scene's file.

    Attributes:
        location: path or URL.
        digest: SHA-256 of the file; empty for a URL.
        state: SHA-256 of all that affects its pixels: the file, its mask, its position, and which pixels are empty.
        date: YYYY-MM-DD, or "" if neither the file nor its name gives one.
        metres: side of its pixels in metres.
        outline: outline of its ground, in the coordinate reference system of the map.
        shift: rows and columns of the map by which its content lies too far down and too far right.
    """

    location: str
    digest: str
    state: str
    date: str
    metres: float
    outline: shapely.geometry.base.BaseGeometry
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def identity(self) -> list:
        """All that affects the pixels that are read from it."""
        return [self.state, *self.shift]


@dataclass(frozen=True)
class Registered:
    """How a post scene was registered.

    Attributes:
        location: path or URL of the scene.
        rows: shift in rows that is applied; 0 if no estimate is reliable.
        columns: shift in columns, likewise.
        believed: number of reliable estimates: those whose correlation peak stands out of the noise.
        estimated: number of windows in which the shift was estimated.
        spread: 90 % of the reliable estimates differ from their median by at most so many pixels.
    """

    location: str
    rows: float
    columns: float
    believed: int
    estimated: int
    spread: float


@dataclass(frozen=True, kw_only=True)
class ScenePair:
    """The scenes of a map, on one grid.

    Attributes:
        grid: grid of the map: that of the first pre scene, extended to cover all pre scenes.
        pre: scenes before the event; where several have data, the first one is used.
        post: scenes after the event, likewise.
        scaling: how 16-bit and float scenes become 8 bits.
        aoi: area of interest, in the grid's coordinate reference system; None: the whole grid.
        windows: folder that keeps windows of scenes behind URLs.
        notes: what the user should know about the scenes.
    """

    grid: Grid
    pre: tuple[Source, ...]
    post: tuple[Source, ...]
    scaling: tuple[str, float, float] | None
    aoi: shapely.geometry.base.BaseGeometry | None
    windows: Path
    notes: tuple[str, ...] = ()

    def read(self, grid: Grid) -> View:
        """Read a part of the grid; pixels that have no data in one image, or lie beside the grid, are black in both.

        Raises:
            ImageError: a file is damaged there, or a URL can't be reached.
        """
        first = self._read(self.pre, grid)
        other = self._read(self.post, grid) if first is not None else None
        if first is None or other is None:
            empty = np.zeros((*grid.shape, 3), np.uint8)
            return View(empty, empty, np.zeros(grid.shape, bool))
        valid = first.valid & other.valid
        if not valid.all():
            first.pixels[~valid] = 0
            other.pixels[~valid] = 0
        return View(first.pixels, other.pixels, valid)

    def images(self, grid: Grid, *, coarse: int) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w 3"]]:
        """Read the images before and after of a part of the grid, in pixels `coarse` times as large."""
        images = []
        for sources in (self.pre, self.post):
            reading = self._read(sources, grid, coarse=coarse)
            images.append(np.zeros((*grid.coarser(coarse).shape, 3), np.uint8) if reading is None else reading.pixels)
        return images[0], images[1]

    def wanted(self, grid: Grid) -> Bool[np.ndarray, "h w"] | None:
        """Return a mask of the pixels whose centres lie in the area of interest; None if all of them do."""
        if self.aoi is None or shapely.contains(self.aoi, shapely.box(*grid.bounds)):
            return None
        if not shapely.intersects(self.aoi, shapely.box(*grid.bounds)):
            return np.zeros(grid.shape, bool)
        return drawn([self.aoi], grid.shape, grid.transform)

    def identity(self, grid: Grid) -> list:
        """Return all that affects the results of `read` and `wanted` for a part of the grid."""
        box = shapely.box(*grid.bounds)
        aoi = "" if self.aoi is None else shapely.to_wkb(shapely.normalize(self.aoi & box), hex=True)
        sources = [[s.identity for s in _reaching(group, grid)] for group in (self.pre, self.post)]
        return [grid.crs.to_wkt(), list(grid.transform)[:6], *grid.shape, *sources, self.scaling, aoi]

    def _read(self, sources: Sequence[Source], grid: Grid, *, coarse: int = 1) -> Reading | None:
        reaching = _reaching(sources, grid)
        if not reaching:
            return None
        # One scene at a time, because each has its own shift (in a dataset, all scenes of a date share one shift).
        how = {"scaling": self.scaling, "folder": self.windows, "coarse": coarse}
        return mosaic(read_window((source.location,), grid.moved(*source.shift), **how) for source in reaching)


def open_pair(pre: Sequence[str], post: Sequence[str], settings: MapSettings) -> ScenePair:
    """Open the scenes of a map and choose its grid.

    Args:
        pre: paths or URLs of scenes before the event; the map has the grid of the first one, extended to cover all.
        post: paths or URLs of scenes after the event, on any grid.
        settings: settings of the map.

    Raises:
        ImageError: a file can't be read, or lies outside the input contract.
        SceneError: a scene has no coordinate reference system or is rotated, pre scenes lie far apart, or pre and post
            scenes share no ground.
        LabelError: the area of interest can't be read.
    """
    close_scenes()  # files that this process opened earlier may have changed
    scaling = check_scaling(settings.scaling, "--scaling")
    grid = common_grid(pre, scaling, crs=settings.crs, gsd=settings.gsd)
    before, after = (tuple(_source(location, grid, scaling) for location in group) for group in (pre, post))
    mapped = shapely.union_all([source.outline for source in before])
    apart = [source for source in after if not shapely.intersects(source.outline, mapped)]
    if len(apart) == len(after):
        raise SceneError(
            f"{pre[0]} and {post[0]}: the scenes share no ground ({_bounds(mapped)} before, "
            f"{_bounds(shapely.union_all([source.outline for source in after]))} after, in {grid.crs}); "
            "give scenes of one place, or correct their coordinate reference systems"
        )
    after = tuple(source for source in after if source not in apart)
    notes = [f"{source.location}: overlaps no pre scene, left out" for source in apart]
    for source in (*before, *after):
        if source.metres > _COARSE * grid.metres:
            notes.append(f"{source.location}: its pixels of {source.metres:.3g} m are coarser than the map's of "
                         f"{grid.metres:.3g} m")  # fmt: skip
    aoi = None
    if settings.aoi is not None:
        aoi, more = _area_of_interest(settings.aoi, grid)
        notes += more
    windows = settings.cache / "windows"
    return ScenePair(grid=grid, pre=before, post=after, scaling=scaling, aoi=aoi, windows=windows, notes=tuple(notes))


def register_pair(pair: ScenePair) -> tuple[ScenePair, tuple[Registered, ...]]:
    """Estimate the shift of each post scene against the pre scenes.

    The shift is the same for the whole scene. A shift for each window, as tiles of a dataset have, would make seams.
    """
    moved, registered = [], []
    for source in pair.post:
        alone = replace(pair, post=(source,))
        views = (alone.read(part) for part in _samples(source, pair.grid))
        estimated = register(view if view.valid.mean() >= _SEEN else None for view in views)
        rows, columns = estimated.middle
        counts = len(estimated.believed), len(estimated.estimates)
        registered.append(Registered(source.location, rows, columns, *counts, estimated.spread))
        moved.append(replace(source, shift=(rows, columns)))
    return replace(pair, post=tuple(moved)), tuple(registered)


def _samples(source: Source, grid: Grid) -> list[Grid]:
    """Return windows spread evenly over the part of the grid that a scene covers."""
    west, south, east, north = source.outline.bounds
    corners = [~grid.transform @ corner for corner in ((west, north), (east, south))]
    (left, top), (right, bottom) = ((max(0, int(x)), max(0, int(y))) for x, y in corners)
    right, bottom = min(right, grid.width), min(bottom, grid.height)

    def along(first: int, last: int) -> list[tuple[int, int]]:
        side = min(_SAMPLE, max(last - first, REGISTERED))
        count = max(1, min(_SAMPLES, (last - first) // side))
        return [(int(at), side) for at in np.linspace(first, max(first, last - side), count)]

    return [
        grid.part(Window(0, row, column, rows, columns, rows, columns))
        for row, rows in along(top, bottom)
        for column, columns in along(left, right)
    ]


def _reaching(sources: Sequence[Source], grid: Grid) -> list[Source]:
    """Return the scenes that overlap a part of the grid, or lie no farther from it than their shift."""
    box = shapely.box(*grid.bounds)
    side = max(abs(grid.transform.a), abs(grid.transform.e))
    return [
        source for source in sources if shapely.dwithin(source.outline, box, side * (2 + max(map(abs, source.shift))))
    ]


def _source(location: str, grid: Grid, scaling: tuple[str, float, float] | None) -> Source:
    scene = open_scene(location, scaling)
    try:
        metres = pixel_metres(scene.crs, scene.transform, scene.height, scene.width)
        outline = scene.outline(grid.crs)
    except (SceneError, RasterioError, CPLE_BaseError) as error:
        raise SceneError(
            f"{location}: cannot be transformed to the map's {grid.crs} ({error}); leave it out, or set --crs"
        ) from error
    own = "" if is_remote(location) else file_digest(Path(location))
    # Statistics and overviews beside the file do not change its pixels; a position that they hold is part of `placed`.
    beside = [file for file in scene.files[1:] if own and not file.endswith((".aux.xml", ".ovr"))]
    state = [own or location, scene.placed, *(file_digest(Path(file)) for file in beside)]
    return Source(
        location=location,
        digest=own,
        state=digest(state),
        date=scene.taken or date_in(Path(location).stem) or date_in(Path(location).parent.name),
        metres=metres,
        outline=outline,
    )


def _area_of_interest(path: Path, grid: Grid) -> tuple[shapely.geometry.base.BaseGeometry, tuple[str, ...]]:
    """Read the area of interest near the map; the rest may lie outside the map's coordinate reference system."""
    try:
        frame, notes = read_frame(path)
    except LabelError as error:
        raise LabelError(f"--aoi {error}") from error
    area = shapely.union_all(np.asarray(around(frame, grid).geometry))
    if not len(frame):
        raise LabelError(f"--aoi {path}: the file has no polygon; give a file with polygons")
    if not shapely.intersects(area, shapely.box(*grid.bounds)):
        raise SceneError(
            f"--aoi {path}: its polygons do not touch the map ({_bounds(shapely.box(*grid.bounds))}, in {grid.crs}); "
            "give polygons of the same place"
        )
    shapely.prepare(area)
    return area, notes


def _bounds(outline: shapely.geometry.base.BaseGeometry) -> str:
    west, south, east, north = outline.bounds
    return f"{west:.6g} to {east:.6g} east, {south:.7g} to {north:.7g} north"
