"""What the page's slider of the threshold needs: the map's figures at every stop, and the colours of ranks."""

from typing import Any

import geopandas as gpd
import numpy as np

from jaxcd.mapping.page.boxes import box, window_of
from jaxcd.mapping.products.buildings import CLASSES, DAMAGED, POSSIBLY
from jaxcd.mapping.products.styles import RAMP, rgba
from jaxcd.mapping.products.thresholds import AtThresholds, Houses, Ranked
from jaxcd.scenes.windows import Grid

# One digit tells one of up to 64 numbers: the stops from 0 to which something lasts.
_DIGITS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"))
_SHARES = 50  # damaged shares are told in steps of 1 / 50


def data_of(at: AtThresholds, grid: Grid, cells: gpd.GeoDataFrame, most: int) -> dict[str, Any]:
    """Return the figures of a map at every stop, as JSON can hold them.

    Args:
        at: the map at every stop.
        grid: grid of the map.
        cells: the map's layer of cells.
        most: number of worst places to tell at a stop.
    """
    pixel = grid.metres**2
    damaged = (at.cells * pixel).round(1)
    lists = [list(worst(cells, damaged[:, stop], most).index) for stop in range(len(at.ranked.stops))]
    known = sorted({index for own in lists for index in own})
    place = {index: i for i, index in enumerate(known)}
    own = [cells.loc[index] for index in known]
    return {
        "stops": at.ranked.stops,
        "own": at.ranked.own,
        "pixel": pixel,
        "seen": at.seen,
        "damaged": at.damaged.tolist(),
        "polygons": at.polygons.tolist(),
        "places": [
            {"box": box(grid, window_of(grid, cell.geometry)), "seen": round(float(cell["seen_m2"]), 1)}
            | {"damaged": damaged[index].tolist()}
            for index, cell in zip(known, own, strict=True)
        ],
        "worst": [[place[index] for index in own] for own in lists],
        "counts": None if at.houses is None else at.houses.counts().tolist(),
        "classes": list(CLASSES),
        "agreement": [at.agreement(stop) for stop in range(len(at.ranked.stops))] if at.truth is not None else None,
    }


def worst(cells: gpd.GeoDataFrame, damaged: Any, most: int) -> Any:
    """Return the cells with most damage, the worst first; `damaged` is that of each cell in square metres."""
    found: Any = cells.assign(damaged_m2=np.asarray(damaged))
    found = found[found["damaged_m2"] > 0]
    return found.sort_values("damaged_m2", ascending=False, kind="stable").head(most)


def falls(houses: Houses) -> list[str]:
    """Tell for each building at how many stops its damaged share still is so large, as digits.

    The first two digits are of the classes possibly damaged (or worse) and damaged, and decide the class; the others
    are of shares of 1/50, 2/50 and so on, and tell the share. Shares fall as the threshold rises.
    """
    possibly, damaged = (
        np.isin(houses.classes, [CLASSES.index(name) for name in names]).sum(axis=1)
        for names in ((POSSIBLY, DAMAGED), (DAMAGED,))
    )
    shares = [(houses.shares >= step).sum(axis=1) for step in range(1, _SHARES + 1)]
    digits = _DIGITS[np.stack([possibly, damaged, *shares], axis=1)]
    return ["".join(row) for row in digits]


def colours(ranked: Ranked) -> list[list[int]]:
    """Return red, green, blue and opacity (0..255) of each rank, by the probability in the middle of its range."""
    edges = np.array([0.0, *ranked.stops, 1.0])
    middles = (edges[:-1] + edges[1:]) / 2
    bands = np.array([rgba(*stop[1:]) for stop in RAMP]).T
    found = [np.rint(np.interp(middles, [stop[0] for stop in RAMP], band)) for band in bands]
    return np.stack(found, axis=1).astype(int).tolist()
