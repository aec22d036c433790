"""Training steps in a row, on batches as they come or on one that is on the device already."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxcd.base.types import Batch
from jaxcd.config import Config
from jaxcd.learn import sharding, steps


def stepping(config: Config, batches: Iterator[Batch], *, ahead: int, moves: bool) -> Callable[[int], float]:
    """Compile the training step, and return how to run it so many times; that gives the seconds it took.

    Args:
        config: of the training.
        batches: on the host, without end.
        ahead: batches that are made ready while nothing asks for them.
        moves: each step takes the next batch; else all take the first one, which is on the device already.

    Raises:
        ArithmeticError: the loss is not finite.
    """
    _, state, step = steps.initial_state(config, steps=config.train.steps)
    mesh, key = sharding.training_mesh(config), jax.random.key(0, impl="rbg")
    state = sharding.replicate(state, mesh)
    ready = sharding.on_device(batches, mesh, ahead=config.data.prefetch)
    source: Iterator[Any] = ready if moves else itertools.repeat(next(ready))
    progress: Any = None

    def run(count: int) -> float:
        nonlocal state, progress
        # First use up what was made ready while the other side was measured.
        for _ in range(ahead if moves else 0):
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
    return run
