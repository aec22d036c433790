"""Counts seen ground, damage and buildings in square cells of the map."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from rasterio.windows import Window as RasterWindow

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import BINARY, Scale
from jaxcd.mapping.products.attributes import LEVEL
from jaxcd.mapping.products.buildings import CLASS, CLASSES
from jaxcd.mapping.products.rasters import DECISION, EMPTY
from jaxcd.scenes.windows import Grid

_MOST = 200_000  # cells; more would be no summary any more


def shape_of(grid: Grid, side: float) -> tuple[int, int]:
    """Return height and width of a cell in pixels.

    Args:
        grid: grid of the map.
        side: side of a cell in metres.

    Raises:
        ConfigError: the map would have too many cells.
    """
    across, down = grid.sides
    rows, columns = max(1, round(side / down)), max(1, round(side / across))
    count = -(-grid.height // rows) * -(-grid.width // columns)
    if count > _MOST:
        raise ConfigError(
            f"--cell {side:g}: the map would have {count:,} cells, but at most {_MOST:,} are allowed; give a larger "
            f"side"
        )
    return rows, columns


def count(
    out: Path, grid: Grid, buildings: gpd.GeoDataFrame | None, *, side: float, scale: Scale = BINARY
) -> gpd.GeoDataFrame:
    """Count ground and buildings in cells; the first cell lies at the map's top left corner; empty cells are left out.

    Args:
        out: folder with the rasters.
        grid: grid of the map.
        buildings: buildings with their classes, or None; a building counts in the cell that its middle lies in.
        side: side of a cell in metres; it is rounded to whole pixels.
        scale: scale of the map.

    Returns:
        Cells in the map's reference system: row, column, seen_m2, damaged_m2, damaged_share, buildings_... for each
        class, and level_... for each level of a scale with buildings.

    Raises:
        ConfigError: as `shape_of`.
    """
    step = shape_of(grid, side)
    tops, lefts = (np.arange(0, length, side) for length, side in zip(grid.shape, step, strict=True))
    ground = np.zeros((2, len(tops), len(lefts)), np.int64)
    with rasterio.open(out / DECISION) as source:
        for row, top in enumerate(tops):
            window: Any = RasterWindow.from_slices((top, min(top + step[0], grid.height)), (0, grid.width))
            values = source.read(1, window=window)
            for i, mask in enumerate((values != EMPTY, values == 1)):
                ground[i, row] = np.add.reduceat(np.count_nonzero(mask, axis=0), lefts)
    houses = _buildings(grid, buildings, step, ground.shape[1:], (CLASS, CLASSES))
    rows, columns = np.nonzero((ground[0] > 0) | (houses.sum(axis=0) > 0))
    seen, damaged = ground[:, rows, columns] * grid.metres**2
    share = np.divide(damaged, seen, out=np.zeros(len(rows)), where=seen > 0)
    columns_by_name: dict[str, Any] = {
        "row": rows,
        "column": columns,
        "seen_m2": seen.round(1),
        "damaged_m2": damaged.round(1),
    }
    columns_by_name |= {"damaged_share": share.round(4)}
    if buildings is not None:
        columns_by_name |= {
            f"buildings_{name.replace(' ', '_')}": number[rows, columns]
            for name, number in zip(CLASSES, houses, strict=True)
        }
    if buildings is not None and scale.buildings:
        graded = _buildings(grid, buildings, step, ground.shape[1:], (LEVEL, scale.levels))
        columns_by_name |= {
            f"level_{name.replace(' ', '_')}": number[rows, columns]
            for name, number in zip(scale.levels, graded, strict=True)
        }
    place = grid.transform
    left, right = (place.c + place.a * np.minimum((columns + i) * step[1], grid.width) for i in (0, 1))
    upper, lower = (place.f + place.e * np.minimum((rows + i) * step[0], grid.height) for i in (0, 1))
    squares = shapely.box(left, lower, right, upper)
    return gpd.GeoDataFrame(pd.DataFrame(columns_by_name), geometry=squares, crs=grid.crs.to_wkt())


def _buildings(
    grid: Grid,
    frame: gpd.GeoDataFrame | None,
    step: tuple[int, int],
    shape: tuple[int, ...],
    kinds: tuple[str, tuple[str, ...]],
) -> np.ndarray:
    """Count the buildings of each kind in each cell; a building whose middle is off the map counts in the nearest cell.

    Args:
        grid: grid of the map.
        frame: the buildings.
        step: height and width of a cell in pixels.
        shape: number of cells down and across.
        kinds: name of a column of the frame, and the values of it to count.
    """
    column, values = kinds
    counts = np.zeros((len(values), *shape), np.int64)
    if frame is not None and len(frame):
        middles = frame.geometry.representative_point()
        x, y = np.asarray(middles.x), np.asarray(middles.y)
        place = ~grid.transform
        columns, rows = place.a * x + place.c, place.e * y + place.f
        at = [
            np.clip(np.floor(pixel / size).astype(int), 0, most - 1)
            for pixel, size, most in zip((rows, columns), step, shape, strict=True)
        ]
        kind = pd.Index(values).get_indexer(np.asarray(frame[column]))
        counted = kind >= 0
        np.add.at(counts, (kind[counted], *(place[counted] for place in at)), 1)
    return counts
