"""Labels with levels in datasets, datasets read in a coarser scale, and several datasets as one."""

import dataclasses
import json
import pickle

import numpy as np
import pytest

from jaxcd.base.errors import ConfigError, DatasetError, LabelError, SplitError
from jaxcd.base.scales import BINARY, BUILDINGS, INVALID, UNKNOWN, XBD
from jaxcd.config import Config, DataConfig, TrainConfig
from jaxcd.feed.loader import train_batches
from jaxcd.feed.split_summary import describe
from jaxcd.feed.splits import split_places
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset, open_or_build
from jaxcd.store.manifest import BuildSettings
from tests.sources.tile_sources import write_folders, write_rgb, write_xbd, xbd_label

LEVELS = ("no-damage", "minor-damage", "major-damage", "destroyed", "un-classified")


def graded_source(folder, prefix, count, levels=LEVELS):
    """Tiles with one building of 4 x 4 pixels for each level, side by side in rows of 8 pixels."""
    for i in range(count):
        label = xbd_label([((0, 8 * k, 4, 8 * k + 4), level) for k, level in enumerate(levels)])
        write_xbd(folder, f"{prefix}_{i:03}", label, seed=i)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graded")
    source = graded_source(folder / "source", "town", 6)
    build(DataConfig(root=str(source), layout="xbd", scale="xbd"), folder / "out")
    return folder / "out"


def test_a_dataset_keeps_levels_and_counts_them(built):
    dataset = TileDataset.open(built)
    codes = dataset.codes(0, dataset.read(0).label[0])
    assert codes[2:40:8, 2].tolist() == [1, 2, 3, 4, UNKNOWN]
    post = dataset.samples[0].post[0]
    assert post.codes == (64 * 64 - 5 * 16, 16, 16, 16, 16, 16) and (post.valid, post.damaged) == (64 * 64, 32)
    assert json.loads((built / "dataset.json").read_text())["scale"] == "xbd"


@pytest.mark.parametrize(
    ("scale", "expected", "valid", "counts"),
    [
        (BUILDINGS, [1, 1, 2, 2, UNKNOWN], 64 * 64, (64 * 64 - 80, 32, 32, 16)),
        (BINARY, [0, 0, 1, 1, INVALID], 64 * 64 - 16, ()),
    ],
)
def test_it_is_read_in_a_coarser_scale(built, scale, expected, valid, counts):
    dataset = TileDataset.open(built, scale)
    assert dataset.codes(1, dataset.read(1).label[0])[2:40:8, 2].tolist() == expected
    post = dataset.samples[1].post[0]
    assert (post.valid, post.damaged, post.codes) == (valid, 32, counts)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.scale == scale and again.samples == dataset.samples


def test_binary_labels_are_not_read_as_levels(tmp_path):
    build(DataConfig(root=str(write_folders(tmp_path / "source", 3)), layout="folders"), tmp_path / "out")
    with pytest.raises(DatasetError, match=r"out: holds labels of the scale binary, .* in the scale xbd"):
        TileDataset.open(tmp_path / "out", XBD)


def test_labels_that_cannot_tell_the_levels_are_refused_before_anything_is_built(tmp_path):
    data = DataConfig(root=str(graded_source(tmp_path / "source", "town", 1)), layout="xbd", scale="ems98")
    with pytest.raises(ConfigError, match=r"labels of layout xbd can be read in the scale binary or buildings or xbd"):
        build(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_masks_of_codes_are_levels(tmp_path):
    source = write_folders(tmp_path / "source", 1)
    write_rgb(source / "label" / "p000.png", np.repeat(np.arange(5, dtype=np.uint8), 13)[:64, None].repeat(64, 1))
    build(DataConfig(root=str(source), layout="folders", scale="xbd"), tmp_path / "out")
    assert TileDataset.open(tmp_path / "out").samples[0].post[0].codes == (832, 832, 832, 832, 768, 0)


def test_settings_of_a_binary_dataset_have_the_digest_that_they_had_before_there_were_scales(tmp_path):
    # Else every dataset built before would be built anew.
    settings = BuildSettings(
        layout="folders", source="/tiles", files="", incomplete="refuse", damage_levels=(), scaling="", encoding="auto"
    )
    assert settings.fingerprint() == "76a1fd5b"


def joined(tmp_path, **settings):
    """Two folders of graded tiles: ten places of a town, five of a village; one id is in both."""
    for name, count in (("town", 10), ("village", 5)):
        graded_source(tmp_path / name, name, count, LEVELS if name == "town" else LEVELS[:4])
        graded_source(tmp_path / name, "both", 1)
    root = ",".join(str(tmp_path / name) for name in ("town", "village"))
    return DataConfig(root=root, layout="xbd", scale="xbd", crop=32, cache=str(tmp_path / "cache"), **settings)


def test_several_datasets_are_one_with_the_places_of_all(tmp_path):
    dataset = open_or_build(joined(tmp_path))
    ids = [sample.id for sample in dataset.samples]
    assert len(ids) == len(set(ids)) == 17 and {"town/both_000", "village/both_000", "town_003"} <= set(ids)
    assert [sample.origin for sample in dataset.samples] == ["town"] * 11 + ["village"] * 6
    # The village has no building of unknown level: its last row of buildings is missing.
    for row, fifth in ((3, UNKNOWN), (12, 0)):
        assert dataset.codes(row, dataset.read(row).label[0])[34, 2] == fifth
    again = pickle.loads(pickle.dumps(dataset))
    assert again.samples == dataset.samples and again.digest() == dataset.digest()


def test_each_is_split_by_itself(tmp_path):
    data = joined(tmp_path, split_shares=(0.5, 0.25, 0.25))
    dataset = open_or_build(data)
    splits = split_places(dataset.samples, data)
    parts = splits.train, splits.validation, splits.test
    origins = [[dataset.samples[row].origin for row in part] for part in parts]
    assert [part.count("town") for part in origins] == [6, 3, 2]
    assert [part.count("village") for part in origins] == [3, 2, 1]
    # As if it were alone.
    single = [sample for sample in dataset.samples if sample.origin == "village"]
    alone = split_places([dataclasses.replace(sample, origin="") for sample in single], data)
    assert [row + 11 for row in alone.test] == [row for row in splits.test if row >= 11]


def test_a_split_that_one_of_them_lacks_names_it(tmp_path):
    data = joined(tmp_path, split="block")
    with pytest.raises(SplitError, match=r"^(town|village): the .* split"):
        split_places(open_or_build(data).samples, data)


def test_weights_are_the_shares_of_the_crops(tmp_path):
    data = joined(tmp_path, weights=(1.0, 3.0))
    dataset = open_or_build(data)
    config = Config(data=data, train=TrainConfig(batch=8, steps=1))
    config.validate()
    rows = list(range(17))

    def origins(start, count):
        batches = train_batches(dataset, rows, config, stride=8, start=start)
        found = [dataset.samples[row].origin for _ in range(count) for row in next(batches).ids]
        batches.close()
        return found

    found = origins(0, 20)
    assert found.count("village") == 120
    assert origins(7, 4) == found[56:88]


def test_levels_nobody_has_in_training_are_named(tmp_path):
    source = graded_source(tmp_path / "source", "town", 6, ("no-damage", "destroyed"))
    data = DataConfig(root=str(source), layout="xbd", scale="xbd", cache=str(tmp_path / "cache"))
    dataset = open_or_build(data)
    said = describe(dataset.samples, split_places(dataset.samples, data), dataset.scale)
    assert "WARNING: no training pixel is minor or major: the network cannot learn it" in said
    assert "intact 0.391%, minor 0.000%, major 0.000%, destroyed 0.391%" in said


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.0, 3.0)])
def test_weights_go_with_one_pair_a_batch(tmp_path, weights):
    data = joined(tmp_path, weights=weights)
    config = Config(data=data, train=TrainConfig(batch=1, steps=1))
    batches = train_batches(open_or_build(data), list(range(17)), config, stride=8, start=1000)
    assert next(batches).pre.shape == (1, 32, 32, 3)
    batches.close()


def test_a_split_without_places_is_described(tmp_path):
    data = joined(tmp_path)
    dataset = open_or_build(data)
    splits = dataclasses.replace(split_places(dataset.samples, data), test=())
    assert "test            0 places, 0 with damage" in describe(dataset.samples, splits, dataset.scale)


def test_links_to_folders_of_one_name_are_refused(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name / "tiles").mkdir(parents=True)
        (tmp_path / f"link_{name}").symlink_to(tmp_path / name / "tiles")
    data = DataConfig(root=f"{tmp_path / 'link_first'}, {tmp_path / 'link_second'}")
    Config(data=data, train=TrainConfig(steps=1)).validate()
    with pytest.raises(ConfigError, match=r"^config\.data\.root: expected folders with different names"):
        data.resolve()


def test_masks_of_damage_alone_are_no_buildings(tmp_path):
    data = DataConfig(root=str(write_folders(tmp_path / "source", 2)), layout="folders", scale="xbd")
    with pytest.raises(LabelError, match=r"no mask holds a building in the scale xbd; .*, set the scale binary"):
        build(data, tmp_path / "out")
