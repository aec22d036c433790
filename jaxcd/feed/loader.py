"""Batches for training and evaluation: Grain reads, decodes, crops, flips and stacks bytes.

Training is a deterministic function of (seed, batch number): a run that goes on needs only the number of consumed
batches, whatever the number of workers, threads or processes.
"""

import collections
import contextlib
import functools
import math
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grain
import numpy as np
from absl import flags

from jaxcd.base.ahead import held_back
from jaxcd.base.errors import ConfigError
from jaxcd.base.processes import cores, start_worker
from jaxcd.base.scales import DAMAGE, INVALID
from jaxcd.base.types import Batch, Tile
from jaxcd.config import Config
from jaxcd.feed.balance import ANYWHERE, Alarm, DrawBalanced, Target
from jaxcd.feed.crops import (
    Codes,
    Corner,
    Crops,
    Draw,
    any_corner,
    as_batch,
    crop_size,
    damaged_corner,
    marked_corner,
    rounded_up,
    showing_corner,
)
from jaxcd.store.dataset import TileDataset
from jaxcd.store.manifest import Sample

# Each thread decodes a batch; more threads than this cost more in memory than they save in time.
MOST_THREADS = 8
_ENDLESS = 2**62  # elements
T = TypeVar("T")


def train_batches(
    dataset: TileDataset,
    rows: Sequence[int],
    config: Config,
    *,
    stride: int,
    start: int = 0,
    alarms: Sequence[Alarm] = (),
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Return endless training batches: places are shuffled anew each epoch, and a batch may span two epochs.

    Each time a place is drawn, it gives one crop of one pre and one labelled post image, drawn at random. With
    `data.balance = event`, events are drawn equally often, and their places with replacement.

    Args:
        dataset: the tiles.
        rows: places to train on.
        config: `seed`, `train.batch`, `data` (crops, workers) and `augment.flips` count.
        stride: of the network, in pixels: whole tiles are padded to a multiple of it with `valid = 0`.
        start: batches to skip: batch `k` of a run is the first one with `start=k`.
        alarms: false alarms for `data.false_alarm_share` (`data.balance = event`).
        process_index: which process of a multi-process run this is.
        process_count: how many there are; each gives its own consecutive part of every global batch.

    Returns:
        An iterator; `close()` ends its workers.

    Raises:
        ConfigError: the batch can't be divided by the processes.
        DatasetError: `data.crop` is 0 and the tiles differ in size.
    """
    where = {"process_index": process_index, "process_count": process_count}
    batches = training_dataset(dataset, rows, config, stride=stride, alarms=alarms, **where)
    return read_ahead(batches[start:], config)


def training_dataset(
    dataset: TileDataset,
    rows: Sequence[int],
    config: Config,
    *,
    stride: int,
    alarms: Sequence[Alarm] = (),
    process_index: int = 0,
    process_count: int = 1,
) -> grain.MapDataset[Batch]:
    """Return the batches of `train_batches` by their number; each is made on access."""
    cut = Crops(dataset=dataset, size=crop_size(dataset, rows, config, stride), flips=config.augment.flips)
    part = own_share(config.train.batch, process_index, process_count)
    # Rows and seeds are batched before anything is read: so the global batch is the same for any number of processes,
    # and a slice skips batches for free.
    if config.data.balance == "event":
        balanced = DrawBalanced.of(dataset.samples, rows, dataset.scale, config.data, alarms)
        drawn = without_end(grain.MapDataset.source([0]).seed(config.seed)).random_map(balanced)
        crops: grain.transforms.Map = _BalancedCrops(crops=cut, jitter=config.data.jitter, part=part)
    else:
        drawn = draws_by_origin(dataset.samples, rows, config)
        around = {"damage_share": config.data.damage_share, "jitter": config.data.jitter}
        crops = _TrainingCrops(crops=cut, **around, part=part)
    return drawn.batch(config.train.batch, batch_fn=tuple).map(crops)


def own_share(pairs: int, process_index: int, process_count: int) -> slice:
    """Return the part of a global batch that is a process's own.

    Raises:
        ConfigError: the batch can't be divided by the processes.
    """
    share, rest = divmod(pairs, process_count)
    if rest:
        raise ConfigError(f"config.train.batch: expected a multiple of the {process_count} processes, got {pairs}")
    return slice(process_index * share, (process_index + 1) * share)


def draws(rows: Sequence[int], seed: int, *, mixed: int = 1) -> grain.MapDataset[tuple[int, int]]:
    """Return rows without end, each with a seed; every row comes once in an epoch.

    `mixed` is how many such datasets will be mixed into one, see `without_end`.
    """
    return without_end(grain.MapDataset.source(list(rows)).seed(seed).shuffle(), mixed=mixed).random_map(_Draw())


def draws_by_origin(
    samples: Sequence[Sample], rows: Sequence[int], config: Config
) -> grain.MapDataset[tuple[int, int]]:
    """Return rows without end, each with a seed; with `data.weights`, rows of each joined dataset in its share."""
    data = config.data
    if not data.weights:
        return draws(rows, config.seed)
    own = [[row for row in rows if samples[row].origin == Path(root).name] for root in data.roots]
    # Each dataset is shuffled by a seed of its own.
    seeds = np.random.SeedSequence((config.seed, len(own))).generate_state(len(own)).tolist()
    # Shares of the least one are what mixing counts by: its length grows by as much.
    mixed = math.ceil(sum(data.weights) / min(data.weights))
    parts = [draws(part, seed, mixed=mixed) for part, seed in zip(own, seeds, strict=True)]
    return grain.MapDataset.mix(parts, data.weights)


def without_end(elements: grain.MapDataset[T], *, mixed: int = 1) -> grain.MapDataset[T]:
    """Repeat elements more often than a run can draw them, each time shuffled anew.

    Grain's own endless repetition is 2**63 - 1 elements long. It counts the batches of these as a float, which rounds
    up to 2**63; with one element a batch that is no length any more (OverflowError). A mixture of datasets is as many
    times as long as a dataset: `mixed`.
    """
    return elements.repeat(_ENDLESS // mixed // max(len(elements), 1))


def read_ahead(batches: grain.MapDataset[Batch], config: Config) -> Iterator[Batch]:
    """Iterate over batches that `config.data.workers` processes, or threads, read ahead; `close()` ends them."""
    threads = reading_threads() if config.data.workers == 0 else 1
    reading = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1))
    if config.data.workers > 0:
        # Grain reads absl flags when it starts workers, and fails where no program has parsed them.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(num_workers=config.data.workers, per_worker_buffer_size=2)
        reading = reading.mp_prefetch(options, worker_init_fn=_start_worker)
    return _closing(reading)


def _start_worker(index: int, count: int) -> None:
    # Grain's own workers outlive a killed trainer, and die of signals that the trainer survives to save its state:
    # a terminal sends Ctrl-C, and a scheduler SIGTERM, to the whole group.
    start_worker()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def reading_threads() -> int:
    """Return how many threads read ahead; one batch more than that may be ready."""
    return min(MOST_THREADS, cores())


def _closing(reading: grain.IterDataset) -> Iterator[Batch]:
    with contextlib.closing(iter(reading)) as batches:
        yield from batches


class _Draw(grain.transforms.RandomMap):
    """Attach a seed of its own to every draw of a place."""

    def random_map(self, element: int, rng: np.random.Generator) -> tuple[int, int]:
        return element, int(rng.integers(2**63))


@dataclass(frozen=True, kw_only=True)
class _TrainingCrops(grain.transforms.Map):
    """Read this process's part of a batch of draws."""

    crops: Crops
    damage_share: float
    jitter: float
    part: slice

    def map(self, element: Sequence[tuple[int, int]]) -> Batch:
        samples = self.crops.dataset.samples
        return self.crops.batch(
            [
                Draw(row, range(len(samples[row].post)), self._corner, np.random.default_rng(seed))
                for row, seed in element[self.part]
            ]
        )

    def _corner(self, codes: Codes, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
        around, anywhere = rng.random() < self.damage_share, any_corner(codes, size, rng)
        damage = self.crops.dataset.damage(codes)
        return damaged_corner(damage, size, rng, self.jitter) if around and (damage == DAMAGE).any() else anywhere


@dataclass(frozen=True, kw_only=True)
class _BalancedCrops(grain.transforms.Map):
    """Read this process's part of a batch of targets."""

    crops: Crops
    jitter: float
    part: slice

    def map(self, element: Sequence[Target]) -> Batch:
        return self.crops.batch([self._draw(target) for target in element[self.part]])

    def _draw(self, target: Target) -> Draw:
        any_post = range(len(self.crops.dataset.samples[target.row].post))
        posts = any_post if target.post == ANYWHERE else (target.post,)
        return Draw(target.row, posts, _corner_of(target, self.jitter), np.random.default_rng(target.seed))


def _corner_of(target: Target, jitter: float) -> Corner:
    if target.alarm is not None:
        return functools.partial(showing_corner, pixel=target.alarm)
    if target.code == ANYWHERE:
        return any_corner
    return lambda codes, size, rng: marked_corner(codes == target.code, size, rng, jitter)


def evaluation_batches(
    dataset: TileDataset, rows: Sequence[int], *, batch: int, stride: int, numbers: Sequence[int] | None = None
) -> Iterator[tuple[Batch, list[Tile]]]:
    """Yield every labelled post image of the rows once, whole, with the latest pre image of its place.

    Tiles are padded at the bottom and the right to a multiple of `stride` with `valid = 0`, and batched with others
    of the same padded size. The last batch of a size is filled up with empty pairs (`valid = 0`, id -1), so that
    each size is compiled once.

    Args:
        dataset: the tiles.
        rows: places to evaluate.
        batch: pairs in a batch.
        stride: of the network, in pixels.
        numbers: of the batches that are wanted, of `count_evaluation_batches`; None: all.

    Returns:
        Batches, each with its tiles in order (as many as there are true pairs). Reading runs ahead in threads.
    """
    jobs = _evaluation_jobs(dataset, rows, batch, stride)
    if numbers is not None:
        jobs = [jobs[number] for number in numbers]
    pool = ThreadPoolExecutor(reading_threads(), thread_name_prefix="evaluation")
    reading = (pool.submit(_whole, dataset, size, pairs, batch) for size, pairs in jobs)
    try:
        for ready in held_back(reading, reading_threads()):
            yield ready.result()
    finally:
        pool.shutdown(cancel_futures=True)


def count_evaluation_batches(dataset: TileDataset, rows: Sequence[int], *, batch: int, stride: int) -> int:
    """Return how many batches `evaluation_batches` gives; they are numbered from 0."""
    return len(_evaluation_jobs(dataset, rows, batch, stride))


def _evaluation_jobs(
    dataset: TileDataset, rows: Sequence[int], batch: int, stride: int
) -> list[tuple[tuple[int, int], list[tuple[int, int]]]]:
    """Return the padded size and the labelled images (row, position in its `post`) of each batch."""
    groups: dict[tuple[int, int], list[tuple[int, int]]] = collections.defaultdict(list)
    for row in rows:
        sample = dataset.samples[row]
        groups[rounded_up(sample.height, sample.width, stride)] += [(row, i) for i in range(len(sample.post))]
    return [
        (size, pairs[first : first + batch])
        for size, pairs in sorted(groups.items())
        for first in range(0, len(pairs), batch)
    ]


def _whole(
    dataset: TileDataset, size: tuple[int, int], pairs: Sequence[tuple[int, int]], batch: int
) -> tuple[Batch, list[Tile]]:
    images = np.zeros((2, batch, *size, 3), np.uint8)
    codes = np.full((batch, *size), INVALID, np.uint8)
    ids, tiles = np.full(batch, -1, np.int32), []
    for k, (row, i) in enumerate(pairs):
        record, sample = dataset.read(row), dataset.samples[row]
        window = slice(0, sample.height), slice(0, sample.width)
        for stream, content in zip(images, (record.pre[-1], record.post[i]), strict=True):
            stream[(k, *window)] = dataset.image(row, content)
        codes[(k, *window)] = dataset.codes(row, record.label[i])
        ids[k] = row
        tiles.append(Tile(sample.id, sample.post[i].name, sample.height, sample.width))
    return as_batch(images[0], images[1], codes, ids.tolist()), tiles
