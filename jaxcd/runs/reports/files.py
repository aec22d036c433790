"""Files of an evaluation: scores of each tile, and precision and recall by threshold."""

import csv
from pathlib import Path

from jaxcd.base.files import replacing
from jaxcd.learn.metrics import Counts, PartialScores, Scores
from jaxcd.runs.evaluation import Evaluation
from jaxcd.runs.logs import plot_precision_recall


def write_tiles(result: Evaluation, path: Path, threshold: float, partial: bool) -> None:
    """Write the scores of each tile, at 0.5 and at the network's threshold; `partial`: much damage has no label."""
    with replacing(path) as target, target.open("w", newline="") as file:
        rows = csv.writer(file)
        kind = PartialScores if partial else Scores
        rows.writerow(["place", "post", "threshold", "tp", "fp", "fn", "tn", *kind._fields])
        for tile, counts in result.tiles:
            for decided in dict.fromkeys((0.5, threshold)):
                scores = counts.partial_at(decided) if partial else counts.at(decided)
                ratios = (f"{value:.4f}" for value in scores)
                rows.writerow([tile.place, tile.post, decided, *counts.confusion(decided), *ratios])


def write_curve(counts: Counts, out: Path, threshold: float) -> None:
    """Write precision and recall by threshold, as a table and as a picture that marks the network's threshold."""
    with replacing(out / "precision_recall.csv") as partial, partial.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["threshold", "precision", "recall"])
        rows.writerows([f"{value:.6f}" for value in point] for point in zip(*counts.curve(), strict=True))
    plot_precision_recall(counts, out / "precision_recall.png", threshold=threshold)
