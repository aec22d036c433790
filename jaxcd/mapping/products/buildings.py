"""Gives each building footprint of a map a damage class, and compares the classes with true ones."""

from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from jaxtyping import Float, UInt8

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import BINARY, XBD, Scale
from jaxcd.config import XBD_LEVELS
from jaxcd.mapping.products.attributes import storable
from jaxcd.mapping.products.outlines import areas, in_metres, statistics_under_polygons
from jaxcd.mapping.products.rasters import DECISION, PROBABILITY
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.polygons import damage_of, read_frame, texts_of
from jaxcd.scenes.windows import Grid

INTACT, POSSIBLY, DAMAGED, NOT_SEEN, TOO_SMALL = "intact", "possibly", "damaged", "not seen", "too small to judge"
CLASSES = (INTACT, POSSIBLY, DAMAGED, NOT_SEEN, TOO_SMALL)
CLASS = "damage_class"

_SEEN = 0.5  # a building counts as seen if at least this share of its footprint has data


class Footprints(NamedTuple):
    """Outlines of buildings on the ground of a map.

    Attributes:
        frame: the outlines, with attributes that a GeoPackage can hold.
        truth: True for truly damaged buildings, with the frame's index, for buildings of known class only; None without
            true classes.
        notes: what was repaired or left out when the file was read.
        true_levels: names of the true levels, likewise; None without true classes, or for a map of damage alone.
    """

    frame: gpd.GeoDataFrame
    truth: pd.Series | None
    notes: tuple[str, ...]
    true_levels: pd.Series | None = None


def read(grid: Grid, settings: MapSettings, scale: Scale = BINARY) -> Footprints:
    """Read the footprints on the ground of a map.

    A true level is known if the attribute of true classes holds the name of a level of the map's scale. In the scale
    `xbd`, xBD's own names are understood, too (no-damage, minor-damage, major-damage, destroyed).

    Raises:
        LabelError: the file can't be read, it lacks the attribute of true classes, or no true class means damage or is
            a level.
    """
    assert settings.footprints is not None
    frame, notes = read_frame(settings.footprints, over=grid)
    truth = _truth(frame, settings, scale) if settings.label_attribute else None
    true_levels = None
    if truth is not None and scale.buildings:
        true_levels = _true_levels(frame.loc[truth.index], settings.label_attribute, scale)
        notes += _other_names(frame.loc[truth.index], true_levels, settings, scale)
    return Footprints(storable(frame, scale), truth, notes, true_levels)


def judge(footprints: gpd.GeoDataFrame, out: Path, grid: Grid, settings: MapSettings) -> gpd.GeoDataFrame:
    """Compute the figures and the class of every building.

    The damaged share is the damaged area within the footprint and up to `buffer` metres around it, divided by the
    footprint's own area, and at most 1. The buffer is there because in an oblique scene a roof lies beside its
    footprint. Ground in a neighbour's footprint counts for the neighbour only.

    Args:
        footprints: `Footprints.frame` of `read`.
        out: folder with the map's rasters.
        grid: grid of the map.
        settings: settings of the map.

    Returns:
        The footprints with their own attributes, and damaged_share, mean_probability (under the footprint), seen_share,
        area_m2 and damage_class.
    """
    frame: Any = footprints.to_crs(grid.crs.to_wkt())
    size = areas(frame)
    pixel = grid.metres**2
    damage = statistics_under_polygons(out / DECISION, widened(frame, settings.buffer), ["sum"])["sum"] * pixel
    probability = statistics_under_polygons(out / PROBABILITY, frame, ["mean", "count"])
    frame["damaged_share"] = np.clip(damage / size, 0, 1).round(4)
    frame["mean_probability"] = probability["mean"].round(4)
    frame["seen_share"] = np.clip(probability["count"] * pixel / size, 0, 1).round(4)
    frame["area_m2"] = size.round(1)
    shares = frame["damaged_share"].to_numpy(), frame["seen_share"].to_numpy(), frame["area_m2"].to_numpy()
    frame[CLASS] = np.array(CLASSES, object)[codes_of(*shares, settings)]
    frame.loc[frame[CLASS] == NOT_SEEN, "damaged_share"] = np.nan
    return frame


def codes_of(
    damaged: Float[np.ndarray, "*n"],
    seen: Float[np.ndarray, "*m"],
    area: Float[np.ndarray, "*m"],
    settings: MapSettings,
) -> UInt8[np.ndarray, "*n"]:
    """Return the numbers of buildings' classes among `CLASSES`.

    Args:
        damaged: damaged shares.
        seen: shares that are seen, of a shape that broadcasts to that of `damaged`.
        area: areas in square metres, likewise.
        settings: settings of the map.
    """
    low, high = settings.building_shares
    conditions = [seen < _SEEN, area < settings.min_building, damaged >= high, damaged >= low]
    names = (NOT_SEEN, TOO_SMALL, DAMAGED, POSSIBLY)
    codes = [np.uint8(CLASSES.index(name)) for name in names]
    return np.select(conditions, codes, default=np.uint8(CLASSES.index(INTACT)))


def counts(frame: gpd.GeoDataFrame) -> dict[str, int]:
    """Count the buildings of each class."""
    return {name: int(np.count_nonzero(frame[CLASS] == name)) for name in CLASSES}


def agreement(frame: gpd.GeoDataFrame, truth: pd.Series) -> dict:
    """Compare the classes with the true ones; buildings without a true class are left out.

    Args:
        frame: the result of `judge`.
        truth: `Footprints.truth` of `read`.

    Returns:
        The same as `scored`.
    """
    judged = frame.loc[truth.index, CLASS]
    table = {
        name: {label: int(((judged == label) & (truth == true)).sum()) for label in CLASSES}
        for name, true in (("damaged", True), ("intact", False))
    }
    return scored(table)


def scored(table: dict[str, dict[str, int]]) -> dict:
    """Compute precision, recall and F1 from a confusion table.

    Args:
        table: the number of buildings in each class, by true class ("damaged", "intact").

    Returns:
        The table under the key `confusion`; precision, recall and F1 of the judged buildings under two further keys:
        once only `damaged` counts as damage, once `possibly` does, too. A score is None if its denominator is 0.
    """
    return {
        "confusion": table,
        "damaged": _scores(table, (DAMAGED,)),
        "damaged or possibly": _scores(table, (DAMAGED, POSSIBLY)),
    }


def _scores(table: dict[str, dict[str, int]], called: tuple[str, ...]) -> dict[str, float | None]:
    hit, false = (sum(table[true][name] for name in called) for true in ("damaged", "intact"))
    missed = sum(table["damaged"][name] for name in (INTACT, POSSIBLY, DAMAGED) if name not in called)
    parts = {"precision": (hit, hit + false), "recall": (hit, hit + missed), "f1": (2 * hit, 2 * hit + false + missed)}
    return {name: part / whole if whole else None for name, (part, whole) in parts.items()}


def _truth(frame: gpd.GeoDataFrame, settings: MapSettings, scale: Scale) -> pd.Series:
    attribute, path = settings.label_attribute, settings.footprints
    assert path is not None
    damaged = damage_of(frame, path, attribute, settings.label_values, settings.label_unknown).dropna().astype(bool)
    # If classes are levels of the scale, it can be true that no building is damaged; else a value may be mistyped.
    levels_known = scale.buildings and len(_true_levels(frame, attribute, scale))
    if len(damaged) and not damaged.any() and not levels_known:
        there = ", ".join(sorted(set(texts_of(frame, attribute)[damaged.index]))[:10])
        raise LabelError(
            f"{path}: no polygon's {attribute!r} is one of {', '.join(settings.label_values)}; its values are {there}; "
            "correct --label_values"
        )
    return damaged


def _true_levels(frame: gpd.GeoDataFrame, attribute: str, scale: Scale) -> pd.Series:
    known = {name: name for name in scale.levels}
    if scale == XBD:
        known |= dict(zip(XBD_LEVELS, scale.levels, strict=True))
    return texts_of(frame, attribute).map(known).dropna()


def _other_names(
    frame: gpd.GeoDataFrame, true_levels: pd.Series, settings: MapSettings, scale: Scale
) -> tuple[str, ...]:
    """Return a note that lists the values of the attribute that are no levels of the map's scale."""
    texts = texts_of(frame, settings.label_attribute).dropna()
    other = sorted(set(texts.drop(true_levels.index)))
    if not other:
        return ()
    named = ", ".join(map(repr, other[:6])) + (", ..." if len(other) > 6 else "")
    return (
        f"the footprints' {settings.label_attribute!r} has the values {named}, which are no levels of the scale "
        f"{scale.name} ({', '.join(scale.levels)}): these buildings count in the table of damaged and intact "
        f"buildings, "
        "but not in the table of levels",
    )


def widened(frame: gpd.GeoDataFrame, buffer: float) -> gpd.GeoDataFrame:
    """Widen footprints by `buffer` metres, but not into the footprints of neighbours; returns the outlines alone."""
    own: Any = frame[["geometry"]].copy()
    if not buffer or not len(own):
        return own
    wide: Any = in_metres(frame).buffer(buffer).to_crs(own.crs).to_numpy()
    outlines: Any = own.geometry.to_numpy()
    wider, touched = shapely.STRtree(outlines).query(wide, predicate="intersects")
    wider, touched = wider[wider != touched], touched[wider != touched]
    index: Any
    for index, others in pd.Series(touched).groupby(wider):
        neighbours = shapely.difference(shapely.union_all(outlines[others]), outlines[index])
        wide[index] = shapely.difference(wide[index], neighbours)
    return own.set_geometry(wide)
