"""The rasters of a map, probability and decision: Cloud-Optimised GeoTIFFs, assembled row by row as blocks come."""

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from jaxcd.base.files import not_written, replacing
from jaxcd.mapping.predict.blocks import NO_DATA, Block, Ended, Written, read_rows
from jaxcd.mapping.predict.network import LEVELS
from jaxcd.scenes.windows import Grid

PROBABILITY, DECISION = "damage_probability.tif", "damage.tif"
TOP = 254
"""A pixel of probability p holds the integer nearest to TOP * p, as the file's scale says; 255 means no data."""
EMPTY = 255
"""Value of pixels that were not seen both before and after."""

# What rasterio raises if GDAL fails to write a file; SystemError if GDAL gives no reason.
_GDAL = (RasterioError, CPLE_BaseError, SystemError)
_SIDE = 512  # of a COG's blocks
_SCALES = {PROBABILITY: 1 / TOP, DECISION: 1.0}
# An overview of the decision shows every n-th pixel, which keeps the share of damage; a majority would show none.
_OVERVIEWS = {PROBABILITY: "AVERAGE", DECISION: "NEAREST"}


class Grown(NamedTuple):
    """Numbers of pixels seen both before and after, and of damaged ones; checksums of each raster's strips."""

    seen: int
    damaged: int
    sums: dict[str, list[int]]


@contextlib.contextmanager
def growing(
    blocks: Sequence[Block], written: Written, grid: Grid, out: Path, *, threshold: float
) -> Iterator[Future[Grown]]:
    """Assemble the rows of both rasters, in a thread of their own, while blocks are written.

    Args:
        blocks: of the whole map.
        written: those of them that are on disk.
        grid: of the map.
        out: folder.
        threshold: probability from which a pixel is damage.

    Yields:
        The future that `finish` takes.

    Raises:
        DiskFullError, WriteError: the rows can't be written; raised as soon as a further block is written.
    """
    with ThreadPoolExecutor(1) as thread:
        growth: Future[Grown] | None = None
        try:
            growth = thread.submit(_grow, blocks, written, grid, out, threshold)
            yield growth
        except Ended:
            if growth is not None:
                growth.result()  # says why
            raise
        except BaseException:
            written.give_up()
            raise


def finish(out: Path, growth: Future[Grown]) -> Grown:
    """Wait for all rows, and give both rasters their names, each whole or not at all.

    Args:
        out: folder.
        growth: of `growing`.

    Raises:
        DiskFullError, WriteError: no space left, or another failure of the disk.
    """
    grown = growth.result()
    with ThreadPoolExecutor(len(_SCALES)) as threads:
        for done in [threads.submit(_cog, out / name, grown.sums[name]) for name in _SCALES]:
            done.result()
    return grown


def _grow(blocks: Sequence[Block], written: Written, grid: Grid, out: Path, threshold: float) -> Grown:
    """Write plain files strip by strip, so that memory never holds a whole raster: a COG can't be written in pieces."""
    least = int(np.ceil(threshold * LEVELS))
    seen = damaged = 0
    whole = False
    sums: dict[str, list[int]] = {name: [] for name in _SCALES}
    try:
        with rasterio.Env(), contextlib.ExitStack() as stack:
            targets = {name: stack.enter_context(_plain(out / name, grid)) for name in _SCALES}
            for window in _strips(grid.height, grid.width):
                top, bottom = window.row_off, window.row_off + window.height
                written.wait(bottom)
                values = read_rows(blocks, top, bottom, grid.width)
                empty = values == NO_DATA
                found = {
                    PROBABILITY: np.rint(values.astype(np.float32) * (TOP / LEVELS)).astype(np.uint8),
                    DECISION: (values >= least).astype(np.uint8),
                }
                for name, strip in found.items():
                    strip[empty] = EMPTY
                    targets[name].write(strip, 1, window=window)
                    sums[name].append(zlib.crc32(strip.data))
                seen += strip.size - int(np.count_nonzero(empty))
                damaged += int(np.count_nonzero(found[DECISION] == 1))
        whole = True
    except _GDAL as error:
        # Before the files are deleted: `not_written` recognises a full disk by its free space.
        raise not_written(out / PROBABILITY, error) from error
    finally:
        if not whole:
            written.give_up()
            for name in _SCALES:
                _plain_name(out / name).unlink(missing_ok=True)
    return Grown(seen, damaged, sums)


@contextlib.contextmanager
def _plain(path: Path, grid: Grid) -> Iterator[Any]:
    profile = {"compress": "zstd", "zstd_level": 1, "tiled": True, "blockxsize": _SIDE, "blockysize": _SIDE}
    place = {"height": grid.height, "width": grid.width, "crs": grid.crs, "transform": grid.transform}
    with rasterio.open(
        _plain_name(path), "w", driver="GTiff", dtype="uint8", count=1, nodata=EMPTY, BIGTIFF="IF_SAFER", **place,
        **profile,
    ) as target:  # fmt: skip
        target.scales = (_SCALES[path.name],)
        yield target


def _cog(path: Path, sums: Sequence[int]) -> None:
    """Copy a plain file to a COG, and read it back: GDAL may not report a full disk."""
    plain = _plain_name(path)
    try:
        with rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS"), replacing(path) as partial:
            try:
                rasterio.shutil.copy(
                    plain, partial, driver="COG", compress="DEFLATE", blocksize=_SIDE, bigtiff="IF_SAFER",
                    overview_resampling=_OVERVIEWS[path.name],
                )  # fmt: skip
                with rasterio.open(partial) as cog:
                    for window, expected in zip(_strips(cog.height, cog.width), sums, strict=True):
                        if zlib.crc32(cog.read(1, window=window).data) != expected:
                            raise RasterioError("the file reads back with other values")
            except _GDAL as error:
                raise not_written(path, error) from error
    finally:
        for rest in (plain, Path(f"{plain}.ovr.tmp"), path.with_name(f".partial-{path.name}.ovr.tmp")):
            rest.unlink(missing_ok=True)


def _plain_name(path: Path) -> Path:
    return path.with_name(f".partial-plain-{path.name}")


def _strips(height: int, width: int) -> Iterator[Any]:
    for top in range(0, height, _SIDE):
        yield RasterWindow.from_slices((top, min(top + _SIDE, height)), (0, width))
