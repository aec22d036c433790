"""What a run writes while it goes on: `log.jsonl`, TensorBoard events, `curves.png`."""

import json
import os
import time
from pathlib import Path
from typing import Any

from jaxcd.base.errors import RunError
from jaxcd.base.files import replacing, write_whole
from jaxcd.learn.metrics import Counts
from jaxcd.runs.figures import F, Figures, Histogram, TrainingFigures, read

LOG = "log.jsonl"


class RunLog:
    """The logs of one run, cut back to the step from which it is resumed."""

    def __init__(self, run: Path, *, step: int):
        """Open the logs in `run`, dropping what was written for steps after `step`."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._path = run / LOG
        kept = [entry for entry in read_log(run) if entry["step"] <= step]
        write_whole(self._path, "".join(json.dumps(entry) + "\n" for entry in kept))
        self._file = self._path.open("a")
        self._events = EventFileWriter(str(run / "tensorboard"))
        self._restart_events(step)

    def write(self, step: int, figures: Figures) -> None:
        """Log the figures of a step, on disk when this returns."""
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined]
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]

        self._append({"step": step, "kind": figures.kind, "time": round(time.time(), 3), **figures.plain()})
        summary = Summary(value=[_summary(f"{figures.kind}/{name}", value) for name, value in figures.values().items()])
        self._events.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._events.flush()

    def note(self, step: int, text: str) -> None:
        """Log what happened to the run at a step, in words, on disk when this returns."""
        self._append({"step": step, "kind": "note", "time": round(time.time(), 3), "text": text})

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._events.close()

    def _append(self, entry: dict) -> None:
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:  # an error of an open file does not name it
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def _restart_events(self, step: int) -> None:
        """Tell TensorBoard to forget events after `step` that an interrupted process left."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]

        start = SessionLog(status=SessionLog.START)
        self._events.add_event(Event(wall_time=time.time(), step=step + 1, session_log=start))


class NoLog:
    """The log of a process that is not the first of its run: it writes nothing."""

    def write(self, step: int, figures: Figures) -> None:
        """Leave it to the first process."""

    def note(self, step: int, text: str) -> None:
        """Leave it to the first process."""

    def close(self) -> None:
        """Do nothing."""


def _summary(tag: str, value: float | Histogram) -> Any:
    from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary  # type: ignore[attr-defined]

    if not isinstance(value, Histogram):
        return Summary.Value(tag=tag, simple_value=value)  # type: ignore[attr-defined]
    low, high, counts = value
    limits = [low + (high - low) * (k + 1) / len(counts) for k in range(len(counts))]
    middles = [limit - (high - low) / len(counts) / 2 for limit in limits]
    drawn = HistogramProto(
        min=low,
        max=high,
        num=sum(counts),
        sum=sum(n * x for n, x in zip(counts, middles, strict=True)),
        sum_squares=sum(n * x * x for n, x in zip(counts, middles, strict=True)),
        bucket_limit=limits,
        bucket=counts,
    )
    return Summary.Value(tag=tag, histo=drawn)  # type: ignore[attr-defined]


def read_log(run: Path) -> list[dict]:
    """Read the entries of `log.jsonl` as they stand there; a last line cut off by a kill is left out."""
    path = run / LOG
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def read_figures(run: Path, kind: type[F]) -> list[tuple[int, F]]:
    """Read the figures of one kind from `log.jsonl`, each with its step.

    Raises:
        RunError: an entry lacks a figure.
    """
    try:
        return [(entry["step"], read(kind, entry)) for entry in read_log(run) if entry["kind"] == kind.kind]
    except KeyError as error:
        raise RunError(f"{run / LOG}: damaged (a {kind.kind} entry has no {error}); restore it from a copy") from error


def plot_curves(run: Path, kind: type[Figures]) -> None:
    """Draw `curves.png` over the steps: losses, and those figures of validations that `kind.curves` gives titles to."""
    from matplotlib.figure import Figure

    training, validations = read_figures(run, TrainingFigures), read_figures(run, kind)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    losses = [figures.loss for _, figures in training]
    left.plot([step for step, _ in training], losses, color="tab:gray", lw=1, label="training")
    steps, losses = [step for step, _ in validations], [figures.loss for _, figures in validations]
    left.plot(steps, losses, color="tab:red", marker="o", ms=3, label="validation")
    left.set(xlabel="step", ylabel="loss")
    for name, label in kind.curves.items() if validations else ():
        values = [getattr(figures, name) for _, figures in validations]
        right.plot(steps, values, marker="o", ms=3, label=f"validation {label}")
    right.set(xlabel="step", ylim=(0, 1))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(frameon=False)
    with replacing(run / "curves.png") as partial:
        figure.savefig(partial, dpi=110)


def plot_precision_recall(counts: Counts, path: Path, *, threshold: float) -> None:
    """Draw the precision-recall curve, with 0.5 and the chosen threshold marked."""
    from matplotlib.figure import Figure

    _, precision, recall = counts.curve()
    seen = counts.bins[:, ::-1].sum(axis=0).cumsum()[::-1] > 0  # above the highest score there is no precision
    figure = Figure(figsize=(5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(recall[seen], precision[seen], lw=1.5)
    for value, marker, label in ((0.5, "o", "at 0.5"), (threshold, "s", f"at {threshold:.3f} (best on validation)")):
        scores = counts.at(value)
        axes.plot(scores.recall, scores.precision, marker, label=f"{label}: F1 {scores.f1:.3f}")
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    axes.set_title(f"average precision {counts.average_precision():.3f}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with replacing(path) as partial:
        figure.savefig(partial, dpi=110)
