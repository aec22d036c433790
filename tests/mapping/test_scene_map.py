"""Maps of real files: their rasters, masked, resumed, incremental, refused."""

import dataclasses
import re
from xml.etree import ElementTree

import geopandas as gpd
import jax
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rio_cogeo.cogeo import cog_validate

from jaxcd.base.errors import ConfigError, ImageError, LabelError, RunError, SceneError
from jaxcd.mapping import scene_map
from jaxcd.mapping.products import rasters
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.raster import unreferenced_allowed
from tests.mapping.map_runs import config, lively, write_run, write_scenes
from tests.scenes.scene_files import GSD, ORIGIN, at, ground, write

QUIET = MapSettings(window=120, threshold=0.5, min_area=60.0)


@pytest.fixture(scope="module")
def mapper(tmp_path_factory):
    run = write_run(tmp_path_factory.mktemp("map") / "run", config("fc_siam_diff", "small"))
    return scene_map.load(run, QUIET)


def read(path):
    with rasterio.open(path) as source:
        return source.read(1)


def test_rasters_are_cogs_on_the_grid_of_pre(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 301, 533)
    every = dataclasses.replace(QUIET, min_area=0.0)
    map_summary = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", every)
    for name in (rasters.PROBABILITY, rasters.DECISION):
        valid, errors, warnings = cog_validate(tmp_path / "out" / name)
        assert valid and not errors and not warnings
        with rasterio.open(tmp_path / "out" / name) as made, rasterio.open(pre) as given:
            assert (made.shape, made.crs, made.transform) == (given.shape, given.crs, given.transform)
            assert made.nodata == 255 and made.dtypes == ("uint8",) and made.overviews(1)
            assert made.scales == ((1 / 254,) if name == rasters.PROBABILITY else (1.0,))
    probability, decision = (read(tmp_path / "out" / name) for name in (rasters.PROBABILITY, rasters.DECISION))
    assert (probability[decision == 1] >= 127).all() and (probability[decision == 0] <= 127).all()
    assert 0 < decision.mean() < 1
    share = decision.mean()
    assert map_summary.area.damaged_share == pytest.approx(share)
    # UTM's scale is 0.9996 at its middle meridian and a little more beside it.
    assert map_summary.area.damaged_m2 == pytest.approx(share * 301 * 533 * GSD**2, rel=2e-3)
    polygons = gpd.read_file(tmp_path / "out" / "damage.gpkg", layer="damage")
    assert polygons.area_m2.sum() == pytest.approx(map_summary.area.damaged_m2, rel=0.01)
    assert len(polygons) == map_summary.polygons > 0 and polygons.is_valid.all()
    cells = gpd.read_file(tmp_path / "out" / "damage.gpkg", layer="cells")
    assert cells.damaged_m2.sum() == pytest.approx(map_summary.area.damaged_m2, rel=1e-3)
    assert cells.seen_m2.sum() == pytest.approx(map_summary.area.seen_km2 * 1e6, rel=1e-3)


def test_what_one_image_lacks_is_no_data_and_black_in_both(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 300, 400)
    seen = np.full((300, 400), 255, np.uint8)
    seen[:, 250:] = 0
    with rasterio.open(post) as source:
        image = source.read().transpose(1, 2, 0)
    masked = write(tmp_path / "masked.tif", image, mask=seen)
    scene_map.make(mapper, [str(pre)], [str(masked)], tmp_path / "one", QUIET)
    decision = read(tmp_path / "one" / rasters.DECISION)
    np.testing.assert_array_equal(decision == 255, seen == 0)
    # Whatever pre shows where post has nothing makes no difference, not even beside it.
    with rasterio.open(pre) as source:
        before = source.read().transpose(1, 2, 0)
    before[:, 250:] = 255 - before[:, 250:]
    other = write(tmp_path / "other.tif", before)
    scene_map.make(mapper, [str(other)], [str(masked)], tmp_path / "two", QUIET)
    np.testing.assert_array_equal(
        read(tmp_path / "one" / rasters.PROBABILITY), read(tmp_path / "two" / rasters.PROBABILITY)
    )


def test_area_of_interest(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 400, 400)
    west, north = ORIGIN
    box = shapely.box(west + 25, north - 150, west + 75, north - 100)  # rows 200..299, columns 50..149
    gpd.GeoSeries([box], crs="EPSG:32637").to_crs(4326).to_file(tmp_path / "aoi.geojson")
    settings = dataclasses.replace(QUIET, aoi=tmp_path / "aoi.geojson")
    map_summary = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", settings)
    scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "all", QUIET)
    inside, everything = (read(tmp_path / name / rasters.PROBABILITY) for name in ("out", "all"))
    rows, columns = np.nonzero(inside != 255)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (200, 299, 50, 149)
    np.testing.assert_array_equal(inside[200:300, 50:150], everything[200:300, 50:150])
    assert map_summary.blocks_computed < map_summary.blocks


def test_other_grids_and_shifts_are_brought_to_that_of_pre(tmp_path, mapper):
    image = ground(3, 600, 600)
    pre = write(tmp_path / "pre.tif", image)
    same = write(tmp_path / "same.tif", image)
    # The same ground, but the file says that it lies 6 rows further up and 4 columns further left.
    moved = write(tmp_path / "moved.tif", image, at(-6, -4))
    settings = dataclasses.replace(QUIET, register=True)
    map_summary = scene_map.make(mapper, [str(pre)], [str(moved)], tmp_path / "registered", settings)
    (shift,) = map_summary.registration
    assert (shift.rows, shift.columns) == (pytest.approx(-6, abs=0.3), pytest.approx(-4, abs=0.3))
    scene_map.make(mapper, [str(pre)], [str(same)], tmp_path / "same", QUIET)
    expected = read(tmp_path / "same" / rasters.PROBABILITY).astype(int)
    found = read(tmp_path / "registered" / rasters.PROBABILITY).astype(int)
    inner = slice(40, -40), slice(40, -40)
    assert np.median(np.abs(found - expected)[inner]) <= 5
    # Another reference system.
    with rasterio.open(same) as source, rasterio.vrt.WarpedVRT(source, crs="EPSG:4326") as warped:
        profile = {"transform": warped.transform, "crs": "EPSG:4326", "nodata": 0}
        degrees = write(tmp_path / "degrees.tif", warped.read((1, 2, 3)).transpose(1, 2, 0), **profile)
    scene_map.make(mapper, [str(pre)], [str(degrees)], tmp_path / "warped", QUIET)
    found = read(tmp_path / "warped" / rasters.PROBABILITY).astype(int)
    assert (found[inner] != 255).all()
    assert np.median(np.abs(found - expected)[inner]) <= 5


def test_several_scenes_are_one_map_and_one_more_computes_what_is_new(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 400, 600)
    with rasterio.open(pre) as pre_scene, rasterio.open(post) as post_scene:
        images = [source.read().transpose(1, 2, 0) for source in (pre_scene, post_scene)]
    parts = {
        (when, side): write(tmp_path / f"{when}_{side}.tif", image[:, columns], at(0, columns.start))
        for when, image in zip(("pre", "post"), images, strict=True)
        for side, columns in (("west", slice(0, 300)), ("east", slice(300, 600)))
    }
    before = [str(parts["pre", side]) for side in ("east", "west")]
    west = [str(parts["post", "west"])]
    first = scene_map.make(mapper, before, west, tmp_path / "out", QUIET)
    again = scene_map.make(mapper, before, west, tmp_path / "out", QUIET)
    assert first.blocks_computed > 0 and again.blocks_computed == 0
    assert (read(tmp_path / "out" / rasters.DECISION)[:, 300:] == 255).all()
    both = scene_map.make(mapper, before, [*west, str(parts["post", "east"])], tmp_path / "out", QUIET)
    assert 0 < both.blocks_computed < both.blocks
    scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "whole", QUIET)
    for name in (rasters.PROBABILITY, rasters.DECISION):
        np.testing.assert_array_equal(read(tmp_path / "out" / name), read(tmp_path / "whole" / name))
    assert len(list((tmp_path / "out" / ".blocks").iterdir())) == both.blocks


def test_another_threshold_costs_no_network(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 300, 300)
    scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", QUIET)
    before = read(tmp_path / "out" / rasters.DECISION).sum()
    settings = dataclasses.replace(QUIET, threshold=0.6)
    map_summary = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", settings)
    assert map_summary.blocks_computed == 0 and read(tmp_path / "out" / rasters.DECISION).sum() < before


@pytest.mark.slow
def test_what_lies_beside_a_scene_belongs_to_it(tmp_path, mapper):
    """A mask or a place that the file itself doesn't hold: with another one the map is another."""
    pre, _ = write_scenes(tmp_path, 300, 300)
    image = ground(2, 300, 300)
    post = write(tmp_path / "beside.tif", image, profile="BASELINE", tfw="YES")
    first = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", QUIET)
    again = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", QUIET)
    assert first.blocks_computed > 0 == again.blocks_computed
    statistics = tmp_path / "beside.tif.aux.xml"  # where QGIS leaves statistics
    statistics.write_text(statistics.read_text().replace("</PAM", "<Metadata><MDI key='mean'>1</MDI></Metadata></PAM"))
    again = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", QUIET)
    assert again.blocks_computed == 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(post, "r+") as source:
        seen = np.full((300, 300), 255, np.uint8)
        seen[:, 200:] = 0
        source.write_mask(seen)
    masked = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", QUIET)
    assert (tmp_path / "beside.tif.msk").exists() and masked.blocks_computed > 0
    np.testing.assert_array_equal(read(tmp_path / "out" / rasters.DECISION) == 255, seen == 0)
    lines = (tmp_path / "beside.tfw").read_text().splitlines()
    (tmp_path / "beside.tfw").write_text("\n".join([*lines[:4], str(float(lines[4]) + 50 * GSD), lines[5]]))
    moved = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", QUIET)
    assert moved.blocks_computed > 0
    assert (read(tmp_path / "out" / rasters.DECISION)[:, :50] == 255).all()


@pytest.mark.slow
def test_another_file_of_the_same_name_and_another_network_make_another_map(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 200, 200)
    first = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", QUIET)
    write(post, ground(7, 200, 200))
    other = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", QUIET)
    network, params, stats = lively(mapper.config)
    params = jax.tree.map(lambda leaf: leaf * 1.01, params)
    run = write_run(tmp_path / "run", mapper.config, params=params)
    third = scene_map.make(scene_map.load(run, QUIET), [str(pre)], [str(post)], tmp_path / "out", QUIET)
    fourth = scene_map.make(
        scene_map.load(run, dataclasses.replace(QUIET, average=True)), [str(pre)], [str(post)], tmp_path / "out",
        dataclasses.replace(QUIET, average=True),
    )  # fmt: skip
    for map_summary in (first, other, third, fourth):
        assert map_summary.blocks_computed == map_summary.blocks > 0


def test_a_block_cut_short_by_a_power_cut_is_computed_again(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 300, 300)
    map_summary = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", QUIET)
    before = (tmp_path / "out" / rasters.PROBABILITY).read_bytes()
    files = sorted((tmp_path / "out" / ".blocks").glob("*.tif"))
    assert len(files) == map_summary.blocks
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-100])
    again = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", QUIET)
    assert again.blocks_computed == 2
    assert (tmp_path / "out" / rasters.PROBABILITY).read_bytes() == before


def test_a_map_made_anew_leaves_nothing_of_the_one_before(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 200, 200)
    west, north = ORIGIN
    house = gpd.GeoSeries([shapely.box(west + 20, north - 40, west + 40, north - 20)], crs="EPSG:32637")
    house.to_file(tmp_path / "houses.gpkg")
    out, settings = tmp_path / "out", dataclasses.replace(QUIET, footprints=tmp_path / "houses.gpkg")
    map_summary = scene_map.make(mapper, [str(pre)], [str(post)], out, settings)
    assert sum(map_summary.buildings.values()) == 1 and map_summary.vectors["footprints"].sha256
    assert {path.name for path in out.iterdir()} == {*scene_map.FILES, ".blocks", ".lock"}
    # What QGIS finds its styles in; that it takes them was tried by hand.
    looks = pyogrio.read_dataframe(out / "damage.gpkg", layer="layer_styles")
    assert list(looks.f_table_name) == ["damage", "cells"] and looks.useAsDefault.all()
    assert set(looks.f_geometry_column) == {pyogrio.read_info(out / "damage.gpkg", layer="damage")["geometry_name"]}
    drawn = {name: ElementTree.fromstring(text) for name, text in zip(looks.f_table_name, looks.styleQML, strict=True)}
    drawn |= {path.stem: ElementTree.parse(path).getroot() for path in out.glob("*.qml") if path.stem != "damage"}
    assert drawn["damage"].find(".//Option[@name='outline_style']").get("value") == "dash"
    categories = [each.get("value") for each in drawn["buildings"].iterfind(".//category")]
    assert sorted(categories) == sorted(map_summary.buildings) and drawn["buildings"].find("renderer-v2").get("attr")
    assert len(drawn["damage_probability"].findall(".//item")) == 5
    for name in ("damage.gpkg-wal", "damage.gpkg-shm", "damage.tif.aux.xml"):
        (out / name).write_bytes(b"of another program")
    scene_map.make(mapper, [str(pre)], [str(post)], out, QUIET)
    left = {path.name for path in out.iterdir()}
    assert left == {*scene_map.FILES, ".blocks", ".lock"} - {"buildings.gpkg", "buildings.qml"}


def test_a_map_of_hardly_any_damage_says_that_the_runs_threshold_may_be_too_high(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 150, 150)
    own = dataclasses.replace(QUIET, threshold=None)

    def noted(settings, threshold):
        strict = mapper._replace(trained=mapper.trained._replace(threshold=threshold))
        made = scene_map.make(strict, [str(pre)], [str(post)], tmp_path / "out", settings)
        return made.area.damaged_share, [note for note in made.notes if "the run's own threshold calls" in note]

    share, notes = noted(own, 1.0)
    assert share == 0 and len(notes) == 1 and "calls 0.00% of the seen ground damage" in notes[0]
    assert "docs/maps.md, Threshold" in notes[0]
    share, notes = noted(own, 0.5)
    assert share > 0.001 and not notes
    share, notes = noted(dataclasses.replace(QUIET, threshold=1.0), 0.5)
    assert share == 0 and not notes  # it was asked for


def test_what_there_is_to_say_of_scenes_is_said(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 200, 200)
    far = write(tmp_path / "far.tif", ground(1, 64, 64), at(100_000, 100_000))
    coarse = write(tmp_path / "coarse.tif", ground(1, 50, 50), at(gsd=4 * GSD))
    knowing = mapper._replace(metres=2.5 * GSD)
    map_summary = scene_map.make(knowing, [str(pre)], list(map(str, (post, far, coarse))), tmp_path / "out", QUIET)
    notes = "\n".join(map_summary.notes)
    assert f"{far}: overlaps no pre scene, left out" in notes
    assert re.search(r"coarse.tif: its pixels of 2(\.0\d)? m are coarser than the map's of 0.5\d* m", notes)
    assert re.search(r"pixels of 0.5\d* m, but the network was trained on pixels of 1.25 m: buildings look 2", notes)
    assert [source.location for source in map_summary.post] == [str(post), str(coarse)]
    with pytest.raises(SceneError, match=r"far.tif: lies far from .*pre.tif; make a map of each"):
        scene_map.make(mapper, [str(pre), str(far)], [str(post)], tmp_path / "far", QUIET)
    settings = dataclasses.replace(QUIET, gsd=1e9)
    with pytest.raises(SceneError, match="pre.tif: .*check --crs and --gsd|pixels would be"):
        scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "far", settings)


def test_an_area_of_interest_may_be_the_world(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 200, 200)
    gpd.GeoSeries([shapely.box(-180, -90, 180, 90)], crs=4326).to_file(tmp_path / "world.geojson")
    settings = dataclasses.replace(QUIET, aoi=tmp_path / "world.geojson")
    map_summary = scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", settings)
    assert map_summary.area.seen_km2 == pytest.approx(0.01, rel=1e-2)
    gpd.GeoSeries([shapely.box(-120, -45, -110, 45)], crs=4326).to_file(tmp_path / "america.geojson")
    settings = dataclasses.replace(QUIET, aoi=tmp_path / "america.geojson")
    with pytest.raises(SceneError, match="america.geojson: its polygons do not touch the map"):
        scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "other", settings)


def bare(folder):
    with unreferenced_allowed():
        return write(folder / "bare.tif", ground(1, 64, 64), crs=None)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda f: write(f / "far.tif", ground(1, 64, 64), at(5000, 5000)), SceneError, "the scenes share no ground"),
        (
            lambda f: write(f / "empty.tif", np.zeros((300, 300, 3), np.uint8), nodata=0),
            SceneError,
            "no pixel has data both before and after",
        ),
        (lambda f: write(f / "grey.tif", ground(1, 64, 64)[..., 0]), ImageError, "grey"),
        (bare, SceneError, "no reference system"),
        (lambda f: f / "nowhere.tif", ImageError, "no such file"),
    ],
)
def test_unusable_scenes_are_refused_and_leave_no_map(tmp_path, mapper, make, error, message):
    pre, _ = write_scenes(tmp_path, 300, 300)
    with pytest.raises(error, match=message):
        scene_map.make(mapper, [str(pre)], [str(make(tmp_path))], tmp_path / "out", QUIET)
    assert not (tmp_path / "out").exists() or not [p for p in (tmp_path / "out").iterdir() if p.name[0] != "."]


def test_folders_and_runs_that_do_not_fit_are_refused(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 64, 64)
    with pytest.raises(RunError, match="holds files but no map"):
        scene_map.make(mapper, [str(pre)], [str(post)], tmp_path, QUIET)
    encoder = write_run(tmp_path / "encoder", config("fc_siam_diff", "small"))
    text = (encoder / "config.json").read_text()
    (encoder / "config.json").write_text(text.replace('"segmentation"', '"contrastive"'))
    with pytest.raises(ConfigError, match="encoder: a network of task contrastive maps no damage"):
        scene_map.load(encoder, QUIET)
    with pytest.raises(ConfigError, match="--window: expected at least 56 pixels for the small network, got 48"):
        scene_map.load(mapper.run, MapSettings(window=48))


def test_unusable_footprints_are_told_before_anything_is_computed(tmp_path, mapper):
    pre, post = write_scenes(tmp_path, 300, 300)
    settings = dataclasses.replace(QUIET, footprints=tmp_path / "none.gpkg")
    with pytest.raises(LabelError, match="none.gpkg: no such file"):
        scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", settings)
    assert not (tmp_path / "out").exists()
