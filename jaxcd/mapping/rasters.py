"""The rasters of a map: probability and decision as Cloud-Optimised GeoTIFFs, put together from blocks row by row."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window as RasterWindow

from jaxcd.errors import DiskFullError
from jaxcd.files import full_disk, replacing
from jaxcd.mapping.blocks import NO_DATA, Block, read_rows
from jaxcd.mapping.network import LEVELS
from jaxcd.progress import bar
from jaxcd.scenes.windows import Grid

PROBABILITY, DECISION = "damage_probability.tif", "damage.tif"
TOP = 254
"""A pixel of probability p holds the integer nearest to TOP * p, as the file's scale says; 255 means no data."""
EMPTY = 255
"""Value of pixels that were not seen both before and after."""

_SIDE = 512  # of a COG's blocks
_SETTINGS: dict[str, Any] = {"GDAL_CACHEMAX": 128 * 2**20, "GDAL_NUM_THREADS": "ALL_CPUS"}


class Seen(NamedTuple):
    """Pixels of a map: seen before and after, and of these decided to be damage."""

    pixels: int
    damaged: int


def write(blocks: Sequence[Block], grid: Grid, out: Path, *, threshold: float) -> Seen:
    """Write both rasters, each whole or not at all.

    Args:
        blocks: of the whole map.
        grid: of the map.
        out: folder.
        threshold: probability from which a pixel is damage.

    Returns:
        What they hold.

    Raises:
        DiskFullError: no space left.
    """
    least = int(np.ceil(threshold * LEVELS))
    seen = damaged = 0

    def probability(values: np.ndarray) -> np.ndarray:
        scaled = np.rint(values.astype(np.float32) * (TOP / LEVELS)).astype(np.uint8)
        return np.where(values == NO_DATA, np.uint8(EMPTY), scaled)

    def decision(values: np.ndarray) -> np.ndarray:
        nonlocal seen, damaged
        found = np.where(values == NO_DATA, np.uint8(EMPTY), (values >= least).astype(np.uint8))
        seen += int(np.count_nonzero(found != EMPTY))
        damaged += int(np.count_nonzero(found == 1))
        return found

    # Of a decision an overview tells what most of its pixels are.
    _cog(out / PROBABILITY, blocks, grid, probability, scale=1 / TOP, overviews="AVERAGE")
    _cog(out / DECISION, blocks, grid, decision, scale=1.0, overviews="MODE")
    return Seen(seen, damaged)


def _cog(
    path: Path,
    blocks: Sequence[Block],
    grid: Grid,
    convert: Callable[[np.ndarray], np.ndarray],
    *,
    scale: float,
    overviews: str,
) -> None:
    """Write a raster row by row, then order it as a COG: the whole of it is never in memory."""
    plain = path.with_name(f".partial-plain-{path.name}")
    try:
        with rasterio.Env(**_SETTINGS), replacing(path) as partial:
            profile = {"compress": "zstd", "zstd_level": 1, "tiled": True, "blockxsize": _SIDE, "blockysize": _SIDE}
            with (
                rasterio.open(
                    plain,
                    "w",
                    driver="GTiff",
                    dtype="uint8",
                    count=1,
                    nodata=EMPTY,
                    height=grid.height,
                    width=grid.width,
                    crs=grid.crs,
                    transform=grid.transform,
                    BIGTIFF="IF_SAFER",
                    **profile,
                ) as target,  # fmt: skip
                bar(grid.height, unit="row", title=f"Writing {path.name}", leave=False) as shown,
            ):
                target.scales = (scale,)
                for top in range(0, grid.height, _SIDE):
                    bottom = min(top + _SIDE, grid.height)
                    window: Any = RasterWindow.from_slices((top, bottom), (0, grid.width))
                    target.write(convert(read_rows(blocks, top, bottom, grid.width)), 1, window=window)
                    shown.update(bottom - top)
            rasterio.shutil.copy(
                plain, partial, driver="COG", compress="DEFLATE", blocksize=_SIDE, overview_resampling=overviews,
                bigtiff="IF_SAFER", num_threads="ALL_CPUS",
            )  # fmt: skip
            _check(plain, partial, path)
    except RasterioError as error:
        raise _full(path) from error
    finally:
        for rest in (plain, Path(f"{plain}.ovr.tmp"), path.with_name(f".partial-{path.name}.ovr.tmp")):
            rest.unlink(missing_ok=True)


def _check(plain: Path, cog: Path, path: Path) -> None:
    """Compare what lies on the disk: of a full one GDAL may say nothing."""
    with rasterio.open(plain) as one, rasterio.open(cog) as other:
        for window in _strips(one):
            if not np.array_equal(one.read(1, window=window), other.read(1, window=window)):
                raise _full(path)


def _strips(source: DatasetReader) -> list[Any]:
    return [
        RasterWindow.from_slices((top, min(top + _SIDE, source.height)), (0, source.width))
        for top in range(0, source.height, _SIDE)
    ]


def _full(path: Path) -> DiskFullError:
    return full_disk(f"could not write {path}")
