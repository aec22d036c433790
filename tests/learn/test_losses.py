"""Losses against PyTorch, by their gradients, and where there is nothing to learn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from jaxcd.config import LossConfig
from jaxcd.learn import losses
from tools import torch_reference as reference

ALL = {name: (loss, getattr(reference, name)) for name, loss in losses.LOSSES.items()}
ALL["weighted bce"] = (
    lambda *a, valid: losses.bce(*a, valid=valid, positive_weight=16.2578),
    lambda *a: reference.bce(*a, positive_weight=16.2578),
)
GRADIENTS = {name: jax.jit(jax.value_and_grad(loss)) for name, (loss, _) in ALL.items()}
EACH = pytest.mark.parametrize("name", ALL)


def sample(seed: int, share: float = 0.3, valid_share: float = 0.8, scale: float = 3.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    logits = (scale * rng.standard_normal((3, 16, 12))).astype(np.float32)
    return logits, *(rng.random((2, 3, 16, 12)) < [[[[share]]], [[[valid_share]]]]).astype(np.uint8)


def with_gradient(name: str, logits, labels, valid) -> tuple[float, np.ndarray]:
    logits, labels, valid = map(jnp.asarray, (logits, labels, valid))
    value, gradient = GRADIENTS[name](logits, labels, valid=valid)
    return float(value), np.asarray(gradient)


@EACH
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("valid_share", [0.1, 1.0])
def test_value_and_gradient_are_torchs(name, share, valid_share):
    logits, labels, valid = sample(0, share, valid_share)
    theirs = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    expected = ALL[name][1](theirs, torch.from_numpy(labels), torch.from_numpy(valid))
    expected.backward()
    value, gradient = with_gradient(name, logits, labels, valid)
    assert value == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-4, atol=1e-8)


@EACH
@pytest.mark.parametrize("logit", [-200.0, 0.0, 200.0])
@pytest.mark.parametrize("label", [0, 1])
def test_certain_logits_stay_finite(name, logit, label):
    shape = (2, 8, 8)
    value, gradient = with_gradient(name, np.full(shape, logit), np.full(shape, label), np.ones(shape, np.uint8))
    theirs = torch.full(shape, logit, dtype=torch.float64)
    expected = ALL[name][1](theirs, torch.full(shape, label), torch.ones(shape)).item()
    assert value == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert np.isfinite(gradient).all()


def test_golden_numbers():
    # p = 1/2, 3/4; one of the two is damaged: P.L = 3/4, P = 5/4, L = 1.
    logits, labels = jnp.log(jnp.array([[[1.0, 3.0]]])), jnp.array([[[0, 1]]])
    valid = jnp.ones_like(labels)
    assert float(losses.dice(logits, labels, valid=valid)) == pytest.approx(1 - 2.5 / 3.25, rel=1e-6)
    assert float(losses.iou(logits, labels, valid=valid)) == pytest.approx(1 - 1.75 / 2.5, rel=1e-6)
    assert float(losses.bce(logits, labels, valid=valid)) == pytest.approx((np.log(2) + np.log(4 / 3)) / 2, rel=1e-6)
    doubled = losses.bce(logits, labels, valid=valid, positive_weight=2.0)
    assert float(doubled) == pytest.approx((np.log(2) + 2 * np.log(4 / 3)) / 2, rel=1e-6)


@EACH
def test_nothing_valid_gives_zero_and_no_gradient(name):
    logits, labels, valid = sample(1)
    value, gradient = with_gradient(name, logits, labels, np.zeros_like(valid))
    assert value == 0.0
    assert not gradient.any()


@EACH
@pytest.mark.parametrize("label", [0, 1])
def test_a_perfect_map_of_nothing_or_everything_costs_nothing(name, label):
    logits = np.full((2, 8, 8), 40.0 if label else -40.0)
    value, gradient = with_gradient(name, logits, np.full((2, 8, 8), label), np.ones((2, 8, 8)))
    assert value == pytest.approx(0.0, abs=1e-6)
    assert np.abs(gradient).max() < 1e-6


@given(seed=st.integers(0, 2**31), valid_share=st.floats(0, 1))
def test_invalid_pixels_change_nothing(seed, valid_share):
    logits, labels, valid = sample(seed, valid_share=valid_share)
    other, flipped = logits.copy(), labels.copy()
    other[valid == 0] = np.random.default_rng(seed + 1).normal(0, 50, (valid == 0).sum())
    flipped[valid == 0] ^= 1
    for name in ALL:
        value, gradient = with_gradient(name, logits, labels, valid)
        changed, its_gradient = with_gradient(name, other, flipped, valid)
        assert value == changed
        np.testing.assert_array_equal(gradient, its_gradient)
        assert not gradient[valid == 0].any()


@EACH
def test_gradients_are_those_of_finite_differences(name):
    logits, labels, valid = sample(2, scale=1.0)
    small = slice(None, 1), slice(None, 4), slice(None, 4)
    loss, target, mask = ALL[name][0], jnp.asarray(labels[small]), jnp.asarray(valid[small])
    check_grads(
        lambda x: loss(jnp.asarray(x), target, valid=mask),
        (jnp.asarray(logits[small]),),
        order=1,
        rtol=1e-2,
        atol=1e-3,
    )


@EACH
def test_a_batch_of_large_tiles_loses_no_digits(name):
    # 4 million pixels: summed one after the other in 32 bits, the last would not count in full.
    rng = np.random.default_rng(5)
    logits = rng.standard_normal((4, 1024, 1024), np.float32)
    labels, valid = (rng.random((2, 4, 1024, 1024), np.float32) < 0.5).astype(np.uint8)
    expected = ALL[name][1](torch.from_numpy(logits).double(), torch.from_numpy(labels), torch.from_numpy(valid))
    value = jax.jit(ALL[name][0])(logits, labels, valid=valid)
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)


def test_the_weighted_sum():
    logits, labels, valid = map(jnp.asarray, sample(3))
    names = list(LossConfig().weights())
    assert names == list(losses.LOSSES)
    each = {name: float(losses.LOSSES[name](logits, labels, valid=valid, positive_weight=4.0)) for name in names}
    assert each["bce"] != float(losses.bce(logits, labels, valid=valid))
    weights = LossConfig(**{name: 0.5 + k for k, name in enumerate(names)}, positive_weight=4.0)
    total = losses.weighted(logits, labels, valid=valid, weights=weights)
    assert float(total) == pytest.approx(sum((0.5 + k) * each[name] for k, name in enumerate(names)), rel=1e-6)
    for alone in names:
        weights = LossConfig(**{name: float(name == alone) for name in names}, positive_weight=4.0)
        total = losses.weighted(logits, labels, valid=valid, weights=weights)
        assert float(total) == pytest.approx(each[alone], rel=1e-6)
