"""Gives each building of a map a level of damage, and compares the levels with true ones."""

from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd

from jaxcd.base.scales import Scale
from jaxcd.learn.grades import Grades
from jaxcd.mapping.products.attributes import EXPECTED, LEVEL, SOURCE, probability_column
from jaxcd.mapping.products.buildings import CLASS, NOT_SEEN, TOO_SMALL
from jaxcd.mapping.products.outlines import means_under_polygons, shares_under_polygons
from jaxcd.mapping.products.rasters import CODES

FOOTPRINTS, NETWORK = "footprints", "network"
"""Values of the column `source`: where the outline of a building comes from."""

_DIGITS = 6  # shares of pixels are rounded, so that equal shares stay equal in exactextract's floating point


class Levels(NamedTuple):
    """What a map of levels has in addition to a map of damage alone.

    Attributes:
        scale: scale of the levels.
        probabilities: a virtual raster of P(level >= j), a band for each level.
    """

    scale: Scale
    probabilities: str


def classes(scale: Scale) -> tuple[str, ...]:
    """Return the values of a building's level: the scale's levels, and the reasons why a building has none."""
    return (*scale.levels, NOT_SEEN, TOO_SMALL)


def judge(frame: gpd.GeoDataFrame, out: Path, levels: Levels, *, source: str) -> gpd.GeoDataFrame:
    """Give every building its level.

    If at least half of the pixels under the footprint are called a building, the level is the most frequent level of
    these pixels; of equally frequent levels it is the worst. Otherwise it is the median level by the mean probabilities
    under the footprint (the rule of `jaxcd.learn.ordinal.predicted_level`, which takes a pixel's own probabilities).

    The probabilities of a building's levels are means over the pixels under the footprint. Each pixel is weighted by
    its probability of being a building, because the network's levels mean nothing on ground.

    Args:
        frame: the result of `buildings.judge`; buildings that are not seen or too small to judge get that as level.
        out: folder with the map's rasters.
        levels: levels of the map.
        source: origin of the outlines: `FOOTPRINTS` or `NETWORK`.

    Returns:
        The frame with the columns source, level, expected_level (the mean level, counted from 1), and p_... for each
        level; these numbers are null for buildings that are not seen.
    """
    scale = levels.scale
    shares = shares_under_polygons(out / CODES, frame, len(scale.codes))[:, 1:].round(_DIGITS)
    exceeding = means_under_polygons(levels.probabilities, frame)
    exceeding = exceeding / np.where(
        exceeding[:, :1] > 0, exceeding[:, :1], np.nan
    )  # given that it is a building, so the first column is 1
    most = shares.shape[1] - np.argmax(shares[:, ::-1], axis=1)  # of equal shares, the worst level
    median = np.sum(exceeding >= 0.5, axis=1)
    # Without any probability of a building the median is 0: take level 1, because nothing indicates damage.
    level = np.maximum(np.where(shares.sum(axis=1) >= 0.5, most, median), 1)
    judged: Any = frame.copy()
    judged[SOURCE] = source
    unseen, small = (frame[CLASS] == name for name in (NOT_SEEN, TOO_SMALL))
    judged[LEVEL] = np.select([unseen, small], [NOT_SEEN, TOO_SMALL], default=np.array(scale.codes)[level])
    judged[EXPECTED] = np.sum(exceeding, axis=1).round(2)
    exact = exceeding - np.append(exceeding[:, 1:], np.zeros((len(frame), 1)), axis=1)
    for name, probability in zip(scale.levels, exact.T, strict=True):
        judged[probability_column(name)] = probability.round(4)
    judged.loc[unseen, [EXPECTED, *map(probability_column, scale.levels)]] = np.nan
    return judged


def counts(frame: gpd.GeoDataFrame, scale: Scale) -> dict[str, int]:
    """Count the buildings of each level, and those without one."""
    return {name: int(np.count_nonzero(frame[LEVEL] == name)) for name in classes(scale)}


def agreement(frame: gpd.GeoDataFrame, truth: pd.Series, scale: Scale) -> dict[str, Any]:
    """Compare levels with the true ones.

    Args:
        frame: the result of `judge`.
        truth: names of true levels (`buildings.Footprints.true_levels`).
        scale: scale of the levels.

    Returns:
        The same as `scored`; empty if no true level is known.
    """
    if not len(truth):
        return {}
    judged = frame.loc[truth.index, LEVEL]
    table = {
        true: {name: int(((judged == name) & (truth == true)).sum()) for name in classes(scale)}
        for true in scale.levels
    }
    return scored(table, scale)


def scored(table: dict[str, dict[str, int]], scale: Scale) -> dict[str, Any]:
    """Compute scores from a confusion table of levels.

    Args:
        table: the number of buildings with each level (or without one), by true level.
        scale: scale of the levels.

    Returns:
        `confusion`, the table; `kappa`, Cohen's kappa with quadratic weights; `level_error`, the mean absolute
        difference in levels. The scores are over the buildings that have a level, and None if there are none.
    """
    both = np.array([[table[true][name] for name in scale.levels] for true in scale.levels], np.int64)
    scores = Grades(scale=scale, counts=np.pad(both, ((1, 1), (1, 0)))).scores()
    known = both.sum() > 0
    return {
        "confusion": table,
        "kappa": round(scores.kappa, 4) if known else None,
        "level_error": round(scores.level_error, 4) if known else None,
    }
