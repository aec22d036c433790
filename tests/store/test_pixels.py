"""Pixels of different size: what a training is told, and tiles resampled to one size."""

import dataclasses
import pickle

import cv2
import numpy as np
import pytest

from jaxcd.base.errors import DatasetError
from jaxcd.base.scales import BINARY, BUILDINGS
from jaxcd.config import DataConfig
from jaxcd.feed.loader import evaluation_batches
from jaxcd.feed.split_summary import describe
from jaxcd.feed.splits import Splits
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset, open_or_build
from jaxcd.store.encodings import decode, decode_codes
from jaxcd.store.pixels import metres_of, unlike
from tests.feed.samples import place, placed
from tests.sources.tile_sources import write_folders, write_xbd, xbd_label


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two tiles of 64² at 0.5 m with a building of 20 x 20 pixels, and tiles without bounds."""
    folder = tmp_path_factory.mktemp("pixels")
    for i in range(2):
        label = xbd_label([((10, 20, 30, 40), "destroyed"), ((0, 0, 64, 64), "no-damage")][: 1 + i])
        write_xbd(folder / "source", f"fire_{i:08}", label, seed=i)
    write_folders(folder / "plain", 2)
    build(DataConfig(root=str(folder / "source"), layout="xbd", scale="xbd"), folder / "xbd")
    build(DataConfig(root=str(folder / "plain"), layout="folders"), folder / "folders")
    return folder


def test_pixels_are_measured_and_unlike_ones_are_told_with_their_numbers():
    fine = [placed(f"a{i}", 200 * i, 0, side=5, event="fire") for i in range(3)]  # of 10 x 10 pixels
    coarse = [placed("b", 0, 900, side=6.3, event="storm"), place("c", event="somewhere")]
    assert metres_of(fine) == pytest.approx(0.5, rel=1e-3) and metres_of([place("c")]) == 0
    assert unlike(fine) == unlike([*fine, coarse[1]]) == ""
    said = unlike([*coarse, *fine])
    assert said.startswith("the sides of pixels differ: 0.50 m in fire, 0.63 m in storm.") and "data.metres" in said
    assert unlike([*fine, placed("d", 0, 900, side=6.0, event="storm")]) == ""


def test_an_event_without_damage_is_told():
    samples = [place("a", event="fire"), place("b", damaged=0, event="calm"), place("c", damaged=0, event="calm")]
    splits = Splits(train=(0, 1, 2), validation=(), test=())
    said = describe(samples, splits)
    assert "WARNING: no training pixel of the event calm is damaged (2 places)" in said and "event fire" not in said
    assert "WARNING" not in describe(
        samples[1:], dataclasses.replace(splits, train=(0, 1))
    )  # one event: told otherwise


def test_scales_of_labels_that_differ_are_told(folder):
    both = TileDataset.join([folder / "xbd", folder / "folders"], BINARY, ["xbd", "folders"])
    assert both.warnings(range(4)) == [
        "the scales of labels differ: xbd in xbd, binary in folders; all are read as binary"
    ]
    assert TileDataset.open(folder / "xbd").warnings([0]) == []


@pytest.mark.parametrize(("metres", "side"), [(1.0, 32), (0.25, 127)])
def test_tiles_are_resampled_with_their_labels(folder, metres, side):
    plain = TileDataset.open(folder / "xbd")
    dataset = pickle.loads(pickle.dumps(TileDataset.join([folder / "xbd"], BUILDINGS, metres=metres)))
    sample, record = dataset.samples[0], dataset.read(0)
    assert plain.metres == pytest.approx(0.5, abs=0.01) and dataset.metres == pytest.approx(metres, rel=0.01)
    assert abs(sample.height - side) <= 2 and sample.height == sample.width
    image, codes = dataset.image(0, record.post[0]), dataset.codes(0, record.label[0])
    assert image.shape == (sample.height, sample.width, 3) and codes.shape == image.shape[:2]
    before = decode(record.post[0])
    how = cv2.INTER_AREA if metres > 0.5 else cv2.INTER_LINEAR
    np.testing.assert_array_equal(image, cv2.resize(before, image.shape[1::-1], interpolation=how))
    assert set(np.unique(codes)) == {0, 2}
    assert (codes == 2).sum() == pytest.approx(
        (decode_codes(record.label[0], np.arange(256)) == 4).sum() / 4 / metres**2, rel=0.1
    )
    assert sample.post[0].damaged == pytest.approx((codes == 2).sum(), rel=0.1)
    ((batch, tiles), *_) = evaluation_batches(dataset, (0, 1), batch=2, stride=8)
    assert tiles[0].height == sample.height and batch.valid[0].sum() == sample.height**2


def test_tiles_whose_pixels_are_not_known_are_not_resampled(folder):
    data = DataConfig(root=str(folder / "folders"), layout="prepared", metres=1.0)
    with pytest.raises(DatasetError, match=r"folders: none of its places has bounds.*config\.data\.metres"):
        open_or_build(data)
