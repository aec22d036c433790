"""Blocks of a map. A block holds the pixels that one window of the network predicts, in a file of its own.

The file's name is a digest of everything that affects the pixels, so a block on disk is never computed again. A map
that was killed continues at its last block. A map of more scenes computes only the new blocks. Another threshold or
other polygons need no network. Reading, computing and writing run at the same time.
"""

import collections
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import rasterio
from jaxtyping import Bool, UInt16
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterWindow

from jaxcd.base.ahead import held_back
from jaxcd.base.fingerprints import digest
from jaxcd.base.progress import bar
from jaxcd.mapping.predict.network import STEPS, WindowNetwork
from jaxcd.mapping.predict.scene_pair import ScenePair
from jaxcd.mapping.predict.tiling import Axis, Span
from jaxcd.scenes.raster import write_geotiff
from jaxcd.scenes.registration import View
from jaxcd.scenes.windows import Grid, Window

NO_DATA = STEPS + 1
"""Value of pixels of a block that have no data before or after the event."""

_FORMAT = 1
_VIRTUAL = """<VRTDataset rasterXSize="{width}" rasterYSize="{height}">
<SRS>{crs}</SRS><GeoTransform>{place}</GeoTransform>
{bands}
</VRTDataset>"""
_BAND = """<VRTRasterBand dataType="UInt16" band="{number}"><NoDataValue>{nodata}</NoDataValue><Scale>{scale}</Scale>
{sources}
</VRTRasterBand>"""
_SOURCE = """<SimpleSource><SourceFilename relativeToVRT="0">{file}</SourceFilename><SourceBand>{band}</SourceBand>
<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>
<DstRect xOff="{column}" yOff="{row}" xSize="{width}" ySize="{height}"/></SimpleSource>"""
_READERS = 2  # more would read faster than the device computes; each keeps its files open


class Block(NamedTuple):
    """A window of the map, along rows and columns, and the file with the pixels that it predicts.

    The file has a band for each output of the network.
    """

    rows: Span
    columns: Span
    file: Path
    bands: int


Piece = tuple[Block, View]
"""A block, and the images and mask that were read in its window."""


class Ended(Exception):
    """The map cannot be completed, because another thread failed; that thread's error gives the reason."""


class Written:
    """Counts the blocks of a map that are on disk, so that another thread can wait for complete rows."""

    def __init__(self, blocks: Sequence[Block]):
        """Begin with all blocks missing."""
        self._missing = collections.Counter(block.rows.first for block in blocks)
        self._changed = threading.Condition()
        self._given_up = False

    def add(self, block: Block) -> None:
        """Record that a block is on disk.

        Raises:
            Ended: the thread that waits for blocks has given up.
        """
        with self._changed:
            if self._given_up:
                raise Ended
            self._missing[block.rows.first] -= 1
            self._changed.notify_all()

    def give_up(self) -> None:
        """Make `add` and `wait` raise `Ended`, because the map cannot be completed."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()

    def wait(self, bottom: int) -> None:
        """Wait until all rows above `bottom` are on disk.

        Raises:
            Ended: the thread that writes blocks has failed.
        """

        def whole() -> bool:
            return not any(count for first, count in self._missing.items() if first < bottom)

        with self._changed:
            self._changed.wait_for(lambda: self._given_up or whole())
            if self._given_up:
                raise Ended


def plan(
    pair: ScenePair, down: Axis, across: Axis, folder: Path, *, weights: str, average: bool, bands: int = 1
) -> list[Block]:
    """List the blocks of a map, row by row.

    Args:
        pair: scenes of the map.
        down: windows along the map's rows.
        across: windows along its columns.
        folder: folder of the blocks' files.
        weights: digest of the network.
        average: whether probabilities are averaged over flips and turns.
        bands: number of the network's outputs: one, or one for each level of a scale.
    """
    planned = []
    outputs = [bands] if bands > 1 else []  # else the names of blocks of older versions would change
    for rows, columns in itertools.product(down.spans, across.spans):
        seen = pair.identity(_window(pair.grid, rows, columns, down, across))
        # Relative to the window: more scenes enlarge the grid, which moves windows but does not change their content.
        own = [(span.first - span.start, span.last - span.start) for span in (rows, columns)]
        key = digest([_FORMAT, weights, average, own, seen, *outputs], digits=32)
        planned.append(Block(rows, columns, folder / f"{key}.tif", bands))
    return planned


def compute(
    pair: ScenePair, blocks: Sequence[Block], down: Axis, across: Axis, network: WindowNetwork, written: Written
) -> int:
    """Compute the blocks that are not on disk yet, and show the progress.

    Args:
        pair: scenes of the map.
        blocks: all blocks, as `plan` lists them.
        down: windows along the map's rows.
        across: windows along its columns.
        network: the network.
        written: records each block as soon as it is on disk.

    Returns:
        The number of blocks that the network computed.

    Raises:
        ImageError: a scene is damaged.
        DiskFullError: the disk is full.
        DeviceMemoryError: a window is too large for the device.
        Ended: the thread that waits for blocks has given up.
    """
    missing = []
    for block in blocks:
        if _is_whole(block.file):
            written.add(block)
        else:
            missing.append(block)
    total, left = (sum(_pixels(block) for block in some) for some in (blocks, missing))
    computed = 0
    with (
        ThreadPoolExecutor(_READERS) as readers,
        ThreadPoolExecutor(1) as thread,
        bar(total, initial=total - left, unit="Pix", title="Predicting", scaled=True) as shown,
    ):
        writing = _Writing(thread, pair, written, shown, most=2 * network.batch)
        try:
            running: tuple[list[Piece], Any] | None = None
            readings = _ahead(readers, pair, missing, down, across, count=2 * network.batch + 1)
            for batch in _batches(readings, network.batch, empty=writing.add):
                computed += len(batch)
                result = network(*(np.stack([ground[i] for _, ground in batch]) for i in (0, 1)))
                # While the device computes this batch, the host fetches and writes the one before.
                if running is not None:
                    writing.add_all(running[0], network.fetch(running[1]))
                running = batch, result
            if running is not None:
                writing.add_all(running[0], network.fetch(running[1]))
            writing.finish()
        except BaseException:
            readers.shutdown(wait=False, cancel_futures=True)
            raise
    return computed


class _Writing:
    """Writes blocks in a thread of its own."""

    def __init__(self, thread: ThreadPoolExecutor, pair: ScenePair, written: Written, shown: Any, *, most: int):
        self._thread, self._pair, self._written, self._shown, self._most = thread, pair, written, shown, most
        self._under_way: collections.deque[Future] = collections.deque()

    def add(self, block: Block, ground: View, probability: np.ndarray | None = None) -> None:
        """Write a block (an empty one if `probability` is None); wait if many earlier ones are not written yet."""
        valid = ground.valid  # the mask alone: the images would stay in memory until the block is written
        self._under_way.append(self._thread.submit(_write, self._pair, block, valid, probability, self._written))
        while len(self._under_way) > self._most:
            self._under_way.popleft().result()
        self._shown.update(_pixels(block))

    def add_all(self, pieces: list[Piece], probabilities: UInt16[np.ndarray, "b h w *k"]) -> None:
        """Write the blocks of a batch; the network's result may have more entries, because a short batch is padded."""
        for (block, ground), probability in zip(pieces, probabilities, strict=False):
            self.add(block, ground, probability)

    def finish(self) -> None:
        """Wait until all blocks are on disk."""
        for written in self._under_way:
            written.result()


def _batches(readings: Iterator[Piece], size: int, *, empty: Callable[[Block, View], None]) -> Iterator[list[Piece]]:
    """Collect blocks into batches for the network; pass blocks without a valid pixel to `empty`."""
    batch: list[Piece] = []
    for block, ground in readings:
        if not ground.valid.any():
            empty(block, ground)
            continue
        batch.append((block, ground))
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def read_rows(blocks: Sequence[Block], first: int, last: int, width: int) -> UInt16[np.ndarray, "k h w"]:
    """Assemble rows of a map from the blocks' files, with the bands of these."""
    values = np.full((blocks[0].bands, last - first, width), NO_DATA, np.uint16)
    for block in blocks:
        top, bottom = max(first, block.rows.first), min(last, block.rows.last)
        if top < bottom:
            columns = slice(block.columns.first, block.columns.last)
            window: Any = RasterWindow.from_slices(
                (top - block.rows.first, bottom - block.rows.first), (0, columns.stop - columns.start)
            )
            with rasterio.open(block.file) as source:
                values[:, top - first : bottom - first, columns] = source.read(window=window)
    return values


def as_raster(blocks: Sequence[Block], grid: Grid) -> str:
    """Describe all blocks of a map as one raster, so that any part of it can be read; all must be on disk.

    Args:
        blocks: of the whole map.
        grid: of the map.

    Returns:
        A virtual raster of GDAL, which `rasterio.open` takes in place of a path. Its scale turns values into
        probabilities.
    """
    place = ", ".join(map(repr, grid.transform.to_gdal()))
    bands = "\n".join(_band(blocks, number) for number in range(1, blocks[0].bands + 1))
    return _VIRTUAL.format(
        width=grid.width, height=grid.height, crs=escape(grid.crs.to_wkt()), place=place, bands=bands
    )


def _band(blocks: Sequence[Block], number: int) -> str:
    sources = []
    for block in blocks:
        height, width = block.rows.last - block.rows.first, block.columns.last - block.columns.first
        sources.append(
            _SOURCE.format(
                file=escape(str(block.file.resolve())), band=number, height=height, width=width,
                row=block.rows.first, column=block.columns.first,
            )
        )  # fmt: skip
    return _BAND.format(number=number, nodata=NO_DATA, scale=repr(1 / STEPS), sources="\n".join(sources))


def drop_others(folder: Path, blocks: Sequence[Block]) -> None:
    """Delete blocks of a folder that are no longer part of the map."""
    kept = {block.file for block in blocks}
    for file in folder.iterdir():
        if file not in kept:
            file.unlink()


def _ahead(
    readers: ThreadPoolExecutor, pair: ScenePair, blocks: Sequence[Block], down: Axis, across: Axis, *, count: int
) -> Iterator[Piece]:
    """Read blocks in order, at most `count` of them ahead of their use, which bounds the memory."""
    readings = ((block, readers.submit(_read, pair, block, down, across)) for block in blocks)
    for block, reading in held_back(readings, count - 1):
        yield block, reading.result()


def _read(pair: ScenePair, block: Block, down: Axis, across: Axis) -> View:
    """Read a window; `valid` covers only the block's own pixels, within the area of interest."""
    core = _core(pair.grid, block.rows, block.columns)
    wanted = pair.wanted(core)
    if wanted is not None and not wanted.any():
        empty = np.zeros((down.window, across.window, 3), np.uint8)
        return View(empty, empty, wanted)
    ground = pair.read(_window(pair.grid, block.rows, block.columns, down, across))
    valid = _own(block, ground.valid)
    return ground._replace(valid=valid if wanted is None else valid & wanted)


def _write(
    pair: ScenePair,
    block: Block,
    valid: Bool[np.ndarray, "h w"],
    probability: np.ndarray | None,
    written: Written,
) -> None:
    core = _core(pair.grid, block.rows, block.columns)
    outputs = (block.bands,) if block.bands > 1 else ()
    values = np.full((*core.shape, *outputs), NO_DATA, np.uint16)
    if probability is not None:
        values[valid] = _own(block, probability)[valid]
    write_geotiff(block.file, values, transform=core.transform, crs=core.crs, compress="zstd", zstd_level=1)
    written.add(block)


def _is_whole(file: Path) -> bool:
    """Say whether a block's file exists and is readable; after a power cut a file may exist and be empty."""
    try:
        with rasterio.open(file) as source:
            source.read()
    except RasterioError:
        return False
    return True


def _window(grid: Grid, rows: Span, columns: Span, down: Axis, across: Axis) -> Grid:
    size = down.window, across.window
    return grid.part(Window(0, rows.start, columns.start, *size, *size))


def _core(grid: Grid, rows: Span, columns: Span) -> Grid:
    size = rows.last - rows.first, columns.last - columns.first
    return grid.part(Window(0, rows.first, columns.first, *size, *size))


def _own(block: Block, values: np.ndarray) -> np.ndarray:
    """Cut the block's own pixels out of those of its window."""
    rows, columns = block.rows, block.columns
    return values[
        rows.first - rows.start : rows.last - rows.start, columns.first - columns.start : columns.last - columns.start
    ]


def _pixels(block: Block) -> int:
    return (block.rows.last - block.rows.first) * (block.columns.last - block.columns.first)
