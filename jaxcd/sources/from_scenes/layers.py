"""Damage labels of scenes: polygons with an attribute, or mask rasters, drawn on the grid of a tile."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from jaxtyping import UInt8
from rasterio.crs import CRS
from rasterio.features import rasterize

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import BINARY
from jaxcd.base.types import DAMAGE, INTACT, INVALID
from jaxcd.config import ScenesConfig
from jaxcd.scenes.catalogue import RASTERS
from jaxcd.scenes.polygons import damage_of, read_frame, texts_of
from jaxcd.scenes.reader import read_band
from jaxcd.scenes.windows import Grid
from jaxcd.sources.labels import codes_of_mask

Codes = UInt8[np.ndarray, "h w"]

_NOT_DRAWN = 253


@dataclass(frozen=True)
class Polygons:
    """Polygons in a grid's reference system.

    Attributes:
        outlines: valid polygons.
        codes: class of each, in the codes of `jaxcd.base.types`; INVALID where the attribute has no value.
        rows: each polygon's number in its file, from 0.
        notes: remarks on what was repaired, left out or unknown.
    """

    outlines: np.ndarray
    codes: UInt8[np.ndarray, "n"]
    rows: np.ndarray
    notes: tuple[str, ...]

    @functools.cached_property
    def tree(self) -> shapely.STRtree:
        """Index of the outlines."""
        return shapely.STRtree(self.outlines)

    def over(self, grid: Grid) -> np.ndarray:
        """Return the numbers of the polygons that touch a grid's ground."""
        return np.sort(self.tree.query(shapely.box(*grid.bounds), predicate="intersects"))


def label_files(own: str, scenes: ScenesConfig) -> tuple[str, ...]:
    """Return the files that label a scene: the one of --labels, or its own; none where it is unlabelled on purpose.

    Raises:
        LabelError: there is none.
    """
    if scenes.labels == "none":
        return ()
    if scenes.labels:
        if not Path(scenes.labels).is_file():
            raise LabelError(f"--labels {scenes.labels}: no such file")
        return (scenes.labels,)
    if not own:
        raise LabelError("no file with labels beside it; give one with --labels, or --labels none for unlabelled tiles")
    return (own,)


def check_layers(files: Sequence[str], grid: Grid, scenes: ScenesConfig) -> None:
    """Open the label layers of a place, so that their errors are reported before anything is built.

    Raises:
        LabelError: one can't be read, or does not say what is damaged.
    """
    for file in files:
        if Path(file).suffix.lower() not in RASTERS:
            read_labels(file, grid.crs, scenes)
    if scenes.labelled_area:
        read_polygons(scenes.labelled_area, grid.crs, "", ())


def draw(files: Sequence[str], grid: Grid, scenes: ScenesConfig) -> Codes:
    """Draw the labels of a tile in the codes of `jaxcd.base.types`.

    A pixel belongs to a polygon that holds its centre; DAMAGE wins over INVALID (no value of the attribute), and
    INVALID over INTACT. `scenes.outside` and `scenes.labelled_area` decide the class outside of all polygons; a mask
    changes nothing where it has no data.

    Args:
        files: polygons and mask rasters; without any, all pixels are INVALID.
        grid: of the tile.
        scenes: label settings.

    Raises:
        LabelError: a file does not say what is damaged.
    """
    shape = grid.height, grid.width
    if not files:
        return np.full(shape, INVALID, np.uint8)
    layers = [file for file in files if Path(file).suffix.lower() not in RASTERS]
    outside = INTACT if layers and scenes.outside == "intact" else INVALID
    codes = np.full(shape, outside, np.uint8)
    for file in files:
        if file in layers:
            codes = _painted(codes, read_labels(file, grid.crs, scenes), grid)
        else:
            values, valid = read_band(file, grid)
            own = codes_of_mask(Path(file), np.where(valid, values, 0).astype(np.uint8), BINARY)
            codes = np.where(valid & (codes != DAMAGE), own, codes)
    if scenes.labelled_area:
        area = read_polygons(scenes.labelled_area, grid.crs, "", ())
        codes[_painted(np.full(shape, INVALID, np.uint8), area, grid) == INVALID] = INVALID
    return codes


def read_labels(file: str, crs: CRS, scenes: ScenesConfig) -> Polygons:
    """Read a vector file of labels in some reference system, as `read_polygons` does.

    Raises:
        LabelError: as `read_polygons`.
    """
    return read_polygons(file, crs, scenes.label_attribute, scenes.label_values, scenes.label_unknown)


@functools.lru_cache(maxsize=16)
def read_polygons(
    file: str, crs: CRS, attribute: str, values: tuple[str, ...], unknown: tuple[str, ...] = ()
) -> Polygons:
    """Read a vector file (GeoJSON, GeoPackage, Shapefile, GeoParquet) in some reference system.

    Args:
        file: its path.
        crs: reference system to give the polygons in.
        attribute: the one that says what is damaged; empty: every polygon is damage.
        values: values of the attribute, as text, that mean damage.
        unknown: values of the attribute that mean neither damage nor no damage.

    Raises:
        LabelError: unreadable, no polygons, without a reference system, or without the attribute.
    """
    path = Path(file)
    frame, repaired = read_frame(path)
    notes = list(repaired)
    codes = np.full(len(frame), DAMAGE, np.uint8)
    if attribute:
        damaged = damage_of(frame, path, attribute, values, unknown)
        codes = np.where(damaged.isna(), INVALID, np.where(damaged.fillna(False), DAMAGE, INTACT)).astype(np.uint8)
        if (codes == INVALID).any():
            without = "without a value" if not unknown else f"without a value, or with {' or '.join(unknown)},"
            notes.append(f"{path.name}: {int((codes == INVALID).sum())} polygons {without} of {attribute!r}, unknown")
        if len(frame) and not (codes == DAMAGE).any():
            given = ", ".join(map(repr, sorted(set(texts_of(frame, attribute).dropna()))[:6])) or "none"
            notes.append(f"{path.name}: no polygon whose {attribute!r} is {' or '.join(values)} (there are {given})")
    outlines = np.asarray(frame.geometry.to_crs(crs.to_wkt()))
    return Polygons(outlines=outlines, codes=codes, rows=np.asarray(frame.index), notes=tuple(notes))


def _painted(codes: Codes, polygons: Polygons, grid: Grid) -> Codes:
    over = polygons.over(grid)
    if not over.size:
        return codes
    # Later shapes paint over earlier ones.
    order = [
        (shape, code)
        for code in (INTACT, INVALID, DAMAGE)
        for shape in polygons.outlines[over[polygons.codes[over] == code]]
    ]
    drawn = rasterize(order, out_shape=codes.shape, transform=grid.transform, fill=_NOT_DRAWN, dtype="uint8")
    return np.where((drawn != _NOT_DRAWN) & (codes != DAMAGE), drawn, codes)
