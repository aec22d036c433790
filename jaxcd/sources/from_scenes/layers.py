"""Damage labels of scenes: polygons with an attribute, or mask rasters, drawn on the grid of a tile."""

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import geopandas as gpd
import numpy as np
import shapely
from jaxtyping import UInt8
from rasterio.crs import CRS

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import BINARY, DAMAGE, INTACT, INVALID, UNKNOWN, Scale
from jaxcd.config import ScenesConfig
from jaxcd.scenes.catalogue import RASTERS
from jaxcd.scenes.polygons import known_texts, read_frame, texts_of
from jaxcd.scenes.reader import read_band
from jaxcd.scenes.windows import Grid
from jaxcd.sources.labels import codes_of_mask, paint

Codes = UInt8[np.ndarray, "h w"]

_SHOWN = 6  # values of an attribute that a message lists


@dataclass(frozen=True)
class Polygons:
    """Polygons in a grid's reference system.

    Attributes:
        outlines: valid polygons.
        codes: class of each, in the codes of a scale; where the attribute has no value, UNKNOWN (`binary`: INVALID).
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


class Meaning(NamedTuple):
    """What the polygons of a file mean.

    Attributes:
        scale: of their codes.
        attribute: the one that tells the class; empty: every polygon is damage (scale `binary`).
        codes: values of the attribute, as text, each with its code; in `binary`, all other values mean no damage.
        unknown: values that tell no class, like a missing value.
    """

    scale: Scale = BINARY
    attribute: str = ""
    codes: tuple[tuple[str, int], ...] = ()
    unknown: tuple[str, ...] = ()


def label_file(own: str, scenes: ScenesConfig) -> str:
    """Return the file that labels a scene: the one of --labels, or its own; empty where it is unlabelled on purpose.

    Raises:
        LabelError: there is none.
    """
    if scenes.labels == "none":
        return ""
    if scenes.labels:
        if not Path(scenes.labels).is_file():
            raise LabelError(f"--labels {scenes.labels}: no such file")
        return scenes.labels
    if not own:
        raise LabelError("no file with labels beside it; give one with --labels, or --labels none for unlabelled tiles")
    return own


def names_of_codes(scale: Scale) -> dict[int, str]:
    """Return how the codes of labels are called in reports and indexes."""
    if not scale.buildings:
        return {INTACT: "intact", DAMAGE: "damage", INVALID: "unknown"}
    return dict(enumerate(scale.codes)) | {UNKNOWN: "unknown level"}


def check_layers(files: Sequence[str], grid: Grid, scenes: ScenesConfig, scale: Scale) -> None:
    """Open the label layers of a place, so that their errors are reported before anything is built.

    Raises:
        LabelError: one can't be read, or does not say what is damaged.
    """
    for file in files:
        if not _is_raster(file):
            read_labels(file, grid.crs, scenes, scale)
    if scenes.labelled_area:
        read_polygons(scenes.labelled_area, grid.crs)


def draw(file: str, grid: Grid, scenes: ScenesConfig, scale: Scale) -> Codes:
    """Draw the labels of a tile in the codes of a scale.

    Polygons are painted as `jaxcd.sources.labels.paint` does; `scenes.outside` decides the class outside of all of
    them. A mask leaves INVALID where it has no data. Outside of `scenes.labelled_area` all is INVALID.

    Args:
        file: polygons or a mask raster; empty: all pixels are INVALID.
        grid: of the tile.
        scenes: label settings.
        scale: of the codes.

    Raises:
        LabelError: the file does not say what is damaged.
    """
    if not file:
        return np.full(grid.shape, INVALID, np.uint8)
    if _is_raster(file):
        values, valid = read_band(file, grid)
        own = codes_of_mask(Path(file), np.where(valid, values, 0).astype(np.uint8), scale)
        codes = np.where(valid, own, INVALID).astype(np.uint8)
    else:
        outside = INTACT if scenes.outside == "intact" else INVALID
        codes = _painted(read_labels(file, grid.crs, scenes, scale), grid, scale, outside)
    if scenes.labelled_area:
        area = _painted(read_polygons(scenes.labelled_area, grid.crs), grid, BINARY, INVALID)
        codes[area == INVALID] = INVALID
    return codes


def read_labels(file: str, crs: CRS, scenes: ScenesConfig, scale: Scale) -> Polygons:
    """Read a vector file of labels in some reference system, as `read_polygons` does.

    Raises:
        LabelError: as `read_polygons`.
    """
    codes = tuple(scenes.codes_of_values(scale).items())
    return read_polygons(file, crs, Meaning(scale, scenes.label_attribute, codes, scenes.label_unknown))


@functools.lru_cache(maxsize=16)
def read_polygons(file: str, crs: CRS, meaning: Meaning = Meaning()) -> Polygons:  # noqa: B008
    """Read a vector file (GeoJSON, GeoPackage, Shapefile, GeoParquet) in some reference system.

    Args:
        file: its path.
        crs: reference system to give the polygons in.
        meaning: of the polygons.

    Raises:
        LabelError: unreadable, no polygons, without a reference system, without the attribute, or with values of it
            that are no levels of the scale.
    """
    path = Path(file)
    frame, repaired = read_frame(path)
    codes, remarks = _classes(frame, path, meaning)
    outlines = np.asarray(frame.geometry.to_crs(crs.to_wkt()))
    return Polygons(outlines=outlines, codes=codes, rows=np.asarray(frame.index), notes=(*repaired, *remarks))


def _classes(frame: gpd.GeoDataFrame, path: Path, meaning: Meaning) -> tuple[UInt8[np.ndarray, "n"], list[str]]:
    """Return the code of each polygon, and remarks."""
    scale, attribute, known = meaning.scale, meaning.attribute, dict(meaning.codes)
    if not attribute:
        if scale.buildings:
            raise LabelError(
                f"{path}: polygons of damage alone tell no levels of the scale {scale.name} "
                f"({', '.join(scale.levels)}); name the attribute that does with --label_attribute"
            )
        return np.full(len(frame), DAMAGE, np.uint8), []
    texts = known_texts(frame, path, attribute, meaning.unknown)
    other = sorted(set(texts.dropna()) - set(known))
    if scale.buildings and other:
        raise LabelError(
            f"{path}: {attribute!r} is {_listed(other, ' or ')}, expected a level of the scale {scale.name} "
            f"({', '.join(scale.levels)}); say what it means with --label_levels VALUE=LEVEL, or list it in "
            "--label_unknown"
        )
    unknown = UNKNOWN if scale.buildings else INVALID
    codes = np.where(texts.isna(), unknown, [known.get(text, INTACT) for text in texts]).astype(np.uint8)
    return codes, _remarks(frame, path, meaning, codes)


def _remarks(frame: gpd.GeoDataFrame, path: Path, meaning: Meaning, codes: UInt8[np.ndarray, "n"]) -> list[str]:
    """Tell how many polygons are unknown, and which levels there are, or that none is damaged."""
    remarks, attribute, names = [], meaning.attribute, names_of_codes(meaning.scale)
    counts = Counter(codes.tolist())
    or_with = f", or with {' or '.join(meaning.unknown)}," if meaning.unknown else ""
    for code, end in ((INVALID, "unknown"), (UNKNOWN, "of unknown level")):
        if counts[code]:
            remarks.append(f"{path.name}: {counts[code]} polygons without a value{or_with} of {attribute!r}, {end}")
    if meaning.scale.buildings:
        levels = ", ".join(f"{counts[code]} {names[code]}" for code in sorted(counts))
        remarks += [f"{path.name}: polygons by level: {levels}"] if levels else []
    elif len(frame) and not counts[DAMAGE]:
        given = _listed(sorted(set(texts_of(frame, attribute).dropna())), ", ") or "none"
        values = " or ".join(value for value, _ in meaning.codes)
        remarks.append(f"{path.name}: no polygon whose {attribute!r} is {values} (there are {given})")
    return remarks


def _listed(values: Sequence[str], between: str) -> str:
    return between.join(map(repr, values[:_SHOWN])) + (" ..." if len(values) > _SHOWN else "")


def _is_raster(file: str) -> bool:
    return Path(file).suffix.lower() in RASTERS


def _painted(polygons: Polygons, grid: Grid, scale: Scale, outside: int) -> Codes:
    over = polygons.over(grid)
    shapes = zip(polygons.outlines[over], polygons.codes[over].tolist(), strict=True)
    return paint(shapes, scale, shape=grid.shape, transform=grid.transform, outside=outside)
