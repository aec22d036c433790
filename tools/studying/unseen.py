"""Scores of rows by event, on data that no row was trained on: what `tools/study.py --rows FILE --unseen DATA` adds."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jaxcd.base.errors import RunError
from jaxcd.runs.events import LEAST_DAMAGED, EventScores, mean_average_precision
from jaxcd.runs.figures import METRICS, Metrics
from studying.results import spread, table

Found = Mapping[str, Sequence[Mapping[str, EventScores]]]
"""Scores by event of each seed, by row."""


def folder_of(data: str) -> str:
    """Return the name of the folder for results on these data; other data have another."""
    return f"unseen-{re.sub(r'[^A-Za-z0-9-]+', '_', data).strip('_')}"


def by_event(out: Path, data: str, runs: Mapping[str, Sequence[str]], failures: dict[str, str]) -> list[str]:
    """Return the lines of the report.

    Args:
        out: the study's folder.
        data: what no row was trained on.
        runs: names of the runs of each row.
        failures: receives why a result can't be read, by the run's name.
    """
    unseen, tested = (
        {row: _read(out / folder, names, failures) for row, names in runs.items()}
        for folder in (folder_of(data), "results")
    )
    return [
        f"## Average precision on {data}",
        "",
        f"In %, by event; the mean is over the events with at least {LEAST_DAMAGED:,} damaged pixels.",
        "",
        *_table(unseen, lambda own: own.average_precision, mean=mean_average_precision),
        "",
        f"## Ground called damage on {data}",
        "",
        "Share of the known pixels, in %, at the threshold of the run.",
        "",
        *_table(unseen, lambda own: own.flagged, digits=2),
        "",
        "## F1 on the test split, by event",
        "",
        "In %, at the threshold of the run.",
        "",
        *_table(tested, lambda own: own.f1 if own.damaged else None),
    ]


def _read(folder: Path, names: Sequence[str], failures: dict[str, str]) -> list[Mapping[str, EventScores]]:
    found = []
    for name in names:
        if (folder / name / METRICS).exists():
            try:
                found.append(Metrics.read(folder / name).events)
            except RunError as error:
                failures[name] = str(error)
    return found


def _table(
    found: Found,
    value: Callable[[EventScores], float | None],
    *,
    mean: Callable[[Mapping[str, EventScores]], float | None] | None = None,
    digits: int = 1,
) -> list[str]:
    """Write a value of each event and row; events for which it is None in all rows are left out."""
    columns: dict[str, Callable[[Mapping[str, EventScores]], float | None]] = {"mean": mean} if mean else {}
    for event in sorted({event for seeds in found.values() for scores in seeds for event in scores}):
        columns[event] = lambda scores, event=event: value(scores[event]) if event in scores else None
    cells = {
        name: {
            row: [100 * known for scores in seeds if (known := column(scores)) is not None]
            for row, seeds in found.items()
        }
        for name, column in columns.items()
    }
    shown = [name for name, rows in cells.items() if any(rows.values())]
    lines = [[row, str(len(found[row])), *(spread(cells[name][row], digits) for name in shown)] for row in found]
    return table(["row", "seeds", *shown], lines)
