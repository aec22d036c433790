"""Writes the rasters of a map: Cloud-Optimised GeoTIFFs, which are assembled row by row from the blocks.

Every map has a raster of the probability of damage, and one of the decision (damage or not). In a map of levels, damage
means a chosen level or a worse one. Such a map also has a raster of the median level of each pixel.
"""

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import rasterio.shutil
from jaxtyping import UInt8, UInt16
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from jaxcd.base.files import not_written, replacing
from jaxcd.base.scales import Scale
from jaxcd.mapping.predict.blocks import NO_DATA, Block, Ended, Written, read_rows
from jaxcd.mapping.predict.network import STEPS
from jaxcd.scenes.windows import Grid

PROBABILITY, DECISION, CODES = "damage_probability.tif", "damage.tif", "damage_levels.tif"
TOP = 254
"""A pixel of probability p holds the integer nearest to TOP * p; the file's scale is 1 / TOP; 255 means no data."""
EMPTY = 255
"""Value of pixels that have no data before or after the event."""

# Errors that rasterio raises if GDAL cannot write a file; SystemError if GDAL gives no reason.
_GDAL = (RasterioError, CPLE_BaseError, SystemError)
_SIDE = 512  # side of a COG's blocks in pixels
_SCALES = {PROBABILITY: 1 / TOP, DECISION: 1.0, CODES: 1.0}
# NEAREST keeps the share of damage in an overview. A majority would lose damage that is rarer than intact ground.
_OVERVIEWS = {PROBABILITY: "AVERAGE", DECISION: "NEAREST", CODES: "NEAREST"}


class Grown(NamedTuple):
    """Pixel counts and checksums of the rasters.

    Attributes:
        seen: number of pixels with data both before and after.
        damaged: number of pixels called damage.
        by_level: number of pixels of each level, the least damage first; empty in the scale `binary`.
        sums: checksums of the strips of each raster, by the raster's name.
    """

    seen: int
    damaged: int
    by_level: tuple[int, ...]
    sums: dict[str, list[int]]


class Rule(NamedTuple):
    """The rule that turns a network's probabilities into a decision.

    Attributes:
        scale: scale of the network.
        level: code of the lowest level that counts as damage.
        threshold: a pixel is called damage if its probability of this level or a worse one is at least this.
    """

    scale: Scale
    level: int
    threshold: float


@contextlib.contextmanager
def growing(blocks: Sequence[Block], written: Written, grid: Grid, out: Path, *, rule: Rule) -> Iterator[Future[Grown]]:
    """Assemble the rows of all rasters in a thread of their own, while other threads write blocks.

    Args:
        blocks: all blocks of the map.
        written: record of the blocks that are on disk.
        grid: grid of the map.
        out: folder of the map.
        rule: rule that turns probabilities into a decision.

    Yields:
        The future that `finish` takes.

    Raises:
        DiskFullError, WriteError: the rows can't be written; the next block that is written raises this.
    """
    with ThreadPoolExecutor(1) as thread:
        growth: Future[Grown] | None = None
        try:
            growth = thread.submit(_grow, blocks, written, grid, out, rule)
            yield growth
        except Ended:
            if growth is not None:
                growth.result()  # raises the error of the other thread
            raise
        except BaseException:
            written.give_up()
            raise


def finish(out: Path, growth: Future[Grown]) -> Grown:
    """Wait for all rows, and write the rasters as Cloud-Optimised GeoTIFFs, each whole or not at all.

    Args:
        out: folder of the map.
        growth: the future that `growing` yields.

    Raises:
        DiskFullError, WriteError: the disk is full, or fails otherwise.
    """
    grown = growth.result()
    with ThreadPoolExecutor(len(grown.sums)) as threads:
        for done in [threads.submit(_cog, out / name, sums) for name, sums in grown.sums.items()]:
            done.result()
    return grown


def codes_of(probabilities: UInt16[np.ndarray, "k h w"]) -> UInt8[np.ndarray, "h w"]:
    """Return the code of each pixel's level by the rule of `jaxcd.learn.ordinal.predicted_level`.

    This computes with integers on the host, to leave the device's memory to the network.

    Args:
        probabilities: STEPS times P(level >= j) for each level j of a scale.
    """
    building = probabilities[0]
    codes = np.ones(building.shape, np.uint8)
    for worse in probabilities[1:]:
        codes += worse >= building - building // 2  # half of it, rounded up
    codes[building < STEPS // 2] = 0
    return codes


def _grow(blocks: Sequence[Block], written: Written, grid: Grid, out: Path, rule: Rule) -> Grown:
    """Write plain GeoTIFFs strip by strip, because a COG can't be written in pieces and may not fit into memory."""
    seen = damaged = 0
    counted = np.zeros(256, np.int64)
    whole = False
    sums: dict[str, list[int]] = {name: [] for name in (PROBABILITY, DECISION, *((CODES,) * rule.scale.buildings))}
    try:
        with rasterio.Env(), contextlib.ExitStack() as stack:
            targets = {name: stack.enter_context(_plain(out / name, grid, rule.scale)) for name in sums}
            for window in _strips(grid.height, grid.width):
                top, bottom = window.row_off, window.row_off + window.height
                written.wait(bottom)
                values = read_rows(blocks, top, bottom, grid.width)
                empty = values[0] == NO_DATA
                strips = _strips_of(values, rule)
                for name, strip in strips.items():
                    strip[empty] = EMPTY
                    targets[name].write(strip, 1, window=window)
                    sums[name].append(zlib.crc32(strip.data))
                seen += strip.size - int(np.count_nonzero(empty))
                damaged += int(np.count_nonzero(strips[DECISION] == 1))
                if CODES in strips:
                    counted += np.bincount(strips[CODES].ravel(), minlength=256)
        whole = True
    except _GDAL as error:
        # Raised before the files are deleted, because `not_written` recognises a full disk by its free space.
        raise not_written(out / PROBABILITY, error) from error
    finally:
        if not whole:
            written.give_up()
            for name in sums:
                _plain_name(out / name).unlink(missing_ok=True)
    by_level = counted[1 : len(rule.scale.codes)] if rule.scale.buildings else ()
    return Grown(seen, damaged, tuple(map(int, by_level)), sums)


def _strips_of(values: UInt16[np.ndarray, "k h w"], rule: Rule) -> dict[str, UInt8[np.ndarray, "h w"]]:
    """Return the strip of each raster, as if all pixels had data."""
    damage = values[rule.level - 1]
    strips = {
        PROBABILITY: np.rint(damage.astype(np.float32) * (TOP / STEPS)).astype(np.uint8),
        DECISION: (damage >= int(np.ceil(rule.threshold * STEPS))).astype(np.uint8),
    }
    return strips | {CODES: codes_of(values)} if rule.scale.buildings else strips


@contextlib.contextmanager
def _plain(path: Path, grid: Grid, scale: Scale) -> Iterator[Any]:
    profile = {"compress": "zstd", "zstd_level": 1, "tiled": True, "blockxsize": _SIDE, "blockysize": _SIDE}
    place = {"height": grid.height, "width": grid.width, "crs": grid.crs, "transform": grid.transform}
    with rasterio.open(
        _plain_name(path), "w", driver="GTiff", dtype="uint8", count=1, nodata=EMPTY, BIGTIFF="IF_SAFER", **place,
        **profile,
    ) as target:  # fmt: skip
        target.scales = (_SCALES[path.name],)
        if path.name == CODES:
            target.write_colormap(1, _colours(scale))
        yield target


def _colours(scale: Scale) -> dict[int, tuple[int, ...]]:
    """Return the colour of each code; ground is white, because a TIFF's colours cannot be transparent."""
    colours = ("#ffffff", *scale.colours)
    return {code: (*bytes.fromhex(colour[1:]), 255) for code, colour in enumerate(colours)}


def _cog(path: Path, sums: Sequence[int]) -> None:
    """Copy a plain GeoTIFF to a COG, and read it back, because GDAL may not report a full disk."""
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
                            raise RasterioError("the file does not hold the values that were written")
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
