"""A map of levels as a run makes it: its files, what they tell, what is refused, and the page."""

import base64
import io
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil
import shapely
from PIL import Image

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import XBD
from jaxcd.mapping import listed_pairs, pair_list, scene_map
from jaxcd.mapping.products import buildings, rasters
from jaxcd.mapping.settings import MapSettings
from tests.entries import run as run_entry
from tests.mapping.map_runs import config, graded_run, write_run, write_scenes
from tests.mapping.pages import data_of, opened
from tests.scenes.scene_files import ORIGIN, UTM

COLUMNS = ["p_intact", "p_minor", "p_major", "p_destroyed"]


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(1)


@pytest.fixture(scope="module")
def town(tmp_path_factory):
    """A run of levels, and two maps by it: with footprints, and without, from another level on."""
    folder = tmp_path_factory.mktemp("levels")
    run = graded_run(folder / "run")
    pre, post = write_scenes(folder, 200, 240)
    west, north = ORIGIN
    corners = [(x, y) for x in range(4, 110, 14) for y in range(4, 90, 14)]
    shapes = [shapely.box(west + x, north - y - 9, west + x + 9, north - y) for x, y in corners]
    frame = gpd.GeoDataFrame({"osm_id": range(len(shapes))}, geometry=shapes, crs=UTM)
    frame["truth"] = [XBD.levels[i % 4] for i in range(len(frame))]
    frame.to_file(folder / "houses.gpkg")
    given = MapSettings(
        window=120, threshold=0.5, min_area=0, cell=50, footprints=folder / "houses.gpkg", label_attribute="truth",
        label_values=("major", "destroyed"),
    )  # fmt: skip
    mapper = scene_map.load(run, given)
    scene_map.make(mapper, [str(pre)], [str(post)], folder / "given", given)
    own = MapSettings(window=120, level="minor", min_area=8)
    scene_map.make(mapper, [str(pre)], [str(post)], folder / "own", own)
    return folder, mapper


def test_a_map_of_levels_is_told_of_in_all_its_files(town):
    folder, _ = town
    out = folder / "given"
    assert {path.name for path in out.iterdir()} == {*scene_map.FILES, *scene_map.LEVEL_FILES, ".blocks", ".lock"}
    told = json.loads((out / "summary.json").read_text())
    codes, pixel = read(out / rasters.CODES), told["grid"]["metres_per_pixel"] ** 2
    assert set(np.unique(codes)) == {0, 1, 2, 3, 4}
    by_level = {name: np.count_nonzero(codes == code) * pixel for code, name in enumerate(XBD.levels, start=1)}
    assert told["levels"]["area_m2"] == pytest.approx(by_level)
    houses = gpd.read_file(out / "buildings.gpkg")
    counts = told["levels"]["buildings"]
    assert counts == {name: int((houses.level == name).sum()) for name in counts}
    assert sum(counts.values()) == len(houses)
    assert set(houses.source) == {"footprints"} and {"damage_class", "expected_level", *COLUMNS} <= set(houses)
    assert told["levels"]["damage_from"] == "major" and told["settings"]["level"] == ""
    assert sum(sum(row.values()) for row in told["levels"]["agreement"]["confusion"].values()) == len(houses)
    counted = gpd.read_file(out / "damage.gpkg", layer="cells")
    assert counted[[f"level_{name}" for name in XBD.levels]].sum().tolist() == [counts[name] for name in XBD.levels]
    drawn = gpd.read_file(out / "damage.gpkg", layer="levels")
    areas = drawn.groupby("level").area_m2.sum()
    assert dict(areas) == pytest.approx({name: by_level[name] for name in XBD.levels[1:]}, rel=0.01)
    looks = pyogrio.read_dataframe(out / "damage.gpkg", layer="layer_styles").set_index("f_table_name").styleQML
    style = ElementTree.fromstring(looks["levels"])
    assert [each.get("value") for each in style.iterfind(".//category")] == list(XBD.levels[1:])
    text = (out / "summary.md").read_text()
    assert f"| minor | {by_level['minor']:,.0f} | {counts['minor']:,} |" in text
    assert "count the level major and" in text and "quadratic kappa" in text


def test_damage_from_another_level_on_and_buildings_that_the_network_sees(town):
    folder, _ = town
    own, given = folder / "own", folder / "given"
    told = json.loads((own / "summary.json").read_text())
    assert told["levels"]["damage_from"] == told["settings"]["level"] == "minor"
    assert told["network"]["threshold"] == 0.5 and "for damage from major on" in told["network"]["threshold_from"]
    assert any("outlines that the network sees" in note for note in told["notes"])
    np.testing.assert_array_equal(read(own / rasters.CODES), read(given / rasters.CODES))
    lower, higher = (read(each / rasters.DECISION) for each in (own, given))
    assert (lower >= higher).all() and lower.sum() > higher.sum()
    houses = gpd.read_file(own / "buildings.gpkg")
    assert len(houses) > 1 and set(houses.source) == {"network"} and (houses.area_m2 > 15).all()
    # A simpler outline may be smaller than its pixels were, and then it is too small.
    assert set(houses.level) <= {*XBD.levels, buildings.TOO_SMALL} and houses.is_valid.all()


def test_a_level_that_the_run_does_not_know_is_refused(tmp_path, town):
    folder, _ = town
    with pytest.raises(ConfigError, match="--level: expected one of minor, major, destroyed .*xbd.*, got 'grade 3'"):
        scene_map.load(folder / "run", MapSettings(level="grade 3"))
    run = write_run(tmp_path / "run", config("fc_siam_diff", "small"))
    arguments = ["--run", run, "--pre", folder / "pre.tif", "--post", folder / "post.tif", "--out", tmp_path / "out"]
    code, output = run_entry("jaxcd.predict", *arguments, "--level", "minor")
    assert code == 2 and "Traceback" not in output and not (tmp_path / "out").exists()
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "--level minor: the run's network was trained without levels of damage" in line


def test_a_map_of_damage_alone_has_no_word_of_levels(tmp_path, town):
    folder, _ = town
    run = write_run(tmp_path / "run", config("fc_siam_diff", "small"))
    settings = MapSettings(window=120, threshold=0.5, min_area=60)
    mapper = scene_map.load(run, settings)
    # Into the folder of a map of levels: nothing of it may stay.
    out = tmp_path / "out"
    shutil.copytree(folder / "given", out)
    scene_map.make(mapper, [str(folder / "pre.tif")], [str(folder / "post.tif")], out, settings)
    left = {path.name for path in out.iterdir()}
    assert left == {*scene_map.FILES, ".blocks", ".lock"} - {"buildings.gpkg", "buildings.qml"}
    told = json.loads((out / "summary.json").read_text())
    assert "levels" not in told and "level" not in told["settings"] and told["notes"] == []
    data = data_of(out / "map.html")
    assert "levels" not in data and list(data["images"][0]) == ["box", "before", "after", "ranks"]


def test_totals_of_many_maps(tmp_path, town):
    folder, mapper = town
    scenes = (str(folder / "pre.tif"),), (str(folder / "post.tif"),)
    wanted = [listed_pairs.Wanted(name, *scenes, folder / "houses.gpkg") for name in ("a", "b")]
    settings = MapSettings(window=120, threshold=0.5, label_attribute="truth", label_values=("major", "destroyed"))
    assert pair_list.make(mapper, wanted, tmp_path, settings, tell=lambda found, out: None) == 0
    told = json.loads((tmp_path / "summary.json").read_text())
    one, total = told["maps"]["a"]["levels"], told["total"]["levels"]
    assert total["buildings"] == {name: 2 * count for name, count in one["buildings"].items()}
    assert total["area_m2"]["minor"] == pytest.approx(2 * one["area_m2"]["minor"])
    assert total["agreement"]["kappa"] == one["agreement"]["kappa"]
    assert total["agreement"]["confusion"]["minor"]["minor"] == 2 * one["agreement"]["confusion"]["minor"]["minor"]
    assert "quadratic kappa" in (tmp_path / "summary.md").read_text()


def test_the_page_shows_levels_and_their_probabilities(browser, town):
    folder, _ = town
    houses = gpd.read_file(folder / "given" / "buildings.gpkg")
    (image,) = data_of(folder / "given" / "map.html")["images"]
    painted = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["levels"].split(",")[1]))).convert("RGBA"))
    codes = read(folder / "given" / rasters.CODES)
    assert ((painted[..., 3] > 0) == (codes > 0)).all()
    for code, colour in enumerate(XBD.colours, start=1):
        assert (painted[codes == code] == [*bytes.fromhex(colour[1:]), 255]).all()
    with opened(browser, folder / "given" / "map.html") as page:
        assert page.inner_text("#level-key").split("\n") == list(XBD.levels)
        assert page.locator("img.levels").count() == 1
        assert page.evaluate("[byId('show-levels').checked, map.getPane('levels').style.display]") == [True, ""]
        assert page.evaluate("map.getPane('likely').style.display") == "none"
        page.click("#show-levels")
        assert page.evaluate("map.getPane('levels').style.display") == "none"
        counts = dict(label.inner_text().split("\n") for label in page.locator("#classes label").all())
        assert {name: int(count) for name, count in counts.items() if name in XBD.levels} == {
            name: int((houses.level == name).sum()) for name in XBD.levels
        }
        worst = houses[houses.level.isin(["major", "destroyed"])]
        assert page.locator("#houses button").count() == len(worst) > 0
        page.locator("#houses button").first.click()
        page.wait_for_selector(".leaflet-popup-content")
        shown = dict(line.split("\t") for line in page.inner_text(".leaflet-popup-content").split("\n"))
        house = houses[houses.osm_id == int(shown["osm_id"])].iloc[0]
        assert shown["building"] == house.level == max(worst.level, key=XBD.levels.index)
        for name in XBD.levels:
            assert shown[f"probability of {name}"] == f"{100 * house[f'p_{name}']:.1f} %"
        assert shown["mean level"] == f"{house.expected_level:.2f} of 4"
        colour = page.evaluate(f"houses.find((one) => one.options.told.called === '{house.osm_id}').options.color")
        assert colour == XBD.colours[XBD.levels.index(house.level)]
        assert "quadratic kappa" in page.inner_text("#agreement")
