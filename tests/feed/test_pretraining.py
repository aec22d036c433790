"""Pretraining sees no place that is held out, and as much of damage as of none."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from test_loader import assert_same

from jaxcd.base.errors import SplitError
from jaxcd.base.scales import DAMAGE, INVALID
from jaxcd.base.types import Batch
from jaxcd.config import Config, DataConfig, ModelConfig, TrainConfig
from jaxcd.feed.crops import intact_corners
from jaxcd.feed.pretraining import contrast_batches, kinds, pretraining_splits
from jaxcd.feed.split_summary import describe
from jaxcd.feed.splits import blocks_of, split_places
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset
from tests.feed.samples import place, placed
from tests.sources.tile_sources import write_folders, write_rgb

ALL = tuple(range(12))


def configured(name="fc_siam_diff", *, batch=8, accumulation=1, crop=32, **data) -> Config:
    config = Config(
        task="contrastive",
        data=DataConfig(root="unused", crop=crop, **data),
        model=ModelConfig(name=name),
        train=TrainConfig(batch=batch, accumulation=accumulation, steps=10),
    )
    config.validate()
    return config


def together(config: Config) -> int:
    return 2 if config.model.name == "fc_ef" else 1


def split_for_pretraining(samples, config: Config):
    return pretraining_splits(samples, config, pairs_compared=together(config))


def first(dataset, config, count, *, rows=ALL, start=0, **where) -> list[Batch]:
    found = kinds(dataset, rows, config, stride=8, split="train")
    batches = contrast_batches(
        dataset, found, config, stride=8, pairs_compared=together(config), seed=config.seed, start=start, **where
    )
    taken = list(islice(batches, count))
    batches.close()
    return taken


def shown(batch: Batch) -> list[int]:
    return batch.labels.any(axis=(1, 2)).astype(int).tolist()


def test_the_papers_places_are_split_as_the_method_says():
    """190 damaged places and 300 without damage: 133 / 29 / 28, as many intact ones; 92 / 4 / 4 of what remains."""
    samples = [place(f"{i:03}", damaged=10 * (i < 190)) for i in range(490)]
    siamese = split_for_pretraining(samples, configured(places="damaged"))
    assert [len(part) for part in (siamese.train, siamese.validation, siamese.test)] == [266, 58, 56]
    supervised = split_places(samples, DataConfig(root="unused", places="damaged"))
    for part in ("train", "validation", "test"):
        assert set(getattr(supervised, part)) == {row for row in getattr(siamese, part) if samples[row].damaged}
    assert {reason for _, reason in siamese.left_out} == {"more places without damage than with"}
    fused = split_for_pretraining(samples, configured("fc_ef", places="damaged"))
    pool = 133 + 190
    assert [len(part) for part in (fused.train, fused.validation, fused.test)] == [round(0.92 * pool), 13, 13]
    assert len([r for _, r in fused.left_out if r == "held out by the supervised split"]) == 29 + 28
    assert "held out by the supervised split" in describe(samples, fused)


@pytest.mark.parametrize("name", ["fc_ef", "fc_siam_diff"])
def test_a_published_split_is_kept_by_the_pretraining(name):
    """Places without damage stay in the split that was published for them; nothing held out is learned from."""
    published = (["train"] * 6 + ["validation", "test"]) * 10
    samples = [place(f"{i:02}", damaged=10 * (i % 3 > 0), split=split) for i, split in enumerate(published)]
    config = configured(name, places="damaged", split="published")
    splits = split_for_pretraining(samples, config)
    assert splits.train and splits.validation
    if name == "fc_ef":
        assert {published[row] for row in splits.train + splits.validation + splits.test} == {"train"}
    else:
        for part in ("train", "validation", "test"):
            assert {published[row] for row in getattr(splits, part)} == {part}


tiles = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 2)), min_size=30, max_size=60, unique=True
)


@given(
    tiles,
    st.integers(0, 2**31),
    st.sampled_from(["place", "block"]),
    st.sampled_from(["all", "damaged"]),
    st.sampled_from(["fc_siam_diff", "fc_ef"]),
)
def test_no_place_and_no_ground_that_is_held_out_is_trained_on(corners, seed, split, places, name):
    side, size = 100, 400.0
    samples = [placed(f"t{i:03}", x, y, side=side, damaged=damage) for i, (x, y, damage) in enumerate(corners)]
    config = configured(name, split=split, places=places, block_size=size, split_seed=seed)
    config.contrast.shares = (0.6, 0.2, 0.2)
    try:
        supervised = split_places(samples, config.data)
        splits = split_for_pretraining(samples, config)
    except SplitError:
        reject()
    held = {*supervised.validation, *supervised.test}
    assert not held & set(splits.train)
    everywhere = [*splits.train, *splits.validation, *splits.test]
    assert len(everywhere) == len(set(everywhere))
    assert len(everywhere) + len(splits.left_out) == len(samples)
    if split == "place":
        return
    blocks = blocks_of(samples, range(len(samples)), config.data)
    further = [row for row in splits.train if row not in supervised.train]
    elsewhere = held | {*splits.validation, *splits.test}
    assert not {blocks[row] for row in further} & {blocks[row] for row in elsewhere}
    for i in splits.train:
        x, y, _ = corners[i]
        for j in elsewhere:
            u, v, _ = corners[j]
            shared = max(0, side - abs(x - u)) * max(0, side - abs(y - v)) / side**2
            assert shared <= 0.051, "tiles that share ground"


def test_a_place_without_damage_goes_where_its_block_is():
    blocks = {f"q{q}": [place(f"q{q}_{i}", damaged=int(i < 3), block=f"q{q}") for i in range(5)] for q in range(12)}
    samples = [sample for block in blocks.values() for sample in block] + [place("lost", damaged=0)]
    data = {"split": "block", "places": "damaged"}
    splits = split_for_pretraining(samples, configured(**data))
    for part in (splits.train, splits.validation, splits.test):
        assert {samples[row].block for row in part} == {samples[row].block for row in part if samples[row].damaged}
    assert len([row for row in splits.train if not samples[row].damaged]) == 2 * len(splits.train) / 5
    assert ("lost", "its location is not known (split = block)") in splits.left_out
    config = configured("fc_ef", **data)
    config.contrast.shares = (1.0, 0.0, 0.0)
    with pytest.raises(SplitError, match=r"the validation split is empty; .*config\.contrast\.shares"):
        split_for_pretraining(samples, config)
    config.contrast.shares = (0.6, 0.2, 0.2)
    fused = split_for_pretraining(samples, config)
    supervised = split_places(samples, configured(**data).data)
    held = {samples[row].block for row in (*supervised.validation, *supervised.test)}
    used = {samples[row].block for row in (*fused.train, *fused.validation, *fused.test)}
    assert not held & used
    reasons = dict(fused.left_out)
    assert all(reasons[s.id] == "held out by the supervised split" for s in samples if s.block in held)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_half_of_a_siamese_micro_batch_shows_damage(folders_dataset, accumulation):
    config = configured(batch=8, accumulation=accumulation)
    for batch in first(folders_dataset, config, 6):
        kinds_shown = shown(batch)
        assert sum(kinds_shown) == 4
        for part in range(accumulation):
            assert sum(kinds_shown[part::accumulation]) == 4 // accumulation


def test_a_batch_of_two_has_one_of_each_kind(folders_dataset):
    """One pair of a kind a batch: of those, grain's own endless repetition could not tell the number."""
    config = configured(batch=2)
    run = first(folders_dataset, config, 4)
    assert [shown(batch) for batch in run] == [[1, 0]] * 4
    assert_same(first(folders_dataset, config, 1, start=3)[0], run[3])


@pytest.mark.parametrize("accumulation", [1, 2])
def test_half_of_the_pairs_of_pairs_differ_and_half_of_the_pairs_show_damage(folders_dataset, accumulation):
    config = configured("fc_ef", batch=8, accumulation=accumulation)
    for batch in first(folders_dataset, config, 6):
        assert batch.pre.shape == (16, 32, 32, 3)
        elements = np.reshape(shown(batch), (8, 2))
        for part in range(accumulation):
            own = elements[part::accumulation].tolist()
            assert sorted(own) == sorted([[0, 0], [0, 1], [1, 0], [1, 1]] * (2 // accumulation))


def test_intact_pairs_are_mostly_known_and_lie_where_they_fit(tmp_path):
    """Damage on the left, unknown on the right: crops without damage can only lie between, half of them unknown."""
    source = write_folders(tmp_path / "source", 2, size=64)
    for name in ("p000", "p001"):
        mask = np.zeros((64, 64), np.uint8)
        mask[:, :20] = 1
        write_rgb(source / "label" / f"{name}.png", mask)
    build(DataConfig(root=str(source), layout="folders"), tmp_path / "out")
    dataset = TileDataset.open(tmp_path / "out")
    batches = first(dataset, configured(crop=32), 8, rows=(0, 1))
    intact = [batch.valid[i] for batch in batches for i, kind in enumerate(shown(batch)) if not kind]
    assert len(intact) == 32 and all(valid.all() for valid in intact)
    codes = np.full((64, 64), INVALID, np.uint8)
    codes[:, :40], codes[:, :20] = 0, DAMAGE
    corners = intact_corners(codes, (32, 32))
    assert corners.shape == (33, 33)
    assert np.flatnonzero(corners.any(axis=0)).tolist() == list(range(20, 25)) and corners[:, 20:25].all()
    assert intact_corners(np.zeros((10, 10), np.uint8), (32, 32)).tolist() == [[True]]


def test_a_slice_is_the_run_from_there_and_workers_change_nothing(folders_dataset):
    config = configured("fc_ef", batch=4)
    run = first(folders_dataset, config, 6)
    config.data.workers = 2
    for k, batch in enumerate(first(folders_dataset, config, 2, start=3)):
        assert_same(batch, run[3 + k])
    assert len({tuple(batch.ids.tolist()) for batch in run}) == 6


def test_pairs_of_one_place_tell_nothing_of_their_kinds(folders_dataset):
    """Of two places that have both kinds, two pairs are of one place half of the time, whether they differ or not."""
    config = configured("fc_ef", batch=8)
    config.data.crop = 32
    same: dict[bool, list[bool]] = {True: [], False: []}
    for batch in first(folders_dataset, config, 40, rows=(4, 9)):
        for (row, partner), (a, b) in zip(batch.ids.reshape(-1, 2), np.reshape(shown(batch), (-1, 2)), strict=True):
            same[a == b].append(bool(row == partner))
    for agree in (True, False):
        assert len(same[agree]) == 160 and np.mean(same[agree]) == pytest.approx(0.5, abs=0.13)


def test_processes_share_the_global_batch_in_order(folders_dataset):
    config = configured(batch=8)
    whole = first(folders_dataset, config, 2)
    halves = [first(folders_dataset, config, 2, process_index=index, process_count=2) for index in range(2)]
    for batch, left, right in zip(whole, *halves, strict=True):
        assert_same(batch, Batch(*(np.concatenate(pair) for pair in zip(left, right, strict=True))))


def test_only_the_given_places_are_read(folders_dataset):
    ids = {int(i) for batch in first(folders_dataset, configured(), 5, rows=(2, 5, 7)) for i in batch.ids}
    assert ids == {2, 5, 7}


def test_of_a_place_with_several_dates_the_damaged_one_is_drawn_as_damaged(tmp_path):
    from tests.sources.tile_sources import write_paper

    write_paper(tmp_path / "source")
    build(DataConfig(root=str(tmp_path / "source"), layout="paper"), tmp_path / "out")
    dataset = TileDataset.open(tmp_path / "out")
    rows = range(len(dataset.samples))
    found = kinds(dataset, rows, configured(crop=32), stride=8, split="train")
    for row in rows:
        expected = tuple(i for i, post in enumerate(dataset.samples[row].post) if post.damaged)
        assert found.damaged.get(row, ()) == expected
    for batch in first(dataset, configured(crop=32), 8, rows=rows):
        assert shown(batch) == [1, 0] * 4


def test_without_intact_pairs_it_says_how_to_get_them(folders_dataset):
    with pytest.raises(SplitError) as caught:
        kinds(folders_dataset, (3, 4), configured(crop=0), stride=8, split="validation")
    message = str(caught.value)
    assert "the validation split has no pair without damage" in message and "\n" not in message
    assert "whole tiles" in message and "smaller config.data.crop (now 0)" in message and "all-zero mask" in message
    with pytest.raises(SplitError, match="crops of 64 x 64 pixels"):
        kinds(folders_dataset, (3, 4), configured(crop=64), stride=8, split="train")


def test_without_damage_it_says_so(tmp_path):
    source = write_folders(tmp_path / "source", 1)
    write_rgb(source / "label" / "p000.png", np.zeros((64, 64), np.uint8))
    build(DataConfig(root=str(source), layout="folders"), tmp_path / "out")
    with pytest.raises(SplitError, match="the train split has no pair with damage"):
        kinds(TileDataset.open(tmp_path / "out"), (0,), configured(), stride=8, split="train")
