"""Where on Earth a tile lies: bounds in degrees from its georeference or from its labels' vertices."""

import math

import numpy as np
import shapely
from jaxtyping import Float
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.transform import array_bounds
from rasterio.warp import transform_bounds

from jaxcd.base.types import METRES_PER_DEGREE, Bounds
from jaxcd.scenes.raster import Raster
from jaxcd.sources.labels import XbdLabel

# A fit through a few vertices is believed only if it reproduces them (within pixels) and gives a plausible pixel size.
_LARGEST_RESIDUAL = 2.0
_PIXEL_METRES = (0.05, 30.0)


def bounds_of_raster(raster: Raster) -> Bounds | None:
    """Return west, south, east, north in degrees, or None where the raster is not georeferenced."""
    if raster.transform is None or raster.crs is None:
        return None
    height, width = raster.valid.shape
    try:
        bounds = transform_bounds(raster.crs, CRS.from_epsg(4326), *array_bounds(height, width, raster.transform))
    except CRSError:
        return None
    # Coordinates outside the reference system's area become infinite: the file's georeference is wrong.
    return bounds if np.isfinite(bounds).all() else None


def bounds_of_label(label: XbdLabel, *, height: int, width: int) -> Bounds | None:
    """Locate a tile by its buildings, whose vertices xBD gives in pixels and in degrees.

    An affine map is fitted through all vertices by least squares.

    Args:
        label: the tile's label.
        height: pixels.
        width: pixels.

    Returns:
        West, south, east, north in degrees, or None where no building has degrees or their vertices disagree.
    """
    pairs = [
        (shapely.get_coordinates(b.outline), shapely.get_coordinates(b.outline_degrees))
        for b in label.buildings
        if b.outline_degrees is not None
    ]
    pairs = [(xy, degrees) for xy, degrees in pairs if len(xy) == len(degrees)]
    if not pairs:
        return None
    xy, degrees = (np.concatenate(part) for part in zip(*pairs, strict=True))
    affine = _fit(xy, degrees)
    if affine is None:
        return None
    corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], float)
    placed = np.column_stack([corners, np.ones(4)]) @ affine
    (west, south), (east, north) = placed.min(axis=0).tolist(), placed.max(axis=0).tolist()
    return west, south, east, north


def _fit(xy: Float[np.ndarray, "t 2"], degrees: Float[np.ndarray, "t 2"]) -> Float[np.ndarray, "3 2"] | None:
    # Centred, because the degrees of one tile differ only in the sixth digit.
    origin = degrees.mean(axis=0)
    design = np.column_stack([xy, np.ones(len(xy))])
    affine, _, rank, _ = np.linalg.lstsq(design, degrees - origin, rcond=None)
    if rank < 3:
        return None
    metres = METRES_PER_DEGREE * np.array([math.cos(math.radians(origin[1])), 1.0])
    pixel = np.linalg.norm(affine[:2] * metres, axis=1)
    residual = np.linalg.norm((design @ affine - (degrees - origin)) * metres, axis=1).max()
    if not (_PIXEL_METRES[0] < pixel.min() and pixel.max() < _PIXEL_METRES[1]):
        return None
    if residual > _LARGEST_RESIDUAL * pixel.max():
        return None
    affine[2] += origin
    return affine
