"""What the judged blind sample says: of the scores, or of any other map of the same buildings."""

import math
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxcd.assessment import sample
from jaxcd.assessment.calibration import Calibration, calibration, logits_of, tempered
from jaxcd.assessment.estimates import estimate
from jaxcd.labelling.learning.sampling import damaged_of, plan_of
from jaxcd.labelling.store import Store, blind

NO_SAMPLE = "no blind sample: these figures would have no interval; draw one, and judge it without seeing scores"
_SHARES = ("precision", "recall", "f1", "damaged")
_DIGITS = 4


class Said(NamedTuple):
    """What a map says of buildings.

    Attributes:
        probability: of damage, of each building by "pair/object"; NaN or missing where it is not seen.
        called: ids of the buildings that are called damaged.
        temperature: that logits were divided by; None where there was none to divide them by.
    """

    probability: Mapping[str, float]
    called: Set[str]
    temperature: float | None = None


def figures(store: Store, given: Said) -> dict[str, Any]:
    """Return precision, recall, F1 and the number of damaged buildings with 95 % intervals, for JSON.

    Args:
        store: whose sample is asked.
        given: of the map.

    Returns:
        Keys: unit (building or cell), sample (progress, or None), estimates (each value, low, high; or None), buildings
        (number of units), called (those that the map calls damaged), reason (why there is no figure or interval, or
        None), notes, calibration (or None).
    """
    found, population = blind.plan(store), [each.id for each in blind.units(store) if each.first]
    result: dict[str, Any] = {
        "unit": blind.unit(store),
        "sample": None,
        "estimates": dict.fromkeys(_SHARES),
        "buildings": len(population),
        "called": sum(key in given.called for key in population),
        "reason": NO_SAMPLE,
        "notes": [],
        "calibration": None,
    }
    if found is None:
        return result
    plan, answers = plan_of(found[1]), damaged_of(blind.answers(store), store.scale)
    progress = sample.progress(plan, answers)
    estimates = estimate(plan, answers, {member: member in given.called for member in plan.members})
    notes = list(estimates.notes)
    if len(population) != plan.buildings:
        notes.append(
            f"the sample stands for the {plan.buildings:,} {blind.unit(store)}s that there were when it was drawn, "
            f"not for all {len(population):,}"
        )
    bare = estimates.damaged is None or estimates.damaged.low is None
    return result | {
        "sample": {
            "size": progress.members,
            "judged": progress.judged,
            "random_so_far": progress.random,
            "enough": progress.enough,
            "seed": plan.seed,
            "buildings": plan.buildings,
        },
        "estimates": {name: _plain(getattr(estimates, name)) for name in _SHARES},
        "reason": notes[-1] if bare and notes else None,
        "notes": notes,
        "calibration": _calibration(plan, answers, given),
    }


def _plain(interval: Any) -> dict[str, float | None] | None:
    if interval is None:
        return None
    return {name: None if each is None else round(each, _DIGITS) for name, each in interval._asdict().items()}


def _calibration(plan: sample.Plan, answers: Mapping[str, bool | None], given: Said) -> dict[str, Any] | None:
    """Compare probabilities with the answers; each answer stands for its share of the stratum."""
    rows = []
    for stratum in plan.strata:
        known = [key for key in stratum.members if answers.get(key) is not None]
        rows += [(given.probability.get(key, math.nan), answers[key], stratum.buildings / len(known)) for key in known]
    rows = [row for row in rows if math.isfinite(row[0])]
    if not rows:
        return None
    probability, damaged, weights = (np.array(each, float) for each in zip(*rows, strict=True))
    after = calibration(probability, damaged > 0, weights)
    before = None if given.temperature is None else _untempered(probability, given.temperature)
    return {
        "error_before": round((after if before is None else calibration(before, damaged > 0, weights)).error, _DIGITS),
        "error_after": None if before is None else round(after.error, _DIGITS),
        "temperature": None if given.temperature is None else round(given.temperature, _DIGITS),
        "bins": _bins(after),
    }


def _untempered(probability: Float[np.ndarray, "n"], temperature: float) -> Float[np.ndarray, "n"]:
    return tempered(logits_of(probability) * temperature, 1.0)


def _bins(found: Calibration) -> list[dict[str, float]]:
    return [
        {"predicted": round(float(p), _DIGITS), "found": round(float(f), _DIGITS), "share": round(float(s), _DIGITS)}
        for p, f, s in zip(found.predicted, found.found, found.share, strict=True)
    ]
