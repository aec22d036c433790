"""Moving averages of parameters and statistics: their formula, and what they are averages of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcd.learn import steps
from tests.learn.batches import random_batch, small_config


def test_averages_by_hand():
    """Shares 1/10, 2/11, 3/12 of what was, then the decay."""
    average, values = {"w": jnp.array([1.0])}, (2.0, 4.0, -1.0, 0.0)
    expected = [1.9, 1.9 * 2 / 11 + 4 * 9 / 11, 0, 0]
    expected[2] = expected[1] * 0.25 - 0.75
    expected[3] = expected[2] * 0.26  # 4/13 would be more
    for t, (value, wanted) in enumerate(zip(values, expected, strict=True)):
        average = steps.moving_average(average, {"w": jnp.array([value])}, decay=0.26, step=jnp.asarray(t, jnp.int32))
        assert float(average["w"][0]) == pytest.approx(wanted, rel=1e-6)


def flat(tree) -> list[np.ndarray]:
    return [np.array(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.mark.slow
def test_a_run_averages_what_its_steps_leave_also_frozen_thawed_and_in_micro_batches():
    config = small_config(batch=4, accumulation=2)
    config.optim.ema, config.freeze.encoder, config.freeze.until = 0.2, True, 2
    network, state, step = steps.initial_state(config, steps=4)
    assert jax.tree.structure(state.averaged) == jax.tree.structure({"params": state.params, "stats": state.stats})
    expected = [leaf.astype(np.float64) for leaf in flat((state.params, state.stats))]
    encoder = flat((state.params["encoder"], state.stats["encoder"]))
    for t in range(4):
        if t == 2:
            averaged = state.averaged
            assert averaged is not None
            for now, was in zip(
                flat((averaged["params"]["encoder"], averaged["stats"]["encoder"])), encoder, strict=True
            ):
                np.testing.assert_array_equal(now, was)
            state, step = steps.thawed(network, state, config, steps=4)
        state, _ = step(state, random_batch(4, seed=t), jax.random.key(0, impl="rbg"))
        d = min(0.2, (1 + t) / (10 + t))
        raw = flat((state.params, state.stats))
        expected = [d * a + (1 - d) * x for a, x in zip(expected, raw, strict=True)]
    ours = flat(state.weights_in_use())
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert sum(not np.array_equal(a, b) for a, b in zip(ours, raw, strict=True)) > 20


def test_without_averages_the_state_is_what_it_was():
    _, state, _ = steps.initial_state(small_config(), steps=4)
    assert state.averaged is None and state.weights_in_use() == (state.params, state.stats)
    assert len(jax.tree.leaves(state)) == 1 + len(jax.tree.leaves((state.params, state.stats, state.opt_state)))


def test_other_initial_weights_are_where_averages_begin():
    config = small_config()
    config.optim.ema = 0.5
    _, state, _ = steps.initial_state(config, steps=4)
    begun = state.begun_with(jax.tree.map(lambda p: p + 1, state.params), state.stats)
    for a, b in zip(flat(begun.weights_in_use()), flat((begun.params, begun.stats)), strict=True):
        np.testing.assert_array_equal(a, b)
