"""The vector layers of a map: outlines of damage, cells of counts, buildings."""

from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd

from jaxcd.mapping import buildings, outlines
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
        outlines.write_layers(out / BUILDINGS, {"buildings": judged})
    outlines.write_layers(out / DAMAGE, {"damage": polygons, "cells": cells})
    outlines.write_geojson(out / DAMAGE_DEGREES, polygons)
    return Layers(polygons, cells, judged, agreement)
