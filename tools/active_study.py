"""How many labels of a scene a light head needs, and whether a blind sample's intervals cover the truth.

    python tools/xbd_scenes.py --source XBD --out scenes/santa_rosa
    python tools/active_study.py --scenes scenes/santa_rosa --out results --keep features

Answers each question of the tool with the true class: F1 over all other buildings after some labels, in random and
uncertain order, for features of pretrained weights, of random weights and of raw colours; then draws blind samples
again and again. Writes NAME.json and, of all NAME.json in --out, active_learning.png. Features are kept in --keep.
With --cells the questions are about cells; one is damaged if damaged buildings cover a hundredth of it.
"""

import argparse
import csv
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import shapely
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from jaxcd.active import coverage, encoders, features
from jaxcd.active.head import Head
from jaxcd.active.queries import RANDOM, UNCERTAIN, next_to_judge
from jaxcd.assessment.calibration import calibration, logits_of, tempered
from jaxcd.assessment.estimates import estimate
from jaxcd.assessment.sample import by_score, draw
from jaxcd.base.entry import guarded
from jaxcd.base.errors import SceneError
from jaxcd.base.files import write_whole
from jaxcd.mapping.predict.scene_pair import open_pair
from jaxcd.mapping.settings import MapSettings

DAMAGED, UNKNOWN = ("major-damage", "destroyed"), ("un-classified",)
ENCODERS = {"pretrained": encoders.pretrained, "random": lambda: encoders.random(0), "colours": encoders.colours}
COUNTS = (30, 60, 120, 240)
ORDERS, BATCH, FIRST = 10, 10, 10
SAMPLES, SAMPLE, STRATA = 100, 300, 5
_LEAST_SEEN = 0.2
_LEAST_DAMAGED = 0.01  # of a cell: 10 square metres of one of 32 m


class Town(NamedTuple):
    """Buildings or cells of known class: their features, which are damaged, and the seconds that the features took."""

    values: np.ndarray
    damaged: np.ndarray
    seconds: float


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Run the study; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tools/active_study.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=Path, required=True, help="folder of tools/xbd_scenes.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.json and the figure")
    parser.add_argument("--keep", type=Path, required=True, help="folder that keeps features")
    parser.add_argument("--encoders", nargs="+", choices=ENCODERS, default=list(ENCODERS), help="default: all")
    parser.add_argument("--cells", type=float, metavar="METRES", help="side of cells, in place of buildings")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"name": options.scenes.name, "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for name in options.encoders:
        town = read(options.scenes, ENCODERS[name](), options.keep, options.cells)
        found |= {"buildings": len(town.damaged), "damaged": int(town.damaged.sum())}
        found[name] = {
            "seconds to compute or read features": round(town.seconds, 1),
            **learned(town, uncertain=name == "pretrained"),
        }
        print(name, json.dumps(found[name]), flush=True)
        if name == "pretrained":
            found["samples"] = sampled(town)
            print("samples", json.dumps(found["samples"]), flush=True)
    write_whole(options.out / f"{options.scenes.name}.json", json.dumps(found, indent=1) + "\n")
    draw_figure(options.out)
    return 0


def read(scenes: Path, encoder: encoders.Encoder, keep: Path, side: float | None = None) -> Town:
    """Compute (or read) the features of all buildings, or cells, of known class that are seen."""
    listed = scenes / "list.csv"
    if not listed.is_file():
        raise SceneError(f"{listed}: no such file; make it with tools/xbd_scenes.py")
    values, damaged, begun = [], [], time.monotonic()
    with listed.open(newline="") as file:
        for row in csv.DictReader(file):
            pair = open_pair([str(scenes / row["pre"])], [str(scenes / row["post"])], MapSettings())
            frame = gpd.read_file(scenes / row["footprints"])
            unknown, hit = (frame["subtype"].isin(each).to_numpy() for each in (UNKNOWN, DAMAGED))
            if side is not None:
                buildings, frame = (
                    frame.to_crs(pair.grid.crs.to_wkt()).geometry.to_numpy(),
                    coverage.cells(pair.grid, side),
                )
                hit = _share(frame, buildings[hit]) >= _LEAST_DAMAGED
                unknown = ~hit & (_share(frame, buildings[unknown]) > 0)
            found = features.compute(pair, frame, encoder, keep, title=row["name"])
            kept = ~unknown & (found.seen > _LEAST_SEEN)
            values.append(found.values[kept])
            damaged.append(hit[kept])
    return Town(np.concatenate(values), np.concatenate(damaged), time.monotonic() - begun)


def _share(cells: gpd.GeoDataFrame, buildings: np.ndarray) -> np.ndarray:
    """Return the share of each cell that buildings cover."""
    squares = cells.geometry.to_numpy()
    return shapely.area(shapely.intersection(squares, shapely.union_all(buildings))) / shapely.area(squares)


def learned(town: Town, *, uncertain: bool) -> dict[str, Any]:
    """Score all other buildings after some labels, in several orders."""
    head = Head(town.values, np.ones(len(town.damaged)), ())
    found: dict[str, Any] = {RANDOM: [_ordered(head, town.damaged, RANDOM, seed) for seed in range(ORDERS)]}
    if uncertain:
        found[UNCERTAIN] = [_ordered(head, town.damaged, UNCERTAIN, seed) for seed in range(ORDERS)]
    return {order: _means(rows) for order, rows in found.items()}


def _ordered(head: Head, damaged: np.ndarray, order: str, seed: int) -> list[dict[str, float]]:
    """Label in an order, `BATCH` at a time, and score where the counts are reached."""
    rows = np.random.default_rng(seed).permutation(len(damaged)).tolist()
    judged, scores, found = rows[:FIRST], None, []
    while len(judged) < COUNTS[-1]:
        if order == UNCERTAIN and len(set(damaged[judged])) > 1:
            scores = head.scores({row: int(damaged[row]) for row in judged}).damaged
        judged = judged + next_to_judge(
            order, head.points, scores, judged=judged, held=(), visible=head.visible, count=BATCH, seed=seed
        )
        if len(judged) in COUNTS:
            found.append(_scored(head, damaged, judged))
    return found


def _scored(head: Head, damaged: np.ndarray, judged: list[int]) -> dict[str, float]:
    others = np.setdiff1d(np.arange(len(damaged)), judged)
    if len(set(damaged[judged])) < 2:  # no scores: nothing is called damaged
        return {"F1": 0.0, "AUC": 0.5, "AP": float(damaged.mean())}
    begun = time.process_time()
    scores = head.scores({row: int(damaged[row]) for row in judged})
    seconds, truth, probability = time.process_time() - begun, damaged[others], scores.damaged[others]
    untempered = tempered(logits_of(probability) * scores.temperature, 1.0)
    return {
        "F1": f1_score(truth, probability >= 0.5),
        "AUC": roc_auc_score(truth, probability),
        "AP": average_precision_score(truth, probability),
        "ECE": calibration(probability, truth).error,
        "ECE before temperature": calibration(untempered, truth).error,
        "CPU seconds of a refresh": seconds,
    }


def _means(orders: list[list[dict[str, float]]]) -> dict[str, Any]:
    """Give mean, least and largest of each figure over the orders, by the count of labels."""
    found: dict[str, Any] = {}
    for at, count in enumerate(COUNTS):
        for name in max((order[at] for order in orders), key=len):
            values = [order[at][name] for order in orders if name in order[at]]
            three = np.mean(values), np.min(values), np.max(values)
            found.setdefault(name, {})[str(count)] = [round(float(each), 4) for each in three]
    return found


def sampled(town: Town) -> dict[str, Any]:
    """Draw blind samples of the buildings that a head of 120 labels has not learned from, and count what they cover."""
    labelled = np.random.default_rng(0).permutation(len(town.damaged))[:120]
    head = Head(town.values, np.ones(len(town.damaged)), ())
    scores = head.scores({int(row): int(town.damaged[row]) for row in labelled}).damaged
    rest = np.setdiff1d(np.arange(len(town.damaged)), labelled)
    scores, truth = scores[rest], town.damaged[rest]
    called, ids = scores >= 0.5, [str(each) for each in range(len(rest))]
    both = int((truth & called).sum())
    true = {
        "precision": both / called.sum(),
        "recall": both / truth.sum(),
        "f1": 2 * both / (called.sum() + truth.sum()),
        "damaged": int(truth.sum()),
    }
    covered, widths, exact = ({name: [] for name in true} for _ in range(3))
    for seed in range(SAMPLES):
        plan = draw(ids, by_score(scores, STRATA), SAMPLE, seed=seed)
        rows = np.array([int(each) for each in plan.members])
        found = estimate(
            plan, {str(row): bool(truth[row]) for row in rows}, dict(zip(ids, called.tolist(), strict=True))
        )
        for name, low_high in _exact(truth[rows], called[rows], len(rest)).items():
            interval = getattr(found, name)
            covered[name].append(interval.low <= true[name] <= interval.high)
            widths[name].append(interval.high - interval.low)
            exact[name].append(low_high[1] - low_high[0])
    return {
        name: {
            "truth": round(float(true[name]), 4),
            "covered": int(np.sum(covered[name])),
            "mean width": round(float(np.mean(widths[name])), 4),
            "over exact": round(float(np.mean(widths[name]) / np.mean(exact[name])), 3),
        }
        for name in covered
    }


def _exact(truth: np.ndarray, called: np.ndarray, buildings: int) -> dict[str, Any]:
    """Give Clopper and Pearson's intervals of the same answers, as if they were a simple random sample."""
    both = int((truth & called).sum())
    pairs = {"precision": (both, called.sum()), "recall": (both, truth.sum()), "f1": (both, (truth | called).sum())}
    found = {name: np.array(proportion_confint(*pair, method="beta")) for name, pair in pairs.items()}
    found["f1"] = 2 * found["f1"] / (1 + found["f1"])
    found["damaged"] = np.array(proportion_confint(int(truth.sum()), len(truth), method="beta")) * buildings
    return found


def draw_figure(out: Path) -> None:
    """Draw F1 after labels for every NAME.json of the folder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    read_here = [json.loads(file.read_text()) for file in sorted(out.glob("*.json"), reverse=True)]
    figure, axes = pyplot.subplots(1, len(read_here), figsize=(4.6 * len(read_here), 3.8), squeeze=False)
    looks = {
        ("pretrained", RANDOM): ("pretrained features", "#0072b2", "-"),
        ("pretrained", UNCERTAIN): ("pretrained, uncertain first", "#0072b2", "--"),
        ("random", RANDOM): ("features of random weights", "#e69f00", "-"),
        ("colours", RANDOM): ("raw colours", "#555555", "-"),
    }
    for axis, found in zip(axes[0], read_here, strict=True):
        for (encoder, order), (label, colour, style) in looks.items():
            if order not in found.get(encoder, {}):
                continue
            values = np.array([found[encoder][order]["F1"][str(count)] for count in COUNTS])
            axis.plot(COUNTS, values[:, 0], style, color=colour, label=label, marker="o", markersize=3)
            if style == "-":
                axis.fill_between(COUNTS, values[:, 1], values[:, 2], color=colour, alpha=0.12, linewidth=0)
        axis.set(title=f"{found['name']}: {found['buildings']} buildings, {found['damaged']} damaged", ylim=(0, 1))
        axis.set(xlabel="labels", ylabel="F1 of all other buildings", xscale="log", xticks=COUNTS)
        axis.set_xticks(COUNTS, [str(count) for count in COUNTS], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(out / "active_learning.png", dpi=110)


if __name__ == "__main__":
    sys.exit(main())
