"""Graded damage: from a network's logits to probabilities, levels and losses.

With a scale of K levels, a pixel has K logits. Logit 1 gives the probability that the pixel is a building. Logit j + 1
gives the probability that its level is j + 1 or worse, on condition that it is j or worse. So
P(>= 1) = sigmoid(logit 1) and P(>= j + 1) = P(>= j) sigmoid(logit j + 1). These probabilities never rise with the
level, whatever the logits are.

Source: docs/method.md, Graded damage.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32, Num, UInt8

from jaxcd.base.scales import UNKNOWN, Scale
from jaxcd.config import LossConfig
from jaxcd.learn import losses
from jaxcd.learn.losses import Pixels, Sums

Logits = Float[Array, "b h w k"]
_LEAST = 1e-6  # probabilities are clipped to at least this, so that their logits are finite


def exceedance(logits: Logits) -> Logits:
    """Return P(level >= j) for j = 1 ... K, in float32; it never rises along the last axis."""
    conditional = jax.nn.sigmoid(logits.astype(jnp.float32))
    parts = [conditional[..., 0]]
    for j in range(1, logits.shape[-1]):
        parts.append(parts[-1] * conditional[..., j])  # a product with a factor of at most 1 never rounds up
    return jnp.stack(parts, axis=-1)


def log_odds(probability: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Return the logits of probabilities; probabilities near 0 and 1 are clipped, so that all logits are finite."""
    return jax.scipy.special.logit(jnp.clip(probability, _LEAST, 1 - _LEAST))


def as_logits(probability: Logits) -> Logits:
    """Return the logits from which `exceedance` computes the given probabilities P(level >= j)."""
    before = jnp.concatenate([jnp.ones_like(probability[..., :1]), probability[..., :-1]], axis=-1)
    return log_odds(probability / jnp.maximum(before, _LEAST))


def predicted_level(probability: Logits) -> UInt8[Array, "b h w"]:
    """Return the code of each pixel's level from P(level >= j).

    A pixel is a building if P(>= 1) is at least 0.5. Its level is then the median of the levels, given that it is a
    building: the worst j for which P(>= j) / P(>= 1) is at least 0.5. The median has the least expected error in
        levels.
    """
    building = probability[..., 0]
    worse = probability[..., 1:] >= 0.5 * building[..., None]
    level = 1 + jnp.sum(worse, axis=-1, dtype=jnp.int32)
    return jnp.where(building >= 0.5, level, 0).astype(jnp.uint8)


def damage_alone(labels: Pixels, valid: Pixels, scale: Scale) -> tuple[Num[Array, "b h w"], Num[Array, "b h w"]]:
    """Convert labels and `valid` to the scale `binary`, in which buildings of unknown level are not valid."""
    if not scale.buildings:
        return labels, valid
    known = labels != UNKNOWN
    return ((labels >= scale.damaged) & known).astype(jnp.uint8), valid * known


def sums(
    logits: Logits, labels: Pixels, *, valid: Pixels, weights: LossConfig, axis: tuple[int, ...] = (0, 1, 2)
) -> Sums:
    """Return the sums from which the losses of each output are computed; the fields have a last axis of length K.

    The cross-entropy of output j + 1 is summed over the pixels whose true level is j or worse; `weights.level_weights`
    gives each pixel the weight of its true level. The overlaps (for Dice and IoU) compare P(level >= j + 1) with the
    truth of "level >= j + 1" over all pixels. Buildings of unknown level count in the first output only.

    Args:
        logits: K logits for each pixel.
        labels: codes of the scale, or UNKNOWN.
        valid: 1 where the label is known, else 0.
        weights: configuration of the losses; `level_weights` is used.
        axis: axes of pixels to sum over.
    """
    logits, valid = logits.astype(jnp.float32), valid.astype(jnp.float32)
    labels = labels.astype(jnp.int32)
    probability = exceedance(logits)
    unknown = labels == UNKNOWN
    parts = []
    for j in range(logits.shape[-1]):
        known = valid if j == 0 else valid * ~unknown
        worse = jnp.where(unknown, j == 0, labels > j).astype(jnp.float32)
        conditioned = known * (labels >= j)
        logit = logits[..., j]
        entropy = worse * jax.nn.softplus(-logit) + (1 - worse) * jax.nn.softplus(logit)
        weight = _weight_of(labels, weights.level_weights)
        predicted = probability[..., j] * known
        parts.append((conditioned, conditioned * weight * entropy, predicted * worse, predicted, known * worse))
    return Sums(*(jnp.stack([jnp.sum(part, axis=axis) for part in same], axis=-1) for same in zip(*parts, strict=True)))


def weighted(logits: Logits, labels: Pixels, *, valid: Pixels, weights: LossConfig) -> Float[Array, ""]:
    """Return the weighted sum of the losses over the whole batch; a loss is the mean of the losses of all outputs."""
    return jnp.mean(losses.of_sums(sums(logits, labels, valid=valid, weights=weights), weights))


def confusion(levels: UInt8[Array, "b h w"], labels: Pixels, *, valid: Pixels, scale: Scale) -> Int32[Array, "b t p"]:
    """Count the valid pixels of each pair by true code (rows, the last for UNKNOWN) and predicted code (columns)."""
    codes = len(scale.codes)
    truth = jnp.where(labels == UNKNOWN, codes, labels.astype(jnp.int32))
    cells = jnp.where(valid > 0, truth * codes + levels.astype(jnp.int32), (codes + 1) * codes)

    def count(pixels: Int32[Array, " n"]) -> Int32[Array, "t p"]:
        return jnp.bincount(pixels, length=(codes + 1) * codes + 1)[:-1].reshape(codes + 1, codes)

    return jax.vmap(count)(cells.reshape(cells.shape[0], -1)).astype(jnp.int32)


def _weight_of(labels: Int32[Array, "b h w"], weights: tuple[float, ...]) -> Float[Array, "..."]:
    """Return the weight of each pixel by its true level; buildings of unknown level have weight 1."""
    if not weights:
        return jnp.ones((), jnp.float32)
    known = jnp.asarray(weights, jnp.float32)[jnp.clip(labels, 0, len(weights) - 1)]
    return jnp.where(labels == UNKNOWN, 1.0, known)
