"""Evaluation of a network on whole tiles: counts over the split, counts by tile, pictures."""

import io
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32

from jaxcd.base import progress
from jaxcd.base.ahead import held_back
from jaxcd.base.scales import BINARY, Scale
from jaxcd.base.types import Batch, Tile
from jaxcd.config import LossConfig
from jaxcd.learn import losses
from jaxcd.learn.grades import Grades
from jaxcd.learn.metrics import Counts
from jaxcd.learn.sharding import shard_batch
from jaxcd.learn.steps import Evaluated, EvaluationStep
from jaxcd.runs.panels import Keeper, Prediction

COUNTS = "counts.npz"
"""File of an evaluation that holds what was counted on each tile, to be read by `decoded`."""
_IN_FLIGHT = 2  # batches handed to the device before the first one's counts are fetched


class Counted(NamedTuple):
    """What the evaluation step says of one tile.

    Attributes:
        tile: the tile.
        bins: pixels by class and probability bin.
        difference: likewise, of the score |pre - post|.
        sums: what the loss is made of, in float64.
        grades: pixels by true and predicted level; None with the scale `binary`.
        patches: patches by class and bin, of the probability and of |pre - post|; None where none were asked for.
    """

    tile: Tile
    bins: Int32[np.ndarray, "2 1024"]
    difference: Int32[np.ndarray, "2 1024"]
    sums: np.ndarray
    grades: Int32[np.ndarray, "t p"] | None = None
    patches: Int32[np.ndarray, "2 2 1024"] | None = None

    @property
    def counts(self) -> Counts:
        """The pixels in 64 bits."""
        return Counts(bins=self.bins.astype(np.int64))

    @property
    def baseline(self) -> Counts:
        """The pixels by |pre - post|, in 64 bits."""
        return Counts(bins=self.difference.astype(np.int64))

    def patches_of(self) -> tuple[Counts, Counts]:
        """Return the patches by the probability and by |pre - post|, which must have been asked for."""
        assert self.patches is not None
        network, difference = (Counts(bins=bins.astype(np.int64)) for bins in self.patches)
        return network, difference


def encoded(batches: Sequence[Sequence[Counted]]) -> bytes:
    """Write the counts of some batches down, to be read by `decoded`."""
    tiles = [one for own in batches for one in own]
    arrays: dict[str, Any] = {
        name: np.stack([getattr(one, name) for one in tiles]) for name in ("bins", "difference", "sums")
    }
    for name in ("grades", "patches"):
        if getattr(tiles[0], name) is not None:
            arrays[name] = np.stack([getattr(one, name) for one in tiles])
    names = json.dumps([[tuple(one.tile) for one in own] for own in batches]).encode()
    content = io.BytesIO()
    np.savez_compressed(content, tiles=np.frombuffer(names, np.uint8), **arrays)
    return content.getvalue()


def decoded(content: bytes) -> list[list[Counted]]:
    """Read what `encoded` wrote."""
    with np.load(io.BytesIO(content)) as found:
        arrays = {name: found[name] for name in found.files}
    names = json.loads(arrays.pop("tiles").tobytes())
    # One by one, as each names its tile and takes the next entry of every array.
    rows = (dict(zip(arrays, row, strict=True)) for row in zip(*arrays.values(), strict=True))
    return [[Counted(tile=Tile(*tile), **next(rows)) for tile in own] for own in names]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The counts of an evaluation.

    Attributes:
        loss: over all tiles as one batch.
        not_finite: tiles on which the network gave no number.
        counts: over all tiles.
        baseline: over all tiles, of the score |pre - post| / 255 in place of the network's probability.
        counted: what was counted on each tile, in the order of evaluation.
        grades: pixels by true and predicted level; None with the scale `binary`.
    """

    loss: float
    not_finite: tuple[Tile, ...]
    counts: Counts
    baseline: Counts
    counted: tuple[Counted, ...]
    grades: Grades | None = None

    @property
    def tiles(self) -> tuple[tuple[Tile, Counts], ...]:
        """The counts of each tile, in the order of evaluation."""
        return tuple((one.tile, one.counts) for one in self.counted)


def evaluate(
    step: EvaluationStep,
    params: Any,
    stats: Any,
    batches: Iterable[tuple[Batch, Sequence[Tile]]],
    *,
    mesh: Mesh,
    weights: LossConfig,
    scale: Scale = BINARY,
    keepers: Sequence[Keeper] = (),
) -> Evaluation:
    """Run the evaluation step over all batches.

    Args:
        step: of `jaxcd.learn.steps.evaluation_step`.
        params: parameters.
        stats: BatchNorm statistics.
        batches: batches with their tiles; pairs behind the last tile and padding below and to the right of a tile
            have `valid` 0, and are not counted.
        mesh: devices to spread the pairs over; a batch is of a multiple of its size.
        weights: of the loss.
        scale: of the labels.
        keepers: choose the tiles whose pixels are kept for pictures.
    """

    def counted() -> Iterator[Counted]:
        for batch, here, result in _ahead(step, params, stats, batches, mesh):
            for i, one in enumerate(_counted(here, result)):
                yield one
                takers = [keeper for keeper in keepers if keeper.wants(one.counts)]
                if takers:
                    prediction = _prediction(batch, i, one.tile, one.counts, result)
                    for keeper in takers:
                        keeper.add(prediction)

    return summed(counted(), weights=weights, scale=scale)


def count(
    step: EvaluationStep, params: Any, stats: Any, batches: Iterable[tuple[Batch, Sequence[Tile]]], *, mesh: Mesh
) -> Iterator[list[Counted]]:
    """Yield the counts of each batch, which are a share of an evaluation; see `summed` and `keep`."""
    for _, here, result in _ahead(step, params, stats, batches, mesh):
        yield _counted(here, result)


def summed(counted: Iterable[Counted], *, weights: LossConfig, scale: Scale) -> Evaluation:
    """Add up the tiles of an evaluation, in its order: sums of floats depend on it."""
    counts, baseline, tiles, not_finite = Counts.zero(), Counts.zero(), [], []
    grades = Grades.zero(scale) if scale.buildings else None
    total: Any = 0.0  # becomes `losses.Sums` in float64: the pixels of many scenes
    for one in counted:
        total = total + one.sums
        if not np.isfinite(one.sums).all():
            not_finite.append(one.tile)
        counts, baseline = counts + one.counts, baseline + one.baseline
        tiles.append(one)
        if grades is not None:
            grades += Grades(scale=scale, counts=one.grades.astype(np.int64))  # type: ignore[union-attr]
    return Evaluation(
        # Of several outputs, the mean; of no tile, 0.
        loss=float(np.mean(losses.of_sums(losses.Sums(*total), weights))) if tiles else 0.0,
        not_finite=tuple(not_finite),
        counts=counts,
        baseline=baseline,
        counted=tuple(tiles),
        grades=grades,
    )


def keep(
    keepers: Sequence[Keeper],
    counted: Sequence[Sequence[Counted]],
    step: EvaluationStep,
    params: Any,
    stats: Any,
    batches: Callable[[Sequence[int]], Iterable[tuple[Batch, Sequence[Tile]]]],
    *,
    mesh: Mesh,
) -> None:
    """Let keepers keep what they would have kept in one evaluation; the few batches with these tiles run again.

    Args:
        keepers: choose the tiles.
        counted: the tiles of all batches.
        step: as the arguments below, of the evaluation.
        params: parameters.
        stats: BatchNorm statistics.
        batches: makes the batches of given numbers.
        mesh: devices.
    """
    wanted = [set(keeper.would_keep([one.counts for own in counted for one in own])) for keeper in keepers]
    place = {(j, i): k for k, (j, i) in enumerate((j, i) for j, own in enumerate(counted) for i in range(len(own)))}
    numbers = sorted({j for (j, _), k in place.items() if any(k in chosen for chosen in wanted)})
    for number, (batch, here, result) in zip(numbers, _ahead(step, params, stats, batches(numbers), mesh), strict=True):
        for i, one in enumerate(_counted(here, result)):
            for keeper, chosen in zip(keepers, wanted, strict=True):
                if place[number, i] in chosen:
                    keeper.add(_prediction(batch, i, one.tile, one.counts, result))


def with_bar(
    batches: Iterable[tuple[Batch, Sequence[Tile]]], total: int, title: str
) -> Generator[tuple[Batch, Sequence[Tile]], None, None]:
    """Pass batches on, with a progress bar over their tiles that is gone at the end."""
    with progress.bar(total, unit="tile", title=title, leave=False) as bar:
        for batch, tiles in batches:
            yield batch, tiles
            bar.update(len(tiles))


def _ahead(
    step: EvaluationStep, params: Any, stats: Any, batches: Iterable[tuple[Batch, Sequence[Tile]]], mesh: Mesh
) -> Iterator[tuple[Batch, Sequence[Tile], Evaluated]]:
    results = ((batch, here, step(params, stats, shard_batch(batch, mesh))) for batch, here in batches)
    return held_back(results, _IN_FLIGHT)


def _counted(tiles: Sequence[Tile], result: Evaluated) -> list[Counted]:
    """Take the counts of a batch's tiles from the device."""
    bins, difference = np.asarray(result.bins), np.asarray(result.difference)
    sums = np.asarray(jax.device_get(result.sums), np.float64)
    further = {name: np.asarray(own) for name in ("grades", "patches") if (own := getattr(result, name)) is not None}
    return [
        # Copies: views would keep the padding of the last batch.
        Counted(
            tile,
            bins[i].copy(),
            difference[i].copy(),
            sums[:, i].copy(),
            **{name: own[i].copy() for name, own in further.items()},
        )
        for i, tile in enumerate(tiles)
    ]


def _prediction(batch: Batch, i: int, tile: Tile, counts: Counts, result: Evaluated) -> Prediction:
    own = np.s_[i, : tile.height, : tile.width]
    return Prediction(
        tile=tile,
        counts=counts,
        # Copies: a view would keep the whole batch in memory as long as the picture waits.
        pre=np.array(batch.pre[own]),
        post=np.array(batch.post[own]),
        labels=np.array(batch.labels[own]),
        valid=np.array(batch.valid[own]),
        probability=np.array(jax.device_get(result.probability[i])[own[1:]]),
        levels=None if result.levels is None else np.array(jax.device_get(result.levels[i])[own[1:]]),
    )
