"""The head learns from labels outside of the blind sample alone; the next to judge is never a member of it."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jaxcd.active.head import Head
from jaxcd.active.queries import DIVERSE, ORDERS, RANDOM, UNCERTAIN, next_to_judge
from jaxcd.base.errors import ConfigError, LabelError
from jaxcd.base.scales import XBD

BUILDINGS, HELD = 300, range(0, 300, 5)


def town(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of buildings, a third of them damaged, in ten directions out of forty."""
    generator = np.random.default_rng(seed)
    damaged = generator.random(BUILDINGS) < 1 / 3
    values = generator.normal(size=(BUILDINGS, 40)).astype(np.float32)
    values[damaged, :10] += 0.9
    return values, damaged


def head(held: object = HELD) -> Head:
    return Head(town()[0], np.ones(BUILDINGS), held)  # type: ignore[arg-type]


def test_labels_of_the_sample_reach_neither_head_nor_temperature() -> None:
    _, damaged = town()
    labels = {row: int(damaged[row]) for row in range(120)}
    flipped = {row: 1 - label if row in HELD else label for row, label in labels.items()}
    without = {row: label for row, label in labels.items() if row not in HELD}
    found = [head().scores(each) for each in (labels, flipped, without)]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].damaged, other.damaged)
        assert found[0][2:] == other[2:]
    assert found[0].labels == 96
    # The same flips do matter where nothing is held.
    assert np.abs(head(()).scores(labels).damaged - head(()).scores(flipped).damaged).max() > 0.1


def test_scores_tell_damage_and_unseen_buildings_have_none() -> None:
    values, damaged = town()
    seen = np.ones(BUILDINGS)
    seen[200:210] = 0
    found = Head(values, seen, ()).scores({row: int(damaged[row]) for row in range(100)})
    assert np.isnan(found.damaged[200:210]).all()
    others = np.r_[100:200, 210:300]
    assert roc_auc_score(damaged[others], found.damaged[others]) > 0.9


def test_labels_of_one_class_give_no_scores() -> None:
    for labels, said in (({}, "none"), ({1: 0, 2: 0}, "2, all intact"), ({3: 1}, "1, all damaged")):
        with pytest.raises(LabelError, match=f"^scores need labels of both .*, there are {said}: label more$"):
            head().scores(labels)
    with pytest.raises(LabelError, match="there are 1, all intact"):
        head().scores({1: 0, 5: 1})  # 5 is of the blind sample
    assert np.isfinite(head().scores({1: 0, 2: 1}).damaged).all()


def test_levels_are_told_apart_where_each_has_labels() -> None:
    values, damaged = town()
    codes = np.where(damaged, np.where(values[:, 0] > 0.9, 4, 3), np.where(values[:, 20] > 0, 2, 1))
    few = head(()).scores({row: int(codes[row]) for row in range(8)}, XBD)
    assert few.levels is None
    many = head(()).scores({row: int(codes[row]) for row in range(150)}, XBD)
    assert many.levels is not None
    np.testing.assert_allclose(many.levels.sum(1), 1)
    assert (many.levels[150:].argmax(1) + 1 == codes[150:]).mean() > 0.5


def test_no_order_offers_a_judged_an_unseen_or_a_held_building() -> None:
    model, (_, damaged) = head(), town()
    scores = model.scores({row: int(damaged[row]) for row in range(1, 60)}).damaged
    visible = np.ones(BUILDINGS, bool)
    visible[250:] = False
    judged = list(range(1, 60))
    free = set(range(BUILDINGS)) - set(judged) - set(HELD) - set(range(250, 300))
    for order, given in itertools.product(ORDERS, (scores, None)):
        how = {"judged": judged, "held": HELD, "visible": visible, "seed": 3}
        everything = next_to_judge(order, model.points, given, count=1000, **how)  # type: ignore[arg-type]
        assert len(everything) == len(free) and set(everything) == free
        assert next_to_judge(order, model.points, given, count=7, **how) == everything[:7]  # type: ignore[arg-type]


def test_orders_are_what_they_are_called() -> None:
    model, (_, damaged) = head(), town()
    scores = model.scores({row: int(damaged[row]) for row in range(1, 60)}).damaged
    how = {"judged": [1, 2], "held": HELD, "visible": np.ones(BUILDINGS, bool), "count": 20}
    uncertain = next_to_judge(UNCERTAIN, model.points, scores, **how, seed=0)  # type: ignore[arg-type]
    distance = np.abs(scores[uncertain] - 0.5)
    assert (np.diff(distance) >= 0).all()
    first = next_to_judge(DIVERSE, model.points, scores, **how, seed=0)[0]  # type: ignore[arg-type]
    away = np.linalg.norm(model.points[:, None] - model.points[[1, 2]], axis=2).min(1)
    away[list(HELD)] = 0
    assert first == away.argmax()
    one, two = (next_to_judge(RANDOM, model.points, None, **how, seed=seed) for seed in (0, 1))  # type: ignore[arg-type]
    assert one != two
    with pytest.raises(
        ConfigError, match="^order of buildings: expected one of uncertain, diverse, random, got 'best'$"
    ):
        next_to_judge("best", model.points, None, **how, seed=0)  # type: ignore[arg-type]


def test_batches_of_one_seed_do_not_draw_neighbours() -> None:
    buildings, how = 3400, {"held": (), "visible": np.ones(3400, bool), "count": 10}
    points, close = np.zeros((buildings, 1)), []
    for seed in range(40):
        judged: list[int] = []
        while len(judged) < 120:
            judged += next_to_judge(RANDOM, points, None, judged=judged, seed=seed, **how)  # type: ignore[arg-type]
        close.append((np.diff(np.sort(judged)) <= 3).mean())
    # Of 120 rows drawn from 3400, 1 - (1 - 120 / 3400)^3 have another one among the next three.
    assert np.mean(close) == pytest.approx(1 - (1 - 120 / buildings) ** 3, abs=0.02)
