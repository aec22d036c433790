"""Outlines damage, levels and buildings as polygons, and computes statistics of rasters under polygons."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from buildingregulariser import regularize_geodataframe
from exactextract import exact_extract
from exactextract.raster import RasterioRasterSource
from jaxtyping import Bool, Float, UInt8
from rasterio.features import shapes
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterWindow

from jaxcd.base.scales import Scale
from jaxcd.mapping.products.rasters import CODES, DECISION, PROBABILITY
from jaxcd.scenes.windows import Grid

_CELLS_IN_MEMORY = 8_000_000  # pixels that exactextract reads at a time
_STRIP = 1024  # rows of a raster that are read at a time
_MOST_CORNERS = 500  # an outline with more corners is not regularised


def damage_polygons(out: Path, grid: Grid, *, min_area: float, simplify: float) -> gpd.GeoDataFrame:
    """Outline the damage of a map's rasters.

    Small patches, perhaps millions, are removed strip by strip before polygons are made, which saves memory. GDAL then
    outlines the other patches over the whole raster, so that no strip cuts them. Pixels that touch only at a corner
    belong to different polygons.

    Args:
        out: folder with the rasters.
        grid: of the map.
        min_area: square metres below which a polygon is left out.
        simplify: how far an outline may deviate from the pixels' edges, in pixels: a corner is cut off if its triangle
            has a smaller area than the square of this.

    Returns:
        Polygons in the map's coordinate reference system, the largest first, with id, area_m2, mean_probability and
        max_probability. The last three describe the pixels, not the simplified outline.
    """
    frame = _patches(out / DECISION, grid, {1: 1}, min_area=min_area).drop(columns="kind")
    statistics = statistics_under_polygons(out / PROBABILITY, frame, ["mean", "max"])
    frame["mean_probability"], frame["max_probability"] = statistics["mean"].round(4), statistics["max"].round(4)
    frame = _simplified(frame, grid, simplify).sort_values("area_m2", ascending=False, kind="stable")
    return _numbered(frame)


def level_polygons(out: Path, grid: Grid, scale: Scale, *, min_area: float, simplify: float) -> gpd.GeoDataFrame:
    """Outline the pixels of each damaged level, as `damage_polygons` outlines all damage; intact buildings get none.

    Where two levels meet, their outlines share one line. Pixels of another level within a patch make a hole in it.

    Returns:
        Polygons in the map's coordinate reference system, the worst level first, and the largest first within a level,
        with id, level (its name) and area_m2 (of the pixels).
    """
    kinds = {code: code for code in range(2, len(scale.codes))}
    frame = _simplified(_patches(out / CODES, grid, kinds, min_area=min_area), grid, simplify)
    frame = frame.sort_values(["kind", "area_m2"], ascending=False, kind="stable")
    frame["level"] = pd.Series([scale.codes[kind] for kind in frame["kind"]], index=frame.index, dtype=object)
    return _numbered(frame[["level", "area_m2", "geometry"]])


def building_polygons(out: Path, grid: Grid, scale: Scale, *, min_area: float, simplify: float) -> gpd.GeoDataFrame:
    """Outline the pixels of buildings of any level; buildings that touch get one outline.

    Outlines are regularised: their edges are parallel or perpendicular to their main direction, or (more rarely) at 45
    degrees to it. An outline with very many corners, which is not a single building, is only simplified.

    Args:
        out: folder with the rasters.
        grid: of the map.
        scale: of the map.
        min_area: square metres below which a building is left out.
        simplify: the same as for `damage_polygons`; outlines are simplified before they are regularised.

    Returns:
        Polygons in the map's coordinate reference system, without attributes, the largest first.
    """
    kinds = dict.fromkeys(range(1, len(scale.codes)), 1)
    frame = _simplified(_patches(out / CODES, grid, kinds, min_area=min_area), grid, simplify)
    regular = shapely.get_num_coordinates(np.asarray(frame.geometry)) <= _MOST_CORNERS
    frame: Any = pd.concat([_regularised(frame[regular], grid), frame[~regular]])[["geometry"]]
    frame = frame[areas(frame) >= min_area]
    frame = frame.iloc[np.argsort(-shapely.area(np.asarray(frame.geometry)), kind="stable")]
    return frame.reset_index(drop=True)


def _regularised(frame: Any, grid: Grid) -> Any:
    if not len(frame):
        return frame
    metric = frame.set_geometry(in_metres(frame))
    how = {"parallel_threshold": 2 * grid.metres, "simplify_tolerance": grid.metres, "allow_circles": False}
    # Metadata columns are kept: to drop them, the library calls a function that pandas is going to remove.
    return regularize_geodataframe(metric, num_cores=1, include_metadata=True, **how).to_crs(frame.crs)


def _patches(raster: Path, grid: Grid, kinds: dict[int, int], *, min_area: float) -> Any:
    """Outline patches of pixels of one kind along the pixels' edges; returns polygons with kind and area_m2.

    Args:
        raster: raster of codes.
        grid: grid of the map.
        kinds: kind (1 or more) of each code; pixels of other codes are left out.
        min_area: square metres below which a patch is left out.
    """
    least = max(1, math.floor(0.99 * min_area / grid.metres**2))  # the ground size of a pixel varies over the map
    table = np.zeros(256, np.uint8)
    table[list(kinds)] = list(kinds.values())
    patches = list(_outlined(raster, least, table))
    outlines = np.array([outline for outline, _ in patches], dtype=object)
    frame: Any = gpd.GeoDataFrame({"kind": [kind for _, kind in patches]}, geometry=outlines, crs=grid.crs.to_wkt())
    frame["area_m2"] = areas(frame).round(2)
    return frame[frame["area_m2"] >= min_area].copy()


def _simplified(frame: Any, grid: Grid, simplify: float) -> Any:
    within = simplify * min(abs(grid.transform.a), abs(grid.transform.e))
    # Not GEOS' topology-preserving simplification: it takes minutes for a polygon with very many holes.
    return frame.set_geometry(shapely.coverage_simplify(np.asarray(frame.geometry), within))


def _numbered(frame: Any) -> gpd.GeoDataFrame:
    frame = frame.reset_index(drop=True)
    frame.insert(0, "id", np.arange(1, len(frame) + 1))
    return frame


def _outlined(
    raster: Path, least: int, table: UInt8[np.ndarray, "256"]
) -> Iterator[tuple[shapely.geometry.base.BaseGeometry, int]]:
    """Outline patches of at least `least` pixels of one kind; `table` gives the kind of each code, or 0."""
    kinds = np.unique(table[table > 0])
    with MemoryFile() as file, rasterio.open(raster) as source:
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": source.height, "width": source.width}
        profile |= {"transform": source.transform, "compress": "zstd", "zstd_level": 1, "tiled": True}
        with file.open(**profile) as target:
            for top in range(0, source.height, _STRIP):
                bottom = min(top + _STRIP, source.height)
                window: Any = RasterWindow.from_slices((top, bottom), (0, source.width))
                strip = table[source.read(1, window=window)]
                goes_on = (top > 0, bottom < source.height)
                kept = np.zeros_like(strip)
                for kind in kinds:
                    kept[_without_specks(strip == kind, least, goes_on)] = kind
                target.write(kept, 1, window=window)
        side = abs(source.transform.a * source.transform.e)
        with file.open() as kept:
            band: Any = rasterio.band(kept, 1)
            for shape, kind in shapes(band, mask=band, connectivity=4, transform=kept.transform):
                outline = shapely.geometry.shape(shape)
                if outline.area >= (least - 0.5) * side:  # a small patch at the edge of a strip was kept
                    yield outline, int(kind)


def _without_specks(damage: Bool[np.ndarray, "h w"], least: int, goes_on: tuple[bool, bool]) -> Bool[np.ndarray, "h w"]:
    """Remove patches of fewer than `least` pixels, except those that may continue above or below."""
    labels: Any
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(damage.view(np.uint8), connectivity=4)
    kept = statistics[:, cv2.CC_STAT_AREA] >= least
    for row, more in zip((0, -1), goes_on, strict=True):
        if more:
            kept[labels[row]] = True
    kept[0] = False
    return kept[labels]


def means_under_polygons(raster: str, frame: gpd.GeoDataFrame) -> Float[np.ndarray, "n k"]:
    """Return the mean of each band of a raster under each polygon; NaN where the raster has no data.

    Args:
        raster: path, or text of a virtual raster.
        frame: polygons in the raster's coordinate reference system.
    """
    with rasterio.open(raster) as source:
        bands = {f"band{band}": band for band in source.indexes}
        if not len(frame):
            return np.zeros((0, len(bands)))
        means = _extracted([_Unmasked(source, band, name=name) for name, band in bands.items()], frame, ["mean"])
    return np.stack([means[f"{name}_mean"].to_numpy(float) for name in bands], axis=1)


def shares_under_polygons(raster: Path, frame: gpd.GeoDataFrame, codes: int) -> Float[np.ndarray, "n codes"]:
    """Return, for each polygon, the share of each code in the pixels under it; 0 where the raster has no data.

    Args:
        raster: raster of codes.
        frame: polygons in the raster's coordinate reference system.
        codes: number of codes, which begin at 0.
    """
    shares = np.zeros((len(frame), codes))
    if len(frame):
        with rasterio.open(raster) as source:
            extracted = _extracted(_Unmasked(source), frame, ["unique", "frac"])
        for row, present, share in zip(shares, extracted["unique"], extracted["frac"], strict=True):
            row[np.asarray(present, int)] = share
    return shares


def _extracted(raster: Any, frame: gpd.GeoDataFrame, operations: list[str]) -> Any:
    polygons = frame[[frame.geometry.name]]
    return exact_extract(raster, polygons, operations, output="pandas", max_cells_in_memory=_CELLS_IN_MEMORY)


def statistics_under_polygons(raster: Path, frame: gpd.GeoDataFrame, operations: list[str]) -> pd.DataFrame:
    """Compute statistics of a raster under polygons; a pixel's weight is the share of it that the polygon covers.

    Args:
        raster: raster of one band; its scale is applied, and pixels without data are left out.
        frame: polygons in the raster's coordinate reference system.
        operations: names of exactextract: mean, max, sum (of value times weight), count (sum of the weights).

    Returns:
        A column for each operation, with the polygons' index. Without data, sum and count are 0, the others NaN.
    """
    if not len(frame):
        return pd.DataFrame({name: np.zeros(0) for name in operations}, index=frame.index)
    with rasterio.open(raster) as source:
        extracted = _extracted(_Unmasked(source), frame, ["count", *operations])
    extracted.index = frame.index
    for name in operations:
        extracted.loc[extracted["count"] == 0, name] = 0.0 if name in ("sum", "count") else np.nan
    return extracted[operations].astype(float)


class _Unmasked(RasterioRasterSource):
    """A raster whose pixels without data are NaN, because exactextract 0.3 sometimes loses the mask of an array."""

    def nodata_value(self) -> None:
        return None

    def read_window(self, x0: int, y0: int, nx: int, ny: int) -> Float[np.ndarray, "h w"]:
        window: Any = RasterWindow(x0, y0, nx, ny)  # type: ignore[call-arg]
        values = self.ds.read(self.band_idx, window=window)
        return np.where(values == self.ds.nodata, np.nan, values * self.scale)


def areas(frame: gpd.GeoDataFrame) -> Float[np.ndarray, "n"]:
    """Return the polygons' areas in square metres, for any coordinate reference system."""
    return shapely.area(np.asarray(in_metres(frame)))


def in_metres(frame: gpd.GeoDataFrame) -> gpd.GeoSeries:
    """Transform polygons to the UTM zone that they lie in."""
    return frame.geometry.to_crs(frame.estimate_utm_crs()) if len(frame) else frame.geometry
