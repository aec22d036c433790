"""What a judged blind sample says of the whole scene: precision, recall, F1 and the number of damaged buildings.

Every figure but the number is a share of a part of the buildings (precision: of those called damaged), estimated as a
ratio of weighted sums. Its variance is that of the ratio's linearisation, stratum by stratum and with the correction
for a finite population (W. Cochran 1977, Sampling Techniques, sections 5A.14 and 6.4). The interval is that of E. Korn
and B. Graubard 1998 (Survey Methodology 24): Clopper and Pearson's exact one for the number of independent answers
that would have this variance.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import hypergeom
from statsmodels.stats.proportion import proportion_confint

from jaxcd.assessment.sample import Plan, progress

_ALPHA = 0.05
_MOST_GAIN = 2.0


class Interval(NamedTuple):
    """An estimate with its 95 % interval; `low` and `high` are None where the sample allows no interval."""

    value: float
    low: float | None
    high: float | None


class Estimates(NamedTuple):
    """What a sample says of the scene.

    Attributes:
        precision: of the buildings called damaged, the share that is; None where none of the sample is called so.
        recall: of the damaged buildings, the share called so; None where the sample has none.
        f1: their harmonic mean; None where the sample has neither.
        damaged: number of damaged buildings of the scene; its interval holds no number that the sample rules out.
        judged: members that say damaged or intact.
        members: of the sample.
        notes: for the user: what is missing, and why there are no intervals.
    """

    precision: Interval | None
    recall: Interval | None
    f1: Interval | None
    damaged: Interval | None
    judged: int
    members: int
    notes: tuple[str, ...]


class _Judged(NamedTuple):
    """Judged members: truth, what the map says, and the stratum; of the strata, their buildings."""

    damaged: Bool[np.ndarray, "n"]
    called: Bool[np.ndarray, "n"]
    stratum: Int[np.ndarray, "n"]
    buildings: Int[np.ndarray, "h"]

    @property
    def counts(self) -> Int[np.ndarray, "h"]:
        return np.bincount(self.stratum, minlength=len(self.buildings))

    @property
    def weights(self) -> Float[np.ndarray, "n"]:
        return (self.buildings / np.maximum(self.counts, 1))[self.stratum]


def estimate(plan: Plan, answers: Mapping[str, bool | None], called: Mapping[str, bool]) -> Estimates:
    """Estimate how good a map is, and how many buildings are damaged, from a judged sample.

    Args:
        plan: of the sample.
        answers: by id of a member, whether it is damaged; None where the person could not tell. Others are left out.
        called: by id, whether the map calls it damaged; of members at least.
    """
    state, notes = progress(plan, answers), []
    known = [
        (bool(answers[member]), bool(called[member]), number)
        for number, stratum in enumerate(plan.strata)
        for member in stratum.members
        if answers.get(member) is not None
    ]
    unclear = state.judged - len(known)
    if not known:
        notes.append(f"none of the {state.members} members of the blind sample is judged: no figures")
        return Estimates(None, None, None, None, 0, state.members, tuple(notes))
    if unclear:
        notes.append(f"{unclear} could not be told: they count as damaged as often as the others")
    damaged, decided, stratum = (np.array(each) for each in zip(*known, strict=True))
    judged = _Judged(damaged, decided, stratum, np.array([each.buildings for each in plan.strata]))
    reason = _reason(state.random, bool((judged.counts >= np.minimum(judged.buildings, 2)).all()))
    if reason:
        notes.append(reason)
    exact = not reason
    share = _share(judged, damaged, np.ones(len(damaged), bool), exact=exact)
    assert share is not None
    precision = _share(judged, damaged & decided, decided, exact=exact)
    recall = _share(judged, damaged & decided, damaged, exact=exact)
    overlap = _share(judged, damaged & decided, damaged | decided, exact=exact)
    # F1 rises with the share that both the map and the truth call damaged, of what either does.
    f1 = None if overlap is None else _mapped(overlap, lambda jaccard: 2 * jaccard / (1 + jaccard))
    number = _mapped(share, lambda of_all: of_all * plan.buildings)
    if exact and len(plan.strata) == 1:
        number = Interval(number.value, *hypergeometric(int(damaged.sum()), len(damaged), plan.buildings))
    elif number.low is not None and number.high is not None:
        # What the sample has found is there: no smaller number is possible, nor one that leaves no room for the others.
        least, most = float(damaged.sum()), plan.buildings - float((~damaged).sum())
        number = Interval(number.value, max(number.low, least), min(number.high, most))
    return Estimates(precision, recall, f1, number, len(known), state.members, tuple(notes))


def hypergeometric(found: int, drawn: int, buildings: int, *, alpha: float = _ALPHA) -> tuple[float, float]:
    """Return the exact interval for how many of some buildings are damaged, from a simple random sample.

    Args:
        found: damaged ones in the sample.
        drawn: of the sample.
        buildings: that it was drawn from.
        alpha: 1 less the confidence.

    Returns:
        The least and largest numbers that a two-sided test at `alpha` does not refuse.
    """
    possible = range(found, buildings - (drawn - found) + 1)
    low = bisect_right(possible, alpha / 2, key=lambda each: hypergeom.sf(found - 1, buildings, each, drawn))
    high = bisect_left(possible, -alpha / 2, key=lambda each: -hypergeom.cdf(found, buildings, each, drawn))
    return float(possible[low]), float(possible[high - 1])


def _reason(random: bool, enough: bool) -> str:
    if not random:
        return (
            "no intervals: the judged members are no random part of the sample; judge those that were skipped, in "
            "the order of the sample"
        )
    return "" if enough else "no intervals: each part of the sample needs two judged members at least; judge more"


def _share(judged: _Judged, hit: Bool[np.ndarray, "n"], of: Bool[np.ndarray, "n"], *, exact: bool) -> Interval | None:
    """Estimate the share of `hit` in the part `of` of all buildings; None where the sample has none of it."""
    if not of.any():
        return None
    weights = judged.weights
    whole = float(weights[of].sum())
    value = float(weights[hit].sum()) / whole
    if not exact:
        return Interval(value, None, None)
    variance = _variance(judged, weights * of * (hit - value) / whole)
    rest = 1 - len(hit) / judged.buildings.sum()
    if rest <= 0:
        return Interval(value, value, value)  # every building is judged
    alone = np.count_nonzero(of) / rest  # a simple random sample of this part would be worth so many answers
    # Strata make a sample worth more; where few answers differ from the rest of their stratum, the variance that they
    # show is often too small, and the interval would miss the truth too often.
    independent = min(_MOST_GAIN * alone, value * (1 - value) / variance) if variance > 0 else alone
    low_high: Any = proportion_confint(value * independent, independent, alpha=_ALPHA, method="beta")
    return Interval(value, *map(float, low_high))


def _variance(judged: _Judged, terms: Float[np.ndarray, "n"]) -> float:
    """Return the variance of a sum over a stratified sample without replacement."""
    total, counts = 0.0, judged.counts
    for number, (count, buildings) in enumerate(zip(counts, judged.buildings, strict=True)):
        if count > 1:
            total += (1 - count / buildings) * count * np.var(terms[judged.stratum == number], ddof=1)
    return float(total)


def _mapped(interval: Interval, rising: Callable[[float], float]) -> Interval:
    return Interval(*(None if each is None else rising(each) for each in interval))  # type: ignore[arg-type]
