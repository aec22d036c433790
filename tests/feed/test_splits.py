import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxcd.base.errors import SplitError
from jaxcd.base.types import METRES_PER_DEGREE
from jaxcd.config import DataConfig
from jaxcd.feed.split_summary import describe
from jaxcd.feed.splits import Splits, split_places
from jaxcd.store.dataset import TileDataset
from tests.feed.samples import place, placed


def settings(**changes) -> DataConfig:
    return DataConfig(root="unused", **changes)


def split_with(samples, data: DataConfig, *, seed: int) -> Splits:
    return split_places(samples, dataclasses.replace(data, split_seed=seed))


def parts(splits: Splits) -> tuple[tuple[int, ...], ...]:
    return splits.train, splits.validation, splits.test


def test_the_papers_190_places_become_133_29_28():
    samples = [place(f"{i:03}") for i in range(190)]
    splits = split_with(samples, settings(), seed=42)
    assert [len(part) for part in parts(splits)] == [133, 29, 28]
    order = np.random.default_rng(42).permutation(190)
    assert splits.train == tuple(sorted(order[:133].tolist()))
    assert splits.validation == tuple(sorted(order[133:162].tolist()))


@pytest.mark.parametrize(
    ("count", "shares", "sizes"),
    [
        (100, (0.92, 0.04, 0.04), [92, 4, 4]),
        (10, (0.5, 0.25, 0.25), [5, 3, 2]),
        (186, (0.7, 0.15, 0.15), [130, 28, 28]),
        (5, (0.6, 0.2, 0.2), [3, 1, 1]),
    ],
)
def test_counts_follow_the_stated_rule(count, shares, sizes):
    splits = split_with([place(f"{i:03}") for i in range(count)], settings(split_shares=shares), seed=0)
    assert [len(part) for part in parts(splits)] == sizes


def test_damaged_places_only_is_a_setting():
    samples = [place(f"{i:02}", damaged=i % 2) for i in range(40)]
    splits = split_with(samples, settings(places="damaged"), seed=1)
    assert sorted(sum(parts(splits), ())) == list(range(1, 40, 2))
    assert len(splits.left_out) == 20 and splits.left_out[0] == ("00", "no damaged pixel (places = damaged)")


@pytest.mark.parametrize("split", ["place", "block"])
def test_fewer_training_places_are_part_of_more_and_nothing_else_moves(split):
    samples = [placed(f"t{i:02}", 3000 * i, 0) for i in range(60)]
    whole = split_with(samples, settings(split=split), seed=3)
    before: set[int] = set()
    for count in (5, 10, len(whole.train)):
        few = split_with(samples, settings(split=split, train_places=count), seed=3)
        assert (len(few.train), few.validation, few.test) == (count, whole.validation, whole.test)
        assert before < set(few.train) <= set(whole.train)
        reason = f"not one of the {count} that train_places allows"
        assert {name for name, _ in few.left_out} == {samples[i].id for i in set(whole.train) - set(few.train)}
        assert {told for _, told in few.left_out} <= {reason}
        before = set(few.train)
    shuffled = samples[::-1]
    again = split_with(shuffled, settings(split=split, train_places=5), seed=3)
    assert {shuffled[row].id for row in again.train} < {samples[row].id for row in before}


def test_training_places_that_are_not_there_or_show_no_damage_are_refused():
    samples = [place(f"{i:02}") for i in range(9)]
    with pytest.raises(SplitError, match=r"train_places is 7, and the training split has 6 places"):
        split_with(samples, settings(train_places=7), seed=0)
    published = [place(f"{i}", damaged=i > 3, split="train") for i in range(6)]
    published += [place("v", split="validation"), place("w", split="test")]
    refused = 0
    for seed in range(8):
        try:
            few = split_with(published, settings(split="published", train_places=1), seed=seed)
            assert published[few.train[0]].damaged
        except SplitError as error:
            assert "none of the 1 places that were drawn has a damaged pixel" in str(error)
            refused += 1
    assert 0 < refused < 8


PUBLISHED = ("train", "test", "train", "validation", None)


@pytest.mark.parametrize("seed", [0, 42])
def test_a_published_split_is_kept_whatever_seed_and_shares(seed):
    samples = [place(f"{9 - i}", split=split) for i, split in enumerate(PUBLISHED)]
    splits = split_with(samples, settings(split="published", split_shares=(0.2, 0.2, 0.6)), seed=seed)
    assert parts(splits) == ((0, 2), (3,), (1,))
    assert splits.left_out == (("5", "the source's published split does not list it (split = published)"),)


def test_a_split_that_nobody_published_is_refused_in_words():
    with pytest.raises(SplitError, match="has no published split; choose place or block"):
        split_with([place(f"{i}") for i in range(9)], settings(split="published"), seed=0)
    with pytest.raises(SplitError, match=r"test split is empty; .*published split needs all of its images"):
        split_with([place("a", split="train"), place("b", split="validation")], settings(split="published"), seed=0)


tiles = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 50)), min_size=30, max_size=60, unique=True
)


@given(tiles, st.integers(0, 2**31), st.sampled_from(["place", "block"]), st.randoms())
def test_splits_are_a_partition_that_does_not_depend_on_order(corners, seed, split, random):
    samples = [placed(f"t{i:03}", x, y, damaged=damaged) for i, (x, y, damaged) in enumerate(corners)]
    data = settings(split=split, block_size=400.0)
    try:
        splits = split_with(samples, data, seed=seed)
    except SplitError:
        return
    rows = sum(parts(splits), ())
    assert sorted(rows) == list(range(len(samples)))
    shuffled = random.sample(samples, len(samples))
    again = split_with(shuffled, data, seed=seed)
    for part, same in zip(parts(splits), parts(again), strict=True):
        assert {samples[row].id for row in part} == {shuffled[row].id for row in same}


@given(tiles, st.integers(0, 2**31))
def test_no_block_and_no_common_ground_is_in_two_splits(corners, seed):
    side, size = 100, 400.0
    samples = [placed(f"t{i:03}", x, y, side=side) for i, (x, y, _) in enumerate(corners)]
    try:
        splits = split_with(samples, settings(split="block", block_size=size), seed=seed)
    except SplitError:
        return
    split_of = {row: k for k, part in enumerate(parts(splits)) for row in part}
    north = 36 * METRES_PER_DEGREE
    for i, (x, y, _) in enumerate(corners):
        for j, (u, v, _) in enumerate(corners[:i]):
            shared = max(0, side - abs(x - u)) * max(0, side - abs(y - v)) / side**2
            if shared > 0.051:
                assert split_of[i] == split_of[j], "tiles that share ground"
            same_band = (north + y + side / 2) // size == (north + v + side / 2) // size
            if same_band and split_of[i] != split_of[j]:
                assert abs(x - u) > 1e-3, "one column of one band is one block"


def test_neighbours_within_a_block_stay_together():
    """Twelve clusters of four tiles, far apart: each cluster is in one split."""
    samples = [placed(f"c{c:02}_{i}", 10_000 * c + 5000 + 110 * i, 10_000.0) for c in range(12) for i in range(4)]
    splits = split_with(samples, settings(split="block", block_size=5000.0), seed=0)
    for part in parts(splits):
        clusters = [samples[row].id[:3] for row in part]
        assert all(clusters.count(cluster) == 4 for cluster in clusters)
    assert [len(part) for part in parts(splits)] == [32, 8, 8]


def test_block_shares_come_close_to_the_wanted_in_places_and_in_damage():
    rng = np.random.default_rng(0)
    samples = [
        placed(f"{x:02}{y:02}", 500 * x, 500 * y, damaged=int(rng.integers(0, 60)))
        for x in range(15)
        for y in range(15)
    ]
    splits = split_with(samples, settings(split="block", block_size=1000.0), seed=0)
    damage = sum(sample.damaged for sample in samples)
    for part, share in zip(parts(splits), (0.7, 0.15, 0.15), strict=True):
        assert len(part) / len(samples) == pytest.approx(share, abs=0.02)
        assert sum(samples[row].damaged for row in part) / damage == pytest.approx(share, abs=0.02)


def test_named_blocks_need_no_coordinates_and_places_without_either_are_left_out():
    samples = [place(f"q{i % 10}_{i:02}", block=f"q{i % 10}") for i in range(40)] + [place("lost")]
    splits = split_with(samples, settings(split="block"), seed=5)
    for part in parts(splits):
        blocks = [samples[row].block for row in part]
        assert all(blocks.count(block) == 4 for block in blocks)
    assert splits.left_out == (("lost", "its location is not known (split = block)"),)
    assert "its location is not known" in describe(samples, splits)


def test_another_seed_gives_another_split():
    samples = [place(f"{i:03}") for i in range(60)]
    assert split_with(samples, settings(), seed=1) != split_with(samples, settings(), seed=2)


@pytest.mark.parametrize(
    ("samples", "data", "message"),
    [
        ([place("a"), place("b")], settings(), "the validation split is empty|the test split is empty"),
        ([place(f"{i}", damaged=0) for i in range(20)], settings(), "the train split has no damaged pixel; 20 places"),
        (
            [place(f"{i}", damaged=0) for i in range(9)],
            settings(places="damaged"),
            "the train split is empty; 0 places",
        ),
        ([placed(f"{i}", 10 * i, 0) for i in range(9)], settings(split="block"), "is empty; 9 places.*block_size"),
        ([place(f"{i}") for i in range(9)], settings(split="block"), "the train split is empty; 0 places"),
    ],
)
def test_a_split_with_nothing_to_learn_from_is_an_error(samples, data, message):
    with pytest.raises(SplitError, match=message):
        split_with(samples, data, seed=0)


def test_real_tiles_split_into_blocks(shared_data, tmp_path):
    from jaxcd.store.build import build

    build(DataConfig(root=str(shared_data / "xbd_santa_rosa"), layout="xbd"), tmp_path / "out")
    samples = TileDataset.open(tmp_path / "out").samples
    splits = split_with(samples, settings(split="block"), seed=42)
    assert len(splits.left_out) == 2 and sum(map(len, parts(splits))) == 58
    assert [len(part) for part in parts(splits)] == [40, 9, 9]
    damage = sum(sample.damaged for sample in samples)
    for part, share in zip(parts(splits), (0.7, 0.15, 0.15), strict=True):
        assert sum(samples[row].damaged for row in part) / damage == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("damaged", [3, 4, 5])
def test_a_few_damaged_blocks_are_shared_out(damaged):
    samples = [placed(f"{i:02}", 2000 * i, 0, damaged=100 if i < damaged else 0) for i in range(20)]
    for seed in range(10):
        splits = split_with(samples, settings(split="block"), seed=seed)
        assert all(any(samples[row].damaged for row in part) for part in parts(splits))


def test_fewer_damaged_places_than_splits_are_told(tmp_path):
    samples = [placed(f"{i:02}", 2000 * i, 0, damaged=100 if i < 2 else 0) for i in range(20)]
    wanted = "needs a place with damage, and there are 2: label damage in more places, or cut smaller tiles"
    with pytest.raises(SplitError, match=f"each of train, validation and test {wanted}"):
        split_with(samples, settings(split="block"), seed=0)
