"""Graded damage: from a network's logits to probabilities, levels and losses.

A scale of K levels has K logits a pixel. The first one is that of a building; logit j + 1 is that of "level j + 1 or
worse" where the level is known to be j or worse. So P(>= 1) = sigmoid(logit 1) and
P(>= j + 1) = P(>= j) sigmoid(logit j + 1): the probabilities never rise with the level, whatever the logits.

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
_LEAST = 1e-6  # probability whose logit is taken


def exceedance(logits: Logits) -> Logits:
    """Return P(level >= j) for j = 1 ... K, in float32; it never rises along the last axis."""
    conditional = jax.nn.sigmoid(logits.astype(jnp.float32))
    parts = [conditional[..., 0]]
    for j in range(1, logits.shape[-1]):
        parts.append(parts[-1] * conditional[..., j])  # a product with a factor of at most 1 never rounds up
    return jnp.stack(parts, axis=-1)


def log_odds(probability: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """Return the logits of probabilities; those of 0 and 1 are finite."""
    return jax.scipy.special.logit(jnp.clip(probability, _LEAST, 1 - _LEAST))


def as_logits(probability: Logits) -> Logits:
    """Return logits of which `exceedance` makes these probabilities P(level >= j)."""
    before = jnp.concatenate([jnp.ones_like(probability[..., :1]), probability[..., :-1]], axis=-1)
    return log_odds(probability / jnp.maximum(before, _LEAST))


def predicted_level(probability: Logits) -> UInt8[Array, "b h w"]:
    """Return the code of each pixel's level from P(level >= j).

    A pixel is a building if P(>= 1) is at least a half. Its level is then the median one of the levels of a building,
    the worst j with P(>= j) / P(>= 1) of at least a half: it has the least expected error in levels.
    """
    building = probability[..., 0]
    worse = probability[..., 1:] >= 0.5 * building[..., None]
    level = 1 + jnp.sum(worse, axis=-1, dtype=jnp.int32)
    return jnp.where(building >= 0.5, level, 0).astype(jnp.uint8)


def damage_alone(labels: Pixels, valid: Pixels, scale: Scale) -> tuple[Num[Array, "b h w"], Num[Array, "b h w"]]:
    """Return labels and `valid` as in the scale `binary`: buildings of unknown level take no part."""
    if not scale.buildings:
        return labels, valid
    known = labels != UNKNOWN
    return ((labels >= scale.damaged) & known).astype(jnp.uint8), valid * known


def sums(
    logits: Logits, labels: Pixels, *, valid: Pixels, weights: LossConfig, axis: tuple[int, ...] = (0, 1, 2)
) -> Sums:
    """Sum what the losses of each output are made of; the fields have a last axis of K.

    The cross-entropy of output j + 1 is over the pixels whose level is known to be j or worse, each weighted by
    `weights.level_weights` of its own level. The overlaps (Dice, IoU) are of P(level >= j + 1) with "level >= j + 1",
    over all pixels. A building of unknown level takes part in the first output alone.

    Args:
        logits: K a pixel.
        labels: codes of the scale, or UNKNOWN.
        valid: 1 where the label is known, else 0.
        weights: `level_weights` count.
        axis: axes of pixels to sum over.
    """
    logits, valid = logits.astype(jnp.float32), valid.astype(jnp.float32)
    labels = labels.astype(jnp.int32)
    probability = exceedance(logits)
    unknown = labels == UNKNOWN
    parts = []
    for j in range(logits.shape[-1]):
        seen = valid if j == 0 else valid * ~unknown
        worse = jnp.where(unknown, j == 0, labels > j).astype(jnp.float32)
        asked = seen * (labels >= j)
        logit = logits[..., j]
        entropy = worse * jax.nn.softplus(-logit) + (1 - worse) * jax.nn.softplus(logit)
        weight = _weight_of(labels, weights.level_weights)
        overlap = probability[..., j] * seen
        parts.append((asked, asked * weight * entropy, overlap * worse, overlap, seen * worse))
    return Sums(*(jnp.stack([jnp.sum(part, axis=axis) for part in same], axis=-1) for same in zip(*parts, strict=True)))


def weighted(logits: Logits, labels: Pixels, *, valid: Pixels, weights: LossConfig) -> Float[Array, ""]:
    """Sum of the losses by their weights, over the flattened batch; each is the mean of those of the outputs."""
    return jnp.mean(losses.of_sums(sums(logits, labels, valid=valid, weights=weights), weights))


def confusion(levels: UInt8[Array, "b h w"], labels: Pixels, *, valid: Pixels, scale: Scale) -> Int32[Array, "b t p"]:
    """Count the valid pixels of each pair by true code (rows; the last one is UNKNOWN) and predicted code (columns)."""
    codes = len(scale.codes)
    truth = jnp.where(labels == UNKNOWN, codes, labels.astype(jnp.int32))
    cells = jnp.where(valid > 0, truth * codes + levels.astype(jnp.int32), (codes + 1) * codes)

    def count(pixels: Int32[Array, " n"]) -> Int32[Array, "t p"]:
        return jnp.bincount(pixels, length=(codes + 1) * codes + 1)[:-1].reshape(codes + 1, codes)

    return jax.vmap(count)(cells.reshape(cells.shape[0], -1)).astype(jnp.int32)


def _weight_of(labels: Int32[Array, "b h w"], weights: tuple[float, ...]) -> Float[Array, "..."]:
    """Return the weight of each pixel's level; a building of unknown level has weight 1."""
    if not weights:
        return jnp.ones((), jnp.float32)
    known = jnp.asarray(weights, jnp.float32)[jnp.clip(labels, 0, len(weights) - 1)]
    return jnp.where(labels == UNKNOWN, 1.0, known)
