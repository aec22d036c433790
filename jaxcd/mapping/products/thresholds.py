"""What a map would call damage at other thresholds: ground, polygons, cells and buildings, at every stop of a slider.

A pixel's rank is the number of stops that are at most its probability. So it is damage at stop i (counted from 0) if
its rank is above i. Ranks are made of the network's own answers, in all their digits, so that every count equals the
count of a map that is made at that threshold.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from exactextract import exact_extract
from exactextract.raster import RasterioRasterSource
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterWindow
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jaxcd.mapping.products import buildings, cells
from jaxcd.mapping.products.outlines import areas
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.windows import Grid, Window

EMPTY = 255
"""Rank of pixels that have no data before or after the event."""
STOPS = (
    0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1,
    0.12, 0.14, 0.16, 0.18, 0.2, 0.22, 0.24, 0.26, 0.28, 0.3, 0.32, 0.34, 0.36, 0.38, 0.4, 0.42, 0.44, 0.46, 0.48, 0.5,
    0.52, 0.54, 0.56, 0.58, 0.6, 0.63, 0.66, 0.69, 0.72, 0.75, 0.78, 0.81, 0.84, 0.86, 0.88, 0.9, 0.92, 0.94, 0.96,
    0.98, 0.99, 0.995, 0.998, 0.999,
)  # fmt: skip
"""Thresholds of every slider, close together near 0, where those of unseen disasters lie; a map's own comes on top."""

_ROWS = 1024  # rows of a map that are read at a time
_BUILDINGS = 5000  # at a time
_CELLS_IN_MEMORY = 8_000_000  # pixels that exactextract reads at a time
_NEAR = 1.1  # patches below so many times the least area are measured; a pixel's ground varies less over a map


class Ranked(NamedTuple):
    """A raster of probabilities, read as ranks.

    Attributes:
        raster: path, or text of a virtual raster, of integers.
        band: of the raster that holds the probability.
        top: integer that means probability 1; larger ones mean no data.
        stops: thresholds, rising.
        own: number of the map's own threshold among them.
    """

    raster: str
    band: int
    top: int
    stops: tuple[float, ...]
    own: int

    @classmethod
    def of(cls, raster: str, band: int, top: int, threshold: float) -> "Ranked":
        """Put a map's own threshold among `STOPS`, in the place of one that decides the same."""
        first = int(np.ceil(threshold * top))
        stops = sorted([*(stop for stop in STOPS if int(np.ceil(stop * top)) != first), threshold])
        return cls(raster, band, top, tuple(stops), stops.index(threshold))

    @property
    def table(self) -> UInt8[np.ndarray, "65536"]:
        """The rank of each integer."""
        firsts = np.ceil(np.array(self.stops) * self.top).astype(int)
        table = np.searchsorted(firsts, np.arange(1 << 16), side="right").astype(np.uint8)
        table[self.top + 1 :] = EMPTY
        return table

    def read(self, window: Window, factor: int = 1) -> UInt8[np.ndarray, "h w"]:
        """Read the ranks of a part of the map; those of the mean probability in pixels `factor` times as large."""
        rows, columns = window.height // factor, window.width // factor  # rows and columns of complete pixels
        part: Any = RasterWindow(window.column, window.row, columns * factor, rows * factor)  # type: ignore[call-arg]
        if not rows or not columns:
            return np.zeros((rows, columns), np.uint8)
        with rasterio.open(self.raster) as source:
            how = {"out_shape": (rows, columns), "resampling": Resampling.average}
            return self.table[source.read(self.band, window=part, **how)]

    def strips(self, grid: Grid, height: int) -> Iterator[UInt8[np.ndarray, "h w"]]:
        """Read the whole map, some rows at a time."""
        table = self.table
        with rasterio.open(self.raster) as source:
            for top in range(0, grid.height, height):
                rows: Any = RasterWindow.from_slices((top, min(top + height, grid.height)), (0, grid.width))
                yield table[source.read(self.band, window=rows)]


class Houses(NamedTuple):
    """Buildings at every stop.

    Attributes:
        classes: number of each building's class among `buildings.CLASSES`.
        shares: the damaged share of each building, rounded down to a multiple of 1 / 50: multiples by stop.
    """

    classes: UInt8[np.ndarray, "n k"]
    shares: UInt8[np.ndarray, "n k"]

    def counts(self, of: Bool[np.ndarray, "n"] | None = None) -> Int64[np.ndarray, "k classes"]:
        """Count the buildings of each class, of all buildings or of some."""
        classes = self.classes if of is None else self.classes[of]
        return np.stack([np.count_nonzero(classes == code, axis=0) for code in range(len(buildings.CLASSES))], axis=1)


class AtThresholds(NamedTuple):
    """A map at every stop.

    Attributes:
        ranked: the probabilities.
        seen: number of pixels with data.
        damaged: numbers of pixels called damage.
        polygons: numbers of damage polygons.
        cells: the pixels called damage in each cell, in the order of the layer of cells.
        houses: the buildings, in the order of their layer; None if the map has none.
        truth: for each building whether it is truly damaged, missing where not known; None without true classes.
    """

    ranked: Ranked
    seen: int
    damaged: Int64[np.ndarray, "k"]
    polygons: Int64[np.ndarray, "k"]
    cells: Int64[np.ndarray, "n k"]
    houses: Houses | None
    truth: pd.Series | None

    def agreement(self, stop: int) -> dict:
        """Compare the classes with the true ones as `buildings.agreement` does; empty without true classes."""
        if self.truth is None or self.houses is None:
            return {}
        table = {}
        for name, true in (("damaged", True), ("intact", False)):
            found = np.bincount(self.houses.classes[self._known(true), stop], minlength=len(buildings.CLASSES))
            table[name] = dict(zip(buildings.CLASSES, found.tolist(), strict=True))
        return buildings.scored(table)

    def _known(self, true: bool) -> Bool[np.ndarray, "n"]:
        assert self.truth is not None
        return (self.truth == true).fillna(False).to_numpy(bool)


def at_thresholds(
    ranked: Ranked,
    grid: Grid,
    counted: gpd.GeoDataFrame,
    judged: gpd.GeoDataFrame | None,
    truth: pd.Series | None,
    settings: MapSettings,
) -> AtThresholds:
    """Count what the map would call damage at every stop.

    Args:
        ranked: the map's probabilities.
        grid: grid of the map.
        counted: the result of `cells.count`.
        judged: the result of `buildings.judge`, or None.
        truth: `buildings.Footprints.truth`, or None.
        settings: settings of the map.
    """
    seen, by_cell = _ground(ranked, grid, settings.cell)
    return AtThresholds(
        ranked=ranked,
        seen=seen,
        damaged=by_cell.sum(axis=(0, 1)),
        polygons=_polygons(ranked, grid, settings.min_area),
        cells=by_cell[counted["row"], counted["column"]],
        houses=None if judged is None else _houses(ranked, grid, judged, settings),
        truth=None if truth is None or judged is None else truth.astype("boolean").reindex(judged.index),
    )


def _ground(ranked: Ranked, grid: Grid, side: float) -> tuple[int, Int64[np.ndarray, "rows columns k"]]:
    """Count the pixels with data, and those called damage in each cell at every stop."""
    down, across = cells.shape_of(grid, side)
    rows, columns, count = -(-grid.height // down), -(-grid.width // across), len(ranked.stops)
    found = np.zeros((rows, columns, count), np.int64)
    cell = (np.arange(grid.width) // across).astype(np.int64) * 256
    seen = 0
    for row, ranks in enumerate(ranked.strips(grid, down)):
        histogram = np.bincount((cell + ranks).ravel(), minlength=256 * columns).reshape(columns, 256)
        seen += int(histogram[:, :EMPTY].sum())
        found[row] = histogram[:, count:0:-1].cumsum(axis=1)[:, ::-1]
    return seen, found


def _polygons(ranked: Ranked, grid: Grid, min_area: float) -> Int64[np.ndarray, "k"]:
    """Count the patches of damage of at least `min_area` m² at every stop, as `outlines.damage_polygons` does."""
    patches = [_Patches(grid, min_area) for _ in ranked.stops]
    for ranks in ranked.strips(grid, _ROWS):
        ranks = np.where(ranks == EMPTY, np.uint8(0), ranks)
        most = int(ranks.max(initial=0))
        for stop, own in enumerate(patches):
            own.add((ranks > stop).view(np.uint8) if most > stop else None, len(ranks))
    return np.array([own.count() for own in patches], np.int64)


class _Patches:
    """Counts connected patches of a mask that arrives strip by strip; pixels that touch at a corner only are apart."""

    def __init__(self, grid: Grid, min_area: float):
        pixel = grid.metres**2
        self._grid, self._min_area = grid, min_area
        self._least, self._sure = max(1, int(0.99 * min_area / pixel)), _NEAR * min_area / pixel
        self._found, self._top = 0, 0
        self._last = np.zeros(grid.width, np.int64)  # numbers from 1 of the open patches in the row above
        self._open = np.zeros((0, 3))  # pixels of each, and their sums of rows and columns
        self._measured: list[np.ndarray] = []

    def add(self, mask: UInt8[np.ndarray, "h w"] | None, height: int) -> None:
        """Add a strip; None: nothing in it is set."""
        if mask is None:
            self._close(self._open)
            self._open, self._last = self._open[:0], np.zeros_like(self._last)
        else:
            labels: Any
            number, labels, statistics, middles = cv2.connectedComponentsWithStats(mask, connectivity=4)
            pixels = statistics[:, cv2.CC_STAT_AREA].astype(float)[1:]
            own = np.stack([pixels, pixels * (middles[1:, 1] + self._top), pixels * middles[1:, 0]], axis=1)
            before, both = len(self._open), (self._last > 0) & (labels[0] > 0)
            links = (self._last[both] - 1, labels[0, both].astype(np.int64) - 1 + before)
            size = before + number - 1
            graph = coo_array((np.ones(len(links[0]), bool), links), shape=(size, size))
            groups, group = connected_components(graph, directed=False)
            sums = np.stack(
                [np.bincount(group, column, groups) for column in np.concatenate([self._open, own]).T], axis=1
            )
            ends = np.where(labels[-1] > 0, group[labels[-1].astype(np.int64) - 1 + before] + 1, 0)
            still = np.zeros(groups + 1, bool)
            still[ends] = True
            still = still[1:]
            self._close(sums[~still])
            self._open = sums[still]
            self._last = np.where(ends > 0, np.cumsum(still)[ends - 1], 0)
        self._top += height

    def count(self) -> int:
        """Return the number of patches of all strips."""
        self._close(self._open)
        near = np.concatenate([np.zeros((0, 3)), *self._measured])
        if not len(near):
            return self._found
        # A square of as many pixels at a patch's middle has its area: patches of about `min_area` are small.
        half, (rows, columns) = np.sqrt(near[:, 0]) / 2, (near[:, 1:] / near[:, :1] + 0.5).T
        (left, upper), (right, lower) = (
            self._grid.transform @ (columns + sign * half, rows + sign * half) for sign in (-1, 1)
        )
        squares = gpd.GeoDataFrame(geometry=shapely.box(left, lower, right, upper), crs=self._grid.crs.to_wkt())
        return self._found + int(np.count_nonzero(areas(squares).round(2) >= self._min_area))

    def _close(self, patches: Float64[np.ndarray, "n 3"]) -> None:
        pixels = patches[:, 0]
        self._found += int(np.count_nonzero(pixels >= self._sure))
        self._measured.append(patches[(pixels >= self._least) & (pixels < self._sure)])


def called_shares(ranked: Ranked, grid: Grid) -> Float64[np.ndarray, "k"]:
    """Return the share of the ground with data that is called damage at every stop; 0 if no ground has data."""
    counts = np.zeros(256, np.int64)
    for ranks in ranked.strips(grid, _ROWS):
        counts += np.bincount(ranks.ravel(), minlength=256)
    count = len(ranked.stops)
    return counts[count:0:-1].cumsum()[::-1] / max(int(counts[:EMPTY].sum()), 1)


def flagged_shares(ranked: Ranked, frame: gpd.GeoDataFrame) -> tuple[Float[np.ndarray, "n k"], Bool[np.ndarray, "n"]]:
    """Return the share of each polygon's seen ground that is called damage at every stop, and which see any ground."""
    count = len(ranked.stops)
    with rasterio.open(ranked.raster) as source:
        pixels = _by_rank(_RankedSource(source, ranked), frame, count)
    total = pixels.sum(axis=1, keepdims=True)
    return pixels[:, :0:-1].cumsum(axis=1)[:, ::-1] / np.where(total > 0, total, 1), total[:, 0] > 0


def _houses(ranked: Ranked, grid: Grid, judged: gpd.GeoDataFrame, settings: MapSettings) -> Houses:
    """Judge every building at every stop by the rule of `buildings.judge`."""
    count = len(ranked.stops)
    made = Houses(*(np.zeros((len(judged), count), np.uint8) for _ in range(2)))
    if not len(judged):
        return made
    size, ground = areas(judged), buildings.widened(judged, settings.buffer)
    with rasterio.open(ranked.raster) as source:
        raster = _RankedSource(source, ranked)
        for first in range(0, len(judged), _BUILDINGS):
            some = slice(first, first + _BUILDINGS)
            by_rank = _by_rank(raster, ground.iloc[some], count)
            pixels = by_rank[:, :0:-1].cumsum(axis=1)[:, ::-1]
            shares = np.clip(pixels * grid.metres**2 / size[some, None], 0, 1).round(4)
            frame = judged.iloc[some]
            made.classes[some] = buildings.codes_of(
                shares, frame["seen_share"].to_numpy()[:, None], frame["area_m2"].to_numpy()[:, None], settings
            )
            made.shares[some] = np.floor(shares * 50 + 1e-9).astype(np.uint8)
    return made


def _by_rank(raster: Any, frame: gpd.GeoDataFrame, count: int) -> Float[np.ndarray, "n ranks"]:
    """Return the pixels of each rank under each polygon; cut pixels count by the share that is inside."""
    how = {"output": "pandas", "max_cells_in_memory": _CELLS_IN_MEMORY}
    found: Any = exact_extract(raster, frame[[frame.geometry.name]], ["count", "unique", "frac"], **how)
    pixels = np.zeros((len(frame), count + 1))
    for row, total, ranks, shares in zip(pixels, found["count"], found["unique"], found["frac"], strict=True):
        row[np.asarray(ranks, int)] = total * np.asarray(shares)
    return pixels


class _RankedSource(RasterioRasterSource):
    """The ranks as exactextract reads them, NaN without data (see `outlines`)."""

    def __init__(self, source: Any, ranked: Ranked):
        super().__init__(source, ranked.band)
        self._table = ranked.table

    def nodata_value(self) -> None:
        return None

    def read_window(self, x0: int, y0: int, nx: int, ny: int) -> Float[np.ndarray, "h w"]:
        window: Any = RasterWindow(x0, y0, nx, ny)  # type: ignore[call-arg]
        ranks = self._table[self.ds.read(self.band_idx, window=window)]
        return np.where(ranks == EMPTY, np.nan, ranks.astype(float))
