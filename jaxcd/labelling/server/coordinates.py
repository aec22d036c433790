"""Coordinates of a pair and those of the page: degrees, or pixels of pictures, which stay as they are."""

import functools
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyproj
import shapely
from pyproj.exceptions import ProjError

from jaxcd.base.errors import LabelError
from jaxcd.labelling.workspace import OpenPair

Box = tuple[float, float, float, float]
_DIGITS = 7  # of degrees: a centimetre
_MOST_VERTICES = 10_000
_FLAT = ("Polygon", "MultiPolygon")


class Coordinates:
    """The way between the coordinates of a pair and those of the page."""

    def __init__(self, opened: OpenPair):
        self._epsg = opened.pair.epsg
        self._bounds = opened.bounds

    def box(self, west: float, south: float, east: float, north: float) -> Box | None:
        """Bring a box of the page to the pair, as far as it lies on the pair; None: it lies beside it."""
        left, bottom, right, top = self._bounds
        west, south, east, north = max(west, left), max(south, bottom), min(east, right), min(north, top)
        if west >= east or south >= north:
            return None
        if self._epsg is None:
            return west, south, east, north
        return _way(self._epsg, True).transform_bounds(west, south, east, north, errcheck=True)

    def bounds(self, box: Box) -> Box:
        """Bring a box of the pair to the page."""
        if self._epsg is None:
            return box
        west, south, east, north = _way(self._epsg, False).transform_bounds(*box, errcheck=True)
        return west, south, east + 360 if east < west else east, north

    def read(self, geometry: Any) -> shapely.geometry.base.BaseGeometry:
        """Read a GeoJSON geometry of the page into the pair's coordinates.

        Raises:
            LabelError: it is no polygon, not finite, has too many vertices, or lies nowhere in the pair's system.
        """
        if not isinstance(geometry, dict) or geometry.get("type") not in _FLAT:
            raise LabelError("geometry: expected a GeoJSON polygon")
        if _count(geometry.get("coordinates")) > _MOST_VERTICES:
            raise LabelError(f"geometry: more than {_MOST_VERTICES:,} vertices; simplify it")
        try:
            shape = shapely.force_2d(shapely.geometry.shape(geometry))
        except Exception as error:  # shapely lets through whatever wrong nesting or types raise
            raise LabelError("geometry: not a valid GeoJSON polygon") from error
        if shape.is_empty or not np.isfinite(shapely.get_coordinates(shape)).all():
            raise LabelError("geometry: coordinates must be finite numbers, at least three a ring")
        if self._epsg is None:
            return shape
        try:
            moved = shapely.transform(shape, lambda points: _moved(points, self._epsg, True))
        except ProjError as error:
            raise LabelError("geometry: lies outside of the pair") from error
        if not np.isfinite(shapely.get_coordinates(moved)).all():
            raise LabelError("geometry: lies outside of the pair")
        return moved

    def written(self, shapes: Sequence[shapely.geometry.base.BaseGeometry | None]) -> list[str]:
        """Write geometries of the pair as GeoJSON in the page's coordinates; "null" where there is none."""
        found = np.array(shapes, object)
        if not len(found):
            return []
        if self._epsg is not None:
            found = shapely.transform(found, lambda points: self._to_page(points))
        texts = shapely.to_geojson(found)
        return ["null" if text is None else str(text) for text in texts.tolist()]

    def _to_page(self, points: np.ndarray) -> np.ndarray:
        moved = _moved(points, self._epsg, False)
        if self._bounds[2] > 180:
            moved[moved[:, 0] < self._bounds[0] - 180, 0] += 360
        return np.round(moved, _DIGITS)


def _moved(points: np.ndarray, epsg: int | None, to_pair: bool) -> np.ndarray:
    assert epsg is not None
    return np.stack(_way(epsg, to_pair).transform(points[:, 0], points[:, 1]), axis=1)


def _way(epsg: int, to_pair: bool) -> pyproj.Transformer:
    return _way_of(threading.get_ident(), epsg, to_pair)


@functools.lru_cache(maxsize=128)
def _way_of(_: int, epsg: int, to_pair: bool) -> pyproj.Transformer:
    """Keep a transformer for each thread: PROJ's contexts must not be shared."""
    degrees, own = pyproj.CRS.from_epsg(4326), pyproj.CRS.from_epsg(epsg)
    ends = (degrees, own) if to_pair else (own, degrees)
    return pyproj.Transformer.from_crs(*ends, always_xy=True)


def _count(nested: Any) -> int:
    """Count vertices of GeoJSON coordinates, which may be nested in any wrong way."""
    count, waiting = 0, [nested]
    while waiting and count <= _MOST_VERTICES:
        here = waiting.pop()
        if isinstance(here, list):
            lists = [each for each in here if isinstance(each, list)]
            count += not lists
            waiting += lists
    return count
