"""AirChange: the published split, on made-up pictures of its names and sizes, and on its own."""

import cv2
import numpy as np
import pytest

from jaxcd.base.scales import DAMAGE
from jaxcd.config import DataConfig
from jaxcd.feed.splits import NAMES, split_places
from jaxcd.prepare import main
from jaxcd.sources.layouts import NAMES as NAMES_OF_LAYOUTS
from jaxcd.sources.layouts import discover, may_publish
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset
from jaxcd.store.encodings import decode
from tests.sources.tile_sources import picture, write_airchange, write_rgb

SZADA = {
    "train": ["szada_1_bottom", "szada_1_right", *(f"szada_{i}" for i in range(2, 7))],
    "validation": ["szada_7"],
    "test": ["szada_1_test"],
}
TISZADOB = {
    "train": ["tiszadob_1", "tiszadob_2", "tiszadob_3_bottom", "tiszadob_3_right", "tiszadob_5"],
    "validation": ["tiszadob_4"],
    "test": ["tiszadob_3_test"],
}


def split_of(dataset: TileDataset) -> dict[str, list[str]]:
    splits = split_places(dataset.samples, DataConfig(root="unused", split="published"))
    assert splits.left_out == ()
    return {name: [dataset.samples[row].id for row in getattr(splits, name)] for name in NAMES}


@pytest.mark.parametrize(("name", "expected"), [("szada", SZADA), ("tiszadob", TISZADOB)])
def test_the_split_is_the_published_one_and_the_test_shares_no_pixel(tmp_path, name, expected):
    source = write_airchange(tmp_path / "source", name)
    tested = f"{name}_{'1' if name == 'szada' else '3'}"
    found = discover(f"airchange_{name}", source)
    assert found.incomplete == () and all(file.rpartition("/")[2][:3] != name[:3] for file, _ in found.left_out)
    covered = np.zeros((640, 952), int)
    for place in found.places:
        if place.id.startswith(tested):
            assert place.part is not None
            covered[place.part.window] += 1
    assert (covered == 1).all()  # no pixel twice, none left out

    build(DataConfig(root=str(source), layout=f"airchange_{name}"), tmp_path / "out")
    dataset = TileDataset.open(tmp_path / "out")
    assert split_of(dataset) == expected
    whole = [cv2.imread(str(source / folder / f"{tested}.png"))[..., ::-1] for folder in "AB"]
    for part, rows, columns, damaged in (
        ("test", slice(0, 448), slice(0, 784), 16),
        ("right", slice(0, 640), slice(784, 952), 64),
        ("bottom", slice(448, 640), slice(0, 784), 256),
    ):
        (row,) = (row for row, sample in enumerate(dataset.samples) if sample.id == f"{tested}_{part}")
        record = dataset.read(row)
        np.testing.assert_array_equal(decode(record.pre[0]), whole[0][rows, columns])
        np.testing.assert_array_equal(decode(record.post[0]), whole[1][rows, columns])
        assert (decode(record.label[0]) == DAMAGE).sum() == dataset.samples[row].damaged == damaged


def test_only_these_layouts_and_built_datasets_may_have_a_published_split():
    assert [name for name in NAMES_OF_LAYOUTS if may_publish(name)] == [
        "airchange_szada",
        "airchange_tiszadob",
        "prepared",
    ]


def test_prepare_shows_the_published_split(tmp_path, capsys):
    source = write_airchange(tmp_path / "source", "tiszadob")
    layout = ("--layout", "airchange_tiszadob", "--source", str(source))
    assert main([*layout, "--out", str(tmp_path / "out"), "--split", "published"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Splits as published: train 5 places" in said and "test 1 places, 1 with damage" in said
    assert "szada_2.png: not of the set tiszadob" in said


def refusal(source, out, capsys, layout: str = "airchange_szada") -> str:
    assert main(["--layout", layout, "--source", str(source), "--out", str(out), "--split", "published"]) == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_a_file_of_a_triple_or_a_whole_image_that_is_missing_is_named(tmp_path, capsys):
    source = write_airchange(tmp_path / "source", "szada")
    (source / "B" / "szada_3.png").unlink()
    assert f"error: {source}/A/szada_3.png: no post image named 'szada_3'" in refusal(source, tmp_path / "out", capsys)
    for folder in ("A", "label"):
        (source / folder / "szada_3.png").unlink()
    assert f"{source}/A/szada_3: not there, and the published split has it" in refusal(source, tmp_path / "out", capsys)
    # The other set lacks nothing.
    assert len(discover("airchange_tiszadob", source).places) == 7


def test_images_of_another_size_are_refused(tmp_path, capsys):
    source = write_airchange(tmp_path / "source", "szada")
    for folder in ("A", "B"):
        write_rgb(source / folder / "szada_1.png", picture(0, 640, 960))
    said = refusal(source, tmp_path / "out", capsys)
    assert "szada_1.png: 640 x 960 pixels, but the published split is defined on images of 640 x 952" in said


def test_other_folders_hold_no_set(tmp_path, capsys):
    write_rgb(tmp_path / "A" / "a.png", picture(0))
    for folder in ("B", "label"):
        (tmp_path / folder).mkdir()
    said = refusal(tmp_path, tmp_path / "out", capsys)
    assert "no place with a pre image, a post image and a mask named szada_NUMBER" in said


@pytest.mark.parametrize(
    ("name", "split", "changed", "images"),
    [("szada", SZADA, (20494, 23017), 7), ("tiszadob", TISZADOB, (60094, 2768), 5)],
)
def test_the_benchmarks_own_files(shared_data, tmp_path, name, split, changed, images):
    build(DataConfig(root=str(shared_data / "sztaki_airchange"), layout=f"airchange_{name}"), tmp_path / "out")
    dataset = TileDataset.open(tmp_path / "out")
    assert split_of(dataset) == split
    by_id = {sample.id: sample for sample in dataset.samples}
    test, validation = (by_id[split[part][0]] for part in ("test", "validation"))
    assert (test.height, test.width, validation.height, validation.width) == (448, 784, 640, 952)
    assert (test.damaged, validation.damaged) == changed
    assert sum(sample.height * sample.width for sample in dataset.samples) == images * 640 * 952
    assert all(post.valid == sample.height * sample.width for sample in dataset.samples for post in sample.post)
