"""Damage as polygons, and what rasters hold under polygons."""

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from exactextract import exact_extract
from exactextract.raster import RasterioRasterSource
from jaxtyping import Float
from rasterio.features import shapes
from rasterio.windows import Window as RasterWindow

from jaxcd.mapping.rasters import DECISION, EMPTY, PROBABILITY
from jaxcd.scenes.windows import Grid

_CELLS_IN_MEMORY = 8_000_000  # of a raster, while polygons are laid over it


def damage_polygons(out: Path, grid: Grid, *, min_area: float, simplify: float) -> gpd.GeoDataFrame:
    """Outline the damage of a map's rasters.

    GDAL walks the raster row by row, so that its size is no matter and no outline is cut anywhere. Pixels that touch
    at a corner only are polygons of their own.

    Args:
        out: folder with the rasters.
        grid: of the map.
        min_area: square metres below which a polygon is left out.
        simplify: how far an outline may leave the pixels' edges, in pixels.

    Returns:
        Polygons in the map's reference system, the largest first: id, area_m2, mean_probability, max_probability.
    """
    with rasterio.open(out / DECISION) as source:
        band: Any = rasterio.band(source, 1)
        found = [
            shapely.geometry.shape(shape)
            for shape, value in shapes(band, mask=band, connectivity=4, transform=source.transform)
            if value == 1
        ]
    frame = gpd.GeoDataFrame(geometry=np.array(found, dtype=object), crs=grid.crs.to_wkt())
    frame["area_m2"] = areas(frame).round(2)  # of the pixels: of small polygons a simpler outline loses much
    frame = frame[frame["area_m2"] >= min_area]
    within = simplify * min(abs(grid.transform.a), abs(grid.transform.e))
    frame = frame.set_geometry(frame.geometry.simplify(within))
    statistics = under(out / PROBABILITY, frame, ["mean", "max"])
    frame["mean_probability"], frame["max_probability"] = statistics["mean"].round(4), statistics["max"].round(4)
    frame = frame.sort_values("area_m2", ascending=False, kind="stable").reset_index(drop=True)
    frame.insert(0, "id", np.arange(1, len(frame) + 1))
    return frame


def cells(out: Path, grid: Grid, *, side: float) -> gpd.GeoDataFrame:
    """Count seen and damaged ground in square cells from the map's top left corner; cells that nobody saw are left out.

    Args:
        out: folder with the rasters.
        grid: of the map.
        side: of a cell in metres, rounded to whole pixels.

    Returns:
        Cells in the map's reference system: row, column, seen_m2, damaged_m2, damaged_share.
    """
    step = max(1, round(side / grid.metres))
    columns = np.arange(0, grid.width, step)
    rows = []
    with rasterio.open(out / DECISION) as source:
        for row, top in enumerate(range(0, grid.height, step)):
            bottom = min(top + step, grid.height)
            window: Any = RasterWindow.from_slices((top, bottom), (0, grid.width))
            values = source.read(1, window=window)
            seen, damaged = (
                np.add.reduceat(np.count_nonzero(mask, axis=0), columns) for mask in (values != EMPTY, values == 1)
            )
            for column, left in enumerate(columns):
                if seen[column]:
                    right = min(int(left) + step, grid.width)
                    box = shapely.box(*_at(grid, bottom, int(left)), *_at(grid, top, right))
                    rows.append((row, column, int(seen[column]), int(damaged[column]), box))
    named = ["row", "column", "seen_m2", "damaged_m2", "geometry"]
    frame = gpd.GeoDataFrame(pd.DataFrame(rows, columns=named), geometry="geometry", crs=grid.crs.to_wkt())
    frame["damaged_share"] = (frame["damaged_m2"] / frame["seen_m2"]).astype(float).round(4)
    pixel = pixel_area(grid)
    for name in ("seen_m2", "damaged_m2"):
        frame[name] = (frame[name] * pixel).astype(float).round(1)
    return frame


def _at(grid: Grid, row: int, column: int) -> tuple[float, float]:
    x, y = grid.transform @ (column, row)
    return x, y


def under(raster: Path, frame: gpd.GeoDataFrame, operations: list[str]) -> pd.DataFrame:
    """Compute statistics of what a raster holds under polygons, pixels weighed by the share that a polygon covers.

    Args:
        raster: of one band; its scale is applied, pixels without data take no part.
        frame: polygons in the raster's reference system.
        operations: of exactextract: mean, max, sum (of pixels times shares), count (of shares of pixels with data).

    Returns:
        A column each, indexed as the polygons; NaN (of sum and count 0) where there is no data.
    """
    if not len(frame):
        return pd.DataFrame({name: np.zeros(0) for name in operations}, index=frame.index)
    with rasterio.open(raster) as source:
        found: Any = exact_extract(
            _Unmasked(source),
            frame[[frame.geometry.name]],
            ["count", *operations],
            output="pandas",
            max_cells_in_memory=_CELLS_IN_MEMORY,
        )
    found.index = frame.index
    for name in operations:
        found.loc[found["count"] == 0, name] = 0.0 if name in ("sum", "count") else np.nan
    return found[operations].astype(float)


class _Unmasked(RasterioRasterSource):
    """A raster whose pixels without data are NaN: of masked arrays exactextract 0.3 loses the mask now and then."""

    def nodata_value(self) -> None:
        return None

    def read_window(self, x0: int, y0: int, nx: int, ny: int) -> Float[np.ndarray, "h w"]:
        window: Any = RasterWindow(x0, y0, nx, ny)  # type: ignore[call-arg]
        values = self.ds.read(self.band_idx, window=window)
        return np.where(values == self.ds.nodata, np.nan, values * self.scale)


def areas(frame: gpd.GeoDataFrame) -> Float[np.ndarray, "n"]:
    """Return the polygons' areas in square metres, whatever their reference system is."""
    return np.asarray(in_metres(frame).area)


def pixel_area(grid: Grid) -> float:
    """Return the square metres of a pixel in the middle of a grid."""
    row, column = grid.height // 2, grid.width // 2
    corners = _at(grid, row + 50, column - 50), _at(grid, row - 50, column + 50)
    return float(
        areas(gpd.GeoDataFrame(geometry=[shapely.box(*corners[0], *corners[1])], crs=grid.crs.to_wkt()))[0] / 1e4
    )


def in_metres(frame: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """Bring polygons to the UTM zone that they lie in."""
    return frame.geometry.to_crs(frame.estimate_utm_crs()) if len(frame) else frame.geometry
