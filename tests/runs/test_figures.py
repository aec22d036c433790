"""The figures of a run: bytes of their files, and what is read back."""

import json

import numpy as np
import pytest

from jaxcd.base.errors import RunError
from jaxcd.learn.metrics import BINS, Counts
from jaxcd.runs.figures import Histogram, MapFigures, Metrics, TrainingFigures
from jaxcd.runs.logs import RunLog, plot_curves, read_figures
from jaxcd.tasks.contrastive import EmbeddingFigures


def counts() -> Counts:
    """At 0.5: 1 TP, 2 FP, 1 FN, 2 TN; from 701 / 1024 on, the damaged pixel alone is called damage."""
    bins = np.zeros((2, BINS), np.int64)
    bins[0, [0, 100, 600, 700]], bins[1, [200, 768]] = 1, 1
    return Counts(bins=bins)


WHOLE = """{
  "positive_unlabelled": false,
  "0.5": {
    "accuracy": 0.5,
    "precision": 0.3333333333333333,
    "recall": 0.5,
    "f1": 0.4,
    "iou": 0.25
  },
  "best": {
    "threshold": 0.75,
    "accuracy": 0.8333333333333334,
    "precision": 1.0,
    "recall": 0.5,
    "f1": 0.6666666666666666,
    "iou": 0.5
  }
}
"""
PARTIAL = """{
  "positive_unlabelled": true,
  "0.5": {
    "recall": 0.5,
    "flagged": 0.5
  },
  "best": {
    "threshold": 0.75,
    "recall": 0.5,
    "flagged": 0.16666666666666666
  }
}
"""


@pytest.mark.parametrize(("partial", "text"), [(False, WHOLE), (True, PARTIAL)])
def test_metrics_are_these_bytes_and_read_back(tmp_path, partial, text):
    metrics = Metrics.of(counts(), threshold=0.75, positive_unlabelled=partial)
    metrics.write(tmp_path)
    assert (tmp_path / "metrics.json").read_text() == text
    assert Metrics.read(tmp_path) == metrics


@pytest.mark.parametrize("text", ["{", "[]", "{}", WHOLE.replace("recall", "rappel"), WHOLE.replace("false", "true")])
def test_damaged_metrics_are_named(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(RunError, match=r"metrics\.json: damaged"):
        Metrics.read(tmp_path)


def test_the_log_holds_these_entries_and_reads_back(tmp_path):
    training = TrainingFigures(loss=0.5, gradient_norm=2.0, pairs_per_second=8.0)
    validation = MapFigures.of(0.25, counts())
    shown = Histogram(0.0, 4.0, (1, 0, 2))
    embedding = EmbeddingFigures(
        loss=1.0,
        nearest_neighbour=0.5,
        linear_probe=0.75,
        spread=2.0,
        same_distance=0.5,
        different_distance=1.5,
        same_distances=shown,
        different_distances=shown,
    )
    for folder, logged in ((tmp_path / "maps", validation), (tmp_path / "embeddings", embedding)):
        folder.mkdir()
        log = RunLog(folder, step=0)
        log.write(3, training)
        log.write(4, logged)
        log.close()
        assert read_figures(folder, TrainingFigures) == [(3, training)]
        assert read_figures(folder, type(logged)) == [(4, logged)]
        plot_curves(folder, type(logged))
        assert (folder / "curves.png").stat().st_size > 10_000
    first, second = (tmp_path / "maps" / "log.jsonl").read_text().splitlines()
    times = [json.loads(line)["time"] for line in (first, second)]
    rates = '"loss": 0.5, "gradient_norm": 2.0, "pairs_per_second": 8.0'
    assert first == f'{{"step": 3, "kind": "train", "time": {times[0]}, {rates}}}'
    scores = '"accuracy": 0.5, "precision": 0.3333333333333333, "recall": 0.5, "f1": 0.4, "iou": 0.25'
    best = '"best_threshold": 0.6845703125, "best_iou": 0.5'
    assert second == f'{{"step": 4, "kind": "validation", "time": {times[1]}, "loss": 0.25, {scores}, {best}}}'
    third = (tmp_path / "embeddings" / "log.jsonl").read_text().splitlines()[1]
    distances = '{"low": 0.0, "high": 4.0, "counts": [1, 0, 2]}'
    assert third.endswith(
        '"loss": 1.0, "nearest_neighbour": 0.5, "linear_probe": 0.75, "spread": 2.0, "same_distance": 0.5, '
        f'"different_distance": 1.5, "same_distances": {distances}, "different_distances": {distances}}}'
    )


def test_an_entry_that_lacks_a_figure_is_named(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 7, "kind": "validation", "loss": 0.5}\n')
    assert read_figures(tmp_path, TrainingFigures) == []
    with pytest.raises(RunError, match=r"log\.jsonl: damaged \(a validation entry has no 'accuracy'\)"):
        read_figures(tmp_path, MapFigures)
