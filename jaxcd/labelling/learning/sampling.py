"""The blind sample of a store: how it is drawn, and what its members say."""

import datetime
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxcd.assessment import sample
from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import Scale
from jaxcd.labelling.learning.scoring import DECIDES, State
from jaxcd.labelling.store import Store, blind

BY_SCORE, NO_STRATA = "score", "none"
"""What the strata of a sample are: buildings of like score, or all of them one."""
_STRATA = 5


class Size(NamedTuple):
    """How many members a sample would have.

    Attributes:
        members: of the sample.
        labelled: buildings or cells of the store that are labelled.
        again: how many of these the sample would take, on average: they are judged again, and teach nothing any more.
    """

    members: int
    labelled: int
    again: int


def size(store: Store, state: State, width: float) -> Size:
    """Return how many buildings or cells to draw for intervals of a width.

    Where there are scores it is that of precision, a share of those that are called damaged; without, that of the share
    of damaged buildings.

    Raises:
        ConfigError: no width, or more buildings than there are.
    """
    found, scores = _population(store, state)
    called = float(np.mean(scores >= DECIDES)) if np.isfinite(scores).any() else 0.0
    members = sample.size(len(scores), width, domain=called or 1.0)
    labelled = sum(each.level is not None for each in found)
    return Size(members, labelled, round(labelled * members / len(found)))


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
