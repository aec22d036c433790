import dataclasses
import json
import os
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.crs import CRS

from jaxcd.base.errors import DatasetError, LayoutError
from jaxcd.base.scales import DAMAGE, INVALID
from jaxcd.config import DataConfig
from jaxcd.scenes.raster import write_geotiff
from jaxcd.sources import simulated
from jaxcd.sources.layouts import discover
from jaxcd.store import staging
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset, open_or_build
from jaxcd.store.encodings import decode
from jaxcd.store.manifest import BuildSettings
from jaxcd.store.staging import piece_of_tiles
from tests.sources.tile_sources import picture, write_folders, write_paper, write_rgb, write_xbd, xbd_label


def made(source, layout, out, **settings):
    report = build(DataConfig(root=str(source), layout=layout, **settings), out)
    return report, TileDataset.open(out)


def test_a_dataset_holds_what_the_source_holds(tmp_path):
    source = write_folders(tmp_path / "source", 5)
    report, dataset = made(source, "folders", tmp_path / "out")
    assert [sample.id for sample in dataset.samples] == [f"p{i:03}" for i in range(5)]
    for i, sample in enumerate(dataset.samples):
        record = dataset.read(i)
        np.testing.assert_array_equal(decode(record.pre[0]), picture(2 * i))
        np.testing.assert_array_equal(decode(record.post[0]), picture(2 * i + 1))
        codes = decode(record.label[0])
        assert (codes[: i + 1, :8] == DAMAGE).all() and codes.sum() == 8 * (i + 1)
        assert (sample.height, sample.width, sample.damaged, sample.post[0].valid) == (64, 64, 8 * (i + 1), 64 * 64)
    assert report.samples == dataset.samples and report.built
    counts = report.counts()
    assert counts["places"] == counts["places_with_damage"] == 5
    assert counts["damaged_share"] == pytest.approx(8 * 15 / (5 * 64 * 64)) and counts["invalid_share"] == 0
    names = {entry.name for entry in (tmp_path / "out").iterdir()}
    assert names == {"dataset.json", "places.json", "report.json", "records", "build.lock"}


def test_every_date_of_a_place_is_in_its_record(tmp_path):
    source = write_paper(tmp_path / "source")
    report, dataset = made(source, "paper", tmp_path / "out")
    sample, record = dataset.samples[0], dataset.read(0)
    assert (sample.id, sample.block, sample.bounds) == ("03_7", "03", None)
    assert [image.date for image in sample.pre] == ["2021-05-01", "2022-05-01"]
    assert [(post.date, post.damaged) for post in sample.post] == [("2023-02-07", 1), ("2023-02-09", 2)]
    for image, content in zip(sample.pre, record.pre, strict=True):
        np.testing.assert_array_equal(
            decode(content), np.asarray(Image.open(source / "pre" / f"{image.name}.png").convert("RGB"))
        )
    assert [int(decode(label).sum()) for label in record.label] == [1, 2]
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written["left_out"] == [list(item) for item in report.left_out] and len(report.left_out) == 1


def test_xbd_jpegs_keep_their_bytes_and_get_place_and_date(tmp_path):
    source = write_xbd(tmp_path / "source", "q", xbd_label([((0, 0, 9, 9), "destroyed")]), suffix=".jpg")
    _, dataset = made(source, "xbd", tmp_path / "out")
    (sample,) = dataset.samples
    assert dataset.read(0).post == [(source / "images" / "q_post_disaster.jpg").read_bytes()]
    assert sample.post[0].date == "2023-02-08T08:00:00.000Z" and sample.damaged == 81
    assert sample.bounds is not None and sample.bounds[0] == pytest.approx(37)


def test_pixels_without_data_in_any_image_are_invalid(tmp_path):
    source = write_folders(tmp_path / "source", 1)
    for folder, rows in (("A", slice(0, 2)), ("B", slice(60, 64))):
        (source / folder / "p000.png").unlink()
        pixels = picture(5)
        pixels[rows] = 0
        transform = Affine(0.5, 0, 326_000, 0, -0.5, 4_150_000)
        path = source / folder / "p000.tif"
        write_geotiff(path, pixels, transform=transform, crs=CRS.from_epsg(32637), nodata=0)
    _, dataset = made(source, "folders", tmp_path / "out")
    codes = decode(dataset.read(0).label[0])
    assert (codes[:2] == INVALID).all() and (codes[60:] == INVALID).all() and not codes[2:60].any()
    (sample,) = dataset.samples
    assert sample.post[0].valid == 58 * 64 and sample.damaged == 0
    assert sample.bounds is not None and 36 < sample.bounds[0] < 38


def test_other_images_become_rgb_without_loss_and_say_so(tmp_path):
    source = write_folders(tmp_path / "source", 2)
    deep = picture(7).astype(np.uint16) * 16
    cv2.imwrite(str(source / "A" / "p000.png"), deep[..., ::-1])
    alpha = np.dstack([picture(8)[..., ::-1], np.full((64, 64), 255, np.uint8)])
    cv2.imwrite(str(source / "B" / "p001.png"), alpha)
    report, dataset = made(source, "folders", tmp_path / "out", scaling="range:0,4080")
    np.testing.assert_array_equal(decode(dataset.read(0).pre[0]), picture(7))
    np.testing.assert_array_equal(decode(dataset.read(1).post[0]), picture(8))
    assert report.notes == {"4 bands: used the first three": 1}


def test_the_same_build_again_does_nothing(tmp_path):
    source = write_folders(tmp_path / "source", 3)
    first, _ = made(source, "folders", tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")}
    # Levels mean nothing to masks: they don't make another dataset.
    again, _ = made(source, "folders", tmp_path / "out", damage_levels=("destroyed",))
    assert not again.built and dataclasses.replace(again, built=True) == first
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.json")}


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    source = write_folders(tmp_path / "source", 3)
    made(source, "folders", tmp_path / "out")
    with pytest.raises(DatasetError, match=r"scaling is '' there and 'range:0,9' here; give a new folder"):
        made(source, "folders", tmp_path / "out", scaling="range:0,9")


def test_a_folder_with_other_content_is_not_touched(tmp_path):
    source = write_folders(tmp_path / "source", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(DatasetError, match="holds 'thesis.tex' and is no dataset"):
        made(source, "folders", tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["thesis.tex"]
    with pytest.raises(DatasetError, match="is a file"):
        made(source, "folders", tmp_path / "out" / "thesis.tex")


def test_a_changed_source_file_is_staged_anew(tmp_path, monkeypatch):
    """A build that ended with an error goes on with the corrected file, and with no stale one."""
    monkeypatch.setattr(staging, "_PIECE", 1)  # a place is a piece
    source = write_folders(tmp_path / "source", 4)
    good = (source / "label" / "p003.png").read_bytes()
    write_rgb(source / "label" / "p003.png", np.full((64, 64), 3, np.uint8))
    with pytest.raises(Exception, match="holds the values 3"):
        made(source, "folders", tmp_path / "out")
    (source / "label" / "p003.png").write_bytes(good)
    write_rgb(source / "A" / "p000.png", picture(99))
    staged = {path.name for path in (tmp_path / "out" / "staging").glob("*.zip")}
    places, settings = discover("folders", source).places, BuildSettings.of(DataConfig(root=str(source)))
    wanted = [piece_of_tiles([place], settings, tmp_path).facts for place in places]
    assert [file.name in staged for file in wanted] == [False, True, True, False]  # the untouched ones are kept
    _, dataset = made(source, "folders", tmp_path / "out")
    np.testing.assert_array_equal(decode(dataset.read(0).pre[0]), picture(99))
    assert [sample.damaged for sample in dataset.samples] == [8, 16, 24, 32]


def test_training_builds_on_first_use_and_opens_afterwards(tmp_path, capsys):
    data = DataConfig(root=str(write_folders(tmp_path / "source", 3)), layout="folders", cache=str(tmp_path / "cache"))
    first = open_or_build(data)
    assert first.paths[0].parent == tmp_path / "cache" and first.paths[0].name.startswith("folders-source-")
    said = capsys.readouterr().out
    assert f"building its tile dataset in {first.paths[0]}" in said
    assert "damaged share" in said and "0 files left out" in said
    # What has nothing to do with the build has nothing to do with the folder.
    assert open_or_build(dataclasses.replace(data, split="block", crop=64)) == first
    assert capsys.readouterr().out == f"tiles: {first.paths[0]}, 3 places\n"
    other = open_or_build(dataclasses.replace(data, scaling="range:0,9"))
    assert other.paths != first.paths
    assert open_or_build(DataConfig(root=str(first.paths[0]), layout="prepared")).samples == first.samples
    with pytest.raises(DatasetError, match=r"is a built dataset; set config.data.layout=prepared"):
        open_or_build(dataclasses.replace(data, root=str(first.paths[0])))


def test_a_changed_source_is_built_anew_and_a_vanished_one_is_used_as_it_was(tmp_path, capsys):
    source = write_folders(tmp_path / "source", 3)
    data = DataConfig(root=str(source), layout="folders", cache=str(tmp_path / "cache"))
    before = open_or_build(data)
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 255
    write_rgb(source / "label" / "p001.png", mask)
    after = open_or_build(data)
    assert [sample.damaged for sample in before.samples] == [8, 16, 24]
    assert [sample.damaged for sample in after.samples] == [8, 32 * 64, 24]
    with pytest.raises(DatasetError, match=r"as it was before its files changed"):
        build(data, before.paths[0])
    os.utime(after.paths[0] / "dataset.json", (time.time() + 9, time.time() + 9))
    source.rename(tmp_path / "elsewhere")
    capsys.readouterr()
    found = open_or_build(data)
    assert found == after and found.paths == after.paths
    assert f"the source folder of {after.paths[0]} is gone" in capsys.readouterr().out
    with pytest.raises(LayoutError, match="no such folder"):
        open_or_build(dataclasses.replace(data, scaling="range:0,9"))


def test_a_simulated_scene_is_made_on_first_use(tmp_path, monkeypatch):
    monkeypatch.setitem(simulated._SCENE, "size", 1024)  # of 2048: the quickstart's test makes that
    data = DataConfig(root=str(tmp_path / "town"), layout="simulated", cache=str(tmp_path / "cache"))
    dataset = open_or_build(data)
    assert len(dataset.samples) == 16 and {(s.height, s.width) for s in dataset.samples} == {(256, 256)}
    assert sum(sample.damaged > 0 for sample in dataset.samples) > 5
    assert all(sample.bounds is not None for sample in dataset.samples)
    with rasterio.open(tmp_path / "town" / "scene" / "post.tif") as scene:
        expected = scene.read(window=((256, 512), (0, 256))).transpose(1, 2, 0)
    row = [sample.id for sample in dataset.samples].index("r01_c00")
    np.testing.assert_array_equal(decode(dataset.read(row).post[0]), expected)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda out: (out / "dataset.json").unlink(), "not a finished dataset"),
        (lambda out: (out / "dataset.json").write_text("{}"), "not a dataset of this version"),
        (lambda out: (out / "dataset.json").write_text("{"), "dataset.json: cannot be read"),
        (lambda out: (out / "places.json").unlink(), "places.json: cannot be read"),
        (lambda out: (out / "places.json").write_text("[{}]"), "places.json: damaged"),
        (lambda out: (out / "places.json").write_text("[]"), "3 records for 0 places"),
    ],
)
def test_a_spoilt_dataset_is_an_error(tmp_path, spoil, message):
    made(write_folders(tmp_path / "source", 3), "folders", tmp_path / "out")
    spoil(tmp_path / "out")
    with pytest.raises(DatasetError, match=message):
        TileDataset.open(tmp_path / "out")


def test_what_is_no_dataset_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        TileDataset.open(tmp_path / "absent")
    with pytest.raises(DatasetError, match="build one with python -m jaxcd.prepare"):
        TileDataset.open(tmp_path)


def test_nothing_of_this_imports_tensorflow(tmp_path):
    write_folders(tmp_path / "source", 2)
    script = """
import sys
from pathlib import Path
from jaxcd.config import Config, DataConfig, TrainConfig
if __name__ == "__main__":
    from jaxcd.store.build import build
    from jaxcd.store.dataset import TileDataset
    from jaxcd.feed.loader import train_batches
    data = DataConfig(root="source", layout="folders", crop=32)
    build(data, Path("out"))
    next(train_batches(TileDataset.open(Path("out")), (0, 1), Config(data=data, train=TrainConfig(steps=1)), stride=8))
    assert "tensorflow_datasets" in sys.modules and "tensorflow" not in sys.modules
"""
    (tmp_path / "script.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "-W", "error", "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_real_xbd_tiles_become_records(shared_data, tmp_path):
    source = shared_data / "xbd_mixed"
    report, dataset = made(source, "xbd", tmp_path / "out")
    labels = [path.name for path in (source / "labels").glob("*_post_disaster.json")]
    assert len(dataset.samples) == len(labels) >= 10 and report.left_out == ()
    assert all(sample.bounds is not None for sample in dataset.samples)
    row = [sample.id for sample in dataset.samples].index("palu-tsunami_00000193")
    sample, record = dataset.samples[row], dataset.read(row)
    assert record.pre == [(source / "images" / "palu-tsunami_00000193_pre_disaster.jpg").read_bytes()]
    assert sample.damaged == int((decode(record.label[0]) == DAMAGE).sum())
    assert sample.damaged / 1024**2 == pytest.approx(0.025, abs=0.001)
