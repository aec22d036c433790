"""Thresholds that are chosen by labelled places, or estimated without labels."""

import dataclasses
import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from jaxcd.base.errors import ConfigError, LabelError
from jaxcd.mapping import calibration, scene_map
from jaxcd.mapping.decision import threshold_of_scene
from jaxcd.mapping.predict.network import STEPS
from jaxcd.mapping.products.thresholds import STOPS
from jaxcd.mapping.settings import MapSettings
from tests.mapping.map_runs import config, write_run, write_scenes

SETTINGS = MapSettings(window=120, min_area=1.0)


@pytest.fixture(scope="module")
def mapper(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("map") / "run", config("fc_siam_diff", "small"))
    return scene_map.load(run, SETTINGS)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return [[str(scene)] for scene in write_scenes(folder, 300, 300)]


@pytest.fixture(scope="module")
def made(tmp_path_factory, mapper, scenes) -> Path:
    """A map whose network says 0.03 on a tenth of the ground, 0.2 on two pixels of it, and 0.001 elsewhere."""
    out = tmp_path_factory.mktemp("made") / "out"
    scene_map.make(mapper, *scenes, out, SETTINGS)
    for file in (out / ".blocks").glob("*.tif"):
        with rasterio.open(file, "r+") as block:
            values = np.full(block.shape, 0.001 * STEPS)
            left = round((block.transform.c - 433_000) * 2)
            values[:, max(0, 30 - left) : max(0, 60 - left)] = 0.03 * STEPS  # columns 30 to 60 of the map
            block.write(np.rint(values).astype(np.uint16), 1)
    return out


@pytest.fixture
def out(tmp_path, made) -> Path:
    """A copy of that map."""
    return shutil.copytree(made, tmp_path / "out")


def labels(path: Path, damaged: list, columns: list, *, row: float = 20, **attributes) -> Path:
    """Points in pixels of the map, five pixels apart."""
    x, y = 433_000 + np.array(columns) / 2, 4_180_000 - (row + 5 * np.arange(len(columns))) / 2
    gpd.GeoDataFrame({"damaged": damaged} | attributes, geometry=gpd.points_from_xy(x, y), crs=32637).to_file(path)
    return path


def test_places_choose_a_threshold_between_the_classes(tmp_path, out, mapper, scenes):
    points = labels(tmp_path / "points.gpkg", [1] * 10 + [0] * 10, [45] * 10 + [150] * 10)
    told = scene_map.make(mapper, *scenes, out, dataclasses.replace(SETTINGS, calibrate=points))
    assert told.blocks_computed == 0
    assert 0.001 < told.network.threshold <= 0.03 and told.area.damaged_share == pytest.approx(0.1)
    source = told.network.threshold_from
    assert source.startswith(
        f"--calibrate {points}: 10 damaged and 10 intact places, of which 100% and 0% are above it"
    )
    interval = json.loads((out / "summary.json").read_text())["network"]["threshold_interval"]
    assert interval["name"] == "90% interval" and 0 < interval["low"] <= told.network.threshold <= interval["high"] < 1
    assert source.endswith(f"; 90% interval {interval['low']:g} to {interval['high']:g}")
    assert told.vectors["calibrate"].sha256
    page = (out / "map.html").read_text()
    assert "90% interval" in page
    # Named values, and footprints in degrees, do the same.
    frame = gpd.read_file(points)
    frame["state"] = np.where(frame.damaged == 1, "ruin", "fine")
    frame.geometry = frame.buffer(2)
    frame.drop(columns="damaged").to_crs(4326).to_file(tmp_path / "named.geojson")
    named = dataclasses.replace(
        SETTINGS, calibrate=tmp_path / "named.geojson", label_attribute="state", label_values=("ruin",)
    )
    assert scene_map.make(mapper, *scenes, out, named).network.threshold == told.network.threshold


@pytest.mark.parametrize(
    ("damaged", "columns", "message"),
    [
        ([1] * 20, [45] * 20, "20 damaged and 0 intact places lie on the scenes, expected at least 5 of each"),
        ([0] * 20, [45] * 20, "0 damaged and 20 intact places"),
        ([1] * 4 + [0] * 9, [45] * 13, "4 damaged and 9 intact places"),
        ([1, 0] * 8, [9000] * 16, "none of its points or polygons lies on the scenes"),
    ],
)  # fmt: skip
def test_places_that_cannot_choose_are_refused_before_anything_is_computed(
    tmp_path, mapper, scenes, damaged, columns, message
):
    points = labels(tmp_path / "points.gpkg", damaged, columns)
    with pytest.raises(LabelError, match=rf"^--calibrate .*points\.gpkg: {message}"):
        scene_map.make(mapper, *scenes, tmp_path / "new", dataclasses.replace(SETTINGS, calibrate=points))
    assert not (tmp_path / "new").exists()


def test_an_attribute_that_is_not_there_is_named(tmp_path, mapper, scenes):
    points = labels(tmp_path / "points.gpkg", [1] * 9, [45] * 9)
    settings = dataclasses.replace(SETTINGS, calibrate=points, label_attribute="grade", label_values=("4",))
    with pytest.raises(LabelError, match="no attribute 'grade'; it has damaged"):
        scene_map.make(mapper, *scenes, tmp_path / "new", settings)


def test_the_criterion_is_recall_squared_by_what_is_called_damage():
    """Of 30 damaged places all are above stop 20 and 20 above stop 40, where a sixteenth of the ground is called."""
    stops = np.arange(len(STOPS))
    high = np.arange(30) % 3 > 0
    damaged = (stops[None] <= np.where(high, 40, 20)[:, None]).astype(float)
    intact = (stops[None] <= 10).astype(float).repeat(30, axis=0)
    called = np.where(stops <= 20, 0.16, np.where(stops <= 40, 0.01, 0.0001))
    found = calibration.choose(damaged, intact, called)
    assert 20 < found.stop <= 40 and found.recall == pytest.approx(2 / 3) and found.low <= found.stop <= found.high
    assert found.false_alarms == 0
    rare = np.where(stops <= 20, 0.16, 0.12)  # the higher threshold calls hardly less damage
    assert calibration.choose(damaged, intact, rare).stop <= 20


def test_a_threshold_wins_by_the_damage_that_it_finds_itself():
    """One of 30 damaged places lies far above the others; stops between them are not credited with the others."""
    stops = np.arange(len(STOPS))
    damaged = (stops[None] <= np.where(np.arange(30) == 0, 50, 40)[:, None]).astype(float)
    called = np.where(stops <= 40, 0.01, np.where(stops <= 50, 0.0001, 0))
    found = calibration.choose(damaged, np.zeros((30, len(STOPS))), called)
    assert found.stop <= 40 and found.recall == 1


def test_places_of_which_no_threshold_finds_any_are_refused(tmp_path, out, mapper, scenes):
    points = labels(tmp_path / "points.gpkg", [1] * 10 + [0] * 10, [150] * 20)
    for file in (out / ".blocks").glob("*.tif"):
        with rasterio.open(file, "r+") as block:
            block.write(np.zeros(block.shape, np.uint16), 1)
    with pytest.raises(LabelError, match=r"points\.gpkg: the network gives all 10 damaged places less than 0\.001"):
        scene_map.make(mapper, *scenes, out, dataclasses.replace(SETTINGS, calibrate=points))


def test_the_scenes_own_threshold_is_that_of_the_least_cross_entropy(tmp_path, out, mapper, scenes):
    """Li and Tam's iteration (1998) ends there; and the mean probability alone is far from it."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.beta(0.3, 60, 200_000), rng.beta(3, 8, 3_000)])
    counts = np.bincount(np.rint(values * STEPS).astype(int), minlength=STEPS + 1)[: STEPS + 1]
    found = threshold_of_scene(counts).value
    for _ in range(200):
        low, high = values[values < found].mean(), values[values >= found].mean()
        found = (high - low) / np.log(high / low)
    assert threshold_of_scene(counts).value == pytest.approx(found, rel=0.01) and 0.05 < found < 0.3
    few = np.zeros(STEPS + 1, int)  # so little that the mean lies below the first step
    few[0], few[300:400] = 10**7, 5
    assert threshold_of_scene(few).value * STEPS == pytest.approx(300)
    told = scene_map.make(mapper, *scenes, out, dataclasses.replace(SETTINGS, threshold="scene"))
    assert told.network.threshold == round(0.03 * STEPS) / STEPS and told.area.damaged_share == pytest.approx(0.1)
    assert told.network.threshold_from.endswith("10.00% of the seen ground is above it")


def test_ways_exclude_each_other_and_words_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="--calibrate: cannot be combined with --threshold"):
        MapSettings(calibrate=tmp_path, threshold="scene").validate()
    with pytest.raises(ConfigError, match="--expect: cannot be combined with --calibrate"):
        MapSettings(expect="2%", calibrate=tmp_path).validate()
    with pytest.raises(ConfigError, match="--threshold: expected between 0 and 1, or scene, got 'best'"):
        MapSettings(threshold="best").validate()
    with pytest.raises(ConfigError, match="--threshold: expected between 0 and 1, or scene, got 1.5"):
        MapSettings(threshold=1.5).validate()
