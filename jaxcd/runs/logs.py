"""What a run writes while it goes on: `log.jsonl`, TensorBoard events, `curves.png`."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jaxcd.base.files import replacing, write_whole
from jaxcd.learn.metrics import Counts

LOG = "log.jsonl"
_CURVES = {
    "iou": "IoU at 0.5",
    "f1": "F1 at 0.5",
    "best_iou": "IoU at its best threshold",
    "nearest_neighbour": "accuracy of nearest neighbours",
    "linear_probe": "accuracy of a linear probe",
}


class Histogram(NamedTuple):
    """Counts in bins of equal width between `low` and `high`."""

    low: float
    high: float
    counts: tuple[int, ...]


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

    def write(self, step: int, kind: str, values: Mapping[str, float | Histogram]) -> None:
        """Log values of one kind (train or validation) at a step, on disk when this returns."""
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[attr-defined]
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]

        plain = {name: value._asdict() if isinstance(value, Histogram) else value for name, value in values.items()}
        entry = {"step": step, "kind": kind, "time": round(time.time(), 3), **plain}
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:  # an error of an open file does not name it
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        summary = Summary(value=[_summary(f"{kind}/{name}", value) for name, value in values.items()])
        self._events.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._events.flush()

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        self._events.close()

    def _restart_events(self, step: int) -> None:
        """Tell TensorBoard to forget events after `step` that an interrupted process left."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]

        start = SessionLog(status=SessionLog.START)
        self._events.add_event(Event(wall_time=time.time(), step=step + 1, session_log=start))


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
    """Read the entries of `log.jsonl`; a last line cut off by a kill is left out."""
    path = run / LOG
    entries = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def plot_curves(run: Path) -> None:
    """Draw `curves.png` over the steps: losses, and those of `_CURVES` that the run's validations have."""
    from matplotlib.figure import Figure

    entries = read_log(run)
    train = [e for e in entries if e["kind"] == "train"]
    validation = [e for e in entries if e["kind"] == "validation"]
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([e["step"] for e in train], [e["loss"] for e in train], color="tab:gray", lw=1, label="training")
    steps = [e["step"] for e in validation]
    left.plot(steps, [e["loss"] for e in validation], color="tab:red", marker="o", ms=3, label="validation")
    left.set(xlabel="step", ylabel="loss")
    for name, label in _CURVES.items():
        if validation and name in validation[0]:
            right.plot(steps, [e[name] for e in validation], marker="o", ms=3, label=f"validation {label}")
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
