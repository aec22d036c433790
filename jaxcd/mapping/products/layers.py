"""The vector layers of a map: outlines of damage and of its levels, cells of counts, buildings."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import pyogrio
from pyogrio.errors import DataSourceError, FeatureError

from jaxcd.base.files import not_written, replacing, write_whole
from jaxcd.base.scales import BINARY, Scale
from jaxcd.mapping.products import buildings, cells, levels, outlines, styles
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.windows import Grid

DAMAGE, DAMAGE_DEGREES, BUILDINGS = "damage.gpkg", "damage.geojson", "buildings.gpkg"


class Layers(NamedTuple):
    """The vector layers of a map.

    Attributes:
        polygons: damage polygons, the largest first.
        cells: cells with their seen and damaged ground, and numbers of buildings by class.
        buildings: buildings with their classes; None if the map has none.
        agreement: agreement of the classes with the true ones; empty if true classes are not known.
        level_agreement: agreement of the levels with the true ones; empty if true levels are not known.
    """

    polygons: gpd.GeoDataFrame
    cells: gpd.GeoDataFrame
    buildings: gpd.GeoDataFrame | None
    agreement: dict[str, Any]
    level_agreement: dict[str, Any]


def write(
    out: Path,
    grid: Grid,
    footprints: buildings.Footprints | None,
    settings: MapSettings,
    found_levels: levels.Levels | None,
) -> Layers:
    """Make the vector layers from a map's rasters, and write them, each file whole or not at all.

    Args:
        out: folder with the rasters.
        grid: grid of the map.
        footprints: the result of `buildings.read`, or None; a map of levels then outlines the buildings that its
            network sees.
        settings: settings of the map.
        found_levels: levels of a map of levels; None for a map of damage alone.

    Raises:
        DiskFullError, WriteError: the disk is full, or fails otherwise.
    """
    scale = found_levels.scale if found_levels else BINARY
    polygons = outlines.damage_polygons(out, grid, min_area=settings.min_area, simplify=settings.simplify)
    judged, agreement, level_agreement = None, {}, {}
    source = levels.FOOTPRINTS
    if footprints is None and found_levels:
        footprints, source = _seen_by_network(out, grid, scale, settings), levels.NETWORK
    if footprints is not None:
        judged = buildings.judge(footprints.frame, out, grid, settings)
        if found_levels:
            judged = levels.judge(judged, out, found_levels, source=source)
        if footprints.truth is not None:
            agreement = buildings.agreement(judged, footprints.truth)
        if footprints.true_levels is not None:
            level_agreement = levels.agreement(judged, footprints.true_levels, scale)
        write_layers(out / BUILDINGS, {"buildings": judged})
    counted = cells.count(out, grid, judged, side=settings.cell, scale=scale)
    in_package = {"damage": polygons, "cells": counted}
    if found_levels:
        in_package["levels"] = outlines.level_polygons(
            out, grid, scale, min_area=settings.min_area, simplify=settings.simplify
        )
    write_layers(out / DAMAGE, in_package, styles.of_damage(scale))
    write_geojson(out / DAMAGE_DEGREES, polygons)
    return Layers(polygons, counted, judged, agreement, level_agreement)


def _seen_by_network(out: Path, grid: Grid, scale: Scale, settings: MapSettings) -> buildings.Footprints:
    """Outline the buildings that the network sees, apart from those too small to judge."""
    frame = outlines.building_polygons(out, grid, scale, min_area=settings.min_building, simplify=settings.simplify)
    return buildings.Footprints(frame, None, ())


def write_layers(path: Path, layers: dict[str, gpd.GeoDataFrame], looks: dict[str, str] | None = None) -> None:
    """Write a GeoPackage, whole or not at all.

    Args:
        path: the file.
        layers: layers by name.
        looks: QGIS styles of the layers by name. They are kept inside the file, because damage.qml beside it is the
            style of the raster damage.tif.

    Raises:
        DiskFullError, WriteError: the disk is full, or fails otherwise.
    """
    with replacing(path) as partial:
        partial.unlink(missing_ok=True)
        try:
            for name, frame in layers.items():
                frame.to_file(partial, layer=name, driver="GPKG", geometry_type="MultiPolygon", promote_to_multi=True)
            if looks:
                pyogrio.write_dataframe(styles.table(looks), partial, layer=styles.STYLES, driver="GPKG")
        except (DataSourceError, FeatureError) as error:
            raise not_written(path, error) from error


def write_geojson(path: Path, frame: gpd.GeoDataFrame) -> None:
    """Write GeoJSON as its standard wants it: in WGS 84, whole or not at all.

    Raises:
        DiskFullError: the disk is full.
    """
    content = io.BytesIO()  # written by Python, which reports a full disk; GDAL may not
    frame.to_crs(4326).to_file(content, layer="damage", driver="GeoJSON", RFC7946="YES", geometry_type="Unknown")
    write_whole(path, content.getvalue())
