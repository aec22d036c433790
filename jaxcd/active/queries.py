"""Which building to judge next: the most uncertain, the most different from all judged ones, or any."""

from collections.abc import Collection

import numpy as np
from jaxtyping import Float
from sklearn.metrics import pairwise_distances_argmin_min

from jaxcd.base.errors import ConfigError

UNCERTAIN, DIVERSE, RANDOM = "uncertain", "diverse", "random"
ORDERS = (UNCERTAIN, DIVERSE, RANDOM)


def next_to_judge(
    order: str,
    points: Float[np.ndarray, "n d"],
    damaged: Float[np.ndarray, "n"] | None,
    *,
    judged: Collection[int],
    held: Collection[int],
    visible: np.ndarray,
    count: int,
    seed: int,
) -> list[int]:
    """Choose the buildings to judge next; never one of the blind sample, one that is judged or one that is not seen.

    Args:
        order: one of `ORDERS`. "uncertain" takes the probabilities nearest to 0.5, and is "random" as long as there are
            none; "diverse" takes the building that lies farthest from all judged and chosen ones, again and again.
        points: the buildings as `Head.points` has them.
        damaged: probability of damage, or None before there are any.
        judged: rows that have a label.
        held: rows of the blind sample.
        visible: marks the buildings that are seen.
        count: wanted; fewer are returned where fewer are left.
        seed: of the random order, which also decides between equals.

    Raises:
        ConfigError: there is no such order.
    """
    if order not in ORDERS:
        raise ConfigError(f"order of buildings: expected one of {', '.join(ORDERS)}, got {order!r}")
    free = visible.copy()
    free[[*judged, *held]] = False
    # The same seed for each batch would draw the same positions of a list that has hardly changed: neighbours.
    left = np.random.default_rng([seed, len(judged)]).permutation(np.flatnonzero(free))
    if order == DIVERSE:
        return _farthest(points, left, [row for row in judged if row not in set(held)], count)
    if order == UNCERTAIN and damaged is not None:
        left = left[np.argsort(np.abs(damaged[left] - 0.5), kind="stable")]
    return left[:count].tolist()


def _farthest(points: Float[np.ndarray, "n d"], left: np.ndarray, judged: list[int], count: int) -> list[int]:
    """Choose by farthest first traversal (T. Gonzalez 1985)."""
    if not len(left):
        return []
    chosen: list[int] = []
    if judged:
        _, distance = pairwise_distances_argmin_min(points[left], points[judged])
    else:
        distance = np.full(len(left), np.inf)
    while len(chosen) < min(count, len(left)):
        at = int(np.argmax(distance))
        chosen.append(int(left[at]))
        _, nearer = pairwise_distances_argmin_min(points[left], points[left[[at]]])
        distance = np.minimum(distance, nearer)
        distance[at] = -1
    return chosen
