"""The blind sample of a store: how it is drawn, and what its members say."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import hypergeom

from jaxcd.assessment import sample
from jaxcd.assessment.estimates import hypergeometric
from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import Scale
from jaxcd.labelling.learning.scoring import DECIDES, HEAD, LEAST, OFF, State
from jaxcd.labelling.store import Store, blind

BY_SCORE, NO_STRATA = "score", "none"
"""What the strata of a sample are: buildings of like score, or all of them one."""
PRECISION, DAMAGED = "precision", "damaged"
"""What an interval of a wanted width is of: precision, or the share of damaged buildings."""
_STRATA = 5
_EXPECTED = 0.2  # share of damaged buildings where no score tells one
_RISK = 0.05  # that scores vanish, from which on it is told


class Size(NamedTuple):
    """How many members a sample would have, and what that costs and brings.

    Attributes:
        size: members of the sample.
        buildings: of the store, or cells.
        labelled: those that are labelled.
        again: how many of these the sample would take, on average: they are judged again, and teach nothing any more.
        scored: whether there are scores, by which strata can be made.
        interval: what a wanted width is the width of, `PRECISION` or `DAMAGED`.
        expected: share of damaged buildings that `about` is computed for.
        about: half the width of the interval of the number of damaged buildings, of a sample without strata.
        warning: that scores may vanish, in sentences for the user, or None.
    """

    size: int
    buildings: int
    labelled: int
    again: int
    scored: bool
    interval: str
    expected: float
    about: float
    warning: str | None


def size(store: Store, state: State, *, width: float | None = None, count: int | None = None) -> Size:
    """Return how many buildings or cells to draw for intervals of a width, or what a number of them would bring.

    Where scores call buildings damaged, the width is that of precision, a share of these; else that of the share of
    damaged buildings.

    Args:
        store: the store.
        state: of the scores.
        width: of the interval, from its lower to its upper end, as a share.
        count: buildings to draw, in place of a width.

    Raises:
        ConfigError: no width, or more buildings than there are.
    """
    found, scores = _population(store, state)
    scored = bool(np.isfinite(scores).any())
    called = float(np.mean(scores >= DECIDES)) if scored else 0.0
    if count is None:
        count = sample.size(len(found), width or 0.0, domain=called or 1.0)
    sample.check_size(count, len(found))
    expected = called or _EXPECTED
    low, high = hypergeometric(round(expected * count), count, len(found))
    labelled = sum(each.level is not None for each in found)
    return Size(
        size=count,
        buildings=len(found),
        labelled=labelled,
        again=round(labelled * count / len(found)),
        scored=scored,
        interval=PRECISION if called else DAMAGED,
        expected=expected,
        about=(high - low) / 2,
        warning=_warning(store, state, found, count),
    )


def _warning(store: Store, state: State, found: Sequence[blind.Unit], count: int) -> str | None:
    """Say that a sample would leave too few labels for scores; None where it would not, or there are none anyway."""
    if state.source() != HEAD or state.phase == OFF or not store.scale.buildings:
        return None
    unit, outside = blind.unit(store), len(found) - count
    if outside < LEAST:
        return (
            f"Scores need {LEAST} labels, and only {outside} {unit}s would lie outside of the sample: there would be "
            f"no scores, and no precision, recall and F1, only the number of damaged {unit}s. Take a smaller sample (a "
            "wider interval)."
        )
    codes = [store.scale.levels.index(each.level) + 1 for each in found if each.level in store.scale.levels]
    damaged = sum(code >= store.scale.damaged for code in codes)
    if len(codes) < LEAST or damaged in (0, len(codes)):
        return None  # there are no scores yet
    left = hypergeom(len(found), len(codes), outside)
    none_left = [float(hypergeom.pmf(0, len(found), each, outside)) for each in (damaged, len(codes) - damaged)]
    if max(float(left.cdf(LEAST - 1)), *none_left) < _RISK:
        return None
    return (
        f"About {left.mean():.0f} of your {len(codes)} labels would be left to learn from. Scores need {LEAST}, "
        "damaged and intact ones among them. With fewer there are no scores, and no precision, recall and F1, only "
        f"the number of damaged {unit}s. Label more {unit}s first, or take a smaller sample (a wider interval). Once "
        "you have judged a member, the sample stays."
    )


def draw(store: Store, state: State, *, count: int, seed: int, strata: str, person: int) -> None:
    """Draw a sample of all footprints or cells of the store, and keep its plan.

    Args:
        store: the store.
        state: of the scores.
        count: buildings of the sample.
        seed: of the draw.
        strata: `BY_SCORE` or `NO_STRATA`.
        person: who draws it.

    Raises:
        ConfigError: no footprints, or a sample larger than the scene.
        SampleStands: there is one, of which a member is judged.
    """
    found, scores = _population(store, state)
    ids = [each.id for each in found]
    names = sample.by_score(scores, _STRATA) if strata == BY_SCORE else ["all"] * len(ids)
    made = sample.draw(ids, names, count, seed=seed)
    fids = {each.id: each.fid for each in found}
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    blind.keep(store, made.record(), {member: fids[member] for member in made.members}, person, at)


def damaged_of(answers: Mapping[str, blind.Answer], scale: Scale) -> dict[str, bool | None]:
    """Return what answers say: damaged, not, or None where nobody could tell."""
    damaged = scale.levels[scale.damaged - 1 :]
    return {key: each.level in damaged if each.level in scale.levels else None for key, each in answers.items()}


def plan_of(record: Mapping[str, Any]) -> sample.Plan:
    """Return the plan that a store has kept."""
    return sample.Plan.of_record(record)


def progress(plan: sample.Plan, answers: Mapping[str, Any]) -> sample.Progress:
    """Say how far a sample is judged, and whether what is judged is a random part of it."""
    return sample.progress(plan, answers)


def _population(store: Store, state: State) -> tuple[list[blind.Unit], np.ndarray]:
    """Return all buildings or cells of the store, and their scores; NaN where there is none."""
    found = [each for each in blind.units(store) if each.first]
    if not found:
        raise ConfigError("blind sample: there are no footprints or cells to draw it from")
    scores, known = state.probabilities(), state.buildings
    values = np.full(len(found), np.nan)
    if scores is not None and known is not None:
        rows = np.array([known.at.get(each.fid, -1) for each in found])
        values = np.where(rows >= 0, scores[rows], np.nan)
    return found, values
