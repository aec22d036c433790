"""What all studies read and write: the results of runs, and tables of their scores."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from jaxcd.base.errors import RunError
from jaxcd.base.files import replacing
from jaxcd.learn.metrics import Scores
from jaxcd.runs.figures import METRICS, Metrics, TrainingFigures
from jaxcd.runs.logs import read_figures

SCORES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "f1": "F1", "iou": "IoU"}
MEASURED = (*SCORES.values(), "F1 at the validated threshold", "pairs/s")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One evaluated run.

    Attributes:
        scores: at 0.5.
        best_f1: F1 at the threshold best on validation.
        rate: pairs a second in training, the median over its log.
        tiles: names of the test tiles.
        counts: TP, FP, FN of each at 0.5.
    """

    scores: Scores
    best_f1: float
    rate: float
    tiles: tuple[str, ...]
    counts: Int[np.ndarray, "n 3"]


def read_result(folder: Path, run: Path) -> Result | None:
    """Read what `jaxcd.evaluate` wrote of a run, or None where it did not.

    Raises:
        RunError: the files are damaged.
    """
    if not (folder / METRICS).exists():
        return None
    try:
        metrics = Metrics.read(folder)
        if not isinstance(metrics.half, Scores) or not isinstance(metrics.best, Scores):
            raise RunError(f"{folder}: a study wants precision, and much damage has no label in these data")
        with (folder / "tiles.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if float(row["threshold"]) == 0.5]
        counts = np.array([[int(row[name]) for name in ("tp", "fp", "fn")] for row in rows], np.int64)
        tiles = tuple(f"{row['place']}/{row['post']}" for row in rows)
        rate = np.median([figures.pairs_per_second for _, figures in read_figures(run, TrainingFigures)])
        return Result(
            scores=metrics.half,
            best_f1=metrics.best.f1,
            rate=float(rate),
            tiles=tiles,
            counts=counts.reshape(-1, 3),
        )
    except (ValueError, KeyError, OSError) as error:
        raise RunError(
            f"{folder}: damaged result ({error!r}); delete the folder and run the same command again"
        ) from error


def read_results(out: Path, names: Sequence[str], failures: dict[str, str]) -> list[Result | None]:
    """Read the results of some runs of a study; `failures` receives why one can't be read, by name."""
    results: list[Result | None] = []
    for name in names:
        try:
            results.append(read_result(out / "results" / name, out / "runs" / name))
        except RunError as error:
            results.append(None)
            failures[name] = str(error)
    return results


def write_csv(path: Path, names: Sequence[str], rows: Mapping[tuple[str, ...], Sequence[Result | None]]) -> None:
    """Write the scores of each run.

    Args:
        path: of the file.
        names: heads of the columns that name a row.
        rows: results of each seed, by these columns.
    """
    with replacing(path) as partial, partial.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow([*names, "seed", *SCORES, "f1_at_validated_threshold", "training_pairs_per_second"])
        for key, results in rows.items():
            for seed, result in enumerate(results):
                if result is not None:
                    values = [getattr(result.scores, score) for score in SCORES] + [result.best_f1, result.rate]
                    lines.writerow([*key, seed, *(f"{value:.6f}" for value in values)])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def score_cells(done: Sequence[Result]) -> list[str]:
    """Write the columns `MEASURED` of a row's finished runs."""
    cells = [spread([100 * getattr(result.scores, score) for result in done]) for score in SCORES]
    cells.append(spread([100 * result.best_f1 for result in done]))
    cells.append(f"{np.mean([result.rate for result in done]):.1f}" if done else "–")
    return cells


def failed(failures: Mapping[str, str]) -> list[str]:
    """Return the lines of a section that says why runs failed; none where all went well."""
    return ["", "## Failed", "", *(f"- {name}: {reason}" for name, reason in failures.items())] if failures else []


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Write mean and standard deviation with so many decimals."""
    if not values:
        return "–"
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"
