"""Damage labels of scenes: polygons with an attribute, or mask rasters, drawn on the grid of a tile."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from jaxtyping import Bool, UInt8
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.crs import CRS
from rasterio.features import rasterize

from jaxcd.config import ScenesConfig
from jaxcd.errors import LabelError
from jaxcd.scenes.catalogue import RASTERS
from jaxcd.scenes.reader import read_band
from jaxcd.scenes.windows import Grid
from jaxcd.tiles.labels import codes_of_mask
from jaxcd.types import DAMAGE, INTACT, INVALID

Codes = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class Polygons:
    """Polygons in a grid's reference system.

    Attributes:
        outlines: valid polygons.
        damaged: which of them mean damage.
        rows: each polygon's number in its file, from 0.
        notes: what had to be done to read them.
    """

    outlines: np.ndarray
    damaged: Bool[np.ndarray, "n"]
    rows: np.ndarray
    notes: tuple[str, ...]

    @functools.cached_property
    def tree(self) -> shapely.STRtree:
        """Index of the outlines."""
        return shapely.STRtree(self.outlines)

    def over(self, grid: Grid) -> np.ndarray:
        """Return the numbers of the polygons that touch a grid's ground."""
        return np.sort(self.tree.query(shapely.box(*grid.bounds), predicate="intersects"))


def label_files(own: Sequence[str], scenes: ScenesConfig) -> tuple[str, ...]:
    """Return the files that label a place: those given for all, or its own; empty where it is unlabelled on purpose.

    Raises:
        LabelError: there are none.
    """
    if scenes.labels == "none":
        return ()
    if scenes.labels:
        if not Path(scenes.labels).is_file():
            raise LabelError(f"--labels {scenes.labels}: no such file")
        return (scenes.labels,)
    if not own:
        raise LabelError("no file with labels beside it; give one with --labels, or --labels none for unlabelled tiles")
    return tuple(own)


def draw(files: Sequence[str], grid: Grid, scenes: ScenesConfig) -> Codes:
    """Draw the labels of a tile in the codes of `jaxcd.types`.

    A pixel belongs to a polygon that holds its centre; DAMAGE wins over other classes. Outside of all polygons, and
    where a mask has no data, counts what `scenes.outside` and `scenes.labelled_area` say.

    Args:
        files: polygons and mask rasters; none: nothing is known.
        grid: of the tile.
        scenes: label settings.

    Raises:
        LabelError: a file does not say what is damaged.
    """
    shape = grid.height, grid.width
    if not files:
        return np.full(shape, INVALID, np.uint8)
    unknown = INTACT if scenes.outside == "intact" else INVALID
    codes = np.full(shape, unknown, np.uint8)
    for file in files:
        if Path(file).suffix.lower() in RASTERS:
            values, valid = read_band(file, grid)
            own = np.where(valid, codes_of_mask(Path(file), values), INVALID).astype(np.uint8)
            codes = np.where(valid & (codes != DAMAGE), own, codes)
        else:
            found = read_polygons(file, grid.crs, scenes.label_attribute, scenes.label_values)
            codes = _painted(codes, found, grid)
    if scenes.labelled_area:
        area = read_polygons(scenes.labelled_area, grid.crs, "", ())
        codes[_painted(np.zeros(shape, np.uint8), area, grid) == 0] = INVALID
    return codes


@functools.lru_cache(maxsize=16)
def read_polygons(file: str, crs: CRS, attribute: str, values: tuple[str, ...]) -> Polygons:
    """Read a vector file (GeoJSON, GeoPackage, Shapefile, GeoParquet) in some reference system.

    Args:
        file: its path.
        crs: reference system to give the polygons in.
        attribute: that tells damage; empty: every polygon is damage.
        values: of the attribute, as text, that mean damage.

    Raises:
        LabelError: unreadable, without a reference system, without the attribute, or none of its values occurs.
    """
    path = Path(file)
    try:
        frame = gpd.read_parquet(path) if path.suffix.lower() == ".parquet" else gpd.read_file(path)
    except (DataSourceError, DataLayerError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise LabelError(f"{path}: cannot be read as polygons ({reason}); copy or export it anew") from error
    if frame.crs is None:
        raise LabelError(f"{path}: has no reference system; export it with one")
    if attribute and attribute not in frame.columns and len(frame):
        there = ", ".join(name for name in frame.columns if name != frame.geometry.name) or "none"
        raise LabelError(f"{path}: no attribute {attribute!r}; it has {there}")
    notes = []
    empty = frame.geometry.is_empty | frame.geometry.isna()
    flat = frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])
    if (~flat & ~empty).any():
        notes.append(f"{path.name}: {int((~flat & ~empty).sum())} points and lines left out, polygons are wanted")
    frame = frame[flat & ~empty]
    broken = ~frame.geometry.is_valid
    if broken.any():
        notes.append(f"{path.name}: {int(broken.sum())} polygons that cross themselves, repaired")
        frame = frame.set_geometry(frame.geometry.make_valid())
    if not len(frame):
        notes.append(f"{path.name}: holds no polygon")
    damaged = np.ones(len(frame), bool)
    if attribute and len(frame):
        told = np.asarray(frame[attribute].astype(str))
        damaged = np.isin(told, values)
        if not damaged.any() and not set(values) & set(told):
            given = ", ".join(map(repr, sorted(set(told))[:6]))
            notes.append(f"{path.name}: no polygon whose {attribute!r} is {' or '.join(values)} (there are {given})")
    outlines = np.asarray(frame.geometry.to_crs(crs.to_wkt()))
    return Polygons(outlines=outlines, damaged=damaged, rows=frame.index.to_numpy(), notes=tuple(notes))


def _painted(codes: Codes, polygons: Polygons, grid: Grid) -> Codes:
    over = polygons.over(grid)
    if not over.size:
        return codes
    damaged = polygons.damaged[over]
    # Later shapes paint over earlier ones.
    order = [(shape, INTACT) for shape in polygons.outlines[over[~damaged]]]
    order += [(shape, DAMAGE) for shape in polygons.outlines[over[damaged]]]
    shape = codes.shape
    drawn = rasterize(order, out_shape=shape, transform=grid.transform, fill=INVALID, dtype="uint8")
    return np.where((drawn != INVALID) & (codes != DAMAGE), drawn, codes)
