"""Whole training on a synthetic array: batches are drawn from host memory and moved to the device, step by step."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from benchmarking.case import Case
from benchmarking.images import images
from benchmarking.jax_side import configuration
from jaxcd.base.types import Batch
from jaxcd.learn import steps


def training(case: Case, *, moves: bool) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Give the training step with augmentation, on batches out of an array, or on one that is on the device already."""
    config = configuration(case)
    _, state, step = steps.initial_state(config, steps=config.train.steps)
    mesh, key = steps.training_mesh(config), jax.random.key(0, impl="rbg")
    state = steps.replicate(state, mesh)
    ready = steps.on_device(_batches(case), mesh, ahead=config.data.prefetch)
    source: Iterator[Any] = ready if moves else itertools.repeat(next(ready))
    progress: Any = None

    def run(count: int) -> float:
        nonlocal state, progress
        # First use up what was moved ahead while the other side was measured.
        for _ in range(config.data.prefetch if moves else 0):
            state, progress = step(state, next(source)[1], key)
        jax.block_until_ready(progress)
        start = time.perf_counter()
        for _ in range(count):
            state, progress = step(state, next(source)[1], key)
        jax.block_until_ready(progress)
        return time.perf_counter() - start

    run(1)
    if not np.isfinite(progress.loss):
        raise ArithmeticError(f"the loss of the first steps is {progress.loss}")
    return run, {"bytes_per_pair": float(8 * case.tile**2)}


def _batches(case: Case) -> Iterator[Batch]:
    """Draw batches without end from the pairs of an array, as a loader would hand them over."""
    pairs = [np.concatenate(parts) for parts in zip(*images(case), strict=True)]
    rng = np.random.default_rng(1)
    while True:
        rows = rng.choice(len(pairs[0]), size=case.batch, replace=False)
        yield Batch(*(part[rows] for part in pairs), ids=rows.astype(np.int32))
