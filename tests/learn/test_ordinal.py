"""Graded damage: probabilities in order, levels, losses by a plain implementation, metrics by another one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jaxcd.base.scales import BINARY, BUILDINGS, UNKNOWN, XBD
from jaxcd.config import LossConfig
from jaxcd.learn import losses, ordinal
from jaxcd.learn.grades import Grades
from jaxcd.sources.labels import rasterise_xbd, read_xbd
from jaxcd.sources.places import LabelRules

LOSS = LossConfig(dice=1.0, bce=1.0, iou=0.5)


def sample(seed=0, k=4, shape=(2, 12, 9), unknown=0.1):
    rng = np.random.default_rng(seed)
    logits = (2 * rng.standard_normal((*shape, k))).astype(np.float32)
    labels = rng.integers(0, k + 1, shape).astype(np.uint8)
    labels[rng.random(shape) < unknown] = UNKNOWN
    valid = (rng.random(shape) < 0.8).astype(np.uint8)
    return logits, labels * valid, valid


@given(arrays.arrays(np.float32, (3, 3, 4), elements=st.floats(-300, 300, width=32)))
def test_probabilities_never_rise_with_the_level(logits):
    probability = np.asarray(ordinal.exceedance(jnp.asarray(logits)[None]))
    assert np.isfinite(probability).all() and (probability >= 0).all() and (probability <= 1).all()
    assert (np.diff(probability, axis=-1) <= 0).all()


def test_logits_of_probabilities_give_them_again():
    logits, _, _ = sample()
    probability = ordinal.exceedance(jnp.asarray(logits))
    np.testing.assert_allclose(ordinal.exceedance(ordinal.as_logits(probability)), probability, atol=1e-5)
    assert np.isfinite(ordinal.as_logits(jnp.zeros((1, 1, 1, 4)))).all()


def test_probabilities_are_products_of_conditional_ones():
    logits, _, _ = sample()
    expected = np.cumprod(1 / (1 + np.exp(-logits.astype(np.float64))), axis=-1)
    np.testing.assert_allclose(ordinal.exceedance(jnp.asarray(logits)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("probability", "level"),
    [
        ((0.49, 0.49, 0.49, 0.49), 0),  # no building, however bad
        ((0.5, 0.2, 0.1, 0.0), 1),
        ((0.5, 0.25, 0.1, 0.0), 2),  # half of what is a building is minor or worse
        ((0.9, 0.8, 0.46, 0.44), 3),
        ((0.9, 0.8, 0.7, 0.6), 4),
    ],
)
def test_the_level_is_the_median_one_of_a_building(probability, level):
    assert int(ordinal.predicted_level(jnp.array(probability, jnp.float32).reshape(1, 1, 1, 4))[0, 0, 0]) == level


def plain_loss(logits, labels, valid, weights):
    """The losses pixel by pixel, in float64: of each output, then their mean."""
    parts = []
    conditional = 1 / (1 + np.exp(-logits.astype(np.float64)))
    probability = np.cumprod(conditional, axis=-1)
    for j in range(logits.shape[-1]):
        entropy = count = overlap = predicted = actual = 0.0
        for place in np.ndindex(labels.shape):
            label, unknown = int(labels[place]), labels[place] == UNKNOWN
            if not valid[place] or (unknown and j > 0):
                continue
            worse = unknown or label >= j + 1
            p, c = probability[(*place, j)], conditional[(*place, j)]
            predicted, actual, overlap = predicted + p, actual + worse, overlap + p * worse
            if unknown or label >= j:
                count += 1
                weight = weights.level_weights[label] if weights.level_weights and not unknown else 1.0
                entropy -= weight * np.log(c if worse else 1 - c)
        dice = 1 - (2 * overlap + 1) / (predicted + actual + 1)
        iou = 1 - (overlap + 1) / (predicted + actual - overlap + 1)
        parts.append(weights.bce * (entropy / max(count, 1)) + weights.dice * dice + weights.iou * iou)
    return np.mean(parts)


@pytest.mark.parametrize("level_weights", [(), (1.0, 1.0, 3.0, 2.0, 0.5)])
@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_the_loss_is_that_of_each_pixel_summed(level_weights, unknown):
    weights = LossConfig(dice=1.0, bce=1.0, iou=0.5, level_weights=level_weights)
    logits, labels, valid = sample(1, unknown=unknown)
    found = ordinal.weighted(jnp.asarray(logits), jnp.asarray(labels), valid=jnp.asarray(valid), weights=weights)
    assert float(found) == pytest.approx(plain_loss(logits, labels, valid, weights), rel=1e-5)


def test_of_one_output_the_loss_is_the_binary_one():
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((2, 8, 8)).astype(np.float32)
    labels, valid = rng.integers(0, 2, (2, 2, 8, 8), dtype=np.uint8)
    weights = LossConfig(dice=1.0, bce=1.0, positive_weight=1.0)
    of_levels = ordinal.weighted(
        jnp.asarray(logits)[..., None], jnp.asarray(labels), valid=jnp.asarray(valid), weights=weights
    )
    binary = losses.weighted(jnp.asarray(logits), jnp.asarray(labels), valid=jnp.asarray(valid), weights=weights)
    assert float(of_levels) == pytest.approx(float(binary), rel=1e-6)


def test_an_unknown_level_teaches_where_buildings_are_and_nothing_of_their_level():
    logits, _, valid = sample(4)
    labels = np.full(valid.shape, UNKNOWN, np.uint8)
    gradient = jax.grad(lambda x: ordinal.weighted(x, jnp.asarray(labels), valid=jnp.asarray(valid), weights=LOSS))
    found = np.asarray(gradient(jnp.asarray(logits)))
    assert (found[..., 0][valid > 0] < 0).all() and not found[..., 0][valid == 0].any()
    # The overlaps of the worse levels have no pixel here, so that their gradient is 0, too.
    assert not found[..., 1:].any()


def test_without_a_valid_pixel_loss_and_gradient_are_zero():
    logits, labels, valid = sample(5)
    of = jax.value_and_grad(
        lambda x: ordinal.weighted(x, jnp.asarray(labels), valid=jnp.zeros_like(valid), weights=LOSS)
    )
    loss, gradient = of(jnp.asarray(logits))
    assert float(loss) == 0 and not np.asarray(gradient).any()


def test_damage_alone_leaves_unknown_levels_out():
    labels = jnp.array([[[0, 1, 2, 3, 4, UNKNOWN, 0]]], jnp.uint8)
    valid = jnp.array([[[1, 1, 1, 1, 1, 1, 0]]], jnp.uint8)
    damaged, known = (np.asarray(x).ravel().tolist() for x in ordinal.damage_alone(labels, valid, XBD))
    assert damaged == [0, 0, 0, 1, 1, 0, 0] and known == [1, 1, 1, 1, 1, 0, 0]
    assert ordinal.damage_alone(labels, valid, BINARY)[0] is labels


def counted(levels, labels, valid, scale):
    found = ordinal.confusion(jnp.asarray(levels), jnp.asarray(labels), valid=jnp.asarray(valid), scale=scale)
    return Grades(scale=scale, counts=np.asarray(found, np.int64).sum(axis=0))


def xview2(levels, labels, k=4):
    """The challenge's score over images, from its definition: pixel by pixel, with no table of counts."""
    building = np.zeros(3)
    of_level = np.zeros((k, 3))
    for p, t in zip(levels.reshape(-1).tolist(), labels.reshape(-1).tolist(), strict=True):
        building += (p > 0 and t > 0, p > 0 and t == 0, p == 0 and t > 0)
        if t > 0:
            for level in range(1, k + 1):
                of_level[level - 1] += (p == level == t, p == level != t, p != level == t)
    f1 = [2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0 for tp, fp, fn in of_level]
    there = [x + 1e-6 for x, (tp, _, fn) in zip(f1, of_level, strict=True) if tp + fn]
    damage = len(there) / sum(1 / x for x in there) if there else 0.0
    tp, fp, fn = building
    localisation = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0
    return 0.3 * localisation + 0.7 * damage


@pytest.mark.parametrize("case", ["random", "one level", "absent level", "no building", "perfect"])
def test_the_xview2_score_is_that_of_its_definition(case):
    rng = np.random.default_rng(7)
    shape = (3, 24, 17)
    labels, levels = (rng.integers(0, 5, shape).astype(np.uint8) for _ in range(2))
    if case == "one level":
        labels = np.where(labels > 0, 3, 0).astype(np.uint8)
    elif case == "absent level":
        labels[labels == 2] = 0
    elif case == "no building":
        labels[:] = 0
    elif case == "perfect":
        levels = labels
    grades = counted(levels, labels, np.ones(shape, np.uint8), XBD)
    assert grades.scores().xview2 == pytest.approx(xview2(levels, labels), abs=1e-9)
    absent = {"one level": ("intact", "minor", "destroyed"), "absent level": ("minor",), "no building": XBD.levels}
    assert grades.absent == absent.get(case, ())
    assert (case == "perfect") == (grades.scores().xview2 > 0.99)


def test_the_xview2_score_of_real_labels(shared_data):
    rules, real = LabelRules(XBD), []
    for place in ("00000121", "00000399"):
        label = read_xbd(shared_data / "xbd_michael" / "labels" / f"hurricane-michael_{place}_post_disaster.json")
        codes = rasterise_xbd(label, height=1024, width=1024, rules=rules)[:512, :512]
        real.append(np.where(codes == UNKNOWN, 0, codes))
    labels = np.stack(real)
    assert np.unique(labels).tolist() == [0, 1, 2, 3, 4]
    # What a network might see: all buildings five pixels aside, and those of a half one level too high.
    levels = np.roll(labels, 5, axis=2)
    levels[:, :, 256:] += (levels[:, :, 256:] > 0) & (levels[:, :, 256:] < 4)
    score = counted(levels, labels, np.ones_like(labels), XBD).scores().xview2
    assert score == pytest.approx(xview2(levels, labels), abs=1e-9) and 0.1 < score < 0.8


def test_counts_leave_invalid_pixels_out_and_unknown_levels_out_of_the_levels():
    labels = np.array([[[4, UNKNOWN, UNKNOWN, 0, 0]]], np.uint8)
    levels = np.array([[[4, 2, 0, 1, 3]]], np.uint8)
    grades = counted(levels, labels, np.array([[[1, 1, 1, 1, 0]]], np.uint8), XBD)
    assert grades.counts.sum() == 4 and grades.known.sum() == 1
    assert grades.localisation() == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert grades.f1_by_level() == {"destroyed": 1.0}


def test_error_and_kappa_by_hand():
    # True and predicted levels of ten building pixels; one is taken for ground, and not counted.
    labels = np.array([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2], np.uint8).reshape(1, 1, -1)
    levels = np.array([1, 1, 1, 1, 2, 0, 2, 2, 2, 1, 1], np.uint8).reshape(1, 1, -1)
    scores = counted(levels, labels, np.ones_like(labels), BUILDINGS).scores()
    assert scores.level_error == pytest.approx(3 / 10)
    # Agreement 0.7; by chance 0.5 * 0.6 + 0.5 * 0.4.
    assert scores.kappa == pytest.approx((0.7 - 0.5) / (1 - 0.5))


def test_kappa_weighs_by_the_square_of_the_difference():
    near, far = np.zeros((2, 6, 5), np.int64)
    near[1:5, 1:5] = far[1:5, 1:5] = np.diag([10, 10, 10, 10])
    near[1, 2] = near[2, 1] = far[1, 4] = far[4, 1] = 5
    one, three = (Grades(scale=XBD, counts=counts).scores() for counts in (near, far))
    assert three.level_error == pytest.approx(3 * one.level_error)
    assert one.kappa > three.kappa
