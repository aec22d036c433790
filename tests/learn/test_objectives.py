import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import BINARY, UNKNOWN, XBD
from jaxcd.learn import sharding, steps
from jaxcd.learn.objectives import (
    OBJECTIVES,
    check_maps,
    embedding_stacks,
    kinds_differ,
    objective_of,
    pairs_an_element,
    shows_damage,
)
from jaxcd.tasks.tasks import TASKS
from tests.learn.batches import random_batch, small_config


def contrastive_config(name, **train):
    config = small_config(**train)
    config.task, config.model.name = "contrastive", name
    config.validate()
    return config


def test_each_task_has_an_objective_and_other_names_are_refused():
    assert set(TASKS) == set(OBJECTIVES)
    config = small_config()
    assert config.task == "segmentation"
    check_maps(config, "runs/x")
    config.task = "pretraining"
    for refused in (steps.check_network, lambda config: check_maps(config, "runs/x")):
        with pytest.raises(ConfigError, match=r"^config\.task: expected one of segmentation, contrastive.*, got 'pre"):
            refused(config)
    config.task = "contrastive"
    with pytest.raises(ConfigError, match=r"^runs/x: a network of task contrastive maps no damage; take .* segment"):
        check_maps(config, "runs/x")


def test_pretraining_freezes_nothing():
    config = contrastive_config("fc_siam_diff")
    steps.check_network(config)
    config.freeze.encoder = True
    with pytest.raises(ConfigError, match=r"config\.freeze\.encoder: .*what pretraining learns"):
        steps.check_network(config)


def balanced(n, *, pattern=(1, 0), side=32):
    """Pairs of which those where the pattern has a 1 show damage."""
    batch = random_batch(n, side, seed=3)
    shown = np.resize(pattern, n).astype(bool)[:, None, None]
    post = np.where(shown[..., None], batch.post, batch.pre)
    return batch._replace(labels=batch.labels * shown, post=post)


def test_a_siamese_element_differs_where_its_pair_shows_damage():
    labels = np.zeros((3, 4, 4))
    labels[1, 3, 0] = 1
    damaged = shows_damage(jnp.asarray(labels), jnp.ones(labels.shape), BINARY, 1)
    assert damaged.tolist() == [[0], [1], [0]] and kinds_differ(damaged).tolist() == [0, 1, 0]


def test_only_levels_that_count_as_damage_and_known_pixels_show_it():
    labels = np.zeros((6, 4, 4), np.uint8)
    labels[range(6), 0, 0] = [0, 1, 2, 3, 4, UNKNOWN]
    valid = np.ones(labels.shape, np.uint8)
    assert shows_damage(jnp.asarray(labels), jnp.asarray(valid), XBD, 1).ravel().tolist() == [0, 0, 0, 1, 1, 0]
    valid[4, 0, 0] = 0
    assert shows_damage(jnp.asarray(labels), jnp.asarray(valid), XBD, 1).ravel().tolist() == [0, 0, 0, 1, 0, 0]


def test_a_pair_of_pairs_differs_where_one_of_them_shows_damage():
    labels = np.zeros((8, 4, 4))
    labels[[2, 5, 6, 7], 1, 2] = 1  # none and none, damage and none, none and damage, both
    damaged = shows_damage(jnp.asarray(labels), jnp.ones(labels.shape), BINARY, 2)
    assert damaged.tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert kinds_differ(damaged).tolist() == [0, 1, 1, 0]


def test_neighbouring_pairs_are_compared_in_early_fusion():
    pre, post = np.arange(2 * 4 * 3.0).reshape(2, 4, 1, 1, 3)
    first, second = embedding_stacks(jnp.asarray(pre), jnp.asarray(post), 2)
    np.testing.assert_array_equal(first[:, 0, 0], np.concatenate([pre[[0, 2], 0, 0], post[[0, 2], 0, 0]], axis=1))
    np.testing.assert_array_equal(second[:, 0, 0], np.concatenate([pre[[1, 3], 0, 0], post[[1, 3], 0, 0]], axis=1))
    first, second = embedding_stacks(jnp.asarray(pre), jnp.asarray(post), 1)
    np.testing.assert_array_equal(first, pre)
    np.testing.assert_array_equal(second, post)


@pytest.mark.parametrize(("name", "pattern"), [("fc_siam_diff", (1, 0)), ("fc_ef", (1, 0, 0, 0, 0, 1, 1, 1))])
def test_pretraining_learns_to_tell_the_kinds_apart(name, pattern):
    config = contrastive_config(name, batch=8, steps=40)
    config.optim.learning_rate = 1e-3
    _, state, step = steps.initial_state(config, steps=40)
    losses = []
    for _ in range(40):
        state, progress = step(
            state, balanced(8 * pairs_an_element(config), pattern=pattern), jax.random.key(0, impl="rbg")
        )
        losses.append(float(progress.loss))
    assert losses[-1] < 0.3 * losses[0] and losses[-1] < 0.1


def test_micro_batches_keep_pairs_of_pairs_together():
    """The loss of an accumulated step is the mean over every second element, whose two pairs lie side by side."""
    config = contrastive_config("fc_ef", batch=8, accumulation=2)
    batch = balanced(16, pattern=(1, 0, 0, 0, 0, 1, 1, 1))
    network, state, step = steps.initial_state(config, steps=1)
    objective = jax.jit(objective_of(config).loss(network.train, config))
    key = jax.random.key(5, impl="rbg")
    keys, stats, expected = jax.random.split(jax.random.fold_in(key, 0), 2), state.stats, []
    for part in range(2):
        rows = [pair for element in range(part, 8, 2) for pair in (2 * element, 2 * element + 1)]
        loss, stats = objective(state.params, stats, jax.tree.map(lambda x: x[rows], batch), keys[part])  # noqa: B023
        expected.append(float(loss))
    _, progress = step(state, batch, key)
    assert abs(expected[0] - expected[1]) > 1e-4
    assert float(progress.loss) == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_devices_compare_the_same_pairs_as_one(accumulation):
    results = []
    for devices in (1, 2):
        config = contrastive_config("fc_ef", batch=8, accumulation=accumulation)
        config.train.devices = devices
        mesh = sharding.training_mesh(config)
        _, state, step = steps.initial_state(config, steps=1)
        batch = sharding.shard_batch(balanced(16, pattern=(1, 0, 0, 0, 0, 1, 1, 1)), mesh)
        key = sharding.replicate(jax.random.key(5, impl="rbg"), mesh)
        _, progress = step(sharding.replicate(state, mesh), batch, key)
        results.append((float(progress.loss), float(progress.gradient_norm)))
    assert results[0] == pytest.approx(results[1], rel=1e-4)


def test_pretraining_balances_by_damage_alone():
    config = contrastive_config("fc_siam_diff", batch=4)
    steps.check_network(config)
    config.data.balance = "event"
    with pytest.raises(ConfigError, match=r"^config\.data\.balance: expected place with task = contrastive"):
        steps.check_network(config)
