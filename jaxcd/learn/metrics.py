"""Metrics of the damage class from pixel counts, at every threshold at once.

The device counts pixels by class and probability bin. The host adds the counts in 64 bits, because 32 bits overflow at
seven scenes, and computes ratios last. See docs/method.md, Metrics.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Int64, Num

# A power of two, so that probability * BINS and k / BINS are exact. A threshold of k / BINS then gives the same
# decision from the counts as from the probabilities.
BINS = 1024
_DAMAGED_PATCH, _KNOWN_PATCH = 0.1, 0.5


class Scores(NamedTuple):
    """Scores of the damage class, 0..1; a score whose denominator is 0 is 0."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    iou: float


class PartialScores(NamedTuple):
    """Scores for data in which much damage has no label: recall, and the share of valid pixels called damage."""

    recall: float
    flagged: float


def histogram(
    logits: Float[Array, "b h w"], labels: Num[Array, "b h w"], *, valid: Num[Array, "b h w"]
) -> Int32[Array, "b 2 1024"]:
    """Count the valid pixels of each pair by class and probability bin.

    Args:
        logits: logits of damage.
        labels: 1 where damaged, else 0.
        valid: 1 where the label is known, else 0.

    Returns:
        Counts. Row 0 counts intact, row 1 damaged pixels; bin k counts probabilities in [k/1024, (k+1)/1024).
    """
    return score_histogram(jax.nn.sigmoid(logits.astype(jnp.float32)), labels, valid=valid)


def score_histogram(
    score: Float[Array, "b h w"], labels: Num[Array, "b h w"], *, valid: Num[Array, "b h w"]
) -> Int32[Array, "b 2 1024"]:
    """Count as `histogram` does, but for any score 0..1 in place of a probability."""
    bins = jnp.clip((score * BINS).astype(jnp.int32), 0, BINS - 1)
    cells = bins + BINS * (labels > 0)
    # Invalid pixels are counted in an extra last cell, which is dropped.
    cells = jnp.where(valid > 0, cells, 2 * BINS)

    def count(pair: Int32[Array, "p"]) -> Int32[Array, "2 1024"]:
        return jnp.bincount(pair, length=2 * BINS + 1)[:-1].reshape(2, BINS)

    return jax.vmap(count)(cells.reshape(cells.shape[0], -1)).astype(jnp.int32)


def patch_histogram(
    score: Float[Array, "b h w"], labels: Num[Array, "b h w"], *, valid: Num[Array, "b h w"], side: int
) -> Int32[Array, "b 2 1024"]:
    """Count square patches as `score_histogram` counts pixels.

    The score of a patch is the mean over its valid pixels. It is damaged where at least a tenth of them is, and valid
    where at least half of its pixels are. Patches that reach beyond the lower and the right edge count by what is
    inside.

    Args:
        score: 0..1.
        labels: 1 where damaged, else 0.
        valid: 1 where the label is known, else 0.
        side: of a patch in pixels.
    """
    h, w = score.shape[1:]
    known = (valid > 0).astype(jnp.float32)

    def summed(pixels: Array) -> Array:
        padded = jnp.pad(pixels, ((0, 0), (0, -h % side), (0, -w % side)))
        return padded.reshape(padded.shape[0], -(-h // side), side, -(-w // side), side).sum(axis=(2, 4))

    pixels = jnp.maximum(summed(known), 1)
    damaged = (summed(known * (labels > 0)) >= _DAMAGED_PATCH * pixels).astype(jnp.uint8)
    seen = (summed(known) >= _KNOWN_PATCH * side**2).astype(jnp.uint8)
    return score_histogram(summed(known * score) / pixels, damaged, valid=seen)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Pixel counts by class and probability bin; merge with `+`."""

    bins: Int64[np.ndarray, "2 1024"]

    @classmethod
    def zero(cls) -> "Counts":
        """Return counts that are all zero."""
        return cls(bins=np.zeros((2, BINS), np.int64))

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(bins=self.bins + other.bins)

    @property
    def damaged(self) -> int:
        """Number of valid pixels that are damaged."""
        return int(self.bins[1].sum())

    @property
    def valid(self) -> int:
        """Number of valid pixels."""
        return int(self.bins.sum())

    def confusion(self, threshold: float) -> tuple[int, int, int, int]:
        """Return TP, FP, FN, TN if pixels with a probability of at least the threshold are called damage.

        Args:
            threshold: rounded to the nearest multiple of 1/1024.
        """
        k = round(threshold * BINS)
        fp, tp = (int(n) for n in self.bins[:, k:].sum(axis=1))
        tn, fn = (int(n) for n in self.bins[:, :k].sum(axis=1))
        return tp, fp, fn, tn

    def at(self, threshold: float) -> Scores:
        """Return the scores at a threshold (see `confusion`)."""
        tp, fp, fn, tn = self.confusion(threshold)
        return Scores(
            accuracy=_ratio(tp + tn, tp + fp + fn + tn),
            precision=_ratio(tp, tp + fp),
            recall=_ratio(tp, tp + fn),
            f1=_ratio(2 * tp, 2 * tp + fp + fn),
            iou=_ratio(tp, tp + fp + fn),
        )

    def partial_at(self, threshold: float) -> PartialScores:
        """Return the scores at a threshold, for data in which much damage has no label."""
        return PartialScores(recall=self.at(threshold).recall, flagged=self.flagged(threshold))

    def flagged(self, threshold: float) -> float:
        """Return the share of valid pixels that are called damage at a threshold."""
        tp, fp, _, _ = self.confusion(threshold)
        return _ratio(tp + fp, self.valid)

    def threshold_for(self, pixels: int) -> float:
        """Return the threshold that calls nearest to `pixels` pixels damage; of several, the highest."""
        tp, fp = self._above()
        distance = np.abs(tp + fp - pixels)
        return float(np.flatnonzero(distance == distance.min())[-1] / BINS)

    def recall_at(self, area: float) -> float:
        """Return the recall where this share of the valid pixels is flagged, those of the highest score first.

        Within a bin, the flagged pixels are taken at random: recall grows in proportion to the area.
        """
        tp, fp = self._above()
        flagged, found = np.append(0, (tp + fp)[::-1]), np.append(0, tp[::-1])
        return _ratio(float(np.interp(area * self.valid, flagged, found)), self.damaged)

    def best(self) -> float:
        """Return the threshold of highest IoU, and so of highest F1; of several, the one nearest to 0.5."""
        tp, fp = self._above()
        iou = tp / np.maximum(self.damaged + fp, 1)
        candidates = np.flatnonzero(iou == iou.max())
        return float(candidates[np.argmin(np.abs(candidates - BINS // 2))] / BINS)

    def curve(self) -> tuple[Float[np.ndarray, "1024"], Float[np.ndarray, "1024"], Float[np.ndarray, "1024"]]:
        """Return thresholds k/1024 in ascending order, and the precision and recall at each."""
        tp, fp = self._above()
        return np.arange(BINS) / BINS, tp / np.maximum(tp + fp, 1), tp / max(self.damaged, 1)

    def average_precision(self) -> float:
        """Return the average precision: the area under the step-wise precision-recall curve."""
        _, precision, recall = self.curve()
        return float(np.sum(precision * -np.diff(recall, append=0.0)))

    def _above(self) -> tuple[Int64[np.ndarray, "1024"], Int64[np.ndarray, "1024"]]:
        fp, tp = np.cumsum(self.bins[:, ::-1], axis=1)[:, ::-1]
        return tp, fp


def _ratio(part: int | float, whole: int) -> float:
    return part / whole if whole else 0.0
