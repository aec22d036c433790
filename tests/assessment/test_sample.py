"""The blind sample: its draw, its size, its order, and how far it is judged."""

import json

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from jaxcd.assessment.sample import Plan, by_score, draw, progress, size
from jaxcd.base.errors import ConfigError

IDS = [f"b{number}" for number in range(100)]
STRATA = ["north"] * 70 + ["south"] * 27 + ["island"] * 3


def test_strata_get_their_share_and_two_at_least() -> None:
    plan = draw(IDS, STRATA, 20, seed=7)
    sizes = {each.name: (each.buildings, len(each.members)) for each in plan.strata}
    assert sizes == {"north": (70, 14), "south": (27, 5), "island": (3, 2)}
    assert len(set(plan.members)) == 21
    for stratum in plan.strata:
        assert {STRATA[IDS.index(member)] for member in stratum.members} == {stratum.name}


def test_a_record_holds_the_whole_plan() -> None:
    plan = draw(IDS, STRATA, 20, seed=7)
    assert Plan.of_record(json.loads(json.dumps(plan.record()))) == plan
    assert draw(IDS, STRATA, 20, seed=7) == plan
    assert draw(IDS, STRATA, 20, seed=8).members != plan.members
    assert draw(IDS[1:], STRATA[1:], 20, seed=7).population != plan.population


def test_each_building_is_drawn_as_often_as_its_neighbour() -> None:
    counts = dict.fromkeys(IDS, 0)
    for seed in range(400):
        for member in draw(IDS, STRATA, 20, seed=seed).members:
            counts[member] += 1
    north = [counts[each] for each in IDS[:70]]
    # 400 draws at 1/5: mean 80, standard deviation 8.
    assert np.mean(north) == 80 and min(north) > 80 - 4 * 8 and max(north) < 80 + 4 * 8


def test_the_order_takes_from_all_strata_at_one_pace() -> None:
    plan = draw(IDS, STRATA, 40, seed=1)
    for count in range(1, len(plan.members) + 1):
        found = progress(plan, dict.fromkeys(plan.members[:count], True))
        assert found.random and found.judged == count
        for stratum in plan.strata:
            judged = sum(member in plan.members[:count] for member in stratum.members)
            assert abs(judged - count * len(stratum.members) / len(plan.members)) <= 1


def test_skipping_ends_the_random_order() -> None:
    plan = draw(IDS, STRATA, 40, seed=1)
    north = next(each for each in plan.strata if each.name == "north")
    assert not progress(plan, {north.members[1]: True}).random
    assert progress(plan, {north.members[0]: False}) == (1, 41, True, False)
    assert progress(plan, dict.fromkeys(plan.members)).enough


@pytest.mark.parametrize(("width", "expected", "domain"), [(0.1, 0.8, 1.0), (0.2, 0.9, 0.25), (0.05, 0.3, 1.0)])
def test_the_size_gives_the_wanted_width(width: float, expected: float, domain: float) -> None:
    buildings = 10**7
    count = size(buildings, width, expected=expected, domain=domain)
    inside = round(count * domain)
    # A hundred times as many answers have an interval a tenth as wide, and are not rounded as much.
    low, high = proportion_confint(round(100 * inside * expected), 100 * inside, method="normal")
    assert 10 * (high - low) == pytest.approx(width, rel=0.02)
    assert size(500, 0.2, expected=expected, domain=domain) < size(buildings, 0.2, expected=expected, domain=domain)


def test_wrong_wishes_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="^blind sample: expected 1 to 100 members, as many as .*, got 101$"):
        draw(IDS, STRATA, 101, seed=0)
    with pytest.raises(ConfigError, match="^blind sample: expected a width between 0 and 1, got 2$"):
        size(100, 2)
    with pytest.raises(ConfigError, match="^blind sample: expected a share of the buildings between 0 and 1, got 0$"):
        size(100, 0.1, domain=0)


def test_strata_by_score_are_equal_parts_and_the_unseen_ones() -> None:
    scores = np.r_[np.linspace(0, 1, 100), [np.nan] * 5]
    names, counts = np.unique(by_score(scores, 4), return_counts=True)
    assert names.tolist() == ["no score", "score 1", "score 2", "score 3", "score 4"]
    assert counts.tolist() == [5, 25, 25, 25, 25]
    assert set(by_score(np.full(9, 0.5), 4)) <= {"score 1", "score 2"}
