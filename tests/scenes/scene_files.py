"""Small georeferenced scenes, made on the spot."""

from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from scipy import ndimage

UTM = "EPSG:32637"
ORIGIN = 433_000.0, 4_180_000.0
GSD = 0.5


def ground(seed: int, height: int, width: int) -> np.ndarray:
    """Houses, roads and fields of sorts: uint8 RGB with edges at all scales, bright enough to be kept."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(3, height, width))
    layers = sum(ndimage.gaussian_filter(noise, (0, s, s)) * s for s in (1.5, 4, 12))
    blocks = np.sign(ndimage.gaussian_filter(rng.normal(size=(height, width)), 8)) * 55
    image = 128 + layers / np.std(layers) * 35 + blocks
    return np.clip(image, 30, 240).astype(np.uint8).transpose(1, 2, 0)


def at(row: float = 0, column: float = 0, gsd: float = GSD) -> Affine:
    """Transform of a north-up scene whose corner lies at a row and column of the common grid."""
    return Affine(gsd, 0, ORIGIN[0] + column * GSD, 0, -gsd, ORIGIN[1] - row * GSD)


def write(path: Path, pixels: np.ndarray, transform: Affine | None = None, *, crs: str | None = UTM, **profile) -> Path:
    """Write bands last as a GeoTIFF; `mask` is written as an internal mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = profile.pop("mask", None)
    bands = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    shape = {"count": bands.shape[0], "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    georeference = {"crs": crs, "transform": at() if transform is None else transform} if crs else {}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", driver="GTiff", **shape, **georeference, **profile) as target,
    ):
        target.write(bands)
        if mask is not None:
            target.write_mask(mask)
    return path
