"""A light head on frozen features: it learns from the labels that there are, and scores every building of the scene."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from jaxcd.assessment.calibration import fit_temperature, tempered
from jaxcd.base.errors import LabelError
from jaxcd.base.scales import BINARY, Scale

LEAST_OF_A_LEVEL = 10
"""Labels of each level from which the head tells levels apart; with fewer, damaged or not."""

_COMPONENTS = 128  # directions in which the buildings of a scene differ most; more changes no score and takes longer
_FOLDS = 5
_STRENGTHS = np.logspace(-5, 1, 7)
_SOLVER = "newton-cholesky"  # a few steps each, where L-BFGS takes hundreds
_STRENGTH = 1e-2  # where a class has too few labels to choose one


class Scores(NamedTuple):
    """What the head says of every building.

    Attributes:
        damaged: probability of damage; NaN where the building is not seen.
        levels: probability of each level of the scale, or None where there are too few labels of some.
        labels: that it learned from.
        strength: inverse of the regularisation, chosen by cross-validation.
        temperature: that its logits were divided by, fitted out of fold; 1 where there are too few labels.
    """

    damaged: Float[np.ndarray, "n"]
    levels: Float[np.ndarray, "n k"] | None
    labels: int
    strength: float
    temperature: float


class Head:
    """Scores the buildings of a scene, again and again, as labels come.

    What it needs of the features (their scale, and the directions in which buildings differ) is found once, without
    any label.
    """

    def __init__(
        self, values: Float[np.ndarray, "n d"], seen: Float[np.ndarray, "n"], held: Collection[int], *, seed: int = 0
    ):
        """Prepare the features of a scene.

        Args:
            values: features of its buildings.
            seen: share of each that is seen; one that is not seen at all has no score and teaches nothing.
            held: rows of the blind sample: no label of these is ever looked at.
            seed: of the folds.
        """
        self.visible = seen > 0
        self.hold(held)
        self._seed = seed
        standard = StandardScaler().fit_transform(values[self.visible].astype(np.float64))
        wanted = min(_COMPONENTS, *standard.shape)
        turned = PCA(wanted, svd_solver="covariance_eigh").fit_transform(standard)
        self.points = np.zeros((len(values), wanted))
        """The buildings in the space that the head sees them in."""
        self.points[self.visible] = turned

    def hold(self, held: Collection[int]) -> None:
        """Set the rows of the blind sample anew; what is known of the features does not depend on them."""
        self._held = frozenset(held)

    def scores(self, labels: Mapping[int, int], scale: Scale = BINARY) -> Scores:
        """Learn from labels and score all buildings.

        Args:
            labels: code of the scale by row; those of the blind sample and of unseen buildings are left out.
            scale: of the codes.

        Raises:
            LabelError: the labels are all of one class.
        """
        rows = np.array(sorted(row for row in labels if row not in self._held and self.visible[row]), int)
        codes = np.array([labels[row] for row in rows], int)
        damaged = codes >= scale.damaged
        if not damaged.any() or damaged.all():
            found = "none" if not len(codes) else f"{len(codes)}, all {'damaged' if damaged.any() else 'intact'}"
            raise LabelError(f"scores need labels of both damaged and intact buildings, there are {found}: label more")
        with threadpool_limits(1):  # matrices this small take many times as long on threads that wait for each other
            model, strength = self._fitted(rows, damaged.astype(int))
            temperature = self._temperature(rows, damaged, strength)
            logits = model.decision_function(self.points)
            graded = self._levels(rows, codes, scale) if len(scale.levels) > 1 else None
        probability = np.where(self.visible, tempered(logits, temperature), np.nan)
        return Scores(probability, graded, len(rows), strength, temperature)

    def _fitted(self, rows: Int[np.ndarray, "k"], classes: Int[np.ndarray, "k"]) -> tuple[Any, float]:
        """Fit a logistic regression whose regularisation is the best one on labels that it has not seen."""
        points, least = self.points[rows], int(np.bincount(classes)[np.unique(classes)].min())
        if least < 2:
            model = _regression(_STRENGTH).fit(points, classes)
            return model, _STRENGTH
        # scikit-learn tells type checkers less than what it takes.
        how: Any = {"Cs": _STRENGTHS, "l1_ratios": (0.0,), "use_legacy_attributes": False, "solver": _SOLVER}
        folds = self._folds(least)
        model: Any = LogisticRegressionCV(cv=folds, scoring="neg_log_loss", class_weight="balanced", **how)
        model.fit(points, classes)
        return model, float(model.C_)

    def _temperature(self, rows: Int[np.ndarray, "k"], damaged: np.ndarray, strength: float) -> float:
        least = int(min(damaged.sum(), (~damaged).sum()))
        if least < _FOLDS:
            return 1.0
        logits: Any = cross_val_predict(
            _regression(strength), self.points[rows], damaged, cv=self._folds(least), method="decision_function"
        )
        return fit_temperature(logits, damaged)

    def _levels(self, rows: Int[np.ndarray, "k"], codes: Int[np.ndarray, "k"], scale: Scale) -> np.ndarray | None:
        counts = np.bincount(codes, minlength=len(scale.levels) + 1)[1:]
        if counts.min() < LEAST_OF_A_LEVEL:
            return None
        model, _ = self._fitted(rows, codes)
        found = model.predict_proba(self.points)[:, -len(scale.levels) :]
        return np.where(self.visible[:, None], found, np.nan)

    def _folds(self, least: int) -> StratifiedKFold:
        return StratifiedKFold(min(_FOLDS, least), shuffle=True, random_state=self._seed)


def _regression(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, class_weight="balanced", solver=_SOLVER)
