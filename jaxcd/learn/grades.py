"""Metrics of graded damage, all from one table of pixel counts: true levels against predicted ones.

Source: docs/method.md, Graded damage (the xView2 score).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from jaxcd.base.scales import Scale

_EPSILON = 1e-6  # added to the F1 of each level before their harmonic mean (xView2)
_LOCALISATION, _DAMAGE = 0.3, 0.7  # weights of both parts of the score


class GradeScores(NamedTuple):
    """Scores of graded damage.

    Attributes:
        xview2: 0.3 times `localisation` and 0.7 times `damage`.
        localisation: F1 of buildings against ground.
        damage: harmonic mean of the F1 of the levels.
        level_error: mean absolute difference of true and predicted levels, where both are a building's.
        kappa: Cohen's kappa of the same pixels, disagreement weighted by the square of the difference in levels.
    """

    xview2: float
    localisation: float
    damage: float
    level_error: float
    kappa: float


@dataclass(frozen=True, kw_only=True)
class Grades:
    """Pixel counts by true and predicted code; merge with `+`.

    Attributes:
        scale: of both.
        counts: rows are true codes, the last one buildings of unknown level; columns are predicted codes.
    """

    scale: Scale
    counts: Int64[np.ndarray, "t p"]

    def __post_init__(self) -> None:
        codes = len(self.scale.codes)
        if self.counts.shape != (codes + 1, codes):
            raise ValueError(
                f"counts {self.counts.shape}: expected {(codes + 1, codes)} for the scale {self.scale.name}"
            )

    @classmethod
    def zero(cls, scale: Scale) -> "Grades":
        """Counts of no pixel."""
        codes = len(scale.codes)
        return cls(scale=scale, counts=np.zeros((codes + 1, codes), np.int64))

    def __add__(self, other: "Grades") -> "Grades":
        return Grades(scale=self.scale, counts=self.counts + other.counts)

    @property
    def known(self) -> Int64[np.ndarray, "k p"]:
        """Counts of the buildings of known level: rows are levels, columns predicted codes."""
        return self.counts[1:-1]

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the levels that no pixel truly has."""
        return tuple(name for name, row in zip(self.scale.levels, self.known, strict=True) if not row.sum())

    def localisation(self) -> float:
        """F1 of buildings (of known or unknown level) against ground."""
        tp, fn, fp = self.counts[1:, 1:].sum(), self.counts[1:, 0].sum(), self.counts[0, 1:].sum()
        return _ratio(2 * tp, 2 * tp + fp + fn)

    def f1_by_level(self) -> dict[str, float]:
        """F1 of each level that some pixel truly has, taken only where the truth has a building of known level.

        So what is predicted on ground does not count here; a building that is taken for ground does, as a miss.
        """
        scores = {}
        for level, name in enumerate(self.scale.levels, start=1):
            row, column = self.known[level - 1], self.known[:, level]
            if row.sum():
                scores[name] = _ratio(2 * row[level], row.sum() + column.sum())
        return scores

    def scores(self) -> GradeScores:
        """Compute all scores; levels that no pixel truly has are left out of the mean over levels."""
        f1 = np.array(list(self.f1_by_level().values()))
        damage = float(len(f1) / np.sum(1 / (f1 + _EPSILON))) if len(f1) else 0.0
        localisation = self.localisation()
        both = self.known[:, 1:]  # true and predicted levels
        distance = np.abs(np.subtract.outer(np.arange(len(both)), np.arange(len(both))))
        return GradeScores(
            xview2=_LOCALISATION * localisation + _DAMAGE * damage,
            localisation=localisation,
            damage=damage,
            level_error=_ratio((both * distance).sum(), both.sum()),
            kappa=_kappa(both.astype(np.float64), distance.astype(np.float64) ** 2),
        )


def _kappa(counts: Float[np.ndarray, "k k"], weight: Float[np.ndarray, "k k"]) -> float:
    """Cohen's kappa, 1 - observed / expected disagreement; 0 where all pixels have one and the same level."""
    total = counts.sum()
    if not total:
        return 0.0
    expected = (np.outer(counts.sum(axis=1), counts.sum(axis=0)) / total * weight).sum()
    return float(1 - (counts * weight).sum() / expected) if expected else 0.0


def _ratio(part: float | np.integer, whole: float | np.integer) -> float:
    return float(part / whole) if whole else 0.0
