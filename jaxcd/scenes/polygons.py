"""Polygons from vector files: GeoPackage, GeoJSON, Shapefile, GeoParquet, in any reference system."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import pyogrio
import shapely
from pyogrio.errors import DataLayerError, DataSourceError

from jaxcd.errors import LabelError
from jaxcd.scenes.windows import DEGREES, Grid

_ANY = ("Unknown", "GeometryCollection", "3D Unknown", "3D GeometryCollection")


def read_frame(path: Path, *, over: Grid | None = None) -> tuple[gpd.GeoDataFrame, tuple[str, ...]]:
    """Read the polygons of a file, valid ones, with their attributes.

    Args:
        path: the file.
        over: a grid on whose ground alone polygons are wanted; None for all.

    Returns:
        The polygons, indexed by their numbers in what was read, and notes on what had to be done to read them.

    Raises:
        LabelError: unreadable, a table without geometries, several layers of polygons, or no reference system.
    """
    frame: Any
    near = None if over is None else gpd.GeoSeries([shapely.box(*over.bounds_degrees)], crs=DEGREES.to_wkt())
    try:
        if path.suffix.lower() == ".parquet":
            frame = gpd.read_parquet(path)
        else:
            frame = gpd.read_file(path, layer=_layer(path), bbox=near)
    except (DataSourceError, DataLayerError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise LabelError(f"{path}: cannot be read as polygons ({reason}); copy or export it anew") from error
    if not isinstance(frame, gpd.GeoDataFrame):
        raise LabelError(f"{path}: a table without geometries, expected polygons")
    frame = frame.reset_index(drop=True)
    frame = frame.set_geometry(frame.geometry.force_2d())
    if frame.crs is None:
        raise LabelError(f"{path}: has no reference system; export it with one")
    notes = []
    empty = frame.geometry.is_empty | frame.geometry.isna()
    flat = frame.geometry.geom_type.isin(["Polygon", "MultiPolygon"])
    if (~flat & ~empty).any():
        notes.append(f"{path.name}: {int((~flat & ~empty).sum())} points and lines left out, polygons are wanted")
    frame = frame[flat & ~empty]
    broken = ~frame.geometry.is_valid
    if broken.any():
        notes.append(f"{path.name}: {int(broken.sum())} polygons that cross themselves, repaired")
        # A repaired outline may hold lines, too: widened by nothing they vanish.
        frame = frame.set_geometry(frame.geometry.make_valid().buffer(0))
    if over is not None and len(frame):
        outlines = frame.to_crs(over.crs.to_wkt()).geometry
        frame = frame[outlines.intersects(shapely.box(*over.bounds))]
    if not len(frame):
        notes.append(f"{path.name}: holds no polygon{'' if over is None else ' on the ground of the scenes'}")
    return frame, tuple(notes)


def _layer(path: Path) -> str:
    """Return the one layer that may hold polygons; tables beside it, such as QGIS's styles, are passed over."""
    layers = [(str(name), kind) for name, kind in pyogrio.list_layers(path)]
    shapes = [name for name, kind in layers if kind is not None and ("Polygon" in kind or kind in _ANY)]
    if len(shapes) > 1:
        raise LabelError(f"{path}: holds the layers {', '.join(shapes)}, expected one: export it to a file of its own")
    return shapes[0] if shapes else layers[0][0]
