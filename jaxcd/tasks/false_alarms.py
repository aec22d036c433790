"""Finds the worst false alarms of a damage network on its training tiles, for further crops around them.

What is found decides what is drawn, so it lies in the checkpoint: a resumed run goes on with the same list.
"""

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxcd.base import hosts
from jaxcd.base.ahead import held_back
from jaxcd.base.scales import UNKNOWN
from jaxcd.base.types import Batch, Tile
from jaxcd.config import Config
from jaxcd.feed.balance import Alarm
from jaxcd.learn import sharding
from jaxcd.learn.steps import EvaluationStep
from jaxcd.runs.evaluation import with_bar
from jaxcd.store.dataset import TileDataset
from jaxcd.tasks.task import Watch

CELL = 32
"""Side in pixels of the cells that are compared: about a building."""
_EDGE = 8  # pixels around damage that are no false alarm: outlines are drawn by hand
_LEAST = 0.02  # mean probability of damage in a cell: a fiftieth of it flagged for sure
_OF_AN_IMAGE, _OF_AN_EVENT = 8, 96

Found = tuple[float, Alarm]
"""An alarm and the mean probability of damage in its cell."""


def find(
    step: EvaluationStep,
    weights: tuple[Any, Any],
    batches: Callable[[Sequence[int]], Iterator[tuple[Batch, Sequence[Tile]]]],
    total: int,
    *,
    dataset: TileDataset,
    config: Config,
    watch: Watch,
) -> list[Alarm]:
    """Return the worst false alarms of some whole tiles, the worst first, at most 96 of an event.

    Each of several processes searches a share of the batches; all return the same list.

    Args:
        step: of `jaxcd.learn.steps.evaluation_step`.
        weights: parameters and BatchNorm statistics.
        batches: makes the batches of given numbers.
        total: number of batches.
        dataset: with the tiles.
        config: of the run.
        watch: stops at a signal.

    Raises:
        AskedToStop: a signal came.
    """
    numbers = range(hosts.index(), total, hosts.count())
    params, stats = sharding.own_copy(weights, config)
    mesh = sharding.evaluation_mesh(config)
    with contextlib.closing(with_bar(batches(numbers), total, "false alarms")) as shown:
        results = (
            (batch, here, step(params, stats, sharding.shard_batch(batch, mesh))) for batch, here in watch(shown)
        )
        found = [
            (score, Alarm(int(batch.ids[i]), _position(batch, i, tile, dataset), y, x))
            for batch, here, result in held_back(results, 1)
            for i, tile in enumerate(here)
            for score, y, x in worst_cells(np.asarray(result.probability[i]), *_classes(batch, i, dataset))
        ]
    return merged(itertools.chain.from_iterable(hosts.exchange(found)), dataset)


def merged(found: Iterable[Found], dataset: TileDataset) -> list[Alarm]:
    """Return the worst alarms of each event, the worst of all first; the order of what was found does not count."""
    groups: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        groups[dataset.samples[one[1].row].event].append(one)
    kept = itertools.chain.from_iterable(sorted(own, key=_order)[:_OF_AN_EVENT] for own in groups.values())
    return [alarm for _, alarm in sorted(kept, key=_order)]


def worst_cells(
    probability: Float[np.ndarray, "h w"], intact: Bool[np.ndarray, "h w"], damaged: Bool[np.ndarray, "h w"]
) -> list[tuple[float, int, int]]:
    """Return the cells of a tile in which intact ground is most probably called damage, the worst first.

    Args:
        probability: of damage.
        intact: pixels that are known not to be damaged.
        damaged: pixels of damage, around which nothing counts.

    Returns:
        For each cell: the sum of the probability over its intact pixels, divided by the size of a cell, and the
        coordinates of its middle, in pixels of the tile.
    """
    alarming = np.where(intact & ~_near(damaged), probability, 0).astype(np.float64)
    rows, columns = (-(-side // CELL) for side in alarming.shape)
    padded = np.zeros((rows * CELL, columns * CELL))
    padded[: alarming.shape[0], : alarming.shape[1]] = alarming
    scores = padded.reshape(rows, CELL, columns, CELL).mean(axis=(1, 3)).ravel()
    order = np.argsort(-scores, kind="stable")[:_OF_AN_IMAGE]
    cells = [(int(cell) // columns, int(cell) % columns) for cell in order if scores[cell] >= _LEAST]
    return [(float(scores[y * columns + x]), CELL * y + CELL // 2, CELL * x + CELL // 2) for y, x in cells]


def _near(damaged: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Mark the pixels with damage at most `_EDGE` rows and columns away; OpenCV may be missing where one trains."""
    side = 2 * _EDGE + 1
    total = np.pad(damaged, ((_EDGE + 1, _EDGE), (_EDGE + 1, _EDGE))).cumsum(0, dtype=np.int32).cumsum(1)
    rows = total[side:] - total[:-side]
    return rows[:, side:] - rows[:, :-side] > 0


def _order(one: Found) -> tuple[float, Alarm]:
    return -one[0], one[1]


def _position(batch: Batch, i: int, tile: Tile, dataset: TileDataset) -> int:
    """Return which of its place's labelled images a pair shows."""
    return [post.name for post in dataset.samples[int(batch.ids[i])].post].index(tile.post)


def _classes(batch: Batch, i: int, dataset: TileDataset) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Mark the pixels of a pair that are known not to be damaged, and the damaged ones."""
    codes, valid = batch.labels[i], batch.valid[i] > 0
    damaged = dataset.scale.is_damaged(codes) & valid
    return valid & ~damaged & (codes != UNKNOWN), damaged
