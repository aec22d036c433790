import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcd.base.errors import CheckpointError, RunError
from jaxcd.learn import steps
from jaxcd.runs.checkpoints import Checkpoints, exist
from tests.learn.batches import small_config


@functools.cache
def _initial(size):
    config = small_config()
    config.model.size = size
    return steps.initial_state(config, steps=10)[1]


def _state(step, size="small"):
    state = _initial(size)
    return state._replace(step=jnp.asarray(step), params=jax.tree.map(lambda p: p + step, state.params))


def _save(checkpoints, step, iou):
    checkpoints.save(_state(step), meta={"batches": step, "threshold": step / 100, "validation_due": False}, score=iou)


def _steps(run):
    return sorted(int(path.name) for path in (run / "checkpoints").iterdir())


def test_last_and_best_are_kept_also_after_reopening(tmp_path):
    checkpoints = Checkpoints(tmp_path, create=True)
    for step, iou in enumerate([0.1, 0.5, 0.2, None], start=1):
        _save(checkpoints, step, iou)
    checkpoints.wait()
    assert (checkpoints.best(), checkpoints.latest(), _steps(tmp_path)) == (2, 4, [2, 4])
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path, create=True)
    _save(checkpoints, 5, 0.4)
    checkpoints.wait()
    assert (checkpoints.best(), checkpoints.latest(), _steps(tmp_path)) == (2, 5, [2, 5])
    restored = checkpoints.restore_weights(_state(0).params, _state(0).stats)
    assert (restored.step, restored.threshold) == (2, 0.02)
    jax.tree.map(np.testing.assert_array_equal, restored.params, _state(2).params)
    state, meta = checkpoints.restore(_state(0))
    assert meta["batches"] == int(state.step) == 5
    jax.tree.map(np.testing.assert_array_equal, state, _state(5))
    checkpoints.close()


@pytest.mark.slow
def test_another_network_is_refused_by_name(tmp_path):
    checkpoints = Checkpoints(tmp_path, create=True)
    _save(checkpoints, 1, None)
    checkpoints.wait()
    other = _state(0, size="medium")
    with pytest.raises(
        CheckpointError, match=r"another network: decoder/blocks/0/0/conv/bias is \(32,\) there and \(128,\)"
    ):
        checkpoints.restore_weights(other.params, other.stats)
    with pytest.raises(CheckpointError, match="another network"):
        checkpoints.restore(other)
    checkpoints.close()


@pytest.mark.parametrize("batchnorm", [True, False])
def test_averages_are_kept_beside_the_raw_weights_and_are_what_a_run_is_used_by(tmp_path, batchnorm):
    plain = _state(3) if batchnorm else _state(3)._replace(stats={})
    plus_one = jax.tree.map(lambda leaf: leaf + 1, {"params": plain.params, "stats": plain.stats})
    items = ["meta", "metrics", "opt_state", "params", *(["stats"] if batchnorm else [])]
    for state, more in ((plain, []), (plain._replace(averaged=plus_one), ["averaged"])):
        run = tmp_path / f"run{len(more)}"
        checkpoints = Checkpoints(run, create=True)
        checkpoints.save(state, meta={"batches": 3}, score=0.5)
        checkpoints.wait()
        there = [path.name for path in (run / "checkpoints" / "3").iterdir() if path.is_dir()]
        assert sorted(there) == sorted([*items, *more])
        restored = checkpoints.restore_weights(plain.params, plain.stats)
        jax.tree.map(np.testing.assert_array_equal, (restored.params, restored.stats), state.weights_in_use())
        again, _ = checkpoints.restore(jax.tree.map(jnp.zeros_like, state))
        jax.tree.map(np.testing.assert_array_equal, again, state)
        checkpoints.close()


def test_a_checkpoint_saved_without_scores_gets_them(tmp_path):
    checkpoints = Checkpoints(tmp_path, create=True)
    _save(checkpoints, 1, 0.3)
    _save(checkpoints, 2, None)
    _save(checkpoints, 2, 0.4)
    checkpoints.wait()
    assert (checkpoints.best(), checkpoints.latest(), _steps(tmp_path)) == (2, 2, [2])
    checkpoints.close()


def test_a_kill_while_a_checkpoint_is_replaced_loses_nothing(tmp_path):
    checkpoints = Checkpoints(tmp_path, create=True)
    _save(checkpoints, 2, None)
    checkpoints.close()
    folder = tmp_path / "checkpoints"
    # Killed in the middle of the deletion of the old one, with the copy set aside.
    (folder / "2").rename(folder / ".before-2")
    (folder / "2" / "params").mkdir(parents=True)
    assert exist(tmp_path)
    checkpoints = Checkpoints(tmp_path, create=True)
    state, _ = checkpoints.restore(_state(0))
    jax.tree.map(np.testing.assert_array_equal, state, _state(2))
    assert _steps(tmp_path) == [2]
    checkpoints.close()


def test_folders_without_checkpoints_are_no_runs(tmp_path):
    with pytest.raises(RunError, match="not a run"):
        Checkpoints(tmp_path, create=False)
    checkpoints = Checkpoints(tmp_path, create=True)
    with pytest.raises(RunError, match="holds no checkpoint"):
        checkpoints.restore_weights(_state(0).params, _state(0).stats)
    checkpoints.close()
