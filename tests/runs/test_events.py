"""Scores by event, from counts made by hand."""

import json

import numpy as np
import pytest

from jaxcd.base.types import Tile
from jaxcd.learn.metrics import Counts
from jaxcd.runs.events import by_event, describe, mean_average_precision
from jaxcd.runs.figures import Metrics

EVENTS = {"a1": "fire", "a2": "fire", "b1": "quake", "c1": ""}


def counts(*cells: tuple[int, float, int]) -> Counts:
    """Pixels by class, probability and number."""
    bins = np.zeros((2, 1024), np.int64)
    for kind, probability, number in cells:
        bins[kind, int(probability * 1024)] += number
    return Counts(bins=bins)


TILES = [
    (Tile("a1", "", 8, 8), counts((1, 0.75, 900), (1, 0.25, 100), (0, 0.25, 1000))),
    (Tile("a2", "", 8, 8), counts((1, 0.25, 500), (0, 0.75, 500))),
    (Tile("b1", "", 8, 8), counts((0, 0.75, 10), (0, 0.0, 990))),
    (Tile("c1", "", 8, 8), counts((1, 0.75, 5), (0, 0.0, 5))),
]


def test_tiles_of_an_event_are_counted_together():
    scores = by_event(TILES, EVENTS, 0.5)
    assert list(scores) == ["fire", "quake", "unknown"]
    fire = scores["fire"]
    assert (fire.tiles, fire.known, fire.damaged) == (2, 3000, 1500)
    assert fire.f1 == pytest.approx(2 * 900 / (2 * 900 + 500 + 600)) and fire.flagged == pytest.approx(1400 / 3000)
    # All of it called damage: 1500 true, 1500 false; at 0.5, 900 true, 500 false.
    assert (fire.best_f1, fire.best_threshold) == pytest.approx((2 * 1500 / (2 * 1500 + 1500), 0.25), abs=1e-3)
    # 1400 pixels lie at 0.5 and above, 3000 at 0.25: with 1500 damaged ones the former is nearer.
    assert fire.share_f1 == fire.f1
    assert fire.average_precision == pytest.approx((900 / 1400) * 0.6 + 0.5 * 0.4)
    assert (scores["quake"].flagged, scores["quake"].average_precision) == (0.01, None)
    assert scores["unknown"].tiles == 1


def test_the_mean_is_over_events_with_enough_damage():
    scores = by_event(TILES, EVENTS, 0.5)
    assert mean_average_precision(scores) == scores["fire"].average_precision
    assert mean_average_precision({"quake": scores["quake"]}) is None


def test_the_table_has_no_score_where_nothing_is_damaged():
    lines = describe(by_event(TILES, EVENTS, 0.5), 0.5).splitlines()
    assert lines[0].split()[:7] == ["by", "event,", "at", "0.500", "tiles", "damaged", "F1"]
    assert lines[2].split() == ["quake", "1", "0", "-", "1.00%", "-", "-", "-", "-"]
    assert lines[-1] == "mean AP over events with at least 1,000 damaged pixels: 0.5857"


def test_metrics_hold_the_events_and_read_them_again(tmp_path):
    whole = sum((own for _, own in TILES), Counts.zero())
    scores = by_event(TILES, EVENTS, 0.5)
    written = Metrics.of(whole, threshold=0.5, positive_unlabelled=False, events=scores)
    written.write(tmp_path)
    assert Metrics.read(tmp_path) == written
    assert json.loads((tmp_path / "metrics.json").read_text())["events"]["quake"]["average_precision"] is None
    assert Metrics.of(whole, threshold=0.5, positive_unlabelled=True, events=scores).events == {}
