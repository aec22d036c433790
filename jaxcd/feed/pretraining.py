"""Data to pretrain an encoder on: places that no split holds out, in batches balanced between damaged and intact."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grain
import numpy as np

from jaxcd.base.errors import SplitError
from jaxcd.base.types import Batch
from jaxcd.config import Config
from jaxcd.feed.crops import Codes, Corner, Crops, Draw, crop_size, damaged_corner, intact_corner, intact_corners
from jaxcd.feed.loader import MOST_THREADS, own_share, read_ahead, without_end
from jaxcd.feed.splits import NAMES, Splits, blocks_of, check_parts, divided, in_no_block, permuted, split_places
from jaxcd.store.dataset import TileDataset
from jaxcd.store.manifest import Sample

# The kinds (1 damaged, 0 intact) of an element's pairs, by its position in a micro-batch: half of the pairs are damaged
# on each side, and half of the elements of two pairs have different kinds.
_SIAMESE = ((1,), (0,))
_PAIRS_OF_PAIRS = ((1, 0), (0, 0), (0, 1), (1, 1))


def pretraining_splits(samples: Sequence[Sample], config: Config, *, pairs_compared: int) -> Splits:
    """Split the places for the pretraining of an encoder; it sees no place that the supervised split holds out.

    FC-Siam: the supervised split, and as many places without damage (those that `data.places = damaged` leaves out) in
    the same shares. FC-EF: the places that the supervised split trains on, and those without damage, divided by
    `contrast.shares` (docs/method.md, Places, samples, splits). With spatial blocks, a further place goes to the split
    of its block.

    Args:
        samples: places of a dataset; the returned rows are positions in it.
        config: `data`, as in the supervised run, and `contrast.shares` count.
        pairs_compared: image pairs in an element, see `jaxcd.models.Description`: 1 for FC-Siam, 2 for FC-EF.

    Returns:
        The splits; the test split is not used, and may be empty.

    Raises:
        SplitError: the supervised split cannot be made, or training or validation would have no damaged pixel.
    """
    data = config.data
    supervised = split_places(samples, data)
    rows = sorted(range(len(samples)), key=lambda row: samples[row].id)
    rank = {row: k for k, row in enumerate(rows)}
    blocks = blocks_of(samples, rows, data)
    sides: dict[str, set[str]] = defaultdict(set)  # splits that a block has places in
    taken: dict[int, str] = {}
    for name in NAMES:
        for row in getattr(supervised, name):
            taken[row] = name
            sides[blocks[row]].add(name)
    further = [row for row in permuted(rows, data.split_seed) if not samples[row].damaged and row not in taken]
    fused = pairs_compared > 1
    # A block in two splits takes no further places; for FC-EF, neither does a block that is held out.
    welcome = [set(), {"train"}] if fused else [set(), *({name} for name in NAMES)]
    further = [row for row in further if row in blocks and sides[blocks[row]] in welcome]
    further = further[: sum(samples[row].damaged > 0 for row in taken)]
    bound = {name: tuple(row for row in further if sides[blocks[row]] == {name}) for name in NAMES}
    free = [row for row in further if not sides[blocks[row]]]

    def divide(chosen: Sequence[int], shares: tuple[float, float, float]) -> tuple[tuple[int, ...], ...]:
        return divided(samples, {row: blocks[row] for row in sorted(chosen, key=rank.__getitem__)}, shares, data)

    if fused:
        parts = divide([*supervised.train, *bound["train"], *free], config.contrast.shares)
    else:
        more = divide(free, data.split_shares)
        parts = tuple(getattr(supervised, name) + bound[name] + part for name, part in zip(NAMES, more, strict=True))
    shares = "config.contrast.shares" if fused else "config.data.split_shares"
    check_parts(samples, parts, data, needed=NAMES[:2], shares=shares)
    train, validation, test = (tuple(sorted(part)) for part in parts)
    used = {*train, *validation, *test}

    def reason(row: int) -> str:
        if row not in blocks:
            return in_no_block(data)
        if taken.get(row, "train") != "train" or sides[blocks[row]] in ({NAMES[1]}, {NAMES[2]}):
            return "held out by the supervised split"
        return "its block is in two splits" if len(sides[blocks[row]]) > 1 else "more places without damage than with"

    left_out = tuple((samples[row].id, reason(row)) for row in rows if row not in used)
    return Splits(train=train, validation=validation, test=test, left_out=left_out)


@dataclass(frozen=True, kw_only=True)
class Kinds:
    """For each kind of pair, the labelled images that give it: row to positions in its `post`."""

    damaged: dict[int, tuple[int, ...]]
    intact: dict[int, tuple[int, ...]]


def kinds(dataset: TileDataset, rows: Sequence[int], config: Config, *, stride: int, split: str) -> Kinds:
    """Find which places show damage, and which have room for a crop without any; reads labels with damage or gaps.

    Args:
        dataset: the tiles.
        rows: places of a split.
        config: `data.crop` counts.
        stride: of the network, in pixels.
        split: name of the split, for the message.

    Raises:
        SplitError: there are no pairs of one kind.
    """
    size = crop_size(dataset, rows, config, stride)

    def suitable(row: int) -> tuple[int, ...]:
        record, labelled = None, []
        for i, post in enumerate(dataset.samples[row].post):
            if post.damaged or post.valid < dataset.samples[row].height * dataset.samples[row].width:
                record = record or dataset.read(row)
                if not intact_corners(dataset.damage(dataset.codes(row, record.label[i])), size).any():
                    continue
            labelled.append(i)
        return tuple(labelled)

    with ThreadPoolExecutor(MOST_THREADS) as pool:
        intact = {row: posts for row, posts in zip(rows, pool.map(suitable, rows), strict=True) if posts}
    damaged = {
        row: tuple(i for i, post in enumerate(dataset.samples[row].post) if post.damaged)
        for row in rows
        if dataset.samples[row].damaged
    }
    if not intact:
        crop = f"crops of {size[0]} x {size[1]} pixels" if config.data.crop else "whole tiles"
        raise SplitError(
            f"the {split} split has no pair without damage to compare with: none of its {len(rows)} places has room "
            f"for {crop} without a damaged pixel; set a smaller config.data.crop (now {config.data.crop}), or add "
            "image pairs without damage (with an all-zero mask) to the data"
        )
    if not damaged:
        raise SplitError(f"the {split} split has no pair with damage; add some, or try another config.data.split_seed")
    return Kinds(damaged=damaged, intact=intact)


def contrast_batches(
    dataset: TileDataset,
    found: Kinds,
    config: Config,
    *,
    stride: int,
    pairs_compared: int,
    seed: int,
    start: int = 0,
    every: int = 1,
    process_index: int = 0,
    process_count: int = 1,
) -> Iterator[Batch]:
    """Return endless batches: half of the pairs are damaged, and half of the elements of two pairs mix both kinds.

    An element is one pair for FC-Siam, two pairs side by side for FC-EF. Each pair's place is drawn independently. A
    damaged pair is a crop centred on a damaged pixel; an intact one is a crop without any, wherever one fits.

    Args:
        dataset: the tiles.
        found: the result of `kinds`.
        config: `train.batch`, `train.accumulation`, `data` and `augment.flips` count.
        stride: of the network, in pixels.
        pairs_compared: image pairs in an element.
        seed: seed of all draws.
        start: batches to skip: batch `k` is the first one with `start=k`.
        every: give the first batch of each so many.
        process_index: which process of a multi-process run this is.
        process_count: how many there are; each gives its own consecutive part of every global batch.

    Returns:
        An iterator; `close()` ends its workers. Batches of `train.batch * pairs_compared` pairs.
    """
    pairs = config.train.batch * pairs_compared
    pattern = _PAIRS_OF_PAIRS if pairs_compared == 2 else _SIAMESE
    # Micro-batch j of a step takes every `accumulation`-th element: each micro-batch must be balanced.
    order = [
        kind
        for element in range(config.train.batch)
        for kind in pattern[element // config.train.accumulation % len(pattern)]
    ]
    rows = sorted({*found.damaged, *found.intact})
    crops = _ContrastCrops(
        crops=Crops(dataset=dataset, size=crop_size(dataset, rows, config, stride), flips=config.augment.flips),
        found=found,
        part=own_share(pairs, process_index, process_count),
        order=tuple(order),
    )
    # Both kinds are batched before anything is read; zipped, batch k holds the k-th of each.
    halves = [
        _draws(side, seed, kind).batch(pairs // 2, batch_fn=tuple)
        for kind, side in enumerate((found.intact, found.damaged))
    ]
    both: grain.MapDataset = grain.experimental.ZipMapDataset(halves)
    return read_ahead(both.slice(slice(start, None, every)).map(crops), config)


def _draws(rows: Iterable[int], seed: int, kind: int) -> grain.MapDataset[tuple[int, int]]:
    # Drawn with replacement, each kind with a seed of its own. If places were shuffled, FC-EF's two pairs of an element
    # would share a place more often where their kinds differ than where they agree, and a network could learn that
    # instead of damage.
    own = int(np.random.SeedSequence((seed, kind)).generate_state(1)[0])
    return without_end(grain.MapDataset.source([0]).seed(own)).random_map(_DrawPlace(rows=tuple(rows)))


@dataclass(frozen=True, kw_only=True)
class _DrawPlace(grain.transforms.RandomMap):
    """Draw a place, and a seed for its crop."""

    rows: tuple[int, ...]

    def random_map(self, element: int, rng: np.random.Generator) -> tuple[int, int]:
        return self.rows[int(rng.integers(len(self.rows)))], int(rng.integers(2**63))


@dataclass(frozen=True, kw_only=True)
class _ContrastCrops(grain.transforms.Map):
    """Put a batch's draws of both kinds in order, and read this process's part."""

    crops: Crops
    found: Kinds
    part: slice
    order: tuple[int, ...]

    def map(self, element: tuple[Sequence[tuple[int, int]], ...]) -> Batch:
        waiting = [iter(side) for side in element]
        drawn = [(kind, *next(waiting[kind])) for kind in self.order][self.part]
        kinds = (self.found.intact, intact_corner), (self.found.damaged, damaged_corner)
        draws = []
        for kind, row, seed in drawn:
            posts, corner = kinds[kind]
            draws.append(Draw(row, posts[row], self._of_damage(corner), np.random.default_rng(seed)))
        return self.crops.batch(draws)

    def _of_damage(self, corner: Corner) -> Corner:
        def of_codes(codes: Codes, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
            return corner(self.crops.dataset.damage(codes), size, rng)

        return of_codes
