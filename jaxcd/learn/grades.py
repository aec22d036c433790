"""Metrics of levels of damage, all computed from one table of pixels by true and predicted level.

Source: docs/method.md, Graded damage (the xView2 score).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from jaxcd.base.scales import Scale

_EPSILON = 1e-6  # added to the F1 of each level before their harmonic mean (xView2)
_LOCALISATION, _DAMAGE = 0.3, 0.7  # weights of the two parts of the xView2 score


class GradeScores(NamedTuple):
    """Scores of levels of damage.

    Attributes:
        xview2: 0.3 times `localisation` plus 0.7 times `damage`.
        localisation: F1 of buildings against ground.
        damage: harmonic mean of the F1 scores of the levels.
        level_error: mean absolute difference of true and predicted level, over pixels that both call a building.
        kappa: Cohen's kappa over the same pixels, with quadratic weights.
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
        scale: scale of the codes.
        counts: number of pixels by true code (rows, the last for buildings of unknown level) and predicted code
            (columns).
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
        """Return counts that are all zero."""
        codes = len(scale.codes)
        return cls(scale=scale, counts=np.zeros((codes + 1, codes), np.int64))

    def __add__(self, other: "Grades") -> "Grades":
        return Grades(scale=self.scale, counts=self.counts + other.counts)

    @property
    def known(self) -> Int64[np.ndarray, "k p"]:
        """Counts of buildings of known level, by true level (rows) and predicted code (columns)."""
        return self.counts[1:-1]

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the levels that no pixel's label has."""
        return tuple(name for name, row in zip(self.scale.levels, self.known, strict=True) if not row.sum())

    def localisation(self) -> float:
        """Return the F1 of buildings (of known or unknown level) against ground."""
        tp, fn, fp = self.counts[1:, 1:].sum(), self.counts[1:, 0].sum(), self.counts[0, 1:].sum()
        return _ratio(2 * tp, 2 * tp + fp + fn)

    def f1_by_level(self) -> dict[str, float]:
        """Return the F1 of each level that occurs in the labels, over pixels labelled as a building of known level.

        So predictions on ground do not count here. A building that is predicted as ground counts as a miss.
        """
        scores = {}
        for level, name in enumerate(self.scale.levels, start=1):
            row, column = self.known[level - 1], self.known[:, level]
            if row.sum():
                scores[name] = _ratio(2 * row[level], row.sum() + column.sum())
        return scores

    def scores(self) -> GradeScores:
        """Return all scores; the mean over levels leaves out levels that do not occur in the labels."""
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
    """Return Cohen's kappa, 1 - observed / expected disagreement; 0 if all pixels have the same level."""
    total = counts.sum()
    if not total:
        return 0.0
    expected = (np.outer(counts.sum(axis=1), counts.sum(axis=0)) / total * weight).sum()
    return float(1 - (counts * weight).sum() / expected) if expected else 0.0


def _ratio(part: float | np.integer, whole: float | np.integer) -> float:
    return float(part / whole) if whole else 0.0
