"""Whole training on a synthetic array: batches are drawn from host memory and moved to the device, step by step."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarking.case import Case
from benchmarking.images import images
from benchmarking.jax_side import configuration
from benchmarking.stepping import stepping
from jaxcd.base.types import Batch


def training(case: Case, *, moves: bool) -> tuple[Callable[[int], float], dict[str, Any]]:
    """Give the training step with augmentation, on batches out of an array, or on one that is on the device already."""
    config = configuration(case)
    run = stepping(config, _batches(case), ahead=config.data.prefetch, moves=moves)
    return run, {"bytes_per_pair": float(8 * case.tile**2)}


def _batches(case: Case) -> Iterator[Batch]:
    """Draw batches without end from the pairs of an array, as a loader would hand them over."""
    pairs = [np.concatenate(parts) for parts in zip(*images(case), strict=True)]
    rng = np.random.default_rng(1)
    while True:
        rows = rng.choice(len(pairs[0]), size=case.batch, replace=False)
        yield Batch(*(part[rows] for part in pairs), ids=rows.astype(np.int32))
