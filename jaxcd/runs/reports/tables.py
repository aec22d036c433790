"""Tables of an evaluation on the screen."""

from jaxcd.runs.evaluation import Evaluation


def print_table(result: Evaluation, split: str, step: int, threshold: float | None) -> None:
    """Print the scores of damaged pixels, of the network and of |pre - post|; `threshold` None: no validation."""
    counts, baseline = result.counts, result.baseline
    print(f"\nstep {step} on {split}: {len(result.tiles)} tiles, {counts.valid:,} known pixels")
    print(f"{'':<34}{'accuracy':>10}{'precision':>10}{'recall':>10}{'F1':>10}{'IoU':>10}")
    chosen = 0.5 if threshold is None else threshold
    rows = [
        ("network, threshold 0.5", counts.at(0.5)),
        (f"network, threshold {chosen:.3f} (validation)", counts.at(chosen)),
        (f"|pre - post| > {255 * baseline.best():.0f} (best for it here)", baseline.at(baseline.best())),
    ]
    for label, scores in rows:
        print(f"{label:<34}" + "".join(f"{value:>10.4f}" for value in scores))
    print(f"average precision {counts.average_precision():.4f}")
    if threshold is None:
        print("this run has no validation: its threshold stays 0.5")
    if not counts.damaged:
        print("no damaged pixel here: precision, recall, F1 and IoU are 0 by definition")


def print_recall(result: Evaluation, split: str, step: int, threshold: float | None) -> None:
    """Print recall and area flagged instead, where much damage has no label."""
    counts, baseline = result.counts, result.baseline
    print(f"\nstep {step} on {split}: {len(result.tiles)} tiles, {counts.valid:,} known pixels")
    print("much damage has no label here (positive-unlabelled): recall and flagged area count, precision means nothing")
    print(f"{'':<34}{'recall':>10}{'flagged':>10}{'chance':>10}")
    chosen = 0.5 if threshold is None else threshold
    rows = [
        ("network, threshold 0.5", counts, 0.5),
        (f"network, threshold {chosen:.3f} (validation)", counts, chosen),
        (f"|pre - post| > {255 * baseline.best():.0f} (best for it here)", baseline, baseline.best()),
    ]
    for label, found, at in rows:
        flagged = found.flagged(at)
        # Flagging as much ground blindly would find that share of the damage.
        print(
            f"{label:<34}{found.at(at).recall:>10.4f}{flagged:>10.4f}{found.at(at).recall / max(flagged, 1e-9):>9.1f}x"
        )


def print_levels(result: Evaluation) -> None:
    """Print the confusion of levels and their scores; the evaluation has levels."""
    grades = result.grades
    assert grades is not None
    scores, f1, codes = grades.scores(), grades.f1_by_level(), grades.scale.codes
    print(f"\nlevels of the scale {grades.scale.name}, in pixels (rows: true, columns: predicted):")
    width = max(map(len, codes)) + 2
    print(f"{'':<20}" + "".join(f"{name:>{max(width, 12)}}" for name in codes) + f"{'F1':>10}")
    for name, row in zip((*codes, "unknown level"), grades.counts, strict=True):
        score = f"{f1[name]:>10.4f}" if name in f1 else ""
        print(f"{name:<20}" + "".join(f"{count:>{max(width, 12)},}" for count in row) + score)
    print(
        f"xView2 score {scores.xview2:.4f} (localisation {scores.localisation:.4f}, levels {scores.damage:.4f}); "
        f"mean level error {scores.level_error:.3f}, quadratic kappa {scores.kappa:.4f}"
    )
    if grades.absent:
        print(f"no pixel is truly {' or '.join(grades.absent)}: left out of the mean over levels")
