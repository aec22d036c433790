"""The figures of a run as records, and their JSON: entries of `log.jsonl`, and `metrics.json` of an evaluation."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

from jaxcd.base.errors import RunError
from jaxcd.base.files import write_whole
from jaxcd.base.scales import Scale
from jaxcd.learn.grades import Grades
from jaxcd.learn.metrics import Counts, PartialScores, Scores
from jaxcd.runs.events import EventScores

METRICS = "metrics.json"


class Histogram(NamedTuple):
    """Counts in bins of equal width between `low` and `high`."""

    low: float
    high: float
    counts: tuple[int, ...]

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> "Histogram":
        """Rebuild a histogram from JSON, which has lists for tuples."""
        return cls(values["low"], values["high"], tuple(values["counts"]))


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is logged at a step; a subclass adds fields, numbers or histograms, which are logged in their order.

    Attributes:
        kind: of the entries in the log.
        curves: what `curves.png` calls the fields that it draws beside the loss.
        loss: of training or validation.
    """

    kind: ClassVar[str]
    curves: ClassVar[Mapping[str, str]] = {}
    loss: float

    def values(self) -> dict[str, float | Histogram]:
        """Return the values by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def plain(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            name: value._asdict() if isinstance(value, Histogram) else value for name, value in self.values().items()
        }


F = TypeVar("F", bound=Figures)


def read(kind: type[F], plain: Mapping[str, Any]) -> F:
    """Rebuild figures from what `Figures.plain` gave; other values beside them are left out.

    Raises:
        KeyError: a figure is missing.
    """
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        value = plain[field.name]
        values[field.name] = Histogram.read(value) if isinstance(value, Mapping) else value
    return kind(**values)


@dataclass(frozen=True, kw_only=True)
class TrainingFigures(Figures):
    """Of the last step before the entry; the rate is since the entry before."""

    kind = "train"
    gradient_norm: float
    pairs_per_second: float


@dataclass(frozen=True, kw_only=True)
class MapFigures(Figures):
    """Of a validation on whole tiles: scores at 0.5, the threshold of highest IoU, and the IoU there."""

    kind = "validation"
    curves = {"iou": "IoU at 0.5", "f1": "F1 at 0.5", "best_iou": "IoU at its best threshold"}
    accuracy: float
    precision: float
    recall: float
    f1: float
    iou: float
    best_threshold: float
    best_iou: float

    @classmethod
    def of(cls, loss: float, counts: Counts) -> "MapFigures":
        """Compute the figures of a validation."""
        threshold = counts.best()
        scores = counts.at(0.5)._asdict()
        return cls(loss=loss, **scores, best_threshold=threshold, best_iou=counts.at(threshold).iou)


@dataclass(frozen=True, kw_only=True)
class GradeFigures(MapFigures):
    """Of a validation of graded damage: those of what counts as damage, and those of the levels."""

    curves = {**MapFigures.curves, "xview2": "xView2 score"}
    xview2: float
    localisation: float
    damage: float
    level_error: float
    kappa: float

    @classmethod
    def graded(cls, loss: float, counts: Counts, grades: Grades) -> "GradeFigures":
        """Compute the figures of a validation."""
        damage = MapFigures.of(loss, counts)
        return cls(**dataclasses.asdict(damage), **grades.scores()._asdict())


def validation_figures(scale: Scale) -> type[MapFigures]:
    """Return what the validation of a damage network logs."""
    return GradeFigures if scale.buildings else MapFigures


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What `metrics.json` holds: the scores of an evaluation.

    Attributes:
        positive_unlabelled: whether much damage has no label.
        half: scores at 0.5.
        threshold: the one best on validation, or 0.5 where there was none.
        best: scores at that threshold.
        levels: what graded damage adds (`levels_of`); None with the scale `binary`.
        events: scores by event; empty where much damage has no label.
        blind_sample: what the blind sample of a store of labels says of the run's maps; None: none was asked.
    """

    positive_unlabelled: bool
    half: Scores | PartialScores
    threshold: float
    best: Scores | PartialScores
    levels: dict[str, Any] | None = None
    events: Mapping[str, EventScores] = dataclasses.field(default_factory=dict)
    blind_sample: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        counts: Counts,
        *,
        threshold: float,
        positive_unlabelled: bool,
        grades: Grades | None = None,
        events: Mapping[str, EventScores] | None = None,
    ) -> "Metrics":
        """Compute the scores that the labels allow; with much damage unlabelled, levels have none."""
        score = counts.partial_at if positive_unlabelled else counts.at
        half, best = score(0.5), score(threshold)
        levels = None if positive_unlabelled or grades is None else levels_of(grades)
        return cls(
            positive_unlabelled=positive_unlabelled,
            half=half,
            threshold=threshold,
            best=best,
            levels=levels,
            events=(not positive_unlabelled and events) or {},
        )

    def write(self, folder: Path) -> None:
        """Write `metrics.json`, whole or not at all."""
        content = {
            "positive_unlabelled": self.positive_unlabelled,
            "0.5": self.half._asdict(),
            "best": {"threshold": self.threshold, **self.best._asdict()},
        }
        if self.levels is not None:
            content["levels"] = self.levels
        if self.events:
            content["events"] = {name: scores._asdict() for name, scores in self.events.items()}
        if self.blind_sample is not None:
            content["blind_sample"] = self.blind_sample
        write_whole(folder / METRICS, json.dumps(content, indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Metrics":
        """Read what `write` wrote.

        Raises:
            RunError: the file is damaged.
        """
        path = folder / METRICS
        try:
            content = json.loads(path.read_text())
            partial, best = content["positive_unlabelled"], dict(content["best"])
            threshold, kind = best.pop("threshold"), PartialScores if partial else Scores
            return cls(
                positive_unlabelled=partial,
                half=kind(**content["0.5"]),
                threshold=threshold,
                best=kind(**best),
                levels=content.get("levels"),
                events={name: EventScores(**scores) for name, scores in content.get("events", {}).items()},
                blind_sample=content.get("blind_sample"),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path}: damaged ({error!r}); evaluate the run again") from error


def levels_of(grades: Grades) -> dict[str, Any]:
    """Return the scores of graded damage as JSON can hold them.

    `confusion` holds pixels: rows are true codes, the last one buildings of unknown level; columns predicted codes.
    """
    return {
        "scale": grades.scale.name,
        **grades.scores()._asdict(),
        "f1": grades.f1_by_level(),
        "absent": list(grades.absent),
        "confusion": {
            "codes": list(grades.scale.codes),
            "pixels": grades.counts.tolist(),
        },
    }
