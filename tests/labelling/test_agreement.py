"""Agreement: Cohen's kappa against a hand-computed table and scikit-learn, IoU of what two drew."""

import numpy as np
import pytest
import shapely
from sklearn.metrics import cohen_kappa_score

from jaxcd.base.scales import XBD
from jaxcd.labelling.agreement import agreement, cohens_kappa, counted
from jaxcd.labelling.queues import Queues
from jaxcd.labelling.store import PAIR, Store
from tests.labelling.label_stores import draw, judge, picture_pair, town


def test_kappa_by_hand():
    # Of 50: seen in agreement (20 + 15) / 50 = 0.7; by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa 0.2 / 0.5.
    assert cohens_kappa(np.array([[20, 5], [10, 15]])) == pytest.approx(0.4)
    # Three levels, quadratic: disagreement seen 1 * 1 + 2 * 4 = 9; by chance, of rows (3, 3, 2) and columns (4, 2, 2)
    # of 8: (3*2 + 3*4 + 3*2 + 2*2) / 8 + 4 * (3*2 + 2*4) / 8 = 3.5 + 7.
    table = np.array([[2, 0, 1], [1, 2, 0], [1, 0, 1]])
    assert cohens_kappa(table, quadratic=True) == pytest.approx(1 - 9 / 10.5)
    assert cohens_kappa(np.zeros((2, 2))) is None
    assert cohens_kappa(np.array([[5, 0], [0, 0]])) is None
    assert cohens_kappa(np.array([[5, 0], [0, 5]])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_kappa_as_scikit_learn_has_it(seed):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 4, 60)
    second = np.where(rng.random(60) < 0.6, first, rng.integers(0, 4, 60))
    names = ("a", "b", "c", "d")
    table = counted([(names[i], names[j]) for i, j in zip(first, second, strict=True)], names)
    assert cohens_kappa(table) == pytest.approx(cohen_kappa_score(first, second))
    assert cohens_kappa(table, quadratic=True) == pytest.approx(cohen_kappa_score(first, second, weights="quadratic"))


def test_second_opinions_are_compared_and_corrections_are_not(tmp_path):
    store = town(tmp_path, 8)
    anna, ben, cleo = (store.person(name) for name in ("Anna", "Ben", "Cleo"))
    queues = Queues(store, 1.0)
    queues.next(anna)
    firsts = ["intact", "minor", "major", "destroyed", "major", "unknown", "cloud", "intact"]
    judge(store, anna, {f"f{i}": level for i, level in enumerate(firsts)})
    judge(store, cleo, {"f7": "minor"})  # a correction by somebody who saw Anna's level
    queues.next(anna, "town")
    assert queues.next(ben).second
    seconds = ["intact", "major", "major", "destroyed", "minor", "unknown", "major", "minor"]
    judge(store, ben, {f"f{i}": level for i, level in enumerate(seconds)})
    assert [found.people for found in agreement(store)] == []  # it would tell Ben, who is still at it, what Anna said
    queues.next(ben, "town")
    first, third = agreement(store)
    assert first.people == ("Anna", "Ben") and (first.objects, first.same) == (8, 4)
    assert first.kappa == pytest.approx(cohen_kappa_score(firsts, seconds))
    rank = {name: i for i, name in enumerate(XBD.levels)}
    both = [(rank[a], rank[b]) for a, b in zip(firsts, seconds, strict=True) if a in rank and b in rank]
    weighted = cohen_kappa_score(*zip(*both, strict=True), weights="quadratic")
    assert first.weighted_kappa == pytest.approx(weighted)
    assert first.differing == [("town", "f1"), ("town", "f4"), ("town", "f6"), ("town", "f7")]
    assert np.sum(first.table) == 8 and first.table[1][2] == 1 and first.names[1:3] == ("minor", "major")
    assert third.people == ("Ben", "Cleo") and third.objects == 1
    store.close()


def test_drawn_damage_of_two(tmp_path):
    store = Store.create_or_open(tmp_path / "store", XBD, [picture_pair("a"), picture_pair("b", pre="c")])
    anna, ben = store.person("Anna"), store.person("Ben")
    queues = Queues(store, 1.0)
    queues.next(anna)
    draw(store, anna, shapely.box(0, -20, 20, 0), "major", "a")
    draw(store, anna, shapely.box(40, -50, 50, -40), "intact", "a")  # no damage
    judge(store, anna, {PAIR: "damaged"}, "a")
    assert queues.next(anna, "a").pair_id == "b"
    draw(store, anna, shapely.box(0, -20, 20, 0), "major", "b")  # nobody else has looked there
    assert queues.next(ben).pair_id == "a"
    draw(store, ben, shapely.box(10, -20, 30, 0), "destroyed", "a")
    judge(store, ben, {PAIR: "intact"}, "a")
    queues.next(ben, "a")
    (found,) = agreement(store)
    assert found.drawn_iou == pytest.approx(200 / 600)
    assert (found.objects, found.kappa, found.verdicts, found.verdict_kappa) == (0, None, 1, 0.0)
    assert found.differing == [("a", PAIR)]
    store.close()


def test_without_second_opinions_there_is_nothing_to_compare(tmp_path):
    store = town(tmp_path)
    judge(store, store.person("Anna"), {"f1": "major"})
    assert agreement(store) == []
    store.close()
