"""The network of a finished run: its best checkpoint is read, and evaluated on any tiles."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxcd import models
from jaxcd.base import progress
from jaxcd.base.scales import Scale
from jaxcd.base.types import Batch, Tile
from jaxcd.config import Config
from jaxcd.learn import sharding, steps
from jaxcd.runs.checkpoints import Checkpoints
from jaxcd.runs.evaluation import Evaluation, count, decoded, encoded, evaluate, keep, summed
from jaxcd.runs.memory import explained_memory
from jaxcd.runs.panels import Keeper
from jaxcd.runs.shares import SharedWork


class Trained(NamedTuple):
    """A run's network for inference.

    Attributes:
        network: static graphs.
        params: parameters.
        stats: BatchNorm statistics.
        step: optimiser steps after which they were saved.
        threshold: the threshold best on validation; None where the run has no validation (imported weights).
    """

    network: models.Network
    params: Any
    stats: Any
    step: int
    threshold: float | None


def load(config: Config, run: Path) -> Trained:
    """Read the best checkpoint of a run.

    Raises:
        RunError: no run, or no checkpoint in it.
        CheckpointError: a checkpoint of another network.
    """
    network, params, stats = steps.build_network(config, weights=False)
    checkpoints = Checkpoints(run, create=False)
    try:
        restored = checkpoints.restore_weights(params, stats)
    finally:
        checkpoints.close()
    return Trained(network, restored.params, restored.stats, restored.step, restored.threshold)


@contextlib.contextmanager
def evaluate_share(
    config: Config,
    trained: Trained,
    work: SharedWork,
    batches: Callable[[Sequence[int]], Iterable[tuple[Batch, Sequence[Tile]]]],
    total: int,
    *,
    keepers: Sequence[Keeper],
    scale: Scale,
    average: bool,
    patch: int,
    advice: str,
) -> Iterator[Evaluation | None]:
    """Evaluate a share of the batches that several processes share.

    Args:
        config: the run's.
        trained: its network.
        work: pieces of as many batches each, but the last.
        batches: makes the batches of given numbers.
        total: number of all batches.
        keepers: choose the tiles whose pixels are kept for pictures.
        scale: of the labels.
        average: take the mean probability over flips and quarter turns.
        patch: side in pixels of the patches to count as well; 0: none.
        advice: what a user can do if memory does not suffice.

    Yields:
        The evaluation, in the process that finds all pieces there; when the block ends, they are deleted. Else None.

    Raises:
        DeviceMemoryError: the device is too small for a batch.
    """
    mesh = sharding.evaluation_mesh(config)
    with explained_memory(advice):
        step = steps.evaluation_step(trained.network, config, scale, average=average, patch=patch)
        how = (step, sharding.replicate(trained.params, mesh), sharding.replicate(trained.stats, mesh))
        length = -(-total // work.pieces) if work.pieces else 0
        pieces = {piece: range(piece * length, min((piece + 1) * length, total)) for piece in work.todo()}
        numbers = [number for own in pieces.values() for number in own]
        with progress.bar(len(numbers), unit="batch", title="share", leave=False) as bar:
            found = count(*how, batches(numbers), mesh=mesh)
            for piece, own in pieces.items():
                counted = []
                for _ in own:
                    counted.append(next(found))
                    bar.update()
                work.save(piece, encoded(counted))
        with work.summing() as contents:
            if contents is None:
                yield None
                return
            counted = [own for content in contents for own in decoded(content)]
            keep(keepers, counted, *how, batches, mesh=mesh)
            yield summed(itertools.chain.from_iterable(counted), weights=config.loss, scale=scale)


def evaluate_trained(
    config: Config,
    trained: Trained,
    batches: Iterable[tuple[Batch, Sequence[Tile]]],
    *,
    keepers: Sequence[Keeper],
    scale: Scale,
    average: bool,
    patch: int,
    advice: str,
    fitted: Callable[[int], Any] | None = None,
) -> Evaluation:
    """Evaluate a run's network on whole tiles.

    Args:
        config: the run's.
        trained: its network.
        batches: of a multiple of `sharding.evaluation_mesh(config).size` pairs.
        keepers: choose the tiles whose pixels are kept for pictures.
        scale: of the labels.
        average: take the mean probability over flips and quarter turns.
        patch: side in pixels of the patches to count as well; 0: none.
        advice: what a user can do where memory does not suffice.
        fitted: gives the BatchNorm statistics for a batch by the row of its first tile; None: the run's.

    Raises:
        DeviceMemoryError: the device is too small for a batch.
        SceneError: no statistics can be computed.
    """
    mesh = sharding.evaluation_mesh(config)

    def with_own(batches: Iterable[tuple[Batch, Sequence[Tile]]]) -> Iterator[tuple[Batch, Sequence[Tile]]]:
        nonlocal own
        assert fitted is not None
        for batch, tiles in batches:
            own = sharding.replicate(fitted(int(batch.ids[0])), mesh)
            yield batch, tiles

    with explained_memory(advice):
        own = sharding.replicate(trained.stats, mesh)
        step = steps.evaluation_step(trained.network, config, scale, average=average, patch=patch)
        return evaluate(
            step if fitted is None else lambda params, _, batch: step(params, own, batch),
            sharding.replicate(trained.params, mesh),
            sharding.replicate(trained.stats, mesh),
            batches if fitted is None else with_own(batches),
            mesh=mesh,
            weights=config.loss,
            scale=scale,
            keepers=keepers,
        )
