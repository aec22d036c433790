"""Speed and batches as pictures, where there is matplotlib."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarking import report
from benchmarking.gpu_day.record import Record

SPEED, BATCHES = "speed.png", "batches.png"
_BARS = ("paper", "networks", "float32", "augmentation", "training", "loader")
_COLOURS = {"jaxcd": "#c2410c"}
_OTHER = "#94a3b8"


def plot(record: Record) -> str:
    """Draw what has been measured; returns what to say of it."""
    bars = [row for part in _BARS for rows in record.of(part) for row in rows]
    said = report.plot(record.folder / SPEED, bars, record.machine)
    rows = [row for rows in record.of("batches") for row in rows if "failed" not in row]
    return said + (_batches(record.folder / BATCHES, rows, record.machine) if rows else "")


def _batches(path: Path, rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    try:
        import matplotlib
    except ModuleNotFoundError:
        return " (no plot of batches: needs matplotlib)"
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
    for column, suite in enumerate(("step", "infer")):
        speed, memory = panels[:, column]
        for side in sorted({row["side"] for row in rows}):
            line = [row for row in rows if (row["suite"], row["side"]) == (suite, side)]
            batch, colour = [row["batch"] for row in line], _COLOURS.get(side, _OTHER)
            speed.plot(batch, [row["pairs_per_second"] for row in line], "o-", color=colour, label=side)
            memory.plot(batch, [row["peak_bytes"] / 1e9 for row in line], "o-", color=colour, label=f"{side}, measured")
            foretold = [row for row in line if "predicted_bytes" in row]
            if foretold:
                values = [row["predicted_bytes"] / 1e9 for row in foretold]
                memory.plot([row["batch"] for row in foretold], values, "k:", label="foretold")
        speed.set_title(suite, loc="left", fontsize=9)
        memory.set_xscale("log", base=2)
        memory.set_xlabel("batch, pairs")
        for panel, label in ((speed, "pairs a second"), (memory, "peak memory, GB")):
            panel.set_ylabel(label)
            panel.set_ylim(0)
            panel.legend(fontsize=8, frameon=False)
            panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"Batches; {machine['device']}, {machine['date']}", fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return f", {path}"
