"""Segmentation losses over the valid pixels of a whole batch.

Every loss takes logits and 0/1 labels of shape [b, h, w] and a mask `valid` of known pixels, and gives a
float32 scalar; where no pixel is valid it is 0 with gradient 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from jaxcd.config import LossConfig

_SMOOTHING = 1.0  # in numerator and denominator (reference)

Logits = Float[Array, "b h w"]
Pixels = Num[Array, "b h w"]


def bce(logits: Logits, labels: Pixels, *, valid: Pixels, positive_weight: float = 1.0) -> Float[Array, ""]:
    """Binary cross-entropy, averaged over valid pixels.

    Args:
        logits: logits of damage.
        labels: 1 where damaged, else 0.
        valid: 1 where the label is known, else 0.
        positive_weight: factor on the terms of damaged pixels (reference: 16.2578).
    """
    logits, labels, valid = (x.astype(jnp.float32) for x in (logits, labels, valid))
    positive = positive_weight * labels * jax.nn.softplus(-logits)
    negative = (1 - labels) * jax.nn.softplus(logits)
    return jnp.sum(valid * (positive + negative)) / jnp.maximum(jnp.sum(valid), 1)


def dice(logits: Logits, labels: Pixels, *, valid: Pixels) -> Float[Array, ""]:
    """Soft Dice loss, 1 - 2|P∩L| / (|P| + |L|), over the flattened batch; arguments as for `bce`."""
    intersection, predicted, actual = _soft_sums(logits, labels, valid)
    return 1 - (2 * intersection + _SMOOTHING) / (predicted + actual + _SMOOTHING)


def iou(logits: Logits, labels: Pixels, *, valid: Pixels) -> Float[Array, ""]:
    """Soft Jaccard loss, 1 - |P∩L| / |P∪L|, over the flattened batch; arguments as for `bce`."""
    intersection, predicted, actual = _soft_sums(logits, labels, valid)
    return 1 - (intersection + _SMOOTHING) / (predicted + actual - intersection + _SMOOTHING)


def weighted(logits: Logits, labels: Pixels, *, valid: Pixels, weights: LossConfig) -> Float[Array, ""]:
    """Sum of the losses by their weights; a loss of weight 0 is not computed."""
    total = jnp.zeros((), jnp.float32)
    if weights.bce:
        total += weights.bce * bce(logits, labels, valid=valid, positive_weight=weights.positive_weight)
    if weights.dice:
        total += weights.dice * dice(logits, labels, valid=valid)
    if weights.iou:
        total += weights.iou * iou(logits, labels, valid=valid)
    return total


def _soft_sums(logits: Logits, labels: Pixels, valid: Pixels) -> tuple[Array, Array, Array]:
    labels, valid = labels.astype(jnp.float32), valid.astype(jnp.float32)
    probability = valid * jax.nn.sigmoid(logits.astype(jnp.float32))
    labels = valid * labels
    return jnp.sum(probability * labels), jnp.sum(probability), jnp.sum(labels)
