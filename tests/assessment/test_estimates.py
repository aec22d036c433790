"""Estimates from a blind sample: against libraries, a table computed by hand, and the truth of simulated scenes."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest, hypergeom

from jaxcd.assessment.estimates import Estimates, estimate, hypergeometric
from jaxcd.assessment.sample import Plan, Stratum, by_score, draw

# Answers of a sample: how many are (damaged, called damaged).
Table = dict[tuple[bool, bool], int]


def judged(strata: dict[str, tuple[int, Table]]) -> tuple[Plan, dict[str, bool | None], dict[str, bool]]:
    """A plan with its answers and the map's classes."""
    parts, answers, called = [], {}, {}
    for name, (buildings, table) in strata.items():
        members = []
        for (damaged, decided), count in table.items():
            for number in range(count):
                member = f"{name}{damaged}{decided}{number}"
                members.append(member)
                answers[member], called[member] = damaged, decided
        parts.append(Stratum(name=name, buildings=buildings, members=tuple(members)))
    return Plan(seed=0, population="", strata=tuple(parts)), answers, called


TABLE: Table = {(True, True): 31, (True, False): 9, (False, True): 6, (False, False): 74}


def test_one_stratum_of_a_large_scene_has_clopper_and_pearsons_intervals() -> None:
    found = estimate(*judged({"all": (10**8, TABLE)}))
    for name, hits, of in (("precision", 31, 37), ("recall", 31, 40)):
        exact = binomtest(hits, of).proportion_ci(0.95, method="exact")
        assert getattr(found, name) == pytest.approx((hits / of, exact.low, exact.high), rel=0.02)
    jaccard = binomtest(31, 46).proportion_ci(0.95, method="exact")
    wanted = [2 * share / (1 + share) for share in (31 / 46, jaccard.low, jaccard.high)]
    assert found.f1 == pytest.approx(wanted, rel=0.02)
    assert wanted[0] == pytest.approx(2 * 31 / (2 * 31 + 9 + 6))


def test_the_number_of_damaged_buildings_is_exact_in_one_stratum() -> None:
    found = estimate(*judged({"all": (600, TABLE)}))
    low, high = hypergeometric(40, 120, 600)
    assert found.damaged == (200, low, high)
    # By its definition: the ends are the last numbers that do not contradict 40 of 120.
    assert hypergeom.sf(39, 600, int(low), 120) > 0.025 >= hypergeom.sf(39, 600, int(low) - 1, 120)
    assert hypergeom.cdf(40, 600, int(high), 120) > 0.025 >= hypergeom.cdf(40, 600, int(high) + 1, 120)
    # None of 50 in 1000: by binomial coefficients, 69 damaged ones still do not contradict it, and 70 do.
    none = [math.comb(1000 - damaged, 50) / math.comb(1000, 50) for damaged in (69, 70)]
    assert none[0] > 0.025 >= none[1]
    assert hypergeometric(0, 50, 1000) == (0, 69)
    assert hypergeometric(50, 50, 1000) == (931, 1000)
    assert hypergeometric(7, 50, 50) == (7, 7)


def test_a_stratified_table_by_hand() -> None:
    """Two strata, of 100 buildings with 10 judged, of 300 with 15; so a member stands for 10, and for 20."""
    strata = {
        "low": (300, {(True, True): 1, (True, False): 2, (False, True): 2, (False, False): 10}),
        "high": (100, {(True, True): 6, (True, False): 1, (False, True): 1, (False, False): 2}),
    }
    found = estimate(*judged(strata))
    assert isinstance(found, Estimates)
    assert found.precision and found.recall and found.f1 and found.damaged
    assert found.precision.value == pytest.approx((20 + 60) / (60 + 70))
    assert found.recall.value == pytest.approx((20 + 60) / (60 + 70))
    assert found.f1.value == pytest.approx(2 * 80 / (130 + 130))
    assert found.damaged.value == pytest.approx(60 + 70)
    # Share of damaged: p = 130 / 400. Variance, stratum by stratum: (N_h / N)^2 (1 - n_h / N_h) s_h^2 / n_h.
    first = (300 / 400) ** 2 * (1 - 15 / 300) * (0.2 * 0.8 * 15 / 14) / 15
    second = (100 / 400) ** 2 * (1 - 10 / 100) * (0.7 * 0.3 * 10 / 9) / 10
    share = 130 / 400
    answers = share * (1 - share) / (first + second)
    assert 25 / (1 - 25 / 400) < answers < 2 * 25 / (1 - 25 / 400)  # the strata are worth something
    from scipy.stats import beta

    low = beta.ppf(0.025, share * answers, answers - share * answers + 1)
    high = beta.ppf(0.975, share * answers + 1, answers - share * answers)
    assert found.damaged == pytest.approx((130, 400 * low, 400 * high))


def test_the_number_of_damaged_buildings_is_never_one_that_the_sample_rules_out() -> None:
    few: dict[str, tuple[int, Table]] = {
        "high": (10, {(True, True): 3, (False, True): 7}),  # all of them are judged
        "low": (100, {(False, False): 10}),
    }
    found = estimate(*judged(few)).damaged
    assert found and found.low == 3 <= found.value
    many = {name: (count, {(not damaged, called): each for (damaged, called), each in table.items()})
            for name, (count, table) in few.items()}  # fmt: skip
    found = estimate(*judged(many)).damaged
    assert found and found.value <= found.high == 110 - 3


def test_judging_every_building_leaves_no_doubt() -> None:
    found = estimate(*judged({"all": (120, TABLE)}))
    assert found.damaged == (40, 40, 40)
    assert found.precision == (31 / 37, 31 / 37, 31 / 37)


@pytest.mark.parametrize(("share", "apart", "strata"), [(0.25, 1.5, 5), (0.1, 0.8, 5), (0.3, 1.0, 1)])
def test_intervals_cover_the_truth(share: float, apart: float, strata: int) -> None:
    generator, buildings, draws = np.random.default_rng(5), 1500, 120
    damaged = generator.random(buildings) < share
    logits = generator.normal(size=buildings) + np.where(damaged, apart, -apart)
    called, ids = logits > 0, [str(number) for number in range(buildings)]
    both = (damaged & called).sum()
    truth = {
        "precision": both / called.sum(),
        "recall": both / damaged.sum(),
        "f1": 2 * both / (called.sum() + damaged.sum()),
        "damaged": damaged.sum(),
    }
    covered = dict.fromkeys(truth, 0)
    parts, classes = by_score(1 / (1 + np.exp(-logits)), strata), dict(zip(ids, called.tolist(), strict=True))
    for seed in range(draws):
        plan = draw(ids, parts, 200, seed=seed)
        found = estimate(plan, {member: bool(damaged[int(member)]) for member in plan.members}, classes)
        for name, value in truth.items():
            low, high = getattr(found, name)[1:]
            covered[name] += low - 1e-9 <= value <= high + 1e-9
    assert min(covered.values()) >= 0.9 * draws, covered


def test_half_a_sample_counts_only_in_its_random_order() -> None:
    ids, damaged = [str(number) for number in range(400)], np.arange(400) % 3 == 0
    plan = draw(ids, ["a"] * 300 + ["b"] * 100, 80, seed=2)
    called = {each: bool(damaged[int(each)]) for each in ids}
    half = {member: bool(damaged[int(member)]) for member in plan.members[:40]}
    found = estimate(plan, half, called)
    assert found.damaged and found.damaged.low is not None
    assert found.notes == () and (found.judged, found.members) == (40, 80)

    picked = {member: bool(damaged[int(member)]) for member in plan.members[40:]}
    found = estimate(plan, picked, called)
    assert found.damaged and found.damaged.low is None and found.precision and found.precision.high is None
    assert found.notes[0].startswith("no intervals: the judged members are no random part of the sample; judge those")

    found = estimate(plan, {plan.members[0]: True}, called)
    assert found.notes[-1] == "no intervals: each part of the sample needs two judged members at least; judge more"
    assert estimate(plan, {}, called).notes == ("none of the 80 members of the blind sample is judged: no figures",)


def test_buildings_that_cannot_be_told_are_named() -> None:
    plan, answers, called = judged({"all": (600, TABLE)})
    unclear = [member for member in plan.members if answers[member] is False][:8]
    found = estimate(plan, answers | dict.fromkeys(unclear), called)
    assert found.judged == 112
    assert found.notes == ("8 could not be told: they count as damaged as often as the others",)
    assert found.damaged and math.isclose(found.damaged.value, 600 * 40 / 112)


def test_what_a_sample_does_not_hold_is_not_estimated() -> None:
    found = estimate(*judged({"all": (600, {(False, False): 50})}))
    assert found.precision is None and found.recall is None and found.f1 is None
    assert found.damaged and found.damaged.value == 0 and found.damaged.high
