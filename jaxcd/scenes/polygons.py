"""Polygons from vector files: GeoPackage, GeoJSON, Shapefile, GeoParquet, in any reference system."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd
import pyarrow.parquet
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError
from rasterio.warp import transform_bounds
from shapely.errors import ShapelyError

from jaxcd.base.errors import LabelError
from jaxcd.scenes.windows import DEGREES, Grid

_ANY_GEOMETRY = ("Unknown", "GeometryCollection", "3D Unknown", "3D GeometryCollection")
_PARQUET = b"PAR1"
# What libraries raise for broken files; the last three come from metadata that break the GeoParquet standard.
_UNREADABLE = (DataSourceError, DataLayerError, ShapelyError, ValueError, TypeError, AttributeError, KeyError)
_SIDES = 64  # an edge as long as the map is cut into so many pieces before it is reprojected
_MARGIN = 0.1  # ground that is kept around a map, as a share of its extent

Box = tuple[float, float, float, float]


def read_frame(
    path: Path, *, over: Grid | None = None, points: bool = False
) -> tuple[gpd.GeoDataFrame, tuple[str, ...]]:
    """Read the polygons of a file with their attributes; invalid polygons are repaired.

    Args:
        path: the file.
        over: a grid; only polygons that touch its ground are returned. None: all polygons.
        points: return points, too.

    Returns:
        The polygons, numbered from 0 in the order in which they were read, and notes on what was repaired or left out.

    Raises:
        LabelError: the file can't be read, has no geometries, several layers of polygons, or no reference system.
    """
    if not path.exists():
        raise LabelError(f"{path}: no such file; check the path")
    try:
        frame = _read(path, over, ("Polygon", "Point") if points else ("Polygon",))
    except (*_UNREADABLE, OSError) as error:
        reason = " ".join(str(error).split())
        raise LabelError(f"{path}: cannot be read as polygons ({reason}); copy or export it anew") from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise LabelError(f"{path}: a table without geometries, expected polygons; export it with them")
    frame = frame.reset_index(drop=True)
    frame = frame.set_geometry(frame.geometry.force_2d())
    if frame.crs is None:
        raise LabelError(f"{path}: has no reference system; export it with its reference system")
    notes = []
    empty = frame.geometry.is_empty | frame.geometry.isna()
    flat = frame.geometry.geom_type.isin(["Polygon", "MultiPolygon", *(("Point", "MultiPoint") if points else ())])
    if (~flat & ~empty).any():
        notes.append(f"{path.name}: {int((~flat & ~empty).sum())} points and lines left out, only polygons are used")
    frame = frame[flat & ~empty]
    broken = ~frame.geometry.is_valid
    if broken.any():
        notes.append(f"{path.name}: {int(broken.sum())} polygons that cross themselves, repaired")
        # A repaired outline may also hold lines; a buffer of width 0 removes them.
        frame = frame.set_geometry(frame.geometry.make_valid().buffer(0))
    if over is not None and len(frame):
        outlines = frame.to_crs(over.crs.to_wkt()).geometry
        frame = frame[outlines.intersects(shapely.box(*over.bounds))]
    if not len(frame):
        notes.append(f"{path.name}: holds no polygon{'' if over is None else ' on the ground of the scenes'}")
    return frame, tuple(notes)


def damage_of(
    frame: gpd.GeoDataFrame, path: Path, attribute: str, values: Sequence[str], unknown: Sequence[str] = ()
) -> pd.Series:
    """Return for each polygon whether the value of an attribute means damage.

    Args:
        frame: polygons from `read_frame`.
        path: their file, for the message.
        attribute: name of the attribute.
        values: values that mean damage; all others mean no damage.
        unknown: values that are read as a missing value.

    Returns:
        True, False, or missing where unknown, with the frame's index.

    Raises:
        LabelError: the polygons have no such attribute.
    """
    texts = known_texts(frame, path, attribute, unknown)
    return texts.isin(values).astype("boolean").mask(texts.isna())


def known_texts(frame: gpd.GeoDataFrame, path: Path, attribute: str, unknown: Sequence[str] = ()) -> pd.Series:
    """Return the values of an attribute as a user would write them; missing where unknown.

    Whole numbers are written without a decimal point; text stays as it is.

    Args:
        frame: polygons from `read_frame`.
        path: their file, for the message.
        attribute: name of the attribute.
        unknown: values that are read as a missing value.

    Returns:
        Texts, with the frame's index.

    Raises:
        LabelError: the polygons have no such attribute.
    """
    if attribute not in frame.columns and len(frame):
        there = ", ".join(str(name) for name in frame.columns if name != frame.geometry.name) or "none"
        raise LabelError(f"{path}: no attribute {attribute!r}; it has {there}")
    texts = texts_of(frame, attribute)
    return texts.mask(texts.isin(unknown))


def texts_of(frame: gpd.GeoDataFrame, attribute: str) -> pd.Series:
    """Return the values of an attribute as a user would write them; missing where a polygon has none."""
    values = frame[attribute] if attribute in frame.columns else pd.Series(index=frame.index, dtype=object)
    return pd.Series([_text(value) for value in values], index=frame.index, dtype=object)


def _text(value: Any) -> str | None:
    if value is None or value is pd.NA or value != value:
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def around(frame: gpd.GeoDataFrame, grid: Grid) -> gpd.GeoDataFrame:
    """Cut polygons to a grid's ground and a margin, then reproject them to its reference system.

    They are cut first, because far polygons may lie outside of the area of the grid's reference system. Long edges get
    more points first, because they are straight in the polygons' own reference system only.
    """
    crs: Any = frame.crs
    west, south, east, north = transform_bounds(grid.crs, crs.to_wkt(), *grid.bounds)
    pieces = (
        [(west, south, east, north)] if west <= east else [(west, south, 180.0, north), (-180.0, south, east, north)]
    )
    width, height = (east - west) % 360 if len(pieces) == 2 else east - west, north - south
    margin, step = _MARGIN * max(width, height), max(width, height) / _SIDES
    ground = shapely.union_all([shapely.box(*box) for box in pieces]).buffer(margin)
    cut = shapely.segmentize(shapely.intersection(frame.geometry.to_numpy(), ground), step)
    return gpd.GeoDataFrame(geometry=cut[~shapely.is_empty(cut)], crs=crs).to_crs(grid.crs.to_wkt())


def _read(path: Path, over: Grid | None, kinds: Sequence[str]) -> Any:
    parquet = False
    if path.is_file():
        with path.open("rb") as file:
            parquet = file.read(len(_PARQUET)) == _PARQUET
    if over is None:
        return gpd.read_parquet(path) if parquet else gpd.read_file(path, layer=_layer(path, kinds))
    west, south, east, north = over.bounds_degrees
    boxes = [(west, south, min(east, 180.0), north)] + ([(-180.0, south, east - 360, north)] if east > 180 else [])
    if parquet:
        return _read_parquet(path, boxes)
    near = [gpd.GeoSeries([shapely.box(*box)], crs=DEGREES.to_wkt()) for box in boxes]
    layer = _layer(path, kinds)
    if pyogrio.read_info(path, layer=layer)["crs"] is None:
        return gpd.read_file(path, layer=layer)  # without a reference system, no polygon can be selected by location
    parts = [gpd.read_file(path, layer=layer, bbox=box, fid_as_index=True) for box in near]
    frame = parts[0] if len(parts) == 1 else pd.concat(parts)
    return frame[~frame.index.duplicated()]


def _read_parquet(path: Path, boxes: list[Box]) -> Any:
    """Read the rows near the boxes if the file holds the bounds of its rows in degrees; else read all rows."""
    metadata = json.loads((pyarrow.parquet.read_schema(path).metadata or {}).get(b"geo", b"{}"))
    column = (metadata.get("columns") or {}).get(metadata.get("primary_column")) or {}
    crs: Any = column.get("crs", {"id": {"code": "CRS84"}})  # old files hold a text here
    degrees = isinstance(crs, dict) and (crs.get("id") or {}).get("code") in ("CRS84", 4326)
    if not degrees or "bbox" not in (column.get("covering") or {}):
        return gpd.read_parquet(path)
    parts = [gpd.read_parquet(path, bbox=box) for box in boxes]
    return parts[0] if len(parts) == 1 else pd.concat(parts)


def _layer(path: Path, kinds: Sequence[str]) -> str:
    """Return the single layer that may hold geometries of some kinds; tables such as QGIS's styles are skipped."""
    layers = [(str(name), kind) for name, kind in pyogrio.list_layers(path)]
    shapes = [
        name
        for name, kind in layers
        if kind is not None and (kind in _ANY_GEOMETRY or any(one in kind for one in kinds))
    ]
    if len(shapes) > 1:
        raise LabelError(
            f"{path}: holds the layers {', '.join(shapes)}, expected one; export the wanted one to its own file"
        )
    return shapes[0] if shapes else layers[0][0]
