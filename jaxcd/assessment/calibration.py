"""Do probabilities mean what they say: calibration curve and error, and the temperature that corrects them."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.metrics import log_loss

_BINS = 10
_EDGE = 1e-6  # probabilities are kept so far from 0 and 1
_TEMPERATURES = (0.5, 20.0)


class Calibration(NamedTuple):
    """How probabilities agree with what was found, in bins of equal width.

    Attributes:
        predicted: mean probability in each bin that holds any.
        found: share of damaged buildings there.
        share: of all buildings that lie in the bin.
        error: expected calibration error: the mean of |predicted - found|, by share.
    """

    predicted: Float[np.ndarray, "b"]
    found: Float[np.ndarray, "b"]
    share: Float[np.ndarray, "b"]
    error: float


def calibration(
    probability: Float[np.ndarray, "n"],
    damaged: Bool[np.ndarray, "n"],
    weights: Float[np.ndarray, "n"] | None = None,
    *,
    bins: int = _BINS,
) -> Calibration:
    """Compare probabilities of damage with what was found.

    Args:
        probability: of each judged building.
        damaged: whether it is.
        weights: buildings that each stands for, of a stratified sample; None: all the same.
        bins: of equal width.

    Source: C. Guo, G. Pleiss, Y. Sun, K. Weinberger 2017 (arXiv:1706.04599), section 2.
    """
    weights = np.ones(len(probability)) if weights is None else weights
    at = np.minimum((probability * bins).astype(int), bins - 1)
    size, predicted, found = (
        np.bincount(at, weights * values, minlength=bins) for values in (np.ones(len(at)), probability, damaged)
    )
    held = size > 0
    size, predicted, found = size[held], predicted[held] / size[held], found[held] / size[held]
    share = size / size.sum()
    return Calibration(predicted, found, share, float(share @ np.abs(predicted - found)))


def fit_temperature(logits: Float[np.ndarray, "n"], damaged: Bool[np.ndarray, "n"]) -> float:
    """Return the temperature at which sigmoid(logits / temperature) has the least log loss.

    Fit it on buildings that the scores were not learned from, and never on the blind sample. It is 0.5 at least: few
    labels that are told apart without a mistake would want 0, which leaves no doubt about any building.

    Source: Guo et al. 2017, section 4.2.
    """

    def loss(log_temperature: float) -> float:
        return log_loss(damaged, tempered(logits, np.exp(log_temperature)), labels=[False, True])

    found: Any = minimize_scalar(loss, bounds=np.log(_TEMPERATURES), method="bounded")
    return float(np.exp(found.x))


def tempered(logits: Float[np.ndarray, "n"], temperature: float) -> Float[np.ndarray, "n"]:
    """Return probabilities of logits at a temperature."""
    return np.clip(expit(logits / temperature), _EDGE, 1 - _EDGE)


def logits_of(probability: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Return the logits of probabilities."""
    return logit(np.clip(probability, _EDGE, 1 - _EDGE))
