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

_SHOWN = 6  # a message lists so many values of an attribute


@dataclass(frozen=True)
class Polygons:
    """Polygons in a grid's reference system.

    Attributes:
        outlines: valid polygons.
        codes: code of each polygon in a scale. It is UNKNOWN (`binary`: INVALID) where the attribute has no value.
        rows: each polygon's number in its file, from 0.
        notes: remarks on what was repaired, left out or unknown.
    """

    outlines: np.ndarray
    codes: UInt8[np.ndarray, "n"]
    rows: np.ndarray
    notes: tuple[str, ...]

    @functools.cached_property
    def tree(self) -> shapely.STRtree:
        """Spatial index of the outlines."""
        return shapely.STRtree(self.outlines)

    def over(self, grid: Grid) -> np.ndarray:
        """Return the positions in `outlines` of the polygons that touch a grid's ground."""
        return np.sort(self.tree.query(shapely.box(*grid.bounds), predicate="intersects"))


class Meaning(NamedTuple):
    """What the polygons of a file mean.

    Attributes:
        scale: scale of the codes.
        attribute: name of the attribute that holds the class; empty: every polygon is damage (scale `binary`).
        codes: pairs of a value of the attribute, as text, and its code; in `binary`, all other values mean no damage.
        unknown: values that are read as a missing value.
    """

    scale: Scale = BINARY
    attribute: str = ""
    codes: tuple[tuple[str, int], ...] = ()
    unknown: tuple[str, ...] = ()


def label_file(own: str, scenes: ScenesConfig) -> str:
    """Return the path of a scene's label file; empty if `--labels none` asks for unlabelled tiles.

    Args:
        own: path of the label file beside the scene, or "".
        scenes: its `labels` is the path given by `--labels`, which wins.

    Raises:
        LabelError: the scene has no label file, or that of `--labels` does not exist.
    """
    if scenes.labels == "none":
        return ""
    if scenes.labels:
        if not Path(scenes.labels).is_file():
            raise LabelError(f"--labels {scenes.labels}: no such file; check the path")
        return scenes.labels
    if not own:
        raise LabelError(
            "no label file beside its post scene; give one with --labels, or --labels none for unlabelled tiles"
        )
    return own


def names_of_codes(scale: Scale) -> dict[int, str]:
    """Return the names of the codes in reports and indexes."""
    if not scale.buildings:
        return {INTACT: "intact", DAMAGE: "damage", INVALID: "unknown"}
    return dict(enumerate(scale.codes)) | {UNKNOWN: "unknown level"}


def check_layers(files: Sequence[str], grid: Grid, scenes: ScenesConfig, scale: Scale) -> None:
    """Open the label layers of a place, so that their errors are reported before anything is built.

    Raises:
        LabelError: a file can't be read as polygons with classes of the scale.
    """
    for file in files:
        if not _is_raster(file):
            read_labels(file, grid.crs, scenes, scale)
    if scenes.labelled_area:
        read_polygons(scenes.labelled_area, grid.crs)


def draw(file: str, grid: Grid, scenes: ScenesConfig, scale: Scale) -> Codes:
    """Draw the labels of a tile in the codes of a scale.

    Polygons are painted by `jaxcd.sources.labels.paint`; `scenes.outside` decides the class outside of all polygons.
    A pixel is INVALID where a mask has no data, and outside of `scenes.labelled_area`.

    Args:
        file: path of polygons or a mask raster; empty: all pixels are INVALID.
        grid: the tile's grid.
        scenes: settings of labels.
        scale: scale of the codes.

    Raises:
        LabelError: the file can't be read as classes of the scale.
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
    """Read a vector file of labels as `read_polygons` does, with the meaning that the settings give it.

    Raises:
        LabelError: as `read_polygons`.
    """
    codes = tuple(scenes.codes_of_values(scale).items())
    return read_polygons(file, crs, Meaning(scale, scenes.label_attribute, codes, scenes.label_unknown))


@functools.lru_cache(maxsize=16)
def read_polygons(file: str, crs: CRS, meaning: Meaning = Meaning()) -> Polygons:  # noqa: B008
    """Read the polygons of a vector file (GeoJSON, GeoPackage, Shapefile, GeoParquet), reprojected to `crs`.

    Args:
        file: its path.
        crs: reference system of the result.
        meaning: how the polygons' attribute is read.

    Raises:
        LabelError: the file can't be read, holds no polygons, or has no reference system; the attribute is missing, or
            has a value that is no level of the scale.
    """
    path = Path(file)
    frame, repaired = read_frame(path)
    codes, remarks = _classes(frame, path, meaning)
    outlines = np.asarray(frame.geometry.to_crs(crs.to_wkt()))
    return Polygons(outlines=outlines, codes=codes, rows=np.asarray(frame.index), notes=(*repaired, *remarks))


def _classes(frame: gpd.GeoDataFrame, path: Path, meaning: Meaning) -> tuple[UInt8[np.ndarray, "n"], list[str]]:
    """Return the code of each polygon, and remarks for the report."""
    scale, attribute, known = meaning.scale, meaning.attribute, dict(meaning.codes)
    if not attribute:
        if scale.buildings:
            raise LabelError(
                f"{path}: the polygons have no level of the scale {scale.name} ({', '.join(scale.levels)}); name the "
                "attribute that holds the level with --label_attribute"
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
    """Return remarks: how many polygons are unknown, how many have each level, or that none is damaged."""
    remarks, attribute, names = [], meaning.attribute, names_of_codes(meaning.scale)
    counts = Counter(codes.tolist())
    or_unknown = f" or with {' or '.join(meaning.unknown)}" if meaning.unknown else ""
    for code, what in ((INVALID, "of unknown class"), (UNKNOWN, "of unknown level")):
        if counts[code]:
            remarks.append(f"{path.name}: {counts[code]} polygons {what}, without a value of {attribute!r}{or_unknown}")
    if meaning.scale.buildings:
        levels = ", ".join(f"{counts[code]} {names[code]}" for code in sorted(counts))
        remarks += [f"{path.name}: polygons by level: {levels}"] if levels else []
    elif len(frame) and not counts[DAMAGE]:
        given = _listed(sorted(set(texts_of(frame, attribute).dropna())), ", ") or "none"
        values = " or ".join(value for value, _ in meaning.codes)
        remarks.append(f"{path.name}: no polygon whose {attribute!r} is {values} (its values are {given})")
    return remarks


def _listed(values: Sequence[str], between: str) -> str:
    return between.join(map(repr, values[:_SHOWN])) + (" ..." if len(values) > _SHOWN else "")


def _is_raster(file: str) -> bool:
    return Path(file).suffix.lower() in RASTERS


def _painted(polygons: Polygons, grid: Grid, scale: Scale, outside: int) -> Codes:
    over = polygons.over(grid)
    shapes = zip(polygons.outlines[over], polygons.codes[over].tolist(), strict=True)
    return paint(shapes, scale, shape=grid.shape, transform=grid.transform, outside=outside)
