"""The vector layers of a map: outlines of damage, cells of counts, buildings."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import pyogrio
from pyogrio.errors import DataSourceError, FeatureError

from jaxcd.files import full_disk, replacing, write_whole
from jaxcd.mapping import buildings, outlines, styles
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.windows import Grid

DAMAGE, DAMAGE_DEGREES, BUILDINGS = "damage.gpkg", "damage.geojson", "buildings.gpkg"


class Layers(NamedTuple):
    """What lies over a map.

    Attributes:
        polygons: of damage, the largest first.
        cells: with the ground seen and damaged in each, and buildings by class.
        buildings: with their classes; None without footprints.
        agreement: of the classes with the true ones; empty where these are not known.
    """

    polygons: gpd.GeoDataFrame
    cells: gpd.GeoDataFrame
    buildings: gpd.GeoDataFrame | None
    agreement: dict[str, Any]


def write(out: Path, grid: Grid, footprints: gpd.GeoDataFrame | None, settings: MapSettings) -> Layers:
    """Lay polygons over a map's rasters, and write them, each file whole or not at all.

    Args:
        out: folder with the rasters.
        grid: of the map.
        footprints: of `buildings.read`, or None.
        settings: of the map.

    Raises:
        DiskFullError: no space left.
    """
    polygons = outlines.damage_polygons(out, grid, min_area=settings.min_area, simplify=settings.simplify)
    cells = outlines.cells(out, grid, side=settings.cell)
    judged, agreement = None, {}
    if footprints is not None:
        judged = buildings.judge(footprints, out, grid, settings)
        cells = buildings.counted_in(cells, judged)
        if settings.label_attribute:
            agreement = buildings.agreement(judged, settings)
        write_layers(out / BUILDINGS, {"buildings": (judged, styles.of_buildings())})
    write_layers(out / DAMAGE, {"damage": (polygons, styles.of_damage()), "cells": (cells, styles.of_cells())})
    write_geojson(out / DAMAGE_DEGREES, polygons)
    return Layers(polygons, cells, judged, agreement)


def write_layers(path: Path, layers: dict[str, tuple[gpd.GeoDataFrame, str]]) -> None:
    """Write a GeoPackage, whole or not at all.

    Args:
        path: of the file.
        layers: with their styles for QGIS, by name.

    Raises:
        DiskFullError: no space left.
    """
    with replacing(path) as partial:
        partial.unlink(missing_ok=True)
        try:
            for name, (frame, _) in layers.items():
                frame.to_file(partial, layer=name, driver="GPKG", geometry_type="MultiPolygon", promote_to_multi=True)
            told = styles.table({name: style for name, (_, style) in layers.items()})
            pyogrio.write_dataframe(told, partial, layer=styles.STYLES, driver="GPKG")
        except (DataSourceError, FeatureError) as error:
            # SQLite gives the space back before the error arrives, and doesn't always say that there was none.
            raise full_disk(f"could not write {path} ({error})") from error


def write_geojson(path: Path, frame: gpd.GeoDataFrame) -> None:
    """Write GeoJSON as its standard wants it: in WGS 84, whole or not at all.

    Raises:
        DiskFullError: no space left.
    """
    content = io.BytesIO()  # written by Python, which tells a full disk where GDAL may not
    frame.to_crs(4326).to_file(content, layer="damage", driver="GeoJSON", RFC7946="YES", geometry_type="Unknown")
    write_whole(path, content.getvalue())
