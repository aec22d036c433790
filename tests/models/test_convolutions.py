"""oneDNN's convolutions on a CPU: their numbers, when they are chosen, and what is said of it."""

import subprocess
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxcd import models
from jaxcd.base import machine
from jaxcd.learn import steps
from jaxcd.models.convolutions import trial
from jaxcd.models.convolutions.choice import choose_convolutions
from jaxcd.models.convolutions.convolution import convolve, multiply
from jaxcd.models.convolutions.depthwise import depthwise
from jaxcd.models.convolutions.geometry import centred, same
from tests.learn.batches import random_batch, small_config


def _drawn(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


def _near(got, expected, tolerance):
    largest = float(jnp.max(jnp.abs(expected)))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * max(largest, 1e-6))


def _value_and_gradients(function, *arguments):
    """Return the result, and the gradients of a sum in which each value has another weight."""

    @jax.jit
    def both(*arguments):
        value, pull = jax.vjp(function, *arguments)
        return value, pull(jnp.sin(jnp.arange(value.size, dtype=value.dtype)).reshape(value.shape))

    value, gradients = both(*arguments)
    return value, *gradients


CASES = [
    (centred(3), (2, 17, 9, 3), 16),  # odd sides, few channels
    (centred(3), (1, 8, 8, 16), 1),  # the last layer
    (centred(3), (1, 1, 5, 4), 6),  # one row
    (same(3, 2), (2, 8, 12, 3), 8),  # Lite0's first layer
    (centred(3, 2), (1, 6, 10, 5), 7),
    (centred(7, 2), (1, 12, 8, 3), 4),  # ResNet's first layer
]


@pytest.mark.parametrize(("window", "images", "channels"), CASES)
def test_convolutions_and_their_gradients_are_xlas(window, images, channels):
    x, kernel = _drawn(*images), _drawn(window.kernel, window.kernel, images[-1], channels)
    got = _value_and_gradients(partial(convolve, window=window, onednn=True), x, kernel)
    expected = _value_and_gradients(partial(convolve, window=window, onednn=False), x, kernel)
    for ours, theirs in zip(got, expected, strict=True):
        _near(ours, theirs, 1e-5)


@pytest.mark.parametrize("window", [same(3), same(5), same(3, 2), same(5, 2)])
def test_depthwise_convolutions_and_their_gradients_are_the_shifted_sums(window):
    x, kernel = _drawn(2, 8, 12, 6), _drawn(window.kernel, window.kernel, 1, 6)
    got = _value_and_gradients(lambda x, k: depthwise(x, k, window, True), x, kernel)
    for ours, theirs in zip(got, _value_and_gradients(lambda x, k: depthwise(x, k, window), x, kernel), strict=True):
        _near(ours, theirs, 1e-5)


def test_products_and_their_gradients_are_xlas():
    x, kernel = _drawn(2, 3, 5, 7), _drawn(7, 4)
    got = _value_and_gradients(partial(multiply, onednn=True), x, kernel)
    for ours, theirs in zip(got, _value_and_gradients(partial(multiply, onednn=False), x, kernel), strict=True):
        _near(ours, theirs, 1e-5)


def test_what_the_calls_do_not_take_is_xlas():
    kernel = _drawn(3, 3, 4, 2)
    empty = jax.jit(partial(convolve, window=centred(3), onednn=True))(jnp.zeros((0, 8, 8, 4)), kernel)
    assert empty.shape == (0, 8, 8, 2)
    half = jax.jit(partial(convolve, window=centred(3), onednn=True))(
        jnp.ones((1, 4, 4, 4), jnp.float16), jnp.ones((3, 3, 4, 2), jnp.float16)
    )
    assert half.dtype == jnp.float16 and half[0, 1, 1, 0] == 36


def test_a_batch_of_batches_is_taken_one_by_one():
    x, kernel = _drawn(3, 2, 8, 8, 4), _drawn(3, 3, 4, 2)
    got = jax.jit(jax.vmap(lambda x: convolve(x, kernel, centred(3), onednn=True)))(x)
    _near(got, jax.vmap(lambda x: convolve(x, kernel, centred(3), onednn=False))(x), 1e-5)


def test_a_program_for_a_gpu_holds_none_of_the_calls():
    x, kernel = jnp.ones((1, 8, 8, 3)), jnp.ones((3, 3, 3, 4))
    step = jax.jit(lambda x, kernel: jax.grad(lambda x: convolve(x, kernel, centred(3), onednn=True).sum())(x))
    for platform, holds in (("cpu", True), ("cuda", False), ("tpu", False)):
        text = step.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        assert ("onednn" in text) == holds, platform


@pytest.mark.parametrize(
    ("name", "outputs"),
    [("fc_siam_diff", 4), *(pytest.param(name, 1, marks=pytest.mark.slow) for name in ("fc_siam_diff", "siam_lite0"))],
)
def test_a_network_is_the_same_but_for_last_bits(name, outputs):
    made = {}
    pre = _drawn(2, 32, 48, 3)
    post = pre[::-1] + 1
    for onednn in (False, True):
        make = partial(models.create, name, size="small", outputs=outputs, onednn=onednn)
        network, params, stats = models.build(lambda rngs, make=make: make(rngs=rngs), seed=1)

        @jax.jit
        def both(params, network=network, stats=stats):
            def loss(params):
                logits, after = models.apply(network.train, params, stats, pre, post)
                return jnp.sum(jnp.cos(logits)), after

            gradient, after = jax.grad(loss, has_aux=True)(params)
            return models.apply(network.eval, params, stats, pre, post)[0], after, gradient

        assert ("onednn" in both.lower(params).as_text()) == onednn
        made[onednn] = both(params)
    for ours, theirs, tolerance in zip(made[True], made[False], (1e-5, 1e-4, 1e-3), strict=True):
        largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(theirs))
        jax.tree.map(lambda a, b, t=tolerance * largest: np.testing.assert_allclose(a, b, rtol=0, atol=t), ours, theirs)


def test_embeddings_take_them_too():
    network = models.Embedding("fc_siam_diff", size="small", onednn=True, rngs=nnx.Rngs(0))
    text = jax.jit(lambda x: network(x, x)).lower(jnp.zeros((1, 16, 16, 3))).as_text()
    assert "onednn" in text


# When they are chosen.


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """A cache folder in which nothing is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    trial.failure.cache_clear()
    yield tmp_path
    trial.failure.cache_clear()


def test_they_are_tried_once_and_the_answer_is_kept(fresh, monkeypatch):
    choice = choose_convolutions("auto", dtype="float32", devices=1)
    assert choice.onednn and choice.why.startswith("oneDNN's, compiled anew at each start")
    (kept,) = (fresh / "jaxcd" / "onednn").iterdir()
    assert machine.cpu_digest() in kept.name and kept.read_text() == "right"
    trial.failure.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("tried again"))
    assert choose_convolutions("auto", dtype="float32", devices=1).onednn


def test_off_and_several_devices_are_xlas_without_a_trial(fresh):
    assert choose_convolutions("off", dtype="float32", devices=1) == (False, "XLA's (config.model.onednn=off)")
    several = choose_convolutions("auto", dtype="float32", devices=0)  # the tests have two
    assert several == (False, "XLA's, because several devices share the batch")
    assert not (fresh / "jaxcd").exists()


def test_a_call_that_ends_the_process_is_not_used(fresh, tmp_path, monkeypatch):
    """An interface that has changed: the trial's process meets the calls' settings under another name."""
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "sitecustomize.py").write_text(
        "import json\n"
        "as_it_is = json.dumps\n"
        "json.dumps = lambda value, **more: as_it_is(value, **more).replace('spatial_dims', 'space')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(changed))
    choice = choose_convolutions("auto", dtype="float32", devices=1)
    assert not choice.onednn
    assert choice.why.startswith("XLA's, slower: oneDNN of jaxlib ") and "does not take jaxcd's calls" in choice.why
    (kept,) = (fresh / "jaxcd" / "onednn").iterdir()
    assert "does not take" in kept.read_text()


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("product", lambda a, b, transposed="": transposed == "a"),
        ("product", lambda a, b, transposed="": transposed == ""),
        ("product", lambda a, b, transposed="": transposed == "b"),
        ("convolution", lambda x, kernel, window, groups=1: groups > 1),
        ("convolution", lambda x, kernel, window, groups=1: window.stride == 2),
    ],
)
def test_wrong_numbers_are_seen(call, wrong, monkeypatch):
    right = getattr(trial.calls, call)
    monkeypatch.setattr(
        trial.calls, call, lambda *given, **more: right(*given, **more) * (1.01 if wrong(*given, **more) else 1)
    )
    assert trial.check("float32") == 3


def test_a_trial_that_says_nothing_of_onednn_is_made_again(fresh, tmp_path, monkeypatch):
    """Too little memory, say."""
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "sitecustomize.py").write_text("raise SystemExit('no memory')\n")
    monkeypatch.setenv("PYTHONPATH", str(changed))
    choice = choose_convolutions("auto", dtype="float32", devices=1)
    assert not choice.onednn and choice.why.startswith("XLA's, slower: the trial of oneDNN failed (exit code 1, ")
    assert "no memory" in choice.why
    assert not (fresh / "jaxcd").exists()


@pytest.mark.slow
def test_a_type_that_the_processor_lacks_is_xlas(fresh):
    """oneDNN ends the process in bfloat16 on a CPU that has no such products, and is right where it has."""
    choice = choose_convolutions("auto", dtype="bfloat16", devices=1)
    assert choice.onednn == machine.cpu_has_bfloat16()
    assert choice.onednn or "does not take jaxcd's calls in bfloat16 on this machine" in choice.why


@pytest.mark.slow
def test_a_step_gives_the_same_bits_each_time():
    config = small_config(dropout=0.1)
    config.train.devices, config.model.onednn = 1, "auto"
    network, state, step = steps.initial_state(config, steps=4)
    batch, key = random_batch(config.train.batch, seed=1), jax.random.key(3, impl="rbg")
    assert "onednn" in step.lower(state, batch, key).as_text()
    twice = []
    for _ in range(2):
        after, _ = step(jax.tree.map(jnp.copy, state), batch, key)
        twice.append([leaf.tobytes() for leaf in jax.tree.leaves(after)])
    assert twice[0] == twice[1]
