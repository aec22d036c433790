"""How well the outlines of buildings that networks see agree with true ones.

    python tools/outlines.py --pairs LIST --maps DIR [--least_area 10]

LIST is the list that `tools/xbd_scenes.py` wrote, with the true outlines in its column `footprints`; DIR holds the maps
that `python -m jaxcd.predict --pairs` made of these scenes without footprints. A true and a seen outline are a match if
their intersection is at least half of their union; such pairs are one to one.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import shapely

from jaxcd.base.entry import guarded
from jaxcd.base.errors import LabelError, RunError
from jaxcd.mapping.products.layers import BUILDINGS

_MATCH = 0.5  # intersection over union


class Matches(NamedTuple):
    """Numbers of outlines: true ones, seen ones, and matches."""

    true: int
    seen: int
    matched: int


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools/outlines.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="list of scenes, with true outlines as footprints")
    parser.add_argument("--maps", type=Path, required=True, help="folder of the maps, one folder a scene")
    parser.add_argument("--least_area", type=float, default=10.0, help="square metres; smaller true ones are left out")
    options = parser.parse_args(argv)
    total = np.zeros(3, int)
    for name, footprints in _listed(options.pairs):
        seen = options.maps / name / BUILDINGS
        if not seen.is_file():
            raise RunError(f"{seen}: no such file; map {name} without footprints first (jaxcd.predict --pairs)")
        total += matches(gpd.read_file(footprints), gpd.read_file(seen), least_area=options.least_area)
    true, seen, matched = total.tolist()
    precision, recall, f1 = matched / max(seen, 1), matched / max(true, 1), 2 * matched / max(seen + true, 1)
    print(f"{true} true outlines, {seen} seen, {matched} matches (intersection over union at least {_MATCH})")
    print(f"precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")
    return 0


def matches(true: gpd.GeoDataFrame, seen: gpd.GeoDataFrame, *, least_area: float) -> Matches:
    """Count true and seen outlines, and pairs of them whose intersection is at least half of their union.

    No outline has two such partners as long as those of each side do not overlap: one of the two would have to be
    smaller than half of it.
    """
    metric: Any = true.to_crs(true.estimate_utm_crs()) if len(true) else true
    metric = metric[metric.area >= least_area]
    if not len(metric) or not len(seen):
        return Matches(len(metric), len(seen), 0)
    outlines: list[Any] = [np.asarray(metric.geometry), np.asarray(seen.to_crs(metric.crs).geometry)]
    own, other = shapely.STRtree(outlines[1]).query(outlines[0], predicate="intersects")
    common = shapely.area(shapely.intersection(outlines[0][own], outlines[1][other]))
    overlap = common / (shapely.area(outlines[0][own]) + shapely.area(outlines[1][other]) - common)
    return Matches(len(metric), len(seen), int(np.count_nonzero(overlap >= _MATCH)))


def _listed(pairs: Path) -> list[tuple[str, Path]]:
    if not pairs.is_file():
        raise LabelError(f"{pairs}: no such file, expected a list with the columns name and footprints")
    with pairs.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or not {"name", "footprints"} <= rows[0].keys():
        raise LabelError(f"{pairs}: expected rows with the columns name and footprints")
    return [(row["name"], pairs.parent / row["footprints"]) for row in rows]


if __name__ == "__main__":
    sys.exit(main())
