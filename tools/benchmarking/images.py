"""The images that both sides work on."""

from typing import NamedTuple

import numpy as np

from benchmarking.case import Case

SETS = 3  # that steps take in turn: one that stays in a cache would flatter
_DAMAGED = 0.05


class Images(NamedTuple):
    """Pairs with their labels: uint8[b,h,w,3] and uint8[b,h,w]."""

    pre: np.ndarray
    post: np.ndarray
    labels: np.ndarray
    valid: np.ndarray


def images(case: Case) -> list[Images]:
    """Give sets of images, the same in every process."""
    rng = np.random.default_rng(0)
    shape = (case.batch, case.tile, case.tile)
    sets = []
    for _ in range(SETS):
        pre, post = rng.integers(0, 256, (2, *shape, 3), dtype=np.uint8)
        labels = (rng.random(shape) < _DAMAGED).astype(np.uint8)
        sets.append(Images(pre, post, labels, np.ones(shape, np.uint8)))
    return sets
