"""Segmentation losses over the valid pixels of a whole batch, or of a whole split.

Every loss takes logits and 0/1 labels of shape [b, h, w] and a mask `valid` of known pixels, and returns a float32
scalar. Without a valid pixel, loss and gradient are 0. All losses are ratios of sums over pixels, so the loss of a
split follows from the added sums of its tiles, however they were batched. `jaxcd.learn.ordinal` computes the sums for
levels of damage, where a pixel has several logits.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jaxcd.config import LossConfig

_SMOOTHING = 1.0  # added to numerator and denominator, as in the reference code

Logits = Float[Array, "b h w"]
Pixels = Num[Array, "b h w"]


class Sums(NamedTuple):
    """Sums over valid pixels; the sums of several batches can be added.

    Attributes:
        valid: number of valid pixels.
        cross_entropy: sum of the weighted binary cross-entropy.
        intersection: sum of the probability of damage over damaged pixels.
        predicted: sum of the probability of damage over all valid pixels.
        actual: number of damaged pixels.
    """

    valid: Any
    cross_entropy: Any
    intersection: Any
    predicted: Any
    actual: Any


def sums(
    logits: Logits, labels: Pixels, *, valid: Pixels, positive_weight: float, axis: tuple[int, ...] | None = None
) -> Sums:
    """Return the sums from which all losses are computed.

    Args:
        logits: logits of damage.
        labels: 1 where damaged, else 0.
        valid: 1 where the label is known, else 0.
        positive_weight: weight of damaged pixels in the cross-entropy.
        axis: axes to sum over; None for all.
    """
    logits, labels, valid = (x.astype(jnp.float32) for x in (logits, labels, valid))
    entropy = positive_weight * labels * jax.nn.softplus(-logits) + (1 - labels) * jax.nn.softplus(logits)
    probability, labels = valid * jax.nn.sigmoid(logits), valid * labels
    parts = valid, valid * entropy, probability * labels, probability, labels
    return Sums(*(jnp.sum(part, axis=axis) for part in parts))


@dataclass(frozen=True)
class Loss:
    """A loss, defined as a function of sums; a call computes the sums over the whole batch first."""

    of_sums: Callable[[Sums], Any]

    def __call__(
        self, logits: Logits, labels: Pixels, *, valid: Pixels, positive_weight: float = 1.0
    ) -> Float[Array, ""]:
        """Return the loss; the arguments are those of `sums`."""
        return self.of_sums(sums(logits, labels, valid=valid, positive_weight=positive_weight))


@Loss
def bce(total: Sums) -> Any:
    """Binary cross-entropy, averaged over valid pixels (the reference code has a positive weight of 16.2578)."""
    return total.cross_entropy / (total.valid + (total.valid == 0))


@Loss
def dice(total: Sums) -> Any:
    """Soft Dice loss, 1 - 2|P∩L| / (|P| + |L|)."""
    return 1 - (2 * total.intersection + _SMOOTHING) / (total.predicted + total.actual + _SMOOTHING)


@Loss
def iou(total: Sums) -> Any:
    """Soft Jaccard loss, 1 - |P∩L| / |P∪L|."""
    union = total.predicted + total.actual - total.intersection
    return 1 - (total.intersection + _SMOOTHING) / (union + _SMOOTHING)


LOSSES = {"bce": bce, "dice": dice, "iou": iou}
"""The losses by the names of their weights in `LossConfig`."""


def of_sums(total: Sums, weights: LossConfig) -> Any:
    """Return the weighted sum of the losses; a loss of weight 0 is not computed."""
    return sum(weight * LOSSES[name].of_sums(total) for name, weight in weights.weights().items() if weight)


def weighted(logits: Logits, labels: Pixels, *, valid: Pixels, weights: LossConfig) -> Float[Array, ""]:
    """Return the weighted sum of the losses over the whole batch."""
    return of_sums(sums(logits, labels, valid=valid, positive_weight=weights.positive_weight), weights)
