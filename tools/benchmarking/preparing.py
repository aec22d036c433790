"""Tiles of a pair of scenes as Maxar delivers them: read and judged, staged, and beside what rasterio alone reads."""

import itertools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from benchmarking.case import Case
from benchmarking.large_scenes import large_pair
from jaxcd.base.scales import BINARY
from jaxcd.config import DataConfig, ScenesConfig
from jaxcd.scenes.windows import Grid, Window, tile_windows
from jaxcd.sources.from_scenes.plan import plan
from jaxcd.sources.from_scenes.tiles import PlannedTile, ReadingSettings
from jaxcd.store.scene_build import stage_tiles
from jaxcd.store.staging import Piece

_HALF = 0.5  # pixels by which the second scene is moved where it is to be warped
_EVERYTHING = 1e9


def bare(case: Case) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Read windows of both scenes with rasterio and do nothing with them; warped: the second by a WarpedVRT each."""
    pre, post = (rasterio.open(path) for path in _pair(case))
    grid = Grid(crs=pre.crs, transform=pre.transform, height=pre.height, width=pre.width)
    windows = _windows(grid, case)

    def run(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            window = next(windows)
            part: Any = RasterWindow(window.column, window.row, window.width, window.height)  # pyright: ignore
            pre.read((1, 2, 3), window=part)
            if case.variant != "warped":
                post.read((1, 2, 3), window=part)
                continue
            to = grid.part(window).moved(_HALF, _HALF)
            how = {"crs": to.crs, "transform": to.transform, "height": to.height, "width": to.width}
            with WarpedVRT(post, **how, resampling=Resampling.cubic) as warped:
                warped.read((1, 2, 3))
        return time.perf_counter() - start

    return run, {}


def tiles(case: Case, encoding: str) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Stage tiles as a build does; without an encoding they are read and judged, and all dropped."""
    pair = _pair(case)
    variance = 0.0 if encoding else _EVERYTHING
    scenes = ScenesConfig(tile=case.tile, labels="none", black=1.0, snow=_EVERYTHING, variance=variance)
    data = DataConfig(root=str(pair[0].parent), layout="scenes", scenes=scenes)
    (place,) = plan(data).places
    windows = _windows(place.grid, case)
    folder = Path(case.cache) / f"staged-{case.variant}-{encoding}"
    shift = {(str(pair[1]),): (_HALF, _HALF)} if case.variant == "warped" else {}

    def run(count: int) -> float:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        tiles = [
            PlannedTile(place=place.place, grid=place.grid, labels=place.labels, window=window, shifts=shift)
            for window in itertools.islice(windows, count)
        ]
        reading = ReadingSettings(scenes=scenes, scaling="", scale=BINARY, refuse=True, window_folder=folder)
        start = time.perf_counter()
        stage_tiles(Piece(folder / "piece", count), tiles, reading, encoding or "raw")
        return time.perf_counter() - start

    return run, {}


def _pair(case: Case) -> tuple[Path, Path]:
    return large_pair(Path(case.cache) / "scenes")


def _windows(grid: Grid, case: Case) -> "itertools.cycle[Window]":
    return itertools.cycle(list(tile_windows(grid, case.tile, edges="pad")))
