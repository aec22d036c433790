"""Chooses a map's threshold by a few dozen labelled points or buildings.

Labelled places tell which share of the damage is found at a threshold, the recall. They don't tell the precision: they
are not drawn at random, and a few of them say little about how rarely intact ground is called damage. The map does: the
share of its ground that is called damage is known at every threshold. Lee and Liu's criterion (Learning with positive
and unlabeled examples using weighted logistic regression, ICML 2003) needs just these two, as recall² / (share called
damage) is proportional to precision * recall.
"""

from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from scipy.ndimage import gaussian_filter1d

from jaxcd.base.errors import LabelError
from jaxcd.mapping.products.outlines import in_metres
from jaxcd.mapping.products.thresholds import Ranked, flagged_shares
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.polygons import damage_of, read_frame
from jaxcd.scenes.windows import Grid

ATTRIBUTE, DAMAGED = "damaged", ("1", "True", "true", "yes")
"""Attribute of a file of labelled places, and its values that mean damage, unless settings name others."""
LEAST = 5
"""Least number of damaged places, and of intact ones."""

_SMOOTH = 2.5  # stops over which scores are smoothed: a few dozen places make steps
_DRAWS = 1000
_INTERVAL = 0.05, 0.95


class Labelled(NamedTuple):
    """Labelled places on a map: outlines in the map's reference system, and which are damaged."""

    frame: gpd.GeoDataFrame
    damaged: Bool[np.ndarray, "n"]
    path: Path


class Calibrated(NamedTuple):
    """A threshold chosen by labelled places.

    Attributes:
        stop: number of the threshold among the stops.
        low: number of the stop at the lower end of the interval; 90 % of bootstrap samples choose one in it.
        high: likewise, of the upper end.
        recall: share of the damaged places that is called damage there.
        false_alarms: share of the intact places that is called damage there.
    """

    stop: int
    low: int
    high: int
    recall: float
    false_alarms: float


def read(grid: Grid, settings: MapSettings) -> Labelled:
    """Read labelled points or buildings on the ground of a map.

    A point counts as a disc of `settings.buffer` metres, at least of a pixel.

    Raises:
        LabelError: the file can't be read, has no such attribute, or too few places of a class on the map.
    """
    path = settings.calibrate
    assert path is not None
    try:
        frame, _ = read_frame(path, over=grid, points=True)
        attribute, values = settings.label_attribute or ATTRIBUTE, settings.label_values or DAMAGED
        truth = damage_of(frame, path, attribute, values, settings.label_unknown).dropna().astype(bool)
    except LabelError as error:
        raise LabelError(f"--calibrate {error}") from error
    if not len(frame):
        raise LabelError(f"--calibrate {path}: none of its points or polygons lies on the scenes; label places there")
    _check(path, truth.to_numpy(), "on the scenes")
    known: Any = frame.loc[truth.index].to_crs(grid.crs.to_wkt())
    points = known.geometry.geom_type.isin(["Point", "MultiPoint"])
    discs = in_metres(known[points]).buffer(max(settings.buffer, grid.metres)).to_crs(known.crs)
    known.loc[points, known.geometry.name] = discs
    return Labelled(known, truth.to_numpy(), path)


def calibrate(labelled: Labelled, ranked: Ranked, called: Float64[np.ndarray, "k"]) -> Calibrated:
    """Choose the threshold.

    Args:
        labelled: the places.
        ranked: the map's probabilities.
        called: share of the seen ground that is called damage at every stop.

    Raises:
        LabelError: too few places of a class are seen, or no stop calls any of a damaged place damage.
    """
    shares, seen = flagged_shares(ranked, labelled.frame)
    _check(labelled.path, labelled.damaged[seen], "on ground that is seen before and after")
    damaged = shares[seen & labelled.damaged]
    if not damaged.any():
        raise LabelError(
            f"--calibrate {labelled.path}: the network gives all {len(damaged)} damaged places less than "
            f"{ranked.stops[0]:g}, so no threshold finds them; check where they lie, or use another run (what the "
            "network computed is kept)"
        )
    return choose(damaged, shares[seen & ~labelled.damaged], called)


def choose(
    damaged: Float[np.ndarray, "n k"], intact: Float[np.ndarray, "m k"], called: Float64[np.ndarray, "k"]
) -> Calibrated:
    """Choose the stop with the best criterion, and an interval by drawing the damaged places again and again.

    Args:
        damaged: for each damaged place the share called damage at every stop.
        intact: likewise, of the intact places; they only tell of false alarms.
        called: share of the ground.
    """
    rng = np.random.default_rng(0)
    draws: Int64[np.ndarray, "d n"] = rng.multinomial(len(damaged), np.full(len(damaged), 1 / len(damaged)), _DRAWS)
    recall = damaged.mean(axis=0)
    stop = int(best(recall[None], called)[0])
    low, high = np.quantile(best(draws @ damaged / len(damaged), called), _INTERVAL, method="nearest").astype(int)
    return Calibrated(stop, int(low), int(high), float(recall[stop]), float(intact.mean(axis=0)[stop]))


def best(recall: Float[np.ndarray, "d k"], called: Float64[np.ndarray, "k"]) -> Int64[np.ndarray, "d"]:
    """Return the stop with the best criterion for each of several recalls by stop; `called` as for `choose`."""
    # Smoothing must not credit a stop with damage that only lower ones find.
    smooth = np.minimum(gaussian_filter1d(recall, _SMOOTH, axis=1, mode="nearest"), recall)
    score = np.where(called > 0, smooth**2 / np.where(called > 0, called, 1), 0)
    return score.argmax(axis=1)


def _check(path: Path, damaged: Bool[np.ndarray, "n"], where: str) -> None:
    counts = int(damaged.sum()), int((~damaged).sum())
    if min(counts) < LEAST:
        raise LabelError(
            f"--calibrate {path}: {counts[0]} damaged and {counts[1]} intact places lie {where}, expected at least "
            f"{LEAST} of each; label more, or correct --label_attribute and --label_values"
        )
