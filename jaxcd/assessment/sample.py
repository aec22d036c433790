"""The blind sample: buildings drawn at random, stratum by stratum, which people judge and no model learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from statsmodels.stats.proportion import samplesize_confint_proportion

from jaxcd.base.errors import ConfigError
from jaxcd.base.fingerprints import digest

_LEAST = 2  # members of a stratum: one alone tells nothing of the spread within it
_ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """A part of the buildings.

    Attributes:
        name: for the user.
        buildings: that it holds.
        members: ids of those in the sample, in their random order.
    """

    name: str
    buildings: int
    members: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a blind sample was drawn; `record` is all that is needed to repeat it.

    Attributes:
        seed: of the draw.
        population: digest of the buildings' ids and strata that it was drawn from.
        strata: parts of the buildings.
    """

    seed: int
    population: str
    strata: tuple[Stratum, ...]

    @property
    def buildings(self) -> int:
        """Buildings that the sample stands for."""
        return sum(stratum.buildings for stratum in self.strata)

    @property
    def members(self) -> tuple[str, ...]:
        """Ids of the sample, in the order in which they are to be judged.

        The order takes from each stratum at an even pace. So whoever stops early has a random part of every stratum.
        """
        places = [
            ((rank + 0.5) / len(stratum.members), number, member)
            for number, stratum in enumerate(self.strata)
            for rank, member in enumerate(stratum.members)
        ]
        return tuple(member for *_, member in sorted(places))

    def record(self) -> dict[str, Any]:
        """Return the plan as plain values, for JSON."""
        return asdict(self)

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> "Plan":
        """Read what `record` has written (and JSON may have turned tuples into lists)."""
        strata = tuple(Stratum(**each | {"members": tuple(each["members"])}) for each in record["strata"])
        return Plan(seed=record["seed"], population=record["population"], strata=strata)


class Progress(NamedTuple):
    """How far a sample is judged.

    Attributes:
        judged: members that have an answer.
        members: of the sample.
        random: whether those judged are a random part of the sample: in each stratum the first of its order.
        enough: whether each stratum has as many answers as an interval needs.
    """

    judged: int
    members: int
    random: bool
    enough: bool


def size(buildings: int, width: float, *, expected: float = 0.8, domain: float = 1.0, alpha: float = _ALPHA) -> int:
    """Return how many buildings to draw for an interval of a wanted width.

    Args:
        buildings: of the scene.
        width: of the interval, from its lower to its upper end: 0.1 for a share known to +- 0.05.
        expected: the share that is estimated: the damaged of all buildings, or the precision or recall.
        domain: share of the buildings that it is a share of: 1 for the damaged of all buildings; for precision those
            that are called damaged, for recall those that are.
        alpha: 1 less the confidence.

    Raises:
        ConfigError: a width or share that is none, or a sample larger than the scene.
    """
    for name, value in (("width", width), ("expected share", expected), ("share of the buildings", domain)):
        if not 0 < value < 1 and not (name == "share of the buildings" and value == 1):
            raise ConfigError(f"blind sample: expected a {name} between 0 and 1, got {value:g}")
    endless = samplesize_confint_proportion(expected, width / 2, alpha=alpha)
    held = buildings * domain
    wanted = endless / (1 + (endless - 1) / held) if held > 0 else endless  # the scene is finite
    count = int(np.ceil(wanted / domain))
    if count > buildings:
        raise ConfigError(
            f"blind sample: an interval {width:g} wide takes {count} members, the scene has {buildings}; give a "
            "wider one"
        )
    return count


def check_size(count: int, buildings: int) -> None:
    """See that a scene has as many buildings as a sample wants.

    Raises:
        ConfigError: it has fewer, or the sample has none.
    """
    if not 0 < count <= buildings:
        raise ConfigError(f"blind sample: expected 1 to {buildings} members, as many as the scene has, got {count}")


def by_score(scores: Float[np.ndarray, "n"], count: int) -> list[str]:
    """Name a stratum for each building: scores from low to high in parts of equal size; unseen ones apart."""
    known = np.isfinite(scores)
    edges = np.unique(np.quantile(scores[known], np.linspace(0, 1, count + 1)[1:-1])) if known.any() else []
    at = np.searchsorted(edges, scores, side="right")
    return [f"score {number + 1}" if each else "no score" for number, each in zip(at, known, strict=True)]


def draw(ids: Sequence[str], strata: Sequence[str], count: int, *, seed: int) -> Plan:
    """Draw a blind sample: from each stratum in proportion to its size, two at least.

    Args:
        ids: of all buildings.
        strata: name of each one's stratum.
        count: of the sample; where two of each stratum are more, that many.
        seed: of the draw.

    Raises:
        ConfigError: more than there are, or none.
    """
    check_size(count, len(ids))
    names, where = np.unique(np.asarray(strata), return_inverse=True)
    sizes = np.bincount(where)
    numbers = _allocated(sizes, count)
    generator = np.random.default_rng(seed)
    found = []
    for number, name in enumerate(names):
        rows = generator.permutation(np.flatnonzero(where == number))[: numbers[number]]
        members = tuple(ids[int(row)] for row in rows)
        found.append(Stratum(name=str(name), buildings=int(sizes[number]), members=members))
    return Plan(seed=seed, population=digest([list(ids), list(strata)]), strata=tuple(found))


def progress(plan: Plan, judged: Mapping[str, Any]) -> Progress:
    """Say how far a sample is judged, and whether the judged members are a random part of it.

    Args:
        plan: of the sample.
        judged: answers by the id of a member; others are left out.
    """
    counts = [sum(member in judged for member in stratum.members) for stratum in plan.strata]
    first = all(
        member in judged
        for stratum, count in zip(plan.strata, counts, strict=True)
        for member in stratum.members[:count]
    )
    enough = all(count >= min(_LEAST, stratum.buildings) for stratum, count in zip(plan.strata, counts, strict=True))
    return Progress(sum(counts), len(plan.members), first, enough)


def _allocated(sizes: np.ndarray, count: int) -> np.ndarray:
    """Share a sample among strata: in proportion, by largest remainders, at least `_LEAST` where there are so many."""
    exact = sizes / sizes.sum() * count
    found = np.floor(exact).astype(int)
    largest = np.argsort(-(exact - found), kind="stable")
    found[largest[: count - found.sum()]] += 1
    return np.maximum(found, np.minimum(sizes, _LEAST))
