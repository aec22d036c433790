"""Checkpoints: the last one and the best by validation, written in the background by Orbax.

Each holds plain trees of arrays (parameters, statistics, optimiser; with `config.optim.ema` also the averages of the
first two) and a small JSON: the step, the loader's position, the validation scores and the threshold found there.
"""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import SingleDeviceSharding
from orbax.checkpoint.checkpoint_managers import preservation_policy as policies

from jaxcd.base import hosts
from jaxcd.base.errors import CheckpointError, RunError
from jaxcd.base.files import full_disk
from jaxcd.learn.steps import TrainState

FOLDER = "checkpoints"
# Space required beyond the arrays' bytes: for the checkpoint's metadata, and the file system's.
_SLACK = 1.1
_METADATA = 256 * 1024
_AVERAGED = "averaged"


# Prefix of a checkpoint that is set aside while one of the same step is written.
_ASIDE = ".before-"


def exist(run: Path) -> bool:
    """Say whether a run folder holds a finished checkpoint."""
    folder = run / FOLDER
    return folder.is_dir() and any(path.name.removeprefix(_ASIDE).isdigit() for path in folder.iterdir())


class Restored(NamedTuple):
    """A checkpoint's weights for inference.

    Attributes:
        step: optimiser steps done.
        params: parameters: their moving averages, where the run has them.
        stats: BatchNorm statistics, likewise.
        threshold: the threshold best on validation, None where no validation was made.
    """

    step: int
    params: Any
    stats: Any
    threshold: float | None


class Checkpoints:
    """The checkpoints of one run folder."""

    def __init__(self, run: Path, *, create: bool):
        """Open `run/checkpoints`; with `create` it is made where absent.

        Raises:
            RunError: the folder is missing, and `create` is False.
        """
        self.folder = (run / FOLDER).absolute()
        if not create and not self.folder.is_dir():
            raise RunError(f"{run}: not a run (it has no folder {FOLDER}); train one with python -m jaxcd.train")
        for aside in self.folder.glob(f"{_ASIDE}*") if create and hosts.is_first() else ():
            # A process ended before the new checkpoint of this step was whole.
            shutil.rmtree(self.folder / aside.name.removeprefix(_ASIDE), ignore_errors=True)
            aside.rename(self.folder / aside.name.removeprefix(_ASIDE))
        hosts.meet("checkpoints")
        keep = policies.AnyPreservationPolicy(
            [
                policies.LatestN(1),
                policies.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False),
            ]
        )
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                create=create,
                cleanup_tmp_directories=create,
                preservation_policy=keep,
                best_fn=_score,  # without it metrics are not written, and a resumed run would forget its best
            ),
            item_names=("params", "stats", "opt_state", _AVERAGED, "meta"),
        )

    def latest(self) -> int | None:
        """Step of the last checkpoint, None where there is none."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """Step of the checkpoint of highest validation score; the last where none was validated."""
        best = self._manager.best_step()
        return self.latest() if best is None else best

    def save(self, state: TrainState, *, meta: dict, score: float | None) -> None:
        """Begin to write a checkpoint; returns once the device's arrays are copied.

        Args:
            state: the state after `state.step` steps.
            meta: JSON values kept with it.
            score: of its validation, the higher the better; None between validations.

        Raises:
            DiskFullError: too little space left for it; what was saved before stays.
        """
        step = int(state.step)
        self.wait()
        # Orbax notices a full disk in the middle of many writes, and ends in pages of tracebacks.
        needed = _SLACK * sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + _METADATA
        free = shutil.disk_usage(self.folder).free
        if free < needed and hosts.is_first():
            raise full_disk(
                f"the checkpoint of step {step} takes {needed / 2**20:.1f} MiB, {self.folder} has "
                f"{free / 2**20:.1f} MiB left"
            )
        items: dict[str, Any] = {"meta": ocp.args.JsonSave({**meta, "step": step})}
        # Orbax takes no empty tree: imported weights have no optimiser state, networks without BatchNorm no statistics.
        items |= {name: ocp.args.StandardSave(tree) for name, tree in _trees(state).items() if jax.tree.leaves(tree)}
        if self.latest() == step:  # saved without scores when a signal cut its validation short
            self._replace(step, items, score)
        else:
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=_metrics(score), force=True)

    def _replace(self, step: int, items: dict[str, Any], score: float | None) -> None:
        """Replace a step's checkpoint, which Orbax does not overwrite: a copy is kept until the new one is whole."""
        aside, copying = self.folder / f"{_ASIDE}{step}", self.folder / f".copying-{step}"
        if hosts.is_first():
            shutil.rmtree(copying, ignore_errors=True)
            shutil.copytree(self.folder / str(step), copying)
            copying.rename(aside)
        hosts.meet("aside")
        self._manager.delete(step)
        self._manager.save(step, args=ocp.args.Composite(**items), metrics=_metrics(score), force=True)
        self.wait()
        if hosts.is_first():
            shutil.rmtree(aside)

    def wait(self) -> None:
        """Wait until all checkpoints that were begun are on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish writing and release the folder."""
        self._manager.close()

    def restore(self, like: TrainState) -> tuple[TrainState, dict]:
        """Read the last checkpoint into the form, shapes and placement of `like`.

        Returns:
            The state and the JSON saved with it.

        Raises:
            CheckpointError: it is of another network, or damaged.
        """
        step = self.latest()
        if step is None:
            raise RunError(f"{self.folder}: holds no checkpoint")
        items, meta = self._read(step, _trees(like))
        return TrainState(jnp.zeros_like(like.step) + step, **items), meta

    def restore_weights(self, params: Any, stats: Any) -> Restored:
        """Read the weights of the best checkpoint in the form of `params` and `stats`: those that were validated.

        Where the run averages its weights (`config.optim.ema`), these are the averages. Whatever uses a run's network
        reads it here.

        Raises:
            CheckpointError: it is of another network, or damaged.
            RunError: there is none.
        """
        step = self.best()
        if step is None:
            raise RunError(f"{self.folder}: holds no checkpoint yet")
        weights = {"params": params, "stats": stats}
        averaged = (self.folder / str(step) / _AVERAGED).is_dir()
        items, meta = self._read(step, {_AVERAGED: weights} if averaged else weights)
        weights = items[_AVERAGED] if averaged else items
        return Restored(step, weights["params"], weights["stats"], meta.get("threshold"))

    def _read(self, step: int, wanted: dict[str, Any]) -> tuple[dict[str, Any], dict]:
        saved = {name: tree for name, tree in wanted.items() if jax.tree.leaves(tree)}
        for name, tree in saved.items():
            self._check(step, name, tree)
        args = {name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree)) for name, tree in saved.items()}
        try:
            items = self._manager.restore(step, args=ocp.args.Composite(**args, meta=ocp.args.JsonRestore()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self.folder / str(step)}: damaged checkpoint ({' '.join(str(error).split())[:160]}); delete this "
                "folder to use the one before it, if there is one"
            ) from error
        return wanted | {name: items[name] for name in saved}, dict(items["meta"])

    def _check(self, step: int, name: str, tree: Any) -> None:
        """Compare shapes first: Orbax's own error about a mismatch is a page long."""
        folder = self.folder / str(step) / name
        try:
            saved = ocp.StandardCheckpointHandler().metadata(epath.Path(folder))
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(
                f"{folder}: damaged checkpoint ({reason}); delete {folder.parent} to use the one before, if there is "
                "one"
            ) from error
        there = shapes(getattr(saved, "tree", saved))
        here = shapes(tree)
        for path in sorted(set(there) | set(here)):
            if there.get(path) != here.get(path):
                raise CheckpointError(
                    f"{folder}: a checkpoint of another network: {path} is {there.get(path, 'absent')} there and "
                    f"{here.get(path, 'absent')} in the configured one"
                )


def _trees(state: TrainState) -> dict[str, Any]:
    """Return the trees of a state by the names of a checkpoint's items."""
    return {"params": state.params, "stats": state.stats, "opt_state": state.opt_state, _AVERAGED: state.averaged}


def _score(metrics: Any) -> float:
    return float(metrics["score"])


def _metrics(score: float | None) -> dict[str, float] | None:
    return None if score is None else {"score": score}


def _abstract(array: Any) -> jax.ShapeDtypeStruct:
    # A tree of shapes alone has no placement: read it to the first device.
    place = array.sharding or SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=place)


def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Map each leaf's path to its shape, alike for our trees and for the metadata of saved ones."""
    leaves = jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))[0]
    return {
        "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path): tuple(leaf.shape)
        for path, leaf in leaves
    }
