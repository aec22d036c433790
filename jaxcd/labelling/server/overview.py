"""Counts of a pair's objects in cells, and of its footprints: for zooms at which objects are too many to draw."""

import math
from typing import NamedTuple

from jaxcd.labelling.pairs import Box
from jaxcd.labelling.store import PAIR, Store
from jaxcd.labelling.store.reading import hidden_areas, hidden_places

SIDE = 32
"""Most cells along a side of a pair."""
_COUNTED = """
WITH seen AS (
  SELECT min(:across - 1, max(0, CAST((x - :west) / :cell AS INTEGER))) AS i,
    min(:down - 1, max(0, CAST((:north - y) / :cell AS INTEGER))) AS k,
    CASE WHEN {hidden} THEN NULL ELSE level END AS level
  FROM object WHERE pair = :pair AND NOT deleted AND second IS NULL AND origin != :whole AND x IS NOT NULL)
SELECT i, k, COUNT(*), COUNT(level), MAX({worst}) FROM seen GROUP BY k, i"""


class Cell(NamedTuple):
    """A square of a pair: its box, objects in it, how many are judged, the index of the worst level there or None."""

    box: Box
    objects: int
    judged: int
    worst: int | None


def overview(store: Store, pair_id: str, *, viewer: int | None) -> list[Cell]:
    """Count the objects of a pair in squares; of levels that a viewer must not see yet, none are counted."""
    west, south, east, north = store.pairs[pair_id].bounds
    side = max(east - west, north - south) / SIDE
    down, across = (max(1, math.ceil(length / side - 1e-9)) for length in (north - south, east - west))
    levels = {f"level{index}": level for index, level in enumerate(store.scale.levels)}
    worst = " ".join(f"WHEN :{name} THEN {index}" for index, name in enumerate(levels))
    values = {"pair": store.row(pair_id), "whole": PAIR, "cell": side, "west": west, "north": north}
    with store.reading() as db:
        hidden, bounds = hidden_places(hidden_areas(db, store.row(pair_id), viewer))
        query = _COUNTED.format(hidden=hidden, worst=f"CASE level {worst} END")
        rows = db.execute(query, {**values, **levels, **bounds, "down": down, "across": across}).fetchall()
    return [
        Cell((west + i * side, north - (k + 1) * side, west + (i + 1) * side, north - k * side), *counts)
        for i, k, *counts in rows
    ]
