"""Gives the attributes of footprints names and types that a GeoPackage can hold, whatever file they come from."""

import json
from datetime import date, time
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
from pandas.api import types

from jaxcd.base.scales import BINARY, Scale

RESERVED = ("fid", "geometry", "geom", "damaged_share", "mean_probability", "seen_share", "area_m2", "damage_class")
"""Names of the columns that a map or GDAL adds; an attribute of a footprint with such a name is renamed."""

LEVEL, EXPECTED, SOURCE = "level", "expected_level", "source"
"""Further columns of the buildings of a map of levels, besides those of `probability_column`."""

_EXACT = 2**53  # largest integer up to which float64 is exact; columns with larger ones (ids) and gaps become text


def probability_column(level: str) -> str:
    """Return the name of the column that holds the probability of a level."""
    return f"p_{level.replace(' ', '_')}"


def of_levels(scale: Scale) -> tuple[str, ...]:
    """Return the names of the columns that a map of levels adds to its buildings; none on the scale `binary`."""
    return (LEVEL, EXPECTED, SOURCE, *map(probability_column, scale.levels)) if scale.buildings else ()


def storable(frame: gpd.GeoDataFrame, scale: Scale = BINARY) -> gpd.GeoDataFrame:
    """Give attributes names and types that a GeoPackage can hold.

    An attribute is renamed to `source_...` if its name is in `RESERVED`, is a column of a map of levels, or differs
    from another name in case only. Lists and the like become JSON. All values but numbers, times and text
    become text.
    """
    if frame.geometry.name != "geometry":
        frame = frame.rename_geometry("geometry")
    taken = {*RESERVED, *of_levels(scale)}
    columns: dict[str, Any] = {}
    for name in frame.columns:
        if name == "geometry":
            continue
        new = str(name)
        while new.lower() in taken:
            new = f"source_{new}"
        taken.add(new.lower())
        columns[new] = _column(frame[name])
    return gpd.GeoDataFrame(columns, geometry=frame.geometry, index=frame.index)


def _column(values: Any) -> Any:
    kind, gaps = values.dtype, values.isna().any()
    if types.is_datetime64_any_dtype(kind):
        return values
    if types.is_bool_dtype(kind) and not gaps:
        return values.astype(bool)
    if types.is_float_dtype(kind):
        return values.astype(np.float64)
    if types.is_integer_dtype(kind):
        if not gaps and (values <= np.iinfo(np.int64).max).all():
            return values.astype(np.int64)
        if (values.dropna() <= _EXACT).all():  # a column of integers cannot hold gaps
            return values.astype(np.float64)
    return pd.Series([_text(value) for value in values], index=values.index, dtype=object)


def _text(value: Any) -> str | None:
    if isinstance(value, list | tuple | dict | np.ndarray):
        return json.dumps(value, default=_plain, ensure_ascii=False)
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and np.isnan(value)):
        return None
    return value.isoformat() if isinstance(value, date | time) else str(value)


def _plain(value: Any) -> Any:
    """Convert a value that JSON cannot hold to one that it can."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else _text(value)
