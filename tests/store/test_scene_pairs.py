"""Scenes and labels in odd shapes: what must not be mixed up, lost, or taken for something else."""

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine

from jaxcd.base.scales import INVALID
from jaxcd.config import DataConfig, ScenesConfig
from jaxcd.prepare import main
from jaxcd.scenes.catalogue import find_scenes
from jaxcd.scenes.pairing import pair
from jaxcd.sources.from_scenes.plan import plan
from jaxcd.store.dataset import TileDataset
from jaxcd.store.encodings import decode
from tests.scenes.scene_files import ORIGIN, UTM, at, ground, write

PRE, POST = ground(11, 256, 256), ground(12, 256, 256)


def prepare(source: Path, out: Path, *more: str) -> int:
    flags = ["--tile", "256", "--variance", "100"]
    return main(["--layout", "scenes", "--source", str(source), "--out", str(out), *flags, *more])


def polygons(path: Path, rows: int, columns: int = 20, **attributes) -> Path:
    """One polygon at the corner for each value of the attributes, side by side."""
    count = len(next(iter(attributes.values()), [0]))
    x, y = ORIGIN
    boxes = [shapely.box(x + 20 * k, y - rows * 0.5, x + 20 * k + columns * 0.5, y) for k in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    gpd.GeoDataFrame(attributes, geometry=boxes, crs=UTM).to_file(path)
    return path


def the_tile(out: Path, row: int = 0):
    dataset = TileDataset.open(out)
    record = dataset.read(row)
    return dataset.samples[row], [decode(x) for x in record.pre], [decode(x) for x in record.post], [
        decode(x) for x in record.label
    ]  # fmt: skip


def test_pre_and_post_of_one_name_are_registered_one_to_the_other(tmp_path):
    big = ground(7, 700, 700)
    write(tmp_path / "s" / "pre" / "scene.tif", big[50:562, 50:562])
    write(tmp_path / "s" / "post" / "scene.tif", big[43:555, 61:573])
    assert prepare(tmp_path / "s", tmp_path / "out", "--labels", "none", "--register") == 0
    _, (pre,), (post,), _ = the_tile(tmp_path / "out", 3)
    np.testing.assert_array_equal(pre, big[50:562, 50:562][256:, 256:])
    assert np.abs(post[:240, 20:].astype(int) - pre[:240, 20:]).mean() < 2


def test_places_of_one_name_stay_apart(tmp_path):
    for k, town in enumerate(("a", "b")):
        for day, image in (("2022-05-06", PRE), ("2023-05-07", POST)):
            write(tmp_path / "s" / town / f"{day}.tif", image, at(0, 1000 * k))
    flags = ["--event_date", "2023-02-06", "--labels", "none"]
    assert prepare(tmp_path / "s", tmp_path / "out", *flags) == 0
    assert [sample.id for sample in TileDataset.open(tmp_path / "out").samples] == ["a_2022-05-06_0", "b_2022-05-06_0"]


def test_pre_scenes_beside_each_other_are_places_of_their_own(tmp_path):
    for k, side in enumerate(("left", "right")):
        for when, image in (("pre", PRE), ("post", POST)):
            write(tmp_path / "s" / "town" / f"{when}_{side}.tif", image, at(0, 256 * k))
    found = find_scenes(str(tmp_path / "s"), "")
    pairing = pair(found.scenes, min_overlap=0.01)
    assert [place.id for place in pairing.places] == ["town_pre_left", "town_pre_right"] and not pairing.unpaired
    assert [len(place.post) for place in pairing.places] == [1, 1]


def test_ground_that_a_mask_does_not_show_is_unknown(tmp_path, capsys):
    town = tmp_path / "s" / "town"
    write(town / "pre.tif", PRE)
    write(town / "post.tif", POST)
    mask = np.zeros((100, 100), np.uint8)
    mask[:10] = 1
    mask[50:] = 255
    write(town / "mask.tif", mask, nodata=255)
    assert prepare(tmp_path / "s", tmp_path / "out") == 0
    _, _, _, (codes,) = the_tile(tmp_path / "out")
    assert (codes[:10, :100] == 1).all() and (codes[10:50, :100] == 0).all()
    assert (codes[50:] == INVALID).all() and (codes[:, 100:] == INVALID).all()
    write(town / "mask.tif", np.zeros((100, 100), np.uint8), at(0, 20_000))
    assert prepare(tmp_path / "s", tmp_path / "far") == 0
    assert "mask.tif: lies outside of its scene, which stays unlabelled" in capsys.readouterr().out
    assert (the_tile(tmp_path / "far")[3][0] == INVALID).all()


def test_every_date_has_its_own_labels(tmp_path):
    write(tmp_path / "s" / "pre" / "town_20220501.tif", PRE)
    for day, rows in (("20230208", 20), ("20230308", 80)):
        write(tmp_path / "s" / "post" / f"town_{day}.tif", POST)
        polygons(tmp_path / "s" / "labels" / f"town_{day}.geojson", rows)
    assert prepare(tmp_path / "s", tmp_path / "out") == 0
    sample, *_ = the_tile(tmp_path / "out")
    assert [image.damaged for image in sample.post] == [400, 1600]


def test_of_scenes_beside_each_other_the_unlabelled_one_is_unknown(tmp_path, capsys):
    write(tmp_path / "s" / "pre" / "town.tif", PRE)
    write(tmp_path / "s" / "post" / "left.tif", POST[:, :128])
    write(tmp_path / "s" / "post" / "right.tif", POST[:, 128:], at(0, 128))
    polygons(tmp_path / "s" / "labels" / "left.geojson", 20)
    assert prepare(tmp_path / "s", tmp_path / "out") == 2
    assert "place town: no label file beside its post scene" in capsys.readouterr().err
    assert prepare(tmp_path / "s", tmp_path / "out", "--incomplete", "leave_out") == 0
    _, _, (post,), (codes,) = the_tile(tmp_path / "out")
    np.testing.assert_array_equal(post, POST)
    assert (codes[:20, :20] == 1).all() and (codes[20:, :128] == 0).all() and (codes[:, 128:] == INVALID).all()


@pytest.mark.parametrize(
    ("values", "wanted"), [(["yes", "no", None], "yes"), ([1.0, 0.0, None], "1"), ([1, 0, 2], "1")]
)
def test_polygons_without_a_value_are_unknown(tmp_path, values, wanted):
    town = tmp_path / "s" / "town"
    write(town / "pre.tif", PRE)
    write(town / "post.tif", POST)
    polygons(town / "damage.gpkg", 20, state=values)
    assert prepare(tmp_path / "s", tmp_path / "out", "--label_attribute", "state", "--label_values", wanted) == 0
    _, _, _, (codes,) = the_tile(tmp_path / "out")
    unknown = INVALID if values[2] is None else 0
    assert (codes[5, 5], codes[5, 45], codes[5, 85], codes[100, 100]) == (1, 0, unknown, 0)


def test_a_mask_beside_four_bands_counts_when_warped_too(tmp_path):
    hole = np.full((256, 256), 255, np.uint8)
    hole[50:100, 50:100] = 0
    town = tmp_path / "s" / "town"
    write(town / "pre.tif", PRE)
    infrared = np.dstack([POST, POST[..., 0]])
    write(town / "post.tif", infrared, at(0.4, 0.4), photometric="RGB", alpha="unspecified", mask=hole)
    assert prepare(tmp_path / "s", tmp_path / "out", "--labels", "none") == 0
    index = gpd.read_parquet(tmp_path / "out" / "tiles.parquet").set_index("when")
    assert index.valid["post"] == pytest.approx(1 - 2500 / 256**2, abs=0.003)


def test_a_mask_file_beside_a_scene_counts(tmp_path):
    hole = np.full((256, 256), 255, np.uint8)
    hole[:100] = 0
    town = tmp_path / "s" / "town"
    write(town / "pre.tif", PRE)
    write(town / "post.tif", POST)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(town / "post.tif", "r+") as target:
        target.write_mask(hole)
    assert (town / "post.tif.msk").exists()
    assert prepare(tmp_path / "s", tmp_path / "out", "--labels", "none", "--black", "1") == 0
    index = gpd.read_parquet(tmp_path / "out" / "tiles.parquet").set_index("when")
    assert index.valid["post"] == pytest.approx(156 / 256)


def test_an_older_image_of_half_the_ground_costs_nothing(tmp_path):
    write(tmp_path / "s" / "town_20220101.tif", PRE[:, :140])
    write(tmp_path / "s" / "town_20220801.tif", PRE)
    write(tmp_path / "s" / "town_20230301.tif", POST[:, 100:], at(0, 100))
    flags = ["--event_date", "2023-02-06", "--labels", "none", "--valid", "0.5"]
    assert prepare(tmp_path / "s", tmp_path / "out", *flags) == 0
    sample, *_ = the_tile(tmp_path / "out")
    assert [image.date for image in sample.pre] == ["2022-08-01"]
    index = gpd.read_parquet(tmp_path / "out" / "tiles.parquet").set_index("date")
    assert index.reason["2022-01-01"] == "overlap" and index.reason["2022-08-01"] == ""


def test_tiles_that_post_does_not_show_lack_data_and_not_variance(tmp_path):
    town = tmp_path / "s" / "town"
    write(town / "pre.tif", ground(1, 256, 512))
    write(town / "post.tif", POST)
    assert prepare(tmp_path / "s", tmp_path / "out", "--labels", "none") == 0
    index = gpd.read_parquet(tmp_path / "out" / "tiles.parquet")
    after = index[index.when == "post"].set_index("tile")
    assert after.reason.to_dict() == {"town_0": "", "town_1": "no data"} and after.valid["town_1"] == 0


def test_a_scene_stored_from_south_to_north_gives_tiles_with_north_above(tmp_path):
    turned = Affine(0.5, 0, ORIGIN[0], 0, 0.5, ORIGIN[1] - 128)
    town = tmp_path / "s" / "town"
    write(town / "pre.tif", PRE[::-1], turned)
    write(town / "post.tif", POST)
    assert prepare(tmp_path / "s", tmp_path / "out", "--labels", "none") == 0
    _, (pre,), (post,), _ = the_tile(tmp_path / "out")
    assert np.abs(pre.astype(int) - PRE).max() <= 1
    np.testing.assert_array_equal(post, POST)


def test_corrected_attributes_make_other_tiles(tmp_path):
    town = tmp_path / "s" / "town"
    write(town / "pre.tif", PRE)
    write(town / "post.tif", POST)
    polygons(town / "damage.shp", 20, state=["yes", "no"])
    data = DataConfig(root=str(tmp_path / "s"), layout="scenes", scenes=ScenesConfig())
    before = plan(data).places[0].stamp
    table = town / "damage.dbf"
    table.write_bytes(table.read_bytes().replace(b"no ", b"yes"))
    assert plan(data).places[0].stamp != before


def test_bounds_are_those_of_the_ground_and_not_of_the_padding(tmp_path):
    town = tmp_path / "s" / "town"
    write(town / "pre.tif", ground(1, 300, 300))
    write(town / "post.tif", ground(2, 300, 300))
    assert prepare(tmp_path / "s", tmp_path / "out", "--labels", "none") == 0
    west, south, east, north = TileDataset.open(tmp_path / "out").samples[3].bounds
    assert (north - south) * 111_000 == pytest.approx(22, rel=0.1)  # 44 pixels of half a metre


def test_refusals_by_the_command(tmp_path, capsys):
    town = tmp_path / "s" / "town"
    write(town / "pre.tif", PRE)
    write(town / "post.tif", POST)
    (town / "meta.json").write_text("{}")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    shutil.copytree(town, tmp_path / "s" / "village")
    (tmp_path / "s" / "village" / "post.tif").unlink()
    source = tmp_path / "s"
    cases = [
        ([], "several files could hold"),
        (["--labels", str(tmp_path / "table.csv"), "--only", "town"], "table without geometries"),
        (["--labels", "nowhere.gpkg", "--only", "town"], "--labels nowhere.gpkg: no such file"),
        (["--labels", "none", "--only", "city"], "no place whose name begins with city"),
        (["--labels", "none", "--only", "town", "--gsd", "1000"], "pixels would be 1e+03 m wide"),
        (["--labels", "none", "--only", "town", "--crs", "EPSG:5773"], "neither a projected nor a geographic"),
        (["--labels", "none", "--only", "town", "--labelled_area", "nope"], "--labelled_area nope: no such file"),
        (["--labels", "none"], "no post scene of its place"),
    ]
    (town / "other.gpkg").write_text("x")
    for flags, said in cases:
        assert prepare(source, tmp_path / "out", *flags) == 2, flags
        assert said in capsys.readouterr().err, flags
    assert prepare(source, source / "out", "--labels", "none") == 2
    assert "lies in the source" in capsys.readouterr().err
    assert prepare(source, tmp_path / "out", "--labels", "none", "--only", "town") == 0
