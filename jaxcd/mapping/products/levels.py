"""Buildings of a map by level of damage, and how the levels agree with true ones."""

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

_DIGITS = 6  # of shares of pixels: exactextract's are floats, and a tie must be one


class Levels(NamedTuple):
    """What a map of levels has, and one of damage alone has not.

    Attributes:
        scale: of the levels.
        probabilities: a virtual raster of P(level >= j), a band for each level.
    """

    scale: Scale
    probabilities: str


def classes(scale: Scale) -> tuple[str, ...]:
    """Return what the level of a building can be: the scale's levels, and the reasons for none."""
    return (*scale.levels, NOT_SEEN, TOO_SMALL)


def judge(frame: gpd.GeoDataFrame, out: Path, levels: Levels, *, source: str) -> gpd.GeoDataFrame:
    """Give every building its level.

    The level is the one that most of the building's pixels have, of those that are called a building; of levels with
    as many pixels it is the worse one. Where fewer than half of its pixels are called a building, it is the median
    level by the mean probabilities, as that of a pixel is by its own (`jaxcd.learn.ordinal.predicted_level`).

    The probabilities of the levels are those of a building: means over the pixels under the footprint, each weighted
    by its probability of being a building, since what the network says of levels means nothing on ground.

    Args:
        frame: of `buildings.judge`; buildings that are not seen or too small to judge have that as their level.
        out: folder with the map's rasters.
        levels: of the map.
        source: where the outlines come from.

    Returns:
        The frame with source, level, expected_level (the mean level, where the first one is 1), and p_... for each
        level; these numbers are null where the building is not seen.
    """
    scale = levels.scale
    shares = shares_under_polygons(out / CODES, frame, len(scale.codes))[:, 1:].round(_DIGITS)
    exceeding = means_under_polygons(levels.probabilities, frame)
    exceeding = exceeding / np.where(exceeding[:, :1] > 0, exceeding[:, :1], np.nan)  # now of buildings: the first is 1
    most = shares.shape[1] - np.argmax(shares[:, ::-1], axis=1)  # the last of equal ones
    median = np.sum(exceeding >= 0.5, axis=1)
    # Ground everywhere, without the least probability of a building: nothing speaks for damage.
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
        frame: of `judge`.
        truth: names of true levels, as `buildings.Footprints` has them.
        scale: of both.

    Returns:
        As `scored`; empty where no true level is known.
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
    """Score levels.

    Args:
        table: the number of buildings with each level (and without one), by true level.
        scale: of both.

    Returns:
        The table, as `confusion`; over the buildings that have a level, Cohen's kappa with quadratic weights, as
        `kappa`, and the mean absolute difference in levels, as `level_error`: None where there is no such building.
    """
    both = np.array([[table[true][name] for name in scale.levels] for true in scale.levels], np.int64)
    found = Grades(scale=scale, counts=np.pad(both, ((1, 1), (1, 0)))).scores()
    known = both.sum() > 0
    return {
        "confusion": table,
        "kappa": round(found.kappa, 4) if known else None,
        "level_error": round(found.level_error, 4) if known else None,
    }
