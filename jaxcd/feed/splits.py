"""Splits places into training, validation and test.

Places are split one by one (by rank in a seeded permutation), by spatial block, by event, or as the source's authors
split them.
"""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from jaxcd.base.errors import SplitError
from jaxcd.base.types import METRES_PER_DEGREE, Bounds
from jaxcd.config import DataConfig
from jaxcd.store.manifest import Sample

NAMES = ("train", "validation", "test")
# Two blocks are merged if tiles of them overlap by more than this share of the smaller tile. Smaller overlaps come from
# inexact borders.
_OVERLAP = 0.05
_OF_TEST_GROUND = "shows ground of a test event (split = event)"
_IN_NO_BLOCK = {
    "block": "its location is not known (split = block)",
    "event": "its event is not known (split = event)",
    "published": "the source's published split does not list it (split = published)",
}


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Rows of the places of each split in ascending order, and the ids of left out places, each with the reason."""

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    left_out: tuple[tuple[str, str], ...] = ()


def split_places(samples: Sequence[Sample], data: DataConfig) -> Splits:
    """Split the places of a dataset; the same places and settings give the same splits in any order.

    If several datasets are joined, each is split by itself, except with `split = event`. With `test_events`, the places
    of these events are the test split. Places of other events that overlap with them are left out. All others are
    divided into training and validation by spatial block; a place of unknown location is a block of its own.

    Args:
        samples: places of a dataset; the returned rows are positions in it.
        data: settings; `places`, `split`, `test_events`, `split_shares`, `split_seed`, `block_size` and `train_places`
            are used.

    Returns:
        The splits. They are disjoint, and together with `left_out` they hold all places.

    Raises:
        SplitError: a split is empty, has no damaged pixel or fewer places than `train_places`, or the source has no
            published split.
    """
    origins = sorted({sample.origin for sample in samples})
    if len(origins) > 1 and data.split != "event":
        return _joined([_split_of(samples, data, origin) for origin in origins])
    if data.split == "published" and not any(sample.split for sample in samples):
        raise SplitError(
            "config.data.split is published, but the source of these places has no published split; choose place or "
            "block"
        )
    rows = sorted(range(len(samples)), key=lambda row: samples[row].id)
    left_out: list[tuple[str, str]] = []
    if data.places == "damaged":
        left_out += [
            (samples[row].id, "no damaged pixel (places = damaged)") for row in rows if not samples[row].damaged
        ]
        rows = [row for row in rows if samples[row].damaged]
    blocks = blocks_of(samples, rows, data)
    left_out += [(samples[row].id, in_no_block(data)) for row in rows if row not in blocks]
    if data.test_events:
        parts, overlapping = _held_out(samples, blocks, data)
        left_out += [(samples[row].id, _OF_TEST_GROUND) for row in overlapping]
    elif data.split == "published":
        parts = tuple(tuple(sorted(row for row in blocks if samples[row].split == name)) for name in NAMES)
    else:
        parts = divided(samples, blocks, data.split_shares, data)
    # A test event may have no damage: it then tests for false alarms.
    check_parts(samples, parts, data, needed=NAMES[:2] if data.test_events else NAMES)
    train, validation, test = parts
    if data.train_places:
        train, spare = _few(samples, train, data)
        left_out += [(samples[row].id, f"not one of the {data.train_places} that train_places allows") for row in spare]
    return Splits(train=train, validation=validation, test=test, left_out=tuple(left_out))


def _few(
    samples: Sequence[Sample], train: tuple[int, ...], data: DataConfig
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draw the training places that are used; returns their rows and those of the others.

    Raises:
        SplitError: there are fewer, or those drawn have no damaged pixel.
    """
    count = data.train_places
    order = permuted(sorted(train, key=lambda row: samples[row].id), data.split_seed)
    if count > len(order):
        raise SplitError(f"config.data.train_places is {count}, and the training split has {len(order)} places")
    used, spare = (tuple(sorted(part)) for part in (order[:count], order[count:]))
    if not any(samples[row].damaged for row in used):
        raise SplitError(
            f"config.data.train_places: none of the {count} places that were drawn has a damaged pixel; take more, or "
            "another config.data.split_seed"
        )
    return used, spare


def _split_of(samples: Sequence[Sample], data: DataConfig, origin: str) -> Splits:
    """Split the places of one of several joined datasets; the returned rows are positions among all places."""
    rows = [row for row, sample in enumerate(samples) if sample.origin == origin]
    try:
        own = split_places([samples[row] for row in rows], data)
    except SplitError as error:
        raise SplitError(f"{origin}: {error}") from error
    parts = {name: tuple(rows[i] for i in getattr(own, name)) for name in NAMES}
    return Splits(**parts, left_out=own.left_out)


def _joined(splits: Sequence[Splits]) -> Splits:
    parts = {name: tuple(sorted(row for own in splits for row in getattr(own, name))) for name in NAMES}
    return Splits(**parts, left_out=tuple(place for own in splits for place in own.left_out))


def _held_out(
    samples: Sequence[Sample], blocks: dict[int, str], data: DataConfig
) -> tuple[tuple[tuple[int, ...], ...], list[int]]:
    """Return the rows of each split, with the test events as test split, and the other rows that overlap with these.

    Raises:
        SplitError: no place belongs to one of the events.
    """
    known = sorted({samples[row].event for row in blocks})
    unknown = sorted(set(data.test_events) - set(known))
    if unknown:
        raise SplitError(
            f"config.data.test_events: no place belongs to {unknown[0]}; known are {', '.join(known) or 'none'}"
        )
    test = [row for row in blocks if samples[row].event in data.test_events]
    others = [row for row in blocks if samples[row].event not in data.test_events]
    shared = {i for pair in _overlaps(samples, [*test, *others]) for i in pair if pair[0] in test or pair[1] in test}
    overlapping = [row for row in others if row in shared]
    rest = [row for row in others if row not in shared]
    by_block = dataclasses.replace(data, split="block", test_events=())
    ground = {row: samples[row].id for row in rest} | blocks_of(samples, rest, by_block)
    train, validation, _ = data.split_shares
    shares = (train / (train + validation), validation / (train + validation), 0.0)
    learned = divided(samples, {row: ground[row] for row in rest}, shares, by_block)
    return (*learned[:2], tuple(sorted(test))), overlapping


def divided(
    samples: Sequence[Sample], blocks: dict[int, str], shares: tuple[float, float, float], data: DataConfig
) -> tuple[tuple[int, ...], ...]:
    """Divide rows into three parts, each in ascending order; a part gets whole blocks, or single rows.

    Args:
        samples: all places.
        blocks: the rows to divide, in order of their ids, and the block of each.
        shares: wanted share of each part.
        data: settings; `split` and `split_seed` are used.
    """
    if data.split in ("block", "event"):
        parts = _assign(samples, blocks, shares, data.split_seed)
    else:
        parts = _cut(list(blocks), shares, data.split_seed)
    return tuple(tuple(sorted(part)) for part in parts)


def _cut(rows: list[int], shares: tuple[float, float, float], seed: int) -> tuple[list[int], list[int], list[int]]:
    """Cut a permutation by rank: the number of training rows is rounded; of the rest, that of validation is rounded up.

    The paper's 190 places at .70, .15, .15 become 133, 29 and 28.
    """
    order = permuted(rows, seed)
    # 57 * .15 / .30 is 28.500000000000004 in floating point: exact halves and integers need a tolerance.
    tolerance = 1e-9
    train = math.floor(shares[0] * len(order) + 0.5 + tolerance)
    rest = (len(order) - train) * shares[1] / (shares[1] + shares[2])
    validation = train + math.ceil(rest - tolerance)
    return order[:train], order[train:validation], order[validation:]


def permuted(rows: Sequence[int], seed: int) -> list[int]:
    """Return rows in a random order, drawn with a seed."""
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]


def blocks_of(samples: Sequence[Sample], rows: Sequence[int], data: DataConfig) -> dict[int, str]:
    """Return the name of each row's block; rows whose block is not known are missing.

    With `split = place`, each place is a block; with `published`, each split; with `event`, each event.
    """
    if data.split == "place":
        return {row: samples[row].id for row in rows}
    if data.split == "published":
        return {row: f"published {split}" for row in rows if (split := samples[row].split)}
    blocks = {}
    for row in rows:
        sample = samples[row]
        if data.split == "event":
            if sample.event:
                blocks[row] = f"event {sample.event}"
        elif sample.block is not None:
            blocks[row] = f"named {sample.block}"
        elif sample.bounds is not None:
            blocks[row] = _cell(sample.bounds, data.block_size)
    merged = _merged(samples, blocks)
    return {row: merged[block] for row, block in blocks.items()}


def in_no_block(data: DataConfig) -> str:
    """Return the reason why `blocks_of` left a row out."""
    return _IN_NO_BLOCK[data.split]


def _cell(bounds: Bounds, size: float) -> str:
    """Return the name of the cell that a tile's centre lies in; cells are squares of `size` metres.

    The length of a degree of longitude is taken from the band of latitude, so that a cell does not depend on the rest
    of the dataset.
    """
    west, south, east, north = bounds
    band = math.floor((south + north) / 2 * METRES_PER_DEGREE / size)
    latitude = (band + 0.5) * size / METRES_PER_DEGREE
    metres = METRES_PER_DEGREE * max(math.cos(math.radians(latitude)), 1e-6)
    return f"cell {band} {math.floor((west + east) / 2 * metres / size)}"


def _merged(samples: Sequence[Sample], blocks: dict[int, str]) -> dict[str, str]:
    """Return the block that each block is merged into; blocks are merged if tiles of both show the same ground."""
    parent = {block: block for block in blocks.values()}

    def root(block: str) -> str:
        while parent[block] != block:
            block = parent[block]
        return block

    for one, other in _overlaps(samples, list(blocks)):
        # Keep the smaller name, so that the result does not depend on the order of the pairs.
        survivor, absorbed = sorted((root(blocks[one]), root(blocks[other])))
        parent[absorbed] = survivor
    return {block: root(block) for block in parent}


def _overlaps(samples: Sequence[Sample], rows: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the pairs of rows whose places show the same ground."""
    located = [(row, bounds) for row in rows if (bounds := samples[row].bounds) is not None]
    west, south, east, north = np.reshape([bounds for _, bounds in located], (-1, 4)).T
    boxes = shapely.box(west, south, east, north)
    areas = shapely.area(boxes)
    for i, j in shapely.STRtree(boxes).query(boxes, predicate="intersects").T if located else ():
        shared = shapely.area(shapely.intersection(boxes[i], boxes[j]))
        if i < j and shared > _OVERLAP * min(areas[i], areas[j]):
            yield located[i][0], located[j][0]


def _assign(
    samples: Sequence[Sample], blocks: dict[int, str], shares: tuple[float, float, float], seed: int
) -> tuple[list[int], list[int], list[int]]:
    """Assign whole blocks to splits so that both places and damaged pixels come close to the wanted shares.

    Blocks are assigned one by one, the largest first. Each goes to the split for which the squared deviations of both
    shares, summed over the splits, are smallest. Then blocks are moved one by one as long as that lowers the sum. This
    second pass is needed because a few tiles hold most of the damage, and may be assigned late. No split is left
    without damage where another one has several damaged blocks.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for row, block in blocks.items():
        members[block].append(row)
    names = sorted(members)
    names = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    names.sort(key=lambda name: -len(members[name]))  # stable: ties stay permuted
    sizes = np.array([(len(members[name]), sum(samples[row].damaged for row in members[name])) for name in names])
    sizes = sizes.reshape(-1, 2) / np.maximum(sizes.reshape(-1, 2).sum(axis=0), 1)
    given, chosen, moved = np.zeros((3, 2)), [-1] * len(names), True
    while moved:
        moved = False
        for i, size in enumerate(sizes):
            if chosen[i] >= 0:
                given[chosen[i]] -= size
            tried = given + np.eye(3)[:, :, None] * size  # axes: split that gets the block, split, places or damage
            deviations = ((tried - np.array(shares)[:, None]) ** 2).sum(axis=(1, 2))
            best = int(np.argmin(deviations))
            # Rounding errors must not move a block back and forth forever.
            if chosen[i] < 0 or deviations[best] < deviations[chosen[i]] - 1e-12:
                chosen[i], moved = best, True
            given[chosen[i]] += size
    _share_out_damage(chosen, sizes[:, 1], shares)
    train, validation, test = (
        [row for name, k in zip(names, chosen, strict=True) if k == split for row in members[name]]
        for split in range(3)
    )
    return train, validation, test


def _share_out_damage(chosen: list[int], damage: np.ndarray, shares: tuple[float, float, float]) -> None:
    """Give each split that has none a damaged block of one with several, the least damaged one; changes `chosen`.

    Of very few damaged blocks, the nearest to the wanted shares may be none.
    """
    for split, share in enumerate(shares):
        own = [[i for i, k in enumerate(chosen) if k == each and damage[i]] for each in range(len(shares))]
        spare = [i for blocks in own if len(blocks) > 1 for i in blocks]
        if share and not own[split] and spare:
            chosen[min(spare, key=lambda i: (damage[i], i))] = split


def check_parts(
    samples: Sequence[Sample],
    parts: Sequence[Sequence[int]],
    data: DataConfig,
    *,
    needed: Sequence[str] = NAMES,
    shares: str = "config.data.split_shares",
) -> None:
    """Check that each of the needed splits has places and damaged pixels.

    Args:
        samples: all places.
        parts: rows of each split.
        data: settings that the splits were made with.
        needed: names of the splits to check.
        shares: name of the field of shares, for the message.

    Raises:
        SplitError: a needed split is empty or has no damaged pixel.
    """
    total = sum(map(len, parts))
    damaged = [sum(samples[row].damaged > 0 for row in part) for part in parts]
    located = all(samples[row].bounds is not None for part in parts for row in part)
    if 0 < total and sum(damaged) < len(needed) and data.split in ("place", "block"):
        what_cuts = ", or cut smaller tiles (--tile)" if located else ""
        remedy = (
            f"each of {' and '.join((', '.join(needed[:-1]), needed[-1]))} needs a place with damage, and there are "
            f"{sum(damaged)}: label damage in more places{what_cuts}"
        )
    elif data.split == "block" or data.test_events:
        remedy = f"try another config.data.split_seed, block_size (now {data.block_size:g} m) or {shares}"
    elif data.split == "event":
        remedy = "whole events stay together: name the test events in config.data.test_events"
    elif data.split == "published":
        remedy = "the published split needs all of its images: add the missing ones"
    elif located:
        remedy = (
            "take config.data.split=block with a small config.data.block_size, which shares out places with damage, "
            f"or try another config.data.split_seed or {shares}"
        )
    else:
        remedy = f"try another config.data.split_seed, {shares}, or more places"
    counts = ", ".join(
        f"{name} {len(part)} ({with_damage} with damage)"
        for name, part, with_damage in zip(NAMES, parts, damaged, strict=True)
    )
    for name, part, with_damage in zip(NAMES, parts, damaged, strict=True):
        if name in needed and not with_damage:
            what = "is empty" if not part else "has no damaged pixel"
            raise SplitError(f"the {name} split {what}; {total} places give {counts}; {remedy}")
