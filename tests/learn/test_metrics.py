"""Metrics against scikit-learn, merging, and splits that hold nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from jaxcd.learn.metrics import BINS, Counts, histogram


def sample(seed: int, b: int = 3, share: float = 0.2, valid_share: float = 0.9) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    labels = (rng.random((b, 20, 24)) < share).astype(np.uint8)
    logits = (2 * rng.standard_normal(labels.shape) + 2 * labels - 1).astype(np.float32)
    return logits, labels, (rng.random(labels.shape) < valid_share).astype(np.uint8)


def counts(logits, labels, valid) -> Counts:
    per_pair = np.asarray(jax.jit(histogram)(logits, labels, valid=valid))
    assert per_pair.shape == (len(logits), 2, BINS) and per_pair.dtype == np.int32
    return Counts(bins=per_pair.sum(axis=0, dtype=np.int64))


def probabilities(logits) -> np.ndarray:
    return np.asarray(jax.nn.sigmoid(logits))


@pytest.mark.parametrize("threshold", [0.5, 0.0, 0.25, 0.75, 1023 / 1024])
@pytest.mark.parametrize("share", [0.2, 0.0, 1.0])
def test_scores_are_those_of_sklearn(threshold, share):
    logits, labels, valid = sample(0, share=share)
    mask = valid > 0
    truth, called = labels[mask], probabilities(logits)[mask] >= threshold
    scores = counts(logits, labels, valid).at(threshold)
    none = {"zero_division": 0.0}
    assert scores.accuracy == pytest.approx(sklearn.accuracy_score(truth, called), abs=1e-12)
    assert scores.precision == pytest.approx(sklearn.precision_score(truth, called, **none), abs=1e-12)
    assert scores.recall == pytest.approx(sklearn.recall_score(truth, called, **none), abs=1e-12)
    assert scores.f1 == pytest.approx(sklearn.f1_score(truth, called, **none), abs=1e-12)
    assert scores.iou == pytest.approx(sklearn.jaccard_score(truth, called, **none), abs=1e-12)


@pytest.mark.parametrize("logit", [-1e4, -20.0, 0.0, 20.0, 1e4])
@pytest.mark.parametrize("label", [0, 1])
def test_splits_of_one_class_and_certain_logits(logit, label):
    shape = (1, 4, 4)
    scores = counts(np.full(shape, logit, np.float32), np.full(shape, label), np.ones(shape, np.uint8)).at(0.5)
    called = logit >= 0  # a probability of exactly 1/2 is damage
    hit = float(called and label == 1)
    assert scores == (float(called == (label == 1)), hit, hit, hit, hit)
    assert all(isinstance(score, float) for score in scores)


def test_no_valid_pixel_scores_zero_and_keeps_the_usual_threshold():
    logits, labels, valid = sample(1)
    nothing = counts(logits, labels, np.zeros_like(valid))
    assert nothing.bins.sum() == 0
    assert nothing.at(0.5) == (0.0, 0.0, 0.0, 0.0, 0.0)
    assert nothing.best() == 0.5
    assert nothing.average_precision() == 0.0
    assert all(np.isfinite(values).all() for values in nothing.curve())


def test_invalid_pixels_are_not_counted():
    logits, labels, valid = sample(2)
    total = counts(logits, labels, valid)
    assert (total.bins.sum(axis=1) == [((labels == c) & (valid > 0)).sum() for c in (0, 1)]).all()
    logits[valid == 0], labels[valid == 0] = 50.0, 1
    np.testing.assert_array_equal(counts(logits, labels, valid).bins, total.bins)


def test_the_histogram_is_of_each_pair_and_bin():
    logits, labels, valid = sample(3)
    bins = np.floor(probabilities(logits) * BINS).astype(int)
    got = np.asarray(histogram(jnp.asarray(logits), jnp.asarray(labels), valid=jnp.asarray(valid)))
    for i in range(len(logits)):
        for label in (0, 1):
            chosen = bins[i][(labels[i] == label) & (valid[i] > 0)]
            np.testing.assert_array_equal(got[i, label], np.bincount(chosen, minlength=BINS))


@given(seed=st.integers(0, 2**31), cut=st.integers(1, 4))
def test_merged_counts_are_those_of_everything_together(seed, cut):
    logits, labels, valid = sample(seed, b=5)
    first, second = (counts(logits[s], labels[s], valid[s]) for s in (slice(cut), slice(cut, None)))
    together = counts(logits, labels, valid)
    merged = first + second
    np.testing.assert_array_equal(merged.bins, together.bins)
    assert merged.at(0.5) == together.at(0.5)
    np.testing.assert_array_equal((second + first).bins, merged.bins)


def test_sums_beyond_32_bits():
    bins = np.zeros((2, BINS), np.int64)
    bins[0, 10], bins[1, 900], bins[1, 100] = 2**31 - 1, 2**30, 2**30
    total = Counts(bins=bins)
    for _ in range(5):
        total = total + total
    assert total.bins.sum() == 32 * (2**32 - 1) and total.bins.dtype == np.int64
    scores = total.at(0.5)
    assert scores.precision == 1.0 and scores.recall == 0.5 and scores.iou == 0.5
    assert scores.f1 == pytest.approx(2 / 3) and scores.accuracy == pytest.approx(0.75, abs=1e-9)


@settings(max_examples=30)  # of 1024 thresholds each
@given(seed=st.integers(0, 2**31), share=st.sampled_from([0.02, 0.3, 0.9]))
def test_no_threshold_is_better_than_the_best(seed, share):
    total = counts(*sample(seed, share=share))
    best = total.best()
    assert total.at(best).iou == max(total.at(k / BINS).iou for k in range(BINS))


def test_the_best_threshold_separates_what_can_be_separated():
    labels = np.array([[[0, 0, 1, 1]]])
    logits = np.log(np.array([[[0.1, 0.2, 0.3, 0.4]]], np.float32) / (1 - np.array([[[0.1, 0.2, 0.3, 0.4]]])))
    total = counts(logits.astype(np.float32), labels, np.ones_like(labels))
    assert 0.2 < total.best() <= 0.3
    assert total.at(total.best()).iou == 1.0
    assert total.at(0.5).iou == 0.0


@pytest.mark.parametrize("seed", [4, 5])
def test_curve_and_average_precision_are_those_of_sklearn(seed):
    logits, labels, valid = sample(seed)
    mask = valid > 0
    truth = labels[mask]
    # The counts know a probability to 1/1024: sklearn is given the same.
    binned = np.floor(probabilities(logits)[mask] * BINS) / BINS
    total = counts(logits, labels, valid)
    assert total.average_precision() == pytest.approx(sklearn.average_precision_score(truth, binned), abs=1e-9)
    thresholds, precision, recall = total.curve()
    expected_precision, expected_recall, at = sklearn.precision_recall_curve(truth, binned)
    rows = np.searchsorted(thresholds, at)
    np.testing.assert_allclose(precision[rows], expected_precision[:-1], atol=1e-12)
    np.testing.assert_allclose(recall[rows], expected_recall[:-1], atol=1e-12)
    assert (np.diff(recall) <= 0).all() and recall[0] == 1.0
    exact = sklearn.average_precision_score(truth, probabilities(logits)[mask])
    assert total.average_precision() == pytest.approx(exact, abs=2e-3)


def test_the_curve_agrees_with_single_thresholds():
    total = counts(*sample(6))
    thresholds, precision, recall = total.curve()
    assert len(thresholds) == BINS
    for k in (0, 1, 300, 512, BINS - 1):
        scores = total.at(thresholds[k])
        assert (precision[k], recall[k]) == (pytest.approx(scores.precision), pytest.approx(scores.recall))
