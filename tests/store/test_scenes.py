"""From scenes to a dataset through the command, on real and on hand-made scenes."""

import dataclasses
import shutil
import subprocess
import sys
import time

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely

from jaxcd.base.scales import INVALID
from jaxcd.config import DataConfig, ScenesConfig
from jaxcd.prepare import main
from jaxcd.scenes.raster import read_rgb
from jaxcd.store.dataset import TileDataset, open_or_build
from jaxcd.store.encodings import decode
from tests.child_processes import await_end, children
from tests.scenes.scene_files import ORIGIN, UTM, at, ground, write
from tests.store.scene_sources import POST, PRE, error, house, prepare, town


def images(dataset: TileDataset, name: str):
    row = next(i for i, sample in enumerate(dataset.samples) if sample.id == name)
    record = dataset.read(row)
    return decode(record.pre[-1]), decode(record.post[0]), decode(record.label[0]), dataset.samples[row]


def test_tiles_hold_the_scenes_pixels_to_the_last_row_and_column(tmp_path, capsys):
    assert prepare(town(tmp_path / "source"), tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "tiles kept" in said and "label polygons in kept tiles" in said
    dataset = TileDataset.open(tmp_path / "out")
    assert [sample.id for sample in dataset.samples] == [f"town_{i}" for i in range(6)]
    pre, post, codes, sample = images(dataset, "town_5")  # the last row and column: 72 x 44 pixels of it on the scene
    np.testing.assert_array_equal(pre[:72, :44], PRE[128:, 256:])
    np.testing.assert_array_equal(post[:72, :44], POST[128:, 256:])
    assert not pre[72:].any() and (codes[72:] == INVALID).all() and (codes[:, 44:] == INVALID).all()
    assert (sample.height, sample.width) == (128, 128) and sample.post[0].valid == 72 * 44
    _, _, codes, sample = images(dataset, "town_0")
    expected = np.zeros((128, 128), np.uint8)
    expected[10:30, 10:30] = 1
    assert np.abs(codes.astype(int) - expected).sum() <= 20  # through degrees and back: a row or column of the house
    west, south, east, north = sample.bounds
    (left,), (top,) = rasterio.warp.transform(UTM, "EPSG:4326", [ORIGIN[0]], [ORIGIN[1]])
    assert west == pytest.approx(left, abs=2e-6) and north == pytest.approx(top, abs=1e-5)
    assert (north - south) * 111_000 == pytest.approx(64, rel=0.02) and west < east


def test_edge_tiles_are_moved_inward(tmp_path):
    assert prepare(town(tmp_path / "source"), tmp_path / "out", "--edges", "shift") == 0
    pre, _, codes, _ = images(TileDataset.open(tmp_path / "out"), "town_5")
    np.testing.assert_array_equal(pre, PRE[72:, 172:])
    assert (codes != INVALID).all()


def test_the_index_says_of_every_image_why(tmp_path, capsys):
    """One tile black, one of snow, one flat: each with the paper's statistics, and none lost."""
    post = POST.copy()
    post[:128, :128][:8] = 0  # 6 % of the tile are black
    post[:128, 128:256] = np.clip(post[:128, 128:256].astype(int) // 3 + 165, 0, 255)
    post[128:, :128] = 128
    assert prepare(town(tmp_path / "source", post=post), tmp_path / "out", "--variance", "100") == 0
    index = gpd.read_parquet(tmp_path / "out" / "tiles.parquet")
    assert index.crs.to_epsg() == 4326 and len(index) == 12
    after = index[index.when == "post"].set_index("tile")
    assert after.reason.to_dict() == {
        "town_0": "black", "town_1": "snow", "town_2": "", "town_3": "variance", "town_4": "", "town_5": ""
    }  # fmt: skip
    assert after.black["town_0"] == pytest.approx(8 * 128 / 128**2)
    tile = post[:128, 128:256].astype(np.float64)
    assert after.brightness["town_1"] == pytest.approx(tile.sum(axis=2).mean())
    assert after.variance["town_1"] == pytest.approx(tile.mean(axis=2).var())
    assert after.variance["town_3"] == 0 and after.kept_tile.sum() == 3
    outline = after.geometry["town_5"]
    place = rasterio.warp.transform(UTM, "EPSG:4326", [ORIGIN[0] + 150], [ORIGIN[1] - 100])
    assert outline.bounds[2] == pytest.approx(place[0][0], abs=2e-6) and outline.bounds[1] == pytest.approx(
        place[1][0], abs=2e-6
    )
    said = capsys.readouterr().out
    assert "tiles kept            3" in said and "tiles variance        1" in said
    assert read_rgb(tmp_path / "out" / "contact_sheet.png").pixels.shape[1] > 1000


def test_labels_by_attribute_and_unlabelled_ground(tmp_path):
    houses = [house(10, 10), house(10, 60), house(60, 10)]
    source = town(tmp_path / "source", houses, state=["destroyed", "intact", "destroyed"])
    area = gpd.GeoDataFrame(geometry=[house(0, 0, 128)], crs=UTM)
    area.to_file(tmp_path / "area.gpkg")
    flags = ["--label_attribute", "state", "--label_values", "destroyed"]
    assert prepare(source, tmp_path / "a", *flags) == 0
    _, _, codes, sample = images(TileDataset.open(tmp_path / "a"), "town_0")
    assert sample.post[0].damaged == pytest.approx(800, abs=45) and codes[20, 70] == 0 and codes[20, 20] == 1
    assert prepare(source, tmp_path / "b", *flags, "--outside", "unlabelled") == 0
    dataset = TileDataset.open(tmp_path / "b")
    _, _, codes, sample = images(dataset, "town_0")
    assert sample.post[0].valid == pytest.approx(1200, abs=70) and (codes[100, 100], codes[20, 70]) == (INVALID, 0)
    assert prepare(source, tmp_path / "c", *flags, "--labelled_area", str(tmp_path / "area.gpkg")) == 0
    dataset = TileDataset.open(tmp_path / "c")
    assert images(dataset, "town_1")[3].post[0].valid == 0 and images(dataset, "town_0")[3].post[0].valid == 128**2
    polygons = gpd.read_parquet(tmp_path / "c" / "polygons.parquet")
    assert polygons.label.tolist() == ["damage", "intact", "damage"] and set(polygons.tile) == {"town_0"}


def test_masks_on_another_grid_label_too(tmp_path):
    source = town(tmp_path / "source")
    (source / "town" / "damage.geojson").unlink()
    mask = np.zeros((100, 150), np.uint8)
    mask[5:15, 5:15] = 255
    write(source / "town" / "mask.tif", mask, at(gsd=1.0))
    assert prepare(source, tmp_path / "out") == 0
    _, _, codes, _ = images(TileDataset.open(tmp_path / "out"), "town_0")
    expected = np.zeros((128, 128), np.uint8)
    expected[10:30, 10:30] = 1
    np.testing.assert_array_equal(codes, expected)


def test_post_on_another_grid_lies_on_the_ground_of_pre(tmp_path):
    """The same picture, moved by 40 rows and 20 columns on the ground: where both are, they are equal."""
    source = town(tmp_path / "source", post=PRE[40:, 20:], transform=at(40, 20))
    assert prepare(source, tmp_path / "out", "--variance", "100") == 0
    pre, post, codes, sample = images(TileDataset.open(tmp_path / "out"), "town_0")
    np.testing.assert_array_equal(post[40:, 20:], pre[40:, 20:])
    assert (codes[:40] == INVALID).all() and (codes[:, :20] == INVALID).all() and sample.post[0].valid == 88 * 108


def test_registration_is_applied_and_told(tmp_path):
    big = ground(7, 900, 900)
    folder = tmp_path / "source" / "town"
    write(folder / "pre.tif", big[50:690, 50:690])
    write(folder / "post.tif", big[43:683, 61:701])  # its content lies 7 rows further down, 11 columns further left
    assert prepare(tmp_path / "source", tmp_path / "out", "--register", "--labels", "none", "--variance", "100") == 0
    rows = (tmp_path / "out" / "registration.csv").read_text().splitlines()
    assert rows[0].startswith("place,tile,image,rows,columns,confidence,accepted") and len(rows) == 26
    place, tile, image, down, right, confidence, accepted, *applied = rows[1].split(",")
    assert (place, tile, image, accepted) == ("town", "town_0", "post", "True") and float(confidence) > 20
    assert float(down) == pytest.approx(7, abs=0.2) and float(right) == pytest.approx(-11, abs=0.2)
    pre, post, codes, _ = images(TileDataset.open(tmp_path / "out"), "town_6")
    assert np.abs(post.astype(int) - pre).mean() < 2 and (codes == INVALID).all()
    assert prepare(tmp_path / "source", tmp_path / "still", "--labels", "none", "--variance", "100") == 0
    pre, post, _, _ = images(TileDataset.open(tmp_path / "still"), "town_6")
    assert np.abs(post.astype(int) - pre).mean() > 20


def test_colours_can_be_matched(tmp_path):
    source = town(tmp_path / "source", post=(PRE * 0.5 + 20).astype(np.uint8))
    assert prepare(source, tmp_path / "out", "--match_histogram", "--variance", "100") == 0
    pre, post, _, _ = images(TileDataset.open(tmp_path / "out"), "town_0")
    assert np.abs(post.astype(int) - pre).mean() < 3


def test_overviews_spare_hopeless_tiles(tmp_path):
    snow = np.full((512, 512, 3), 240, np.uint8)
    snow[:128, :128] = ground(3, 128, 128)
    folder = tmp_path / "source" / "town"
    for name in ("pre", "post"):
        path = write(folder / f"{name}.tif", snow, tiled=True, blockxsize=128, blockysize=128)
        with rasterio.open(path, "r+") as target:
            target.build_overviews([2, 4, 8], rasterio.enums.Resampling.average)
    assert prepare(tmp_path / "source", tmp_path / "out", "--labels", "none", "--variance", "100") == 0
    index = gpd.read_parquet(tmp_path / "out" / "tiles.parquet")
    assert index.decimated.sum() == 30 and set(index.reason[index.decimated]) == {"snow"}
    assert TileDataset.open(tmp_path / "out").samples[0].id == "town_0"


def test_several_dates_of_a_place_are_one_sample(tmp_path):
    for day, image in (("20220501", PRE), ("20220901", PRE), ("20230208", POST), ("20230301", POST)):
        write(tmp_path / "source" / f"town_{day}.tif", image)
    flags = ["--event_date", "2023-02-06", "--labels", "none", "--variance", "100"]
    assert prepare(tmp_path / "source", tmp_path / "out", *flags) == 0
    sample = TileDataset.open(tmp_path / "out").samples[0]
    assert [image.date for image in sample.pre] == ["2022-05-01", "2022-09-01"]
    assert [image.date for image in sample.post] == ["2023-02-08", "2023-03-01"]


def test_polygons_outside_and_polygons_that_cross_themselves_are_counted(tmp_path, capsys):
    bow = shapely.Polygon([(0, 0), (10, 10), (10, 0), (0, 10), (0, 0)])
    x, y = house(30, 30).bounds[:2]
    bow = shapely.transform(bow, lambda points: points + (x, y))
    source = town(tmp_path / "source", [house(10, 10), house(5000, 10), bow])
    assert prepare(source, tmp_path / "out", "--variance", "100") == 0
    said = capsys.readouterr().out
    assert "label polygons in kept tiles           2" in said and "label polygons outside of all scenes   1" in said
    assert "note on 1 files: damage.geojson: 1 polygons that cross themselves, repaired" in said


def test_nothing_kept_is_said_with_the_reasons(tmp_path, capsys):
    source = town(tmp_path / "source", post=np.full_like(POST, 128))
    assert prepare(source, tmp_path / "out") == 2
    said = error(capsys)
    assert "none of 6 tiles is kept (6 variance); look at contact_sheet.png" in said
    assert (tmp_path / "out" / "contact_sheet.png").exists()
    shutil.copy(source / "town" / "pre.tif", source / "town" / "post.tif")
    assert prepare(source, tmp_path / "out", "--variance", "10") == 0  # the same folder, other thresholds


def test_tiles_of_which_nothing_is_known_are_left_out_where_that_is_wanted(tmp_path, capsys):
    post = POST.copy()
    post[:40] = 0  # a border without data, in which one of the houses lies
    source = town(tmp_path / "source", [house(10, 10), house(150, 250)], post=post)
    flags = ("--outside", "unlabelled", "--black", "1", "--variance", "100")
    assert prepare(source, tmp_path / "all", *flags) == 0
    assert len(TileDataset.open(tmp_path / "all").samples) == 6
    capsys.readouterr()
    assert prepare(source, tmp_path / "out", *flags, "--labelled_only") == 0
    said = capsys.readouterr().out
    assert [sample.id for sample in TileDataset.open(tmp_path / "out").samples] == ["town_4", "town_5"]
    assert "tiles unlabelled      4" in said and (tmp_path / "out" / "contact_sheet.png").exists()
    tiles = gpd.read_parquet(tmp_path / "out" / "tiles.parquet").set_index(["tile", "when"])
    assert tiles["reason"]["town_0", "pre"] == "" and tiles["reason"]["town_0", "post"] == "unlabelled"
    assert tiles["reason"]["town_1", "pre"] == "unlabelled" and tiles["black"].isna()["town_1", "pre"]


def test_list_builds_nothing(tmp_path, capsys):
    source = town(tmp_path / "source")
    assert main(["--layout", "scenes", "--source", str(source), "--list"]) == 0
    said = capsys.readouterr().out
    assert "1 places with 1 acquisitions before and 1 after the event" in said
    assert said.count("date unknown ") == 2
    assert main(["--layout", "folders", "--source", str(source), "--list"]) == 2
    assert "--list: goes with --layout scenes" in error(capsys)
    assert main(["--layout", "scenes", "--source", str(source)]) == 2
    assert "--out: give a folder" in error(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_real_scenes_become_one_dataset(shared_data, tmp_path, capsys):
    """All eight scenes; Merkez_3 and _4 share ground, and so a split by block must not part them."""
    flags = ["--tile", "512", "--variance", "300", "--positive_unlabelled", "--split", "block", "--register"]
    source = shared_data / "turkey_2023"
    assert main(["--layout", "scenes", "--source", str(source), "--out", str(tmp_path / "out"), *flags]) == 0
    said = capsys.readouterr().out
    dataset = TileDataset.open(tmp_path / "out")
    assert dataset.positive_unlabelled and len({s.id.rsplit("_", 1)[0] for s in dataset.samples}) == 8
    assert "label polygons in kept tiles           316" in said  # all that there are: 12 + 172 + 105 + 20 + 4 + 1 + 2
    assert "holds no polygon" in said
    shifts = [line.split(",") for line in (tmp_path / "out" / "registration.csv").read_text().splitlines()[1:]]
    found = {
        place: np.median(
            [[float(r), float(c)] for p, _, _, r, c, _, ok, *_ in shifts if p == place and ok == "True"], 0
        )
        for place in {row[0] for row in shifts}
    }
    # shared/data/README.md: 2 to 4 px in Adıyaman, 11 in Türkoğlu.
    assert 1 < np.hypot(*found["Adiyaman_Merkez_1"]) < 5 and 1 < np.hypot(*found["Adiyaman_Merkez_6"]) < 5
    assert 10 < np.hypot(*found["Kahramanmaras_Turkoglu_1"]) < 14


def test_joplin_in_two_reference_systems(shared_data, tmp_path):
    labels = str(shared_data / "joplin_2011" / "footprints.gpkg")
    flags = ["--labels", labels, "--variance", "300", "--tile", "1024"]
    out = tmp_path / "out"
    assert main(["--layout", "scenes", "--source", str(shared_data / "joplin_2011"), "--out", str(out), *flags]) == 0
    dataset = TileDataset.open(out)
    assert len(dataset.samples) == 4
    covered = {sample.id: sample.post[0].valid / 1024**2 for sample in dataset.samples}
    assert covered["tile_1361-10160_0"] > 0.95 and 0.5 < covered["tile_337-9136_0"] < 0.6
    pre, post, codes, _ = images(dataset, "tile_337-9136_0")
    assert (
        not post[codes == INVALID].any() or (post[codes == INVALID].max(axis=-1) == 0).mean() > 0.99
    )  # empty, not black ground


@pytest.mark.slow
def test_a_killed_build_goes_on_and_ends_the_same(shared_data, tmp_path):
    """Killed while tiles are staged, after shifts were estimated: neither is made again."""
    source = str(shared_data / "turkey_2023")
    flags = ["--layout", "scenes", "--source", source, "--tile", "512", "--variance", "300", "--register"]
    flags += ["--only", "Adiyaman_Merkez_5", "Adiyaman_Merkez_6"]
    command = [sys.executable, "-m", "jaxcd.prepare", *flags, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    staging = tmp_path / "killed" / "staging"
    deadline = time.monotonic() + 120
    while len(list(staging.glob("[!.]*.zip"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    workers = children(process.pid)
    process.kill()
    process.wait()
    await_end(workers)
    before = {file: file.stat().st_mtime_ns for file in staging.iterdir() if not file.name.startswith(".")}
    shifts = [file for file in before if file.name.startswith("shifts-")]
    assert len(shifts) == 2 and not (tmp_path / "killed" / "dataset.json").exists()
    other = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    again = subprocess.run(command, capture_output=True, text=True)  # two builds into one folder: one waits
    output, _ = other.communicate()
    assert other.returncode == again.returncode == 0, output + again.stderr
    assert ("is left as it is" in output) != ("is left as it is" in again.stdout)
    assert main([*flags, "--out", str(tmp_path / "straight")]) == 0
    killed, straight = (TileDataset.open(tmp_path / name) for name in ("killed", "straight"))
    assert killed.samples == straight.samples and len(killed.samples) == 24
    assert [killed.read(row) for row in range(24)] == [straight.read(row) for row in range(24)]
    assert not staging.exists()


def test_training_builds_scenes_on_first_use_and_anew_when_they_change(tmp_path, capsys):
    source = town(tmp_path / "source")
    data = DataConfig(root=str(source), layout="scenes", scenes=ScenesConfig(tile=128), cache=str(tmp_path / "cache"))
    first = open_or_build(data)
    assert "First use of" in capsys.readouterr().out and len(first.samples) == 6
    assert open_or_build(data).paths == first.paths and "First use of" not in capsys.readouterr().out
    other = dataclasses.replace(data, scenes=ScenesConfig(tile=64))
    assert open_or_build(other).paths != first.paths
    town(source, [house(10, 10)])
    again = open_or_build(data)
    assert again.paths != first.paths and sum(sample.damaged for sample in again.samples) < sum(
        sample.damaged for sample in first.samples
    )
