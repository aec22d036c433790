import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from jax.test_util import check_grads

from jaxcd import models
from jaxcd.learn.contrastive import contrastive, distance


def _sample(n=12, c=16):
    rng = np.random.default_rng(0)
    return (*rng.standard_normal((2, n, c)).astype(np.float32), rng.integers(0, 2, n).astype(np.float32))


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_loss_and_gradient_are_torchs(normalise, scale):
    first, second, differ = _sample()
    first, second = scale * first, scale * second
    a, b = (torch.tensor(z, dtype=torch.float64, requires_grad=True) for z in (first, second))
    u, v = (torch.nn.functional.normalize(z) for z in (a, b)) if normalise else (a, b)
    d = ((u - v) ** 2).sum(dim=1)
    label = torch.tensor(differ, dtype=torch.float64)
    expected = ((1 - label) * d + label * torch.clamp(1 - d, min=0) ** 2).mean()
    expected.backward()
    value, grads = jax.value_and_grad(contrastive, argnums=(0, 1))(
        *map(jnp.asarray, (first, second, differ)), normalise=normalise
    )
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(grads, (a.grad, b.grad), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-6)
    second, differ = jnp.asarray(second), jnp.asarray(differ)

    def of_first(x):
        return contrastive(jnp.asarray(x), second, differ, normalise=normalise)

    check_grads(of_first, (first,), 1, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("normalise", [True, False])
def test_gradients_at_no_distance_and_at_nothing_are_finite(normalise):
    first, _, differ = _sample()
    for z in (first, np.zeros_like(first)):
        z = jnp.asarray(z)
        grads = jax.grad(contrastive, argnums=(0, 1))(z, z, jnp.asarray(differ), normalise=normalise)
        assert all(np.isfinite(g).all() for g in grads)


def test_directions_are_at_most_two_apart_and_their_length_does_not_count():
    first, second, _ = map(jnp.asarray, _sample())
    d = np.asarray(distance(first, second, normalise=True))
    assert (0 <= d).all() and (d <= 4 + 1e-5).all()
    np.testing.assert_allclose(distance(7 * first, second / 9, normalise=True), d, rtol=1e-4)
    np.testing.assert_allclose(distance(first, -first, normalise=True), 4, rtol=1e-5)


@pytest.mark.parametrize(("name", "channels"), [pytest.param("fc_ef", 6, marks=pytest.mark.slow), ("fc_siam_diff", 3)])
def test_an_embedding_has_the_encoder_of_its_network(name, channels):
    network = models.create(name, size="small", rngs=nnx.Rngs(0))
    embedding = models.Embedding(name, size="small", rngs=nnx.Rngs(0))
    shapes = [jax.tree.map(jnp.shape, nnx.to_pure_dict(nnx.state(m.encoder))) for m in (network, embedding)]
    assert shapes[0] == shapes[1]
    embedding.eval()
    rng = np.random.default_rng(1)
    images = jnp.asarray(rng.standard_normal((2, 3, 32, 32, channels)), jnp.float32)
    z = embedding(images[0], images[1])
    assert z.shape == (2, 3, 128)
    _, bottom = embedding.encoder(jnp.asarray(images[1]), key=None)
    by_hand = bottom.mean(axis=(1, 2)) @ embedding.embedding.kernel[...] + embedding.embedding.bias[...]
    np.testing.assert_allclose(z[1], by_hand, rtol=1e-4, atol=1e-5)
