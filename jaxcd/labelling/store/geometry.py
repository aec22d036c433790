"""Geometries of objects: checked, and as the GeoPackage keeps them."""

import struct

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from jaxcd.base.errors import LabelError
from jaxcd.labelling.pairs import Box

MOST_VERTICES = 10_000
NO_PLACE = -1
"""Reference system of pictures without a place: undefined, Cartesian."""
_HEADER = struct.Struct("<2sBBi")
_ENVELOPES = (0, 32, 48, 48, 64)  # bytes, by the header's kind


def checked(geometry: BaseGeometry, bounds: Box, where: str) -> BaseGeometry:
    """Return a drawn outline as a valid polygon; one that crosses itself is repaired.

    Args:
        geometry: what was drawn.
        bounds: of the pair.
        where: goes before the message.

    Raises:
        LabelError: not a polygon of finite coordinates and at most `MOST_VERTICES` vertices on the pair's ground.
    """
    if geometry.geom_type not in ("Polygon", "MultiPolygon") or geometry.is_empty:
        raise LabelError(f"{where}: a {geometry.geom_type} without ground, expected a polygon")
    vertices = int(shapely.get_num_coordinates(geometry))
    if vertices > MOST_VERTICES:
        raise LabelError(
            f"{where}: {vertices} vertices, expected at most {MOST_VERTICES}; draw it simpler, or in parts"
        )
    geometry = shapely.force_2d(geometry)
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise LabelError(f"{where}: holds coordinates that are no numbers; draw it anew")
    if not geometry.is_valid:
        parts = shapely.get_parts(shapely.make_valid(geometry)).tolist()
        polygons = [part for part in parts if part.geom_type in ("Polygon", "MultiPolygon")]
        if not polygons:
            raise LabelError(f"{where}: an outline without ground; draw it anew")
        geometry = shapely.union_all(polygons)
    if not geometry.area > 0:
        raise LabelError(f"{where}: an outline without ground; draw it anew")
    west, south, east, north = geometry.bounds
    if not (west < bounds[2] and east > bounds[0] and south < bounds[3] and north > bounds[1]):
        raise LabelError(f"{where}: lies outside of the pair's ground")
    return geometry


def packed(geometries: np.ndarray, epsg: int | None) -> list[bytes]:
    """Return geometries as a GeoPackage keeps them."""
    header = _HEADER.pack(b"GP", 0, 1, NO_PLACE if epsg is None else epsg)
    return [header + body for body in shapely.to_wkb(geometries, byte_order=1)]


def unpacked(blob: bytes | None) -> BaseGeometry | None:
    """Return what `packed` made, or another writer of GeoPackages."""
    return None if blob is None else shapely.from_wkb(blob[_HEADER.size + _ENVELOPES[(blob[3] >> 1) & 7] :])
