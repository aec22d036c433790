"""What a network does in either mode, apart from its numbers: statistics, streams, dropout, shapes."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from flax import nnx

from jaxcd import models
from jaxcd.models.blocks import ConvLayer, Encoder
from jaxcd.models.functional import apply_streams, merge

NAMES = ("fc_ef", "fc_siam_conc", "fc_siam_diff")
ONE_BY_DEFAULT = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "fc_siam_diff" else pytest.mark.slow) for name in NAMES]
)


def pairs(seed: int = 0, b: int = 2, h: int = 32, w: int = 32) -> tuple[jax.Array, jax.Array]:
    pre, post = jax.random.normal(jax.random.key(seed), (2, b, h, w, 3))
    return pre, post


def small(name: str, **settings):
    """Return a small network in its parts, as `models.split` gives them."""
    return models.build(lambda rngs: models.create(name, size="small", rngs=rngs, **settings), seed=3)


def assert_equal(a, b) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def is_equal(a, b) -> bool:
    return all(bool((x == y).all()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_initial_weights_are_drawn_as_torch_draws_them():
    # torch's default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), has the standard deviation 1/sqrt(3 fan_in).
    _, params, stats = small("fc_siam_diff")
    kernel = params["encoder"]["blocks"][2][0]["conv"]["kernel"]
    assert kernel.shape == (3, 3, 32, 64)
    assert np.abs(kernel).max() <= (9 * 32) ** -0.5
    assert np.std(kernel) == pytest.approx((3 * 9 * 32) ** -0.5, rel=0.01)
    up = params["decoder"]["ups"][0]["kernel"]
    assert np.std(up) == pytest.approx((3 * 4 * 64) ** -0.5, rel=0.01)
    assert_equal(stats["encoder"]["blocks"][0][0]["norm"], {"mean": np.zeros(16), "var": np.ones(16)})


@ONE_BY_DEFAULT
def test_eval_mode_changes_no_statistics_and_train_mode_does(name):
    network, params, stats = small(name)
    _, after = jax.jit(models.apply)(network.eval, params, stats, *pairs())
    assert_equal(stats, after)
    _, after = jax.jit(models.apply)(network.train, params, stats, *pairs())
    for x, y in zip(jax.tree.leaves(stats), jax.tree.leaves(after), strict=True):
        assert x.dtype == y.dtype == jnp.float32 and (x != y).any()


def test_a_stateful_network_is_the_pure_one():
    network, params, stats = small("fc_siam_diff")
    model = merge(network.eval, params, stats)
    images = pairs()
    for mode, graphdef in ((model.eval, network.eval), (model.train, network.train)):
        mode()
        logits, after = models.apply(graphdef, params, stats, *images)
        np.testing.assert_array_equal(model(*images), logits)
        assert_equal(nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), after)


def test_shared_encoder_is_two_passes_one_after_the_other():
    def encoder():
        made = Encoder(3, ((8,), (16,)), dropout=0.0, dtype=jnp.float32, rngs=nnx.Rngs(1))
        made.train()
        return made

    pre, post = pairs()
    # Streams of other brightness: were they normalised together, or the updates swapped, it would show.
    post = 2 * post + 1
    together, apart = encoder(), encoder()
    for (skips, bottom), images in zip(apply_streams(together, (pre, post), key=None), (pre, post), strict=True):
        expected, deep = apart(images, key=None)
        np.testing.assert_allclose(bottom, deep, rtol=1e-5, atol=1e-5)
        for a, b in zip(skips, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    streamed, sequential = (nnx.to_pure_dict(nnx.state(e, nnx.BatchStat)) for e in (together, apart))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), streamed, sequential)


def test_an_encoder_of_dates_together_takes_them_as_one_batch():
    encoder = Encoder(3, ((4,),), dropout=0.0, dtype=jnp.float32, rngs=nnx.Rngs(1))
    encoder.dates_together = True
    layer = encoder.blocks[0][0]
    pre, post = pairs()
    both = np.concatenate([np.asarray(layer.conv(image)).reshape(-1, 4) for image in (pre, 3 * post + 2)])
    encoder.train()
    ((skip,), _), _ = apply_streams(encoder, (pre, 3 * post + 2), key=None)
    np.testing.assert_allclose(layer.norm.mean[...], 0.1 * both.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.norm.var[...], 0.9 + 0.1 * both.var(0, ddof=1), rtol=1e-4)
    expected = np.maximum((both - both.mean(0)) / np.sqrt(both.var(0) + 1e-5), 0)[: skip.size // 4]
    np.testing.assert_allclose(np.asarray(skip).reshape(-1, 4), expected, rtol=1e-3, atol=1e-4)


def test_the_order_of_the_streams_updates():
    # docs/method.md: r <- .81 r + .09 pre + .1 post, the variance unbiased.
    encoder = Encoder(3, ((4,),), dropout=0.0, dtype=jnp.float32, rngs=nnx.Rngs(1))
    layer = encoder.blocks[0][0]
    pre, post = pairs()
    before, after = (np.asarray(layer.conv(image)).reshape(-1, 4) for image in (pre, 3 * post + 2))
    layer.norm.mean[...], layer.norm.var[...] = jnp.full(4, 5.0), jnp.full(4, 7.0)
    encoder.train()
    apply_streams(encoder, (pre, 3 * post + 2), key=None)
    mean = 0.81 * 5 + 0.09 * before.mean(0) + 0.1 * after.mean(0)
    var = 0.81 * 7 + 0.09 * before.var(0, ddof=1) + 0.1 * after.var(0, ddof=1)
    np.testing.assert_allclose(layer.norm.mean[...], mean, rtol=1e-5)
    np.testing.assert_allclose(layer.norm.var[...], var, rtol=1e-4)


@ONE_BY_DEFAULT
def test_dropout_acts_in_train_mode_alone(name):
    plain, dropping = small(name), small(name, dropout=0.5)
    assert_equal(plain[1:], dropping[1:])
    run = jax.jit(models.apply)
    images, keys = pairs(), jax.random.split(jax.random.key(0))
    evaluated = run(dropping[0].eval, *dropping[1:], *images, key=keys[0])
    assert_equal(evaluated, run(plain[0].eval, *plain[1:], *images))
    first, again, other = (
        run(dropping[0].train, *dropping[1:], *images, key=k)[0] for k in (keys[0], keys[0], keys[1])
    )
    np.testing.assert_array_equal(first, again)
    assert not is_equal(first, other)
    assert not is_equal(first, run(plain[0].train, *plain[1:], *images)[0])


def test_dropout_without_a_key_is_refused():
    network, params, stats = small("fc_ef", dropout=0.1)
    model = merge(network.eval, params, stats)
    model.train()
    with pytest.raises(ValueError, match="key"):
        model(*pairs())


def test_each_stream_drops_other_elements():
    def skips(dropout: float) -> jax.Array:
        encoder = Encoder(3, ((8,),), dropout=dropout, dtype=jnp.float32, rngs=nnx.Rngs(1))
        encoder.train()
        pre, _ = pairs()
        (((first,), _), ((second,), _)) = apply_streams(encoder, (pre, pre), key=jax.random.key(0))
        return jnp.stack([first, second])

    kept = skips(0.0)
    np.testing.assert_array_equal(kept[0], kept[1])
    dropped = skips(0.5)
    on = kept[0] > 0
    share = float(((dropped[0] == 0) == (dropped[1] == 0))[on].mean())
    assert share == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("decoder", [False, True])
def test_the_encoder_drops_elements_and_the_decoder_channels(decoder):
    def layer(dropout: float) -> ConvLayer:
        made = ConvLayer(3, 64, dropout=dropout, decoder=decoder, last=False, dtype=jnp.float32, rngs=nnx.Rngs(0))
        # High enough that ReLU zeroes nothing: every zero is dropout's.
        made.norm.bias[...] = jnp.full(64, 20.0)
        made.train()
        return made

    x = pairs(b=8, h=8, w=8)[0]
    full = layer(0.0)(x, key=None)
    out = layer(0.25)(x, key=jax.random.key(1))
    kept = np.asarray(out != 0)
    assert (full > 0).all() and kept.mean() == pytest.approx(0.75, abs=0.06 if decoder else 0.01)
    np.testing.assert_allclose(out[kept], full[kept] / 0.75, rtol=1e-5)
    share = kept.mean(axis=(1, 2))
    if decoder:
        assert set(np.unique(share)) == {0.0, 1.0}
    else:
        assert 0.5 < share.min() and share.max() < 1.0
    # Samples of a batch drop on their own.
    assert (kept[0] != kept[1]).any()


@ONE_BY_DEFAULT
def test_bfloat16_computes_what_float32_does_roughly(name):
    images = pairs()
    exact, rough = (
        jax.jit(models.apply)(network.train, params, stats, *images)
        for network, params, stats in (small(name, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    )
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(rough))
    assert 0 < float(jnp.abs(exact[0] - rough[0]).max()) < 0.1 * float(jnp.abs(exact[0]).max())


@pytest.mark.parametrize(("size", "stride"), [("small", 8), ("medium", 16), ("large", 32)])
def test_sides_are_multiples_of_the_stride(size, stride, monkeypatch):
    # A user's process has no checks of annotations, which would end this earlier.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    model = nnx.eval_shape(lambda: models.create("fc_siam_conc", size=size, rngs=nnx.Rngs(0)))
    assert model.stride == stride
    with pytest.raises(ValueError, match=f"multiples of {stride}"):
        model(*pairs(h=stride + stride // 2, w=stride))
    with pytest.raises(ValueError, match="equal shapes"):
        model(pairs()[0], pairs(h=64)[0])


@pytest.mark.parametrize("name", [*NAMES, pytest.param("siam_lite0", marks=pytest.mark.slow)])
def test_outputs_change_the_last_convolution_alone(name):
    def made(outputs: int):
        _, params, _ = models.build(
            lambda rngs: models.create(name, size="small", outputs=outputs, rngs=rngs), seed=3, weights=False
        )
        return jax.tree.leaves(params)

    shapes = [(a.shape, b.shape) for a, b in zip(made(1), made(4), strict=True)]
    other = [(one, four) for one, four in shapes if one != four]
    assert len(other) == 2 and all(one == (*four[:-1], 1) and four[-1] == 4 for one, four in other)
    network = models.create(name, size="small", outputs=4, rngs=nnx.Rngs(0))
    assert jax.eval_shape(network, *pairs()).shape == (2, 32, 32, 4)
