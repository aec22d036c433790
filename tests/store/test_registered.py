"""Tiles that are registered: what is moved, by how much, what it lacks, and what is left where it is."""

import numpy as np
import pytest
from scipy import ndimage

from jaxcd.base.errors import DatasetError
from jaxcd.base.scales import INVALID
from jaxcd.config import DataConfig
from jaxcd.config import files as config_files
from jaxcd.prepare import main
from jaxcd.sources.reading import ReadImage, ReadPlace, ReadPost
from jaxcd.store import registered
from jaxcd.store.dataset import TileDataset, open_or_build
from jaxcd.store.encodings import decode, decode_codes
from jaxcd.store.manifest import BuildSettings
from tests.scenes.scene_files import ground
from tests.sources.tile_sources import write_rgb

SIDE = 512


def tile(down: float = 0.0, right: float = 0.0, *, seed: int = 3) -> np.ndarray:
    """A tile of one ground, seen so many pixels further down and right."""
    whole = ground(seed, SIDE + 40, SIDE + 40).astype(np.float32)
    moved = ndimage.shift(whole, (down, right, 0), order=3, mode="nearest")
    return np.clip(np.rint(moved[20:-20, 20:-20]), 0, 255).astype(np.uint8)


def place(pre: list[np.ndarray], post: np.ndarray, codes: np.ndarray) -> ReadPlace:
    images = tuple(ReadImage(name=f"pre{i}", date=str(i), pixels=pixels) for i, pixels in enumerate(pre))
    after = ReadPost(name="post", date="9", pixels=post, codes=codes)
    return ReadPlace(id="p", block=None, bounds=None, pre=images, post=(after,))


def apart(first: np.ndarray, second: np.ndarray) -> float:
    inner = slice(16, -16)
    return float(np.abs(first[inner, inner].astype(int) - second[inner, inner]).mean())


@pytest.mark.parametrize("shift", [(-3.0, 2.0), (5.5, -4.25)])
def test_images_are_moved_onto_the_newest_before_and_labels_stay(shift):
    pre, post = tile(), tile(*shift) // 2 + 60
    codes = np.random.default_rng(0).integers(0, 2, (SIDE, SIDE)).astype(np.uint8)
    found = registered.registered(place([tile(1.0, 7.0), pre], post, codes))
    assert found.notes == (registered.MOVED,) * 2
    np.testing.assert_array_equal(found.pre[1].pixels, pre)
    assert apart(found.pre[0].pixels, pre) < 2 < apart(tile(1.0, 7.0), pre)
    (after,) = found.post
    assert apart(after.pixels, pre // 2 + 60) < 2 < apart(post, pre // 2 + 60)
    lost = after.codes == INVALID
    np.testing.assert_array_equal(after.codes[~lost], codes[~lost])
    rows, columns = np.ceil(np.abs(shift)).astype(int)
    wanted = np.zeros((SIDE, SIDE), bool)
    wanted[:rows] |= shift[0] < 0
    wanted[-rows:] |= shift[0] > 0
    wanted[:, :columns] |= shift[1] < 0
    wanted[:, -columns:] |= shift[1] > 0
    wanted[:1] = wanted[:, -7:] = True  # what the older image before lacks
    assert (lost & ~wanted).sum() <= 2 * SIDE and (wanted & ~lost).sum() <= 2 * SIDE  # a row and a column of rounding


def test_what_is_unlike_or_small_is_left_where_it_is():
    codes = np.zeros((SIDE, SIDE), np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    found = registered.registered(place([tile()], noise, codes))
    assert found.notes == (registered.UNMOVED,)
    np.testing.assert_array_equal(found.post[0].pixels, noise)
    assert not found.post[0].codes.any()
    small = slice(0, 300)
    cut = place([tile()[small, small]], tile(4.0, 4.0)[small, small], codes[small, small])
    found = registered.registered(cut)
    assert found.notes == (registered.SMALL,) and found.post == cut.post


def test_a_dataset_of_registered_tiles_says_so_and_is_another_than_without(tmp_path, capsys):
    for i, shift in enumerate([(-3.0, 2.0), (4.0, 0.0), (0.0, -6.0)]):
        write_rgb(tmp_path / "source" / "A" / f"p{i}.jpg", tile(seed=i))
        write_rgb(tmp_path / "source" / "B" / f"p{i}.jpg", tile(*shift, seed=i))
        write_rgb(tmp_path / "source" / "label" / f"p{i}.png", np.zeros((SIDE, SIDE), np.uint8))
    flags = ["--layout", "folders", "--source", str(tmp_path / "source"), "--out"]
    assert main([*flags, str(tmp_path / "plain")]) == 0
    assert main([*flags, str(tmp_path / "moved"), "--register"]) == 0
    assert f"note on 3 files: {registered.MOVED}" in capsys.readouterr().out
    assert main([*flags, str(tmp_path / "moved")]) == 2
    assert "holds a dataset of other settings: register is True there and False here" in capsys.readouterr().err
    built = {
        name: DataConfig(root=str(tmp_path / name), layout="prepared", register=True) for name in ("plain", "moved")
    }
    assert len(open_or_build(built["moved"]).samples) == 3
    with pytest.raises(DatasetError, match=r"plain: was built without registration; build it with jaxcd.prepare --reg"):
        open_or_build(built["plain"])
    identity = np.arange(256, dtype=np.uint8)
    for name, most, invalid in (("plain", 99.0, 0), ("moved", 4.0, 3 * SIDE)):
        dataset = TileDataset.open(tmp_path / name)
        records = [dataset.read(row) for row in range(3)]
        apart_by = [apart(decode(record.pre[0]), decode(record.post[0])) for record in records]
        lost = [int((decode_codes(record.label[0], identity) == INVALID).sum()) for record in records]
        assert max(apart_by) < most and (min(apart_by) > 4) == (name == "plain"), apart_by
        assert min(lost) >= invalid and max(lost) <= 2 * invalid + 4 * SIDE * (name == "moved")


def test_settings_of_before_are_read(tmp_path):
    plain = DataConfig(root=str(tmp_path), layout="folders")
    assert "register" not in {**BuildSettings.of(plain).scenes} and not BuildSettings.of(plain).registers
    scenes = BuildSettings.of(DataConfig(root=str(tmp_path), layout="scenes", register=True))
    names = list(scenes.scenes)
    assert names[names.index("register") + 1] == "match_histogram" and scenes.registers and not scenes.register
    values = config_files.to_dict(config_files.from_dict({"data": {"root": "d"}, "train": {"steps": 1}}))
    del values["data"]["register"]
    values["data"]["scenes"]["register"] = True
    assert config_files.from_dict(values).data.register
