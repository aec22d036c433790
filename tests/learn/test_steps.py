import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxcd import models
from jaxcd.base.errors import ConfigError
from jaxcd.base.types import Batch, Tile
from jaxcd.config import AugmentConfig
from jaxcd.learn import losses, metrics, optimizer, sharding, steps
from jaxcd.learn.augmentation.augment import normalise
from jaxcd.runs.evaluation import evaluate
from tests.learn.batches import random_batch, small_config


def _run(config, n, *, devices=1, tx=None, seed=0):
    """Take n steps; returns the states' host copies and the losses."""
    config.train.devices = devices
    mesh = sharding.training_mesh(config)
    network, state, step = steps.initial_state(config, steps=config.train.steps)
    if tx is not None:
        state = state._replace(opt_state=tx.init(state.params))
        step = steps.train_step(network, tx, config)
    state, key = sharding.replicate(state, mesh), sharding.replicate(jax.random.key(7, impl="rbg"), mesh)
    step_losses = []
    for i in range(n):
        batch = sharding.shard_batch(random_batch(config.train.batch, seed=seed + i), mesh)
        state, progress = step(state, batch, key)
        step_losses.append(float(progress.loss))
    return jax.device_get(state), step_losses, step


@pytest.mark.slow
def test_accumulated_step_applies_the_mean_gradient_of_its_micro_batches_in_turn():
    config = small_config(batch=4, accumulation=2)
    network, before, _ = steps.initial_state(config, steps=1)
    params, stats = jax.tree.map(jnp.copy, (before.params, before.stats))
    after, step_losses, _ = _run(config, 1, tx=optax.sgd(1.0))

    def loss(params, stats, batch):
        logits, stats = models.apply(network.train, params, stats, normalise(batch.pre), normalise(batch.post))
        return losses.weighted(logits, batch.labels, valid=batch.valid, weights=config.loss), stats

    # Compiled like the step: run op by op, other rounding put one of seed 0's activations on the other side of a ReLU.
    differentiate = jax.jit(jax.value_and_grad(loss, has_aux=True))
    batch = jax.tree.map(jnp.asarray, random_batch(4))
    grads, values = [], []
    for part in (0, 1):
        micro = Batch(*(x[part::2] for x in batch))
        (value, stats), grad = differentiate(params, stats, micro)
        grads.append(grad)
        values.append(float(value))
    expected = jax.tree.map(lambda p, a, b: p - (a + b) / 2, params, *grads)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), after.params, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after.stats, stats)
    assert step_losses[0] == pytest.approx(np.mean(values), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("accumulation", "scale"), [(1, "binary"), (2, "binary"), (2, "xbd")])
def test_two_devices_give_the_result_of_one(accumulation, scale):
    def configured():
        config = small_config(batch=4, accumulation=accumulation, dropout=0.2)
        config.data.scale = scale
        config.augment = dataclasses.replace(AugmentConfig.off(), gamma=0.2, gauss_noise=50.0, rotate=90.0)
        return config

    # One step of SGD: Adam would blow rounding noise of tiny gradients up to whole steps.
    single, loss_one, _ = _run(configured(), 1, devices=1, tx=optax.sgd(0.1))
    two, loss_two, _ = _run(configured(), 1, devices=2, tx=optax.sgd(0.1))
    np.testing.assert_allclose(loss_two, loss_one, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), two.params, single.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-4), two.stats, single.stats)


def test_one_compile_on_two_devices():
    config = small_config(batch=4, dropout=0.2)
    _, _, step = _run(config, 3, devices=2)
    assert step._cache_size() == 1


@pytest.mark.parametrize("scale", ["binary", "xbd"])
def test_evaluation_counts_the_same_on_two_devices(scale):
    config = small_config()
    config.data.scale = scale
    network, state, _ = steps.initial_state(config, steps=1)
    evaluation, results = steps.evaluation_step(network, config), []
    for devices in (1, 2):
        config.train.devices = devices
        mesh = sharding.evaluation_mesh(config)
        params, stats = sharding.replicate((state.params, state.stats), mesh)
        results.append(evaluation(params, stats, sharding.shard_batch(random_batch(4), mesh)))
    np.testing.assert_array_equal(results[0].bins, results[1].bins)
    if scale != "binary":
        np.testing.assert_array_equal(results[0].grades, results[1].grades)
        assert results[0].grades.shape == (4, 6, 5) and results[0].grades.sum() == 4 * (32 * 32 - 16)
    np.testing.assert_allclose(results[0].sums, results[1].sums, rtol=1e-5)
    assert results[1].probability.sharding.num_devices == 2


@pytest.mark.parametrize("scale", ["binary", pytest.param("xbd", marks=pytest.mark.slow)])
def test_an_evaluation_can_be_of_the_mean_over_flips_and_quarter_turns(scale):
    config = small_config()
    config.data.scale = scale
    network, state, _ = steps.initial_state(config, steps=1)
    weights, batch = (state.params, state.stats), random_batch(2)
    once, mean = (steps.evaluation_step(network, config, average=average) for average in (False, True))

    def view(array, turns, flipped):
        turned = np.rot90(array, turns, axes=(1, 2))
        return np.ascontiguousarray(turned[:, :, ::-1] if flipped else turned)

    seen = []
    for turns in range(4):
        for flipped in (False, True):
            pre, post = (view(images, turns, flipped) for images in (batch.pre, batch.post))
            answer = np.asarray(once(*weights, batch._replace(pre=pre, post=post)).probability)
            seen.append(np.rot90(answer[:, :, ::-1] if flipped else answer, -turns, axes=(1, 2)))
    result = mean(*weights, batch)
    assert np.ptp(seen, axis=0).max() > 0.01  # the network does answer differently
    np.testing.assert_allclose(result.probability, np.mean(seen, axis=0), atol=2e-6)
    damaged = batch.labels >= 3 if scale == "xbd" else batch.labels
    labels, valid = jnp.asarray(damaged, jnp.uint8), jnp.asarray(batch.valid)
    expected = metrics.score_histogram(result.probability, labels, valid=valid)
    np.testing.assert_allclose(result.bins, expected, atol=2)  # a pixel at the edge of two bins may fall into either


@pytest.mark.parametrize("at_a_time", [2, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 6))])
def test_loss_of_a_split_is_that_of_one_batch_however_it_is_batched(at_a_time):
    config = small_config()
    config.train.devices, config.loss.iou = 1, 0.5
    network, state, _ = steps.initial_state(config, steps=1)
    mesh, whole = sharding.evaluation_mesh(config), random_batch(6)
    tiles = [Tile(str(i), "", 32, 32) for i in range(6)]
    parts = [slice(i, i + at_a_time) for i in range(0, 6, at_a_time)]
    result = evaluate(
        steps.evaluation_step(network, config),
        state.params,
        state.stats,
        [(Batch(*(x[part] for x in whole)), tiles[part]) for part in parts],
        mesh=mesh,
        weights=config.loss,
    )
    images = (normalise(jnp.asarray(image)) for image in (whole.pre, whole.post))
    logits, _ = models.apply(network.eval, state.params, state.stats, *images)
    expected = losses.weighted(logits, jnp.asarray(whole.labels), valid=jnp.asarray(whole.valid), weights=config.loss)
    assert result.loss == pytest.approx(float(expected), rel=1e-5) and result.not_finite == ()


def test_tiles_without_a_number_are_named():
    config = small_config()
    network, state, _ = steps.initial_state(config, steps=1)
    params = jax.tree.map(lambda p: p * jnp.nan, state.params)
    tiles = [Tile(f"t{i}", "", 32, 32) for i in range(2)]
    step, mesh = steps.evaluation_step(network, config), sharding.evaluation_mesh(config)
    result = evaluate(step, params, state.stats, [(random_batch(2), tiles)], mesh=mesh, weights=config.loss)
    assert np.isnan(result.loss) and [tile.place for tile in result.not_finite] == ["t0", "t1"]


def test_a_run_of_many_devices_is_evaluated_on_those_there_are():
    config = small_config()
    config.train.devices = 8
    assert sharding.evaluation_mesh(config).size == 2


@pytest.mark.parametrize(("size", "multiple"), [("small", 8), ("medium", 16), ("large", 32)])
def test_crops_that_the_network_cannot_take_are_named(size, multiple):
    config = small_config()
    config.model.size = size
    config.data.crop = 4 * multiple + 2
    with pytest.raises(ConfigError, match=rf"config.data.crop: .*multiples of {multiple} .* {5 * multiple}, or 0"):
        steps.check_network(config)
    for config.data.crop in (0, 4 * multiple):
        steps.check_network(config)


@pytest.mark.parametrize(("name", "accumulation"), [("fc_ef", 1), ("fc_siam_diff", 2)])
def test_a_batch_of_pretraining_can_be_balanced(name, accumulation):
    config = small_config(batch=6, accumulation=accumulation)
    config.task, config.model.name = "contrastive", name
    with pytest.raises(ConfigError, match=r"config\.train\.batch: expected a multiple of 4, .*got 6"):
        steps.check_network(config)
    config.train.batch = 8
    steps.check_network(config)


def test_an_update_that_overflows_is_told_before_it_is_saved():
    config = small_config()
    _, state, _ = steps.initial_state(config, steps=1)
    network, _, _ = steps.build_network(config)
    tx = optax.chain(optax.sgd(1e30), optax.scale(1e30))
    step = steps.train_step(network, tx, config)
    _, progress = step(state._replace(opt_state=tx.init(state.params)), random_batch(4), jax.random.key(0, impl="rbg"))
    assert np.isfinite(progress.loss) and np.isfinite(progress.gradient_norm) and not np.isfinite(progress.state_norm)


def test_batch_is_spread_over_the_devices():
    config = small_config(batch=4)
    config.train.devices = 2
    batch = sharding.shard_batch(random_batch(4), sharding.training_mesh(config))
    assert [shard.data.shape[0] for shard in batch.pre.addressable_shards] == [2, 2]


def test_one_compile_over_many_steps_and_the_network_learns():
    config = small_config(batch=4, steps=60)
    config.optim.learning_rate = 5e-3
    state, step_losses, step = _run(config, 60)
    assert step._cache_size() == 1
    assert int(state.step) == 60
    assert np.mean(step_losses[-5:]) < 0.5 * step_losses[0]


def test_one_compile_of_the_evaluation_step_over_equal_shapes():
    config = small_config()
    network, state, _ = steps.initial_state(config, steps=1)
    evaluation = steps.evaluation_step(network, config)
    for seed in range(3):
        evaluation(state.params, state.stats, random_batch(2, seed=seed))
    assert evaluation._cache_size() == 1


@pytest.mark.slow
def test_same_key_same_step_and_dropout_moves_with_the_step():
    config = small_config(dropout=0.3)
    _, first, _ = _run(config, 3)
    _, again, step = _run(config, 3)
    assert first == again
    # The same weights and the same batch: only the dropout mask can make the second loss differ.
    mesh, key = sharding.training_mesh(config), jax.random.key(7, impl="rbg")
    batch, key = sharding.shard_batch(random_batch(4), mesh), sharding.replicate(key, mesh)
    step_losses = []
    for number in (0, 0, 1):
        _, state, _ = steps.initial_state(config, steps=10)
        state = sharding.replicate(state._replace(step=jnp.full((), number, jnp.int32)), mesh)
        step_losses.append(float(step(state, batch, key)[1].loss))
    assert step_losses[0] == step_losses[1] == first[0] and step_losses[0] != step_losses[2]


def test_what_is_not_valid_changes_nothing():
    config = small_config(batch=2)
    batch = random_batch(2)
    results = []
    for wrong in (0, 1):
        labels = np.where(batch.valid > 0, batch.labels, wrong).astype(np.uint8)
        _, state, step = steps.initial_state(config, steps=1)
        state, progress = step(state, batch._replace(labels=labels), jax.random.key(0, impl="rbg"))
        results.append((float(progress.loss), float(progress.gradient_norm)))
    assert results[0] == results[1]


@pytest.mark.slow
def test_bfloat16_computes_in_half_and_keeps_state_and_loss_in_float32():
    config = small_config(batch=2)
    config.model.dtype = "bfloat16"
    network, state, step = steps.initial_state(config, steps=1)
    full, _, _ = steps.build_network(small_config())
    x = normalise(jnp.asarray(random_batch(2).pre))
    half, _ = models.apply(network.eval, state.params, state.stats, x, x + 1)
    whole, _ = models.apply(full.eval, state.params, state.stats, x, x + 1)
    difference = float(jnp.max(jnp.abs(half - whole)) / jnp.max(jnp.abs(whole)))
    assert 1e-6 < difference < 0.1
    state, progress = step(state, random_batch(2), jax.random.key(0, impl="rbg"))
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.stats, progress))} == {jnp.dtype("float32")}


def test_devices_that_cannot_share_the_batch_are_named():
    config = small_config(batch=6, accumulation=2)
    config.train.devices = 2
    with pytest.raises(ConfigError, match=r"config.train.batch: 2 devices.*multiple of 4"):
        sharding.training_mesh(config)
    config.train.devices = 3
    with pytest.raises(ConfigError, match=r"config.train.devices: 3 asked for, this machine has 2"):
        sharding.training_mesh(config)


def test_schedules_and_clipping():
    config = small_config().optim
    config.learning_rate, config.weight_decay = 0.1, 0.0
    params, gradient = {"w": jnp.zeros(2)}, {"w": jnp.array([3.0, 4.0])}

    def rates(n):
        tx = optimizer.create(config, steps=10)
        state, rates_seen = tx.init(params), []
        for _ in range(n):
            update, state = tx.update(gradient, state, params)
            rates_seen.append(-float(update["w"][0]))  # Adam's step under a constant gradient is the rate
        return rates_seen

    assert rates(3) == pytest.approx([0.1, 0.1, 0.1], rel=1e-4)
    config.schedule, config.warmup_steps = "cosine", 2
    rates_seen = rates(11)
    assert rates_seen[:3] == pytest.approx([0.0, 0.05, 0.1], abs=1e-5)
    assert rates_seen[6] == pytest.approx(0.05, abs=1e-5)
    assert rates_seen[10] == pytest.approx(0.0, abs=1e-6)

    # Adam hides a gradient's size; the moments it keeps do not.
    config.clip_norm = 1.0
    tx = optimizer.create(config, steps=10)
    _, state = tx.update(gradient, tx.init(params), params)
    moment = optax.tree_utils.tree_get(state, "mu")["w"]
    np.testing.assert_allclose(moment, 0.1 * np.array([0.6, 0.8]), rtol=1e-5)
