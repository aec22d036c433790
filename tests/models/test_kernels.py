"""The gradients that are written out, against torch's, and what is drawn from 16 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxcd.models.draws import dropout
from jaxcd.models.kernels import _passed_in_three_forms, _passed_once, batch_normalise, max_pool


def nchw(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).requires_grad_()


def test_pooling_gives_the_gradient_to_the_pixel_that_torch_gives_it_to():
    # Whole numbers from 0 to 2: nearly every window has equal pixels.
    rng = np.random.default_rng(0)
    images = rng.integers(0, 3, (2, 8, 6, 5)).astype(np.float32)
    g = rng.standard_normal((2, 4, 3, 5), np.float32)
    theirs = nchw(images)
    expected = torch.nn.functional.max_pool2d(theirs, 2)
    expected.backward(torch.from_numpy(g.transpose(0, 3, 1, 2).copy()))
    pooled, gradient = jax.vjp(max_pool, jnp.asarray(images))
    np.testing.assert_array_equal(pooled, expected.detach().numpy().transpose(0, 2, 3, 1))
    assert theirs.grad is not None
    np.testing.assert_array_equal(gradient(jnp.asarray(g))[0], theirs.grad.numpy().transpose(0, 2, 3, 1))


def test_each_streams_batchnorm_with_relu_has_torchs_values_and_gradients():
    rng = np.random.default_rng(1)
    x = (3 * rng.standard_normal((2, 2, 6, 5, 4)) + 1).astype(np.float32)
    x[:, 1] *= 5
    scale, bias = rng.uniform(0.5, 2, 4).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    g = rng.standard_normal(x.shape).astype(np.float32)
    (y, mean, var), gradient = jax.vjp(
        lambda *given: batch_normalise(*given, 1e-5, True), *map(jnp.asarray, (x, scale, bias))
    )
    x_gradient, scale_gradient, bias_gradient = gradient((jnp.asarray(g), jnp.zeros((2, 4)), jnp.zeros((2, 4))))
    weight, shift = (torch.from_numpy(values.astype(np.float64)).requires_grad_() for values in (scale, bias))
    for t in range(2):
        images = nchw(x[:, t].astype(np.float64))
        expected = torch.relu(torch.nn.functional.batch_norm(images, None, None, weight, shift, training=True))
        expected.backward(torch.from_numpy(g[:, t].astype(np.float64).transpose(0, 3, 1, 2).copy()))
        np.testing.assert_allclose(y[:, t], expected.detach().numpy().transpose(0, 2, 3, 1), atol=1e-5)
        assert images.grad is not None
        np.testing.assert_allclose(x_gradient[:, t], images.grad.numpy().transpose(0, 2, 3, 1), atol=1e-5)
        np.testing.assert_allclose(mean[t], x[:, t].mean(axis=(0, 1, 2)), rtol=1e-5)
        np.testing.assert_allclose(var[t], x[:, t].var(axis=(0, 1, 2)), rtol=1e-5)
    assert weight.grad is not None and shift.grad is not None
    np.testing.assert_allclose(scale_gradient, weight.grad, rtol=1e-4)
    np.testing.assert_allclose(bias_gradient, shift.grad, rtol=1e-4)


def test_what_a_gpu_computes_of_relus_gradient_is_what_a_cpu_computes():
    rng = np.random.default_rng(2)
    x, g = rng.standard_normal((2, 4, 1, 9, 9, 5)).astype(np.float32)
    factor, shift = rng.standard_normal((2, 1, 1, 1, 5)).astype(np.float32)
    x[0, 0, 0] = -(shift / factor)[0, 0]  # on ReLU's edge, or next to it
    once = jax.jit(_passed_once)(x, factor, shift, g)
    assert 0.3 < float((once[0] == 0).mean()) < 0.7
    # A compiler may keep a product's last bits for the sum or not, which decides on the edge alone.
    for got in jax.jit(_passed_in_three_forms)(x, factor, shift, g):
        differs = np.asarray(got != once[0])
        assert not differs[1:].any() and not differs[0, 0, 1:].any()


@pytest.mark.parametrize("rate", [0.01, 0.3])
def test_dropout_drops_its_rate_and_keeps_the_mean(rate):
    out = np.asarray(dropout(jnp.ones((1000, 1001)), rate, jax.random.key(0), (1000, 1001)))
    # Five standard deviations of a share of a million draws.
    assert (out == 0).mean() == pytest.approx(rate, abs=5 * (rate * (1 - rate) / 1e6) ** 0.5)
    np.testing.assert_allclose(out[out > 0], 1 / (1 - rate), rtol=1e-4)
    columns = np.asarray(dropout(jnp.ones((8, 3, 64)), rate, jax.random.key(1), (8, 1, 64)))
    assert (columns == columns[:, :1]).all()
