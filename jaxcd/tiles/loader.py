"""Batches for training and evaluation: Grain reads, decodes, crops, flips and stacks bytes.

Training is a deterministic function of (seed, batch number): the number of consumed batches is all that has to be
saved to go on, whatever the number of workers, threads or processes.
"""

import collections
import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import grain
import numpy as np
from absl import flags
from jaxtyping import UInt8

from jaxcd.config import Config
from jaxcd.errors import ConfigError, DatasetError
from jaxcd.tiles.dataset import TileDataset
from jaxcd.tiles.staging import decode_codes, decode_rgb, start_worker
from jaxcd.types import DAMAGE, INVALID, Batch, Tile

# A thread decodes a batch: more of them than this hold more memory than they save time.
_MOST_THREADS = 8


def train_batches(
    dataset: TileDataset,
    rows: Sequence[int],
    config: Config,
    *,
    stride: int,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Give training batches without end: places shuffled anew each epoch, batches running on over its end.

    Each time a place is drawn it gives one crop of one pre and one labelled post image, drawn at random.

    Args:
        dataset: the tiles.
        rows: places to train on.
        config: `seed`, `train.batch`, `data` (crops, workers) and `augment.flips` count.
        stride: of the network, in pixels: whole tiles are padded to a multiple of it with `valid = 0`.
        start: batches to skip: batch `k` of a run is the first one with `start=k`.
        process_index: which process of a multi-process run this is.
        process_count: how many there are; each gives its own consecutive part of every global batch.

    Returns:
        An iterator; `close()` ends its workers.

    Raises:
        ConfigError: the batch can't be divided by the processes.
        DatasetError: whole tiles are asked for and sizes differ.
    """
    share, rest = divmod(config.train.batch, process_count)
    if rest:
        raise ConfigError(
            f"config.train.batch: expected a multiple of the {process_count} processes, got {config.train.batch}"
        )
    size = config.data.crop or _common_size(dataset, rows, stride)
    crops = _Crops(
        dataset=dataset,
        size=size if isinstance(size, tuple) else (size, size),
        damage_share=config.data.damage_share,
        flips=config.augment.flips,
        part=slice(process_index * share, (process_index + 1) * share),
    )
    # Up to here an element is a row and a seed: they are batched before anything is read, so that the global batch
    # is the same for any number of processes, and a slice skips batches for free.
    draws = grain.MapDataset.source(list(rows)).seed(config.seed).shuffle().repeat().random_map(_Draw())
    batches = draws.batch(config.train.batch, batch_fn=tuple)[start:].map(crops)
    threads = _threads() if config.data.workers == 0 else 1
    reading = batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1))
    if config.data.workers > 0:
        # Grain reads absl flags when it starts workers, and refuses where no entry has parsed them.
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


def _threads() -> int:
    return min(_MOST_THREADS, os.cpu_count() or 1)


def _closing(reading: grain.IterDataset) -> Iterator[Batch]:
    with contextlib.closing(iter(reading)) as batches:
        yield from batches


def _common_size(dataset: TileDataset, rows: Sequence[int], stride: int) -> tuple[int, int]:
    sizes = collections.Counter((dataset.samples[row].height, dataset.samples[row].width) for row in rows)
    if len(sizes) > 1:
        given = ", ".join(f"{height} x {width} ({count})" for (height, width), count in sizes.most_common(4))
        raise DatasetError(
            f"{dataset.path}: tiles have {len(sizes)} sizes ({given}), and whole tiles must be of one for a batch; "
            "set config.data.crop"
        )
    return _rounded_up(*next(iter(sizes)), stride)


def _rounded_up(height: int, width: int, stride: int) -> tuple[int, int]:
    return -(-height // stride) * stride, -(-width // stride) * stride


class _Draw(grain.transforms.RandomMap):
    """Attach a seed of its own to every draw of a place."""

    def random_map(self, element: int, rng: np.random.Generator) -> tuple[int, int]:
        return element, int(rng.integers(2**63))


@dataclass(frozen=True, kw_only=True)
class _Crops(grain.transforms.Map):
    """Read and stack this process's part of a batch of draws."""

    dataset: TileDataset
    size: tuple[int, int]
    damage_share: float
    flips: bool
    part: slice

    def map(self, element: Sequence[tuple[int, int]]) -> Batch:
        draws = element[self.part]
        crops = [self._crop(row, np.random.default_rng(seed)) for row, seed in draws]
        pre, post, codes = (np.stack(images) for images in zip(*crops, strict=True))
        return _batch(pre, post, codes, [row for row, _ in draws])

    def _crop(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        record = self.dataset.read(row)
        pre = record.pre[int(rng.integers(len(record.pre)))]
        chosen = int(rng.integers(len(record.post)))
        images = decode_rgb(pre), decode_rgb(record.post[chosen]), decode_codes(record.label[chosen])
        top, left = _corner(images[2], self.size, self.damage_share, rng)
        height, width = self.size
        vertical, horizontal, turns = rng.integers((2, 2, 4)).tolist() if self.flips else (0, 0, 0)
        first, second, codes = (
            _turned(image[top : top + height, left : left + width], flips=(vertical, horizontal), turns=turns)
            for image in images
        )
        return _padded(first, self.size, 0), _padded(second, self.size, 0), _padded(codes, self.size, INVALID)


def _corner(
    codes: UInt8[np.ndarray, "h w"], size: tuple[int, int], damage_share: float, rng: np.random.Generator
) -> tuple[int, int]:
    """Draw the top left corner of a crop, `damage_share` of them centred on a damaged pixel, inside the tile."""
    room = np.maximum(np.array(codes.shape) - size, 0)
    centred, anywhere = rng.random() < damage_share, rng.integers(room + 1)
    damaged = np.flatnonzero(codes == DAMAGE) if centred and room.any() else ()
    if len(damaged) == 0:
        return int(anywhere[0]), int(anywhere[1])
    pixel = np.array(divmod(int(damaged[rng.integers(len(damaged))]), codes.shape[1]))
    top, left = np.clip(pixel - np.array(size) // 2, 0, room)
    return int(top), int(left)


def _turned(image: np.ndarray, *, flips: tuple[int, int], turns: int) -> np.ndarray:
    """Flip (vertically, horizontally), then turn by quarters; oblong images by halves only, to keep their shape."""
    flipped = image[:: -1 if flips[0] else 1, :: -1 if flips[1] else 1]
    return np.rot90(flipped, turns if image.shape[0] == image.shape[1] else turns - turns % 2)


def _padded(image: np.ndarray, size: tuple[int, int], fill: int) -> np.ndarray:
    """Extend an image at the bottom and the right."""
    if image.shape[:2] == size:
        return image
    padded = np.full((*size, *image.shape[2:]), fill, np.uint8)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def _batch(
    pre: UInt8[np.ndarray, "b h w 3"],
    post: UInt8[np.ndarray, "b h w 3"],
    codes: UInt8[np.ndarray, "b h w"],
    ids: Sequence[int],
) -> Batch:
    labels, valid = (codes == DAMAGE).astype(np.uint8), (codes != INVALID).astype(np.uint8)
    return Batch(pre=pre, post=post, labels=labels, valid=valid, ids=np.array(ids, np.int32))


def evaluation_batches(
    dataset: TileDataset, rows: Sequence[int], *, batch: int, stride: int
) -> Iterator[tuple[Batch, list[Tile]]]:
    """Give every labelled post image of the rows once, whole, with the latest pre image of its place.

    Tiles are padded at the bottom and the right to a multiple of `stride` with `valid = 0`, and batched with others
    of the same padded size. The last batch of a size is filled up with empty pairs (`valid = 0`, id -1), so that
    there is one shape a size to compile for.

    Args:
        dataset: the tiles.
        rows: places to evaluate.
        batch: pairs a batch.
        stride: of the network, in pixels.

    Returns:
        Batches, each with its tiles in order (as many as there are true pairs). Reading runs ahead in threads.
    """
    groups: dict[tuple[int, int], list[tuple[int, int]]] = collections.defaultdict(list)
    for row in rows:
        sample = dataset.samples[row]
        groups[_rounded_up(sample.height, sample.width, stride)] += [(row, i) for i in range(len(sample.post))]
    jobs = [
        (size, pairs[first : first + batch])
        for size, pairs in sorted(groups.items())
        for first in range(0, len(pairs), batch)
    ]
    pool = ThreadPoolExecutor(_threads(), thread_name_prefix="evaluation")
    waiting: collections.deque[Future[tuple[Batch, list[Tile]]]] = collections.deque()
    try:
        for size, pairs in jobs:
            waiting.append(pool.submit(_whole, dataset, size, pairs, batch))
            if len(waiting) > _threads():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


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
            stream[(k, *window)] = decode_rgb(content)
        codes[(k, *window)] = decode_codes(record.label[i])
        ids[k] = row
        tiles.append(Tile(sample.id, sample.post[i].name, sample.height, sample.width))
    return _batch(images[0], images[1], codes, ids.tolist()), tiles
