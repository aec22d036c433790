"""Which buildings: footprints laid over the map, a class for each, and how that agrees with what is known."""

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd

from jaxcd.errors import LabelError
from jaxcd.mapping.outlines import areas, in_metres, pixel_area, under
from jaxcd.mapping.rasters import DECISION, PROBABILITY
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.polygons import read_frame
from jaxcd.scenes.windows import Grid

INTACT, POSSIBLY, DAMAGED, NOT_SEEN, TOO_SMALL = "intact", "possibly", "damaged", "not seen", "too small to judge"
CLASSES = (INTACT, POSSIBLY, DAMAGED, NOT_SEEN, TOO_SMALL)
CLASS = "damage_class"

_OWN = ("damaged_share", "mean_probability", "seen_share", "area_m2", CLASS)
_RESERVED: tuple[str, ...] = ("fid", "geometry", "geom", *_OWN)
_SEEN = 0.5  # share of a footprint from which the building counts as seen


def read(grid: Grid, settings: MapSettings) -> tuple[gpd.GeoDataFrame, tuple[str, ...]]:
    """Read the footprints on the ground of a map, and notes on what had to be done for it.

    Raises:
        LabelError: the file can't be read, or lacks the attribute of true classes.
    """
    footprints = settings.footprints
    assert footprints is not None
    frame, notes = read_frame(footprints, over=grid)
    if settings.label_attribute and settings.label_attribute not in frame.columns and len(frame):
        there = ", ".join(name for name in frame.columns if name != frame.geometry.name) or "none"
        raise LabelError(f"{footprints}: no attribute {settings.label_attribute!r}; it has {there}")
    return frame, notes


def judge(footprints: gpd.GeoDataFrame, out: Path, grid: Grid, settings: MapSettings) -> gpd.GeoDataFrame:
    """Give every building its numbers and its class.

    The damaged share is the damaged ground within the footprint widened by `buffer`, over the footprint's own area, 1
    at most: seen from aside a roof lies next to its footprint, and its damage counts all the same.

    Args:
        footprints: of `read`.
        out: folder with the map's rasters.
        grid: of the map.
        settings: of the map.

    Returns:
        The footprints with their own attributes and damaged_share, mean_probability (under the footprint), seen_share,
        area_m2 and damage_class.
    """
    frame: Any = _storable(footprints.to_crs(grid.crs.to_wkt()))
    size = areas(frame)
    widened = frame[["geometry"]].copy()
    if settings.buffer and len(frame):
        widened["geometry"] = in_metres(frame).buffer(settings.buffer).to_crs(grid.crs.to_wkt())
    pixel = pixel_area(grid)
    damage = under(out / DECISION, widened, ["sum"])["sum"] * pixel
    found = under(out / PROBABILITY, frame, ["mean", "count"])
    frame["damaged_share"] = np.clip(damage / size, 0, 1).round(4)
    frame["mean_probability"] = found["mean"].round(4)
    frame["seen_share"] = np.clip(found["count"] * pixel / size, 0, 1).round(4)
    frame["area_m2"] = size.round(1)
    low, high = settings.building_shares
    frame[CLASS] = np.select(
        [
            frame["seen_share"] < _SEEN,
            frame["area_m2"] < settings.min_building,
            frame["damaged_share"] >= high,
            frame["damaged_share"] >= low,
        ],
        [NOT_SEEN, TOO_SMALL, DAMAGED, POSSIBLY],
        default=INTACT,
    )
    frame.loc[frame[CLASS] == NOT_SEEN, "damaged_share"] = np.nan
    return frame


def counts(frame: gpd.GeoDataFrame) -> dict[str, int]:
    """Count the buildings of each class."""
    return {name: int(np.count_nonzero(frame[CLASS] == name)) for name in CLASSES}


def counted_in(cells: gpd.GeoDataFrame, frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Add to cells how many buildings of each class have their middle in them."""
    cells = cells.copy()
    squares: Any = cells[["geometry"]]
    middles: Any = gpd.GeoDataFrame({CLASS: frame[CLASS]}, geometry=frame.geometry.representative_point())
    joined = gpd.sjoin(middles, squares, predicate="within")
    for name in CLASSES:
        inside = joined.loc[joined[CLASS] == name, "index_right"].value_counts()
        cells[f"buildings_{name.replace(' ', '_')}"] = inside.reindex(cells.index, fill_value=0).astype(int)
    return cells


def agreement(frame: gpd.GeoDataFrame, settings: MapSettings) -> dict:
    """Compare the classes with the true ones; buildings of which these aren't known take no part.

    Args:
        frame: of `judge`.
        settings: of the map, with the attribute that tells the truth.

    Returns:
        As `scored`.
    """
    attribute = settings.label_attribute
    told: Any = frame[f"source_{attribute}" if attribute.lower() in _RESERVED else attribute]
    text = told[told.notna()].astype(str).str.removesuffix(".0")
    truth = text[~text.isin(settings.label_unknown)].isin(settings.label_values)
    judged = frame.loc[truth.index, CLASS]
    table = {
        name: {label: int(((judged == label) & (truth == true)).sum()) for label in CLASSES}
        for name, true in (("damaged", True), ("intact", False))
    }
    return scored(table)


def scored(table: dict[str, dict[str, int]]) -> dict:
    """Score classes.

    Args:
        table: of truly damaged and truly intact buildings the number in each class.

    Returns:
        It, as `confusion`; precision, recall and F1 of those that could be judged, by calling `damaged` damage, and by
        calling `possibly` damage, too.
    """
    return {
        "confusion": table,
        "damaged": _scores(table, (DAMAGED,)),
        "damaged or possibly": _scores(table, (DAMAGED, POSSIBLY)),
    }


def _scores(table: dict[str, dict[str, int]], called: tuple[str, ...]) -> dict[str, float]:
    hit, false = (sum(table[true][name] for name in called) for true in ("damaged", "intact"))
    missed = sum(table["damaged"][name] for name in (INTACT, POSSIBLY, DAMAGED) if name not in called)
    return {
        "precision": hit / max(hit + false, 1),
        "recall": hit / max(hit + missed, 1),
        "f1": 2 * hit / max(2 * hit + false + missed, 1),
    }


def _storable(frame: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """Name and form attributes as a GeoPackage can hold them: names that differ by more than case, no nested values."""
    if frame.geometry.name != "geometry":
        frame = frame.rename_geometry("geometry")
    taken = set(_RESERVED)
    names = {}
    for name in frame.columns:
        if name == "geometry":
            continue
        new = str(name)
        while new.lower() in taken:
            new = f"source_{new}"
        taken.add(new.lower())
        names[name] = new
    frame = gpd.GeoDataFrame(frame.rename(columns=names))
    for name in names.values():
        if pd.api.types.is_object_dtype(frame[name]):
            frame[name] = [
                value if value is None or isinstance(value, str | int | float) else json.dumps(value, default=str)
                for value in frame[name]
            ]
    return frame
