"""Rasters of levels of known probabilities, and the buildings and outlines that are made of them."""

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.shutil
import shapely
from rasterio.crs import CRS
from rasterio.features import rasterize
from rio_cogeo.cogeo import cog_validate

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import COPERNICUS, XBD
from jaxcd.learn.ordinal import predicted_level
from jaxcd.mapping.predict import blocks
from jaxcd.mapping.predict.network import STEPS
from jaxcd.mapping.predict.tiling import Span
from jaxcd.mapping.products import buildings, cells, layers, levels, outlines, rasters, styles
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.raster import write_geotiff
from jaxcd.scenes.windows import Grid
from tests.scenes.scene_files import ORIGIN, UTM, at

COLUMNS = ["p_intact", "p_minor", "p_major", "p_destroyed"]


def place(height: int, width: int) -> Grid:
    return Grid(crs=CRS.from_user_input(UTM), transform=at(), height=height, width=width)


def in_16_bits(probability: np.ndarray) -> np.ndarray:
    return np.rint(np.asarray(probability) * STEPS).astype(np.uint16)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read(1)


def made_blocks(folder: Path, values: np.ndarray, middle: int) -> list[blocks.Block]:
    """Write K bands as two blocks side by side."""
    count, height, width = values.shape
    found = []
    for number, (first, last) in enumerate(((0, middle), (middle, width))):
        block = blocks.Block(Span(0, 0, height), Span(first, first, last), folder / f"{number} & more.tif", count)
        part = values[:, :, first:last].transpose(1, 2, 0)
        write_geotiff(block.file, part, transform=at(0, first), crs=CRS.from_user_input(UTM))
        found.append(block)
    return found


def grown(folder: Path, values: np.ndarray, rule: rasters.Rule, middle: int) -> tuple[rasters.Grown, str]:
    """Make the rasters of a map of known probabilities; returns its virtual raster, too."""
    (folder / "blocks").mkdir()
    grid, planned = place(*values.shape[1:]), made_blocks(folder / "blocks", values, middle)
    written = blocks.Written(planned)
    for block in planned:
        written.add(block)
    with rasters.growing(planned, written, grid, folder, rule=rule) as growth:
        growth.result()
    return rasters.finish(folder, growth), blocks.as_raster(planned, grid)


def test_rasters_of_known_probabilities_are_exact(tmp_path):
    """Columns: ground, intact, minor, major, destroyed, a probability of exactly a half, a tie of two levels."""
    columns = [
        (0.49, 0.49, 0.49, 0.49),
        (0.9, 0.3, 0.2, 0.1),
        (0.9, 0.6, 0.2, 0.1),
        (0.9, 0.6, 0.5, 0.1),
        (0.9, 0.9, 0.9, 0.5),
        (0.5, 0.0, 0.0, 0.0),
        (0.8, 0.4, 0.4, 0.0),
    ]
    values = np.repeat(in_16_bits(np.array(columns)).T[:, None], 600, axis=1)
    values[:, 590:] = blocks.NO_DATA
    found, virtual = grown(tmp_path, values, rasters.Rule(XBD, 3, 0.45), middle=3)
    expected = np.tile(np.array([0, 1, 2, 3, 4, 1, 3], np.uint8), (600, 1))
    expected[590:] = rasters.EMPTY
    np.testing.assert_array_equal(read(tmp_path / rasters.CODES), expected)
    decision = np.where(expected == 255, 255, np.array([1, 0, 0, 1, 1, 0, 0], np.uint8))  # P(>= 3) from 0.45 on
    np.testing.assert_array_equal(read(tmp_path / rasters.DECISION), decision)
    probability = np.rint(254 * np.array(columns)[:, 2])
    np.testing.assert_array_equal(read(tmp_path / rasters.PROBABILITY)[0], probability)
    assert found.seen == 590 * 7 and found.damaged == 3 * 590
    assert found.by_level == (2 * 590, 590, 2 * 590, 590)
    with rasterio.open(virtual) as source:
        np.testing.assert_array_equal(source.read(), values)
        assert source.transform == at() and source.nodata == blocks.NO_DATA and source.scales[3] == 1 / STEPS


def test_the_raster_of_levels_has_colours_names_and_a_style(tmp_path):
    values = np.tile(in_16_bits([[[0.9]], [[0.6]], [[0.5]], [[0.1]]]), (1, 700, 700))
    grown(tmp_path, values, rasters.Rule(COPERNICUS, 3, 0.5), middle=300)
    styles.write(tmp_path, buildings=True, scale=COPERNICUS)
    path = tmp_path / rasters.CODES
    valid, errors, warnings = cog_validate(path)
    assert valid and not errors and not warnings
    with rasterio.open(path) as source:
        table = source.colormap(1)
        assert source.nodata == 255 and source.overviews(1)
    for code, colour in enumerate(COPERNICUS.colours, start=1):
        assert "#{:02x}{:02x}{:02x}".format(*table[code][:3]) == colour and table[code][3] == 255
    assert table[0] == (255, 255, 255, 255) and table[255][3] == 0
    rasterio.shutil.copy(path, tmp_path / "names.vrt", driver="VRT")  # as GDAL reads it
    names = [each.text for each in ElementTree.parse(tmp_path / "names.vrt").iterfind(".//Category")]
    assert names == ["ground", *COPERNICUS.levels]
    style = ElementTree.parse(tmp_path / "damage_levels.qml").getroot()
    entries = {e.get("label"): (e.get("value"), e.get("color")) for e in style.iterfind(".//paletteEntry")}
    assert entries["destroyed"] == ("4", COPERNICUS.colours[3]) and len(entries) == 5
    style = ElementTree.parse(tmp_path / "buildings.qml").getroot()
    assert [each.get("value") for each in style.iterfind(".//category")] == [
        *reversed(COPERNICUS.levels), "not seen", "too small to judge",
    ]  # fmt: skip


def test_codes_are_those_of_the_rule_of_evaluation():
    rng = np.random.default_rng(0)
    values = -np.sort(-rng.integers(0, STEPS + 1, (5, 400, 50)), axis=0).astype(np.uint16)
    values[0, ::3] = STEPS // 2 - np.arange(50) % 2  # beside and at a half
    values[1] = np.minimum(values[1], values[0])
    values[2, ::2] = values[0, ::2] // 2 + np.arange(50) % 2  # ties, and beside them
    expected = predicted_level(jnp.asarray(values.transpose(1, 2, 0)[None] / np.float32(STEPS)))[0]
    np.testing.assert_array_equal(rasters.codes_of(values), expected)
    assert len(np.unique(expected)) == 6


# A map of 40 x 40 m in pixels of half a metre: stripes of ten metres of the codes 1, 2, 4 and ground.
STRIPES = {1: (0.9, 0.2, 0.1, 0.0), 2: (0.8, 0.6, 0.2, 0.0), 4: (1.0, 0.9, 0.8, 0.7), 0: (0.1, 0.09, 0.08, 0.01)}
HOUSES = {  # metres east and south of the corner, and sides
    "minor": (10, 2, 8, 5),
    "tie of intact and minor": (6, 10, 8, 5),
    "mostly destroyed": (18, 20, 6, 5),
    "destroyed beside ground": (27, 20, 6, 5),
    "mostly ground": (28, 30, 8, 5),
    "unseen": (0, 36, 8, 4),
    "small": (12, 20, 2, 2),
}


@pytest.fixture
def striped(tmp_path):
    values = np.concatenate(
        [np.tile(in_16_bits(np.array(stripe))[:, None, None], (1, 80, 20)) for stripe in STRIPES.values()], axis=2
    )
    values[:, 70:, :30] = blocks.NO_DATA
    _, virtual = grown(tmp_path, values, rasters.Rule(XBD, 3, 0.5), middle=33)
    west, north = ORIGIN
    shapes = [shapely.box(west + x, north - y - h, west + x + w, north - y) for x, y, w, h in HOUSES.values()]
    frame = gpd.GeoDataFrame({"name": list(HOUSES)}, geometry=shapes, crs=UTM)
    grid = place(80, 80)
    judged = buildings.judge(frame, tmp_path, grid, MapSettings(buffer=0))
    return tmp_path, grid, levels.judge(judged, tmp_path, levels.Levels(XBD, virtual), source="footprints")


def test_buildings_have_levels(striped):
    folder, grid, frame = striped
    frame = frame.set_index("name")
    assert dict(frame.level) == {
        "minor": "minor",
        "tie of intact and minor": "minor",  # the worse one
        "mostly destroyed": "destroyed",
        "destroyed beside ground": "destroyed",  # half of its pixels are called a building
        "mostly ground": "destroyed",  # by the means: 0.7 of what is ever a building
        "unseen": "not seen",
        "small": "too small to judge",
    }
    assert list(frame.loc["minor", COLUMNS]) == pytest.approx([0.25, 0.5, 0.25, 0], abs=1e-3)
    assert frame.expected_level["minor"] == pytest.approx(1 + (0.6 + 0.2) / 0.8)
    # Means over both stripes: 0.85, 0.4, 0.15, 0, of which the first one is that of a building.
    assert list(frame.loc["tie of intact and minor", COLUMNS]) == pytest.approx(
        [0.45 / 0.85, 0.25 / 0.85, 0.15 / 0.85, 0], abs=1e-3
    )
    means = np.array([1.0, 0.9, 0.8, 0.7]) / 4 + 3 * np.array([0.1, 0.09, 0.08, 0.01]) / 4
    assert frame.expected_level["mostly ground"] == pytest.approx(np.sum(means) / means[0], abs=0.006)
    assert frame.loc["unseen", [*COLUMNS, "expected_level"]].isna().all()
    assert frame.loc["small", COLUMNS].notna().all() and (frame.source == "footprints").all()
    assert list(frame[COLUMNS].sum(axis=1).drop("unseen")) == pytest.approx([1.0] * 6, abs=3e-4)
    assert levels.counts(frame, XBD) == {
        "intact": 0, "minor": 2, "major": 0, "destroyed": 3, "not seen": 1, "too small to judge": 1,
    }  # fmt: skip
    counted = cells.count(folder, grid, frame, side=20, scale=XBD)
    assert list(counted.level_minor) == [2, 0, 0, 0] and list(counted.level_destroyed) == [0, 0, 0, 3]
    assert counted.level_intact.sum() == counted.level_major.sum() == 0
    assert "level_minor" not in cells.count(folder, grid, frame, side=20)


def test_outlines_of_levels_and_of_buildings(striped):
    folder, grid, _ = striped
    found = outlines.level_polygons(folder, grid, XBD, min_area=10, simplify=1)
    assert list(found.level) == ["destroyed", "minor"] and list(found.id) == [1, 2]
    assert found.area_m2[0] == pytest.approx(400, rel=2e-3)
    assert found.area_m2[1] == pytest.approx(400 - 5 * 5, rel=2e-3)
    assert len(outlines.level_polygons(folder, grid, XBD, min_area=390, simplify=1)) == 1
    (building,) = outlines.building_polygons(folder, grid, XBD, min_area=20, simplify=0).geometry
    assert building.area == pytest.approx(3 * 400 - 15 * 5, rel=2e-3)


def test_ground_without_a_building_makes_empty_layers(tmp_path):
    values = np.tile(in_16_bits([[[0.3]], [[0.1]], [[0.1]], [[0.0]]]), (1, 60, 60))
    _, virtual = grown(tmp_path, values, rasters.Rule(XBD, 3, 0.5), middle=20)
    found = layers.write(tmp_path, place(60, 60), None, MapSettings(), levels.Levels(XBD, virtual))
    assert found.buildings is not None and len(found.buildings) == len(found.polygons) == 0
    drawn = gpd.read_file(tmp_path / "damage.gpkg", layer="levels")
    assert len(drawn) == 0 and {"level", "area_m2"} <= set(drawn)
    assert {"source", "level", "expected_level", *COLUMNS} <= set(gpd.read_file(tmp_path / "buildings.gpkg"))
    assert len(found.cells) == 1 and found.cells.level_intact[0] == 0


def test_agreement_by_level(striped):
    folder, grid, frame = striped
    names = ["minor-damage", "no-damage", "destroyed", "major-damage", "un-classified", "destroyed", "no-damage"]
    frame.assign(damage=names, level="of the source")[["name", "damage", "level", "geometry"]].to_file(
        folder / "h.gpkg"
    )
    wanted = MapSettings(
        footprints=folder / "h.gpkg", label_attribute="damage", label_values=("major-damage", "destroyed")
    )
    footprints = buildings.read(grid, wanted, XBD)
    assert footprints.true_levels is not None and "source_level" in footprints.frame
    assert list(footprints.true_levels) == ["minor", "intact", "destroyed", "major", "destroyed", "intact"]
    nowhere = dataclasses.replace(wanted, label_values=("ruined",))
    assert not buildings.read(grid, nowhere, XBD).truth.any()
    with pytest.raises(LabelError, match="no polygon's 'damage' is one of ruined"):
        buildings.read(grid, nowhere)
    assert "'damage' has the values 'un-classified', which are no levels of the scale xbd" in footprints.notes[-1]
    told_apart = dataclasses.replace(wanted, label_unknown=("un-classified",))
    assert not any("un-classified" in note for note in buildings.read(grid, told_apart, XBD).notes)
    found = levels.agreement(frame, footprints.true_levels, XBD)
    table = found["confusion"]
    assert table["intact"] == {
        "intact": 0, "minor": 1, "major": 0, "destroyed": 0, "not seen": 0, "too small to judge": 1,
    }  # fmt: skip
    assert table["destroyed"]["not seen"] == table["destroyed"]["destroyed"] == table["major"]["destroyed"] == 1
    # Of true 2, 1, 4, 3 and predicted 2, 2, 4, 4: squares 0 + 1 + 0 + 1, by chance (mean over all 16 pairs) 9.5.
    chance = np.mean([(t - p) ** 2 for t in (2, 1, 4, 3) for p in (2, 2, 4, 4)])
    assert found["level_error"] == 0.5 and found["kappa"] == pytest.approx(1 - 0.5 / chance, abs=1e-4)
    assert buildings.read(grid, wanted).true_levels is None and "level" in buildings.read(grid, wanted).frame
    assert levels.agreement(frame, pd.Series([], dtype=object), XBD) == {}
    assert list(buildings.read(grid, wanted, COPERNICUS).true_levels) == ["destroyed", "destroyed"]


def test_an_outline_of_a_building_that_the_network_sees_has_right_angles(tmp_path):
    # An L of 350 square metres, turned by 27 degrees and drawn on pixels of half a metre.
    house = shapely.Polygon([(0, 0), (20, 0), (20, 10), (10, 10), (10, 25), (0, 25)])
    house = shapely.affinity.translate(shapely.affinity.rotate(house, 27), ORIGIN[0] + 30, ORIGIN[1] - 60)
    grid = place(160, 160)
    codes = rasterize([(house, 1)], out_shape=(160, 160), transform=grid.transform, dtype="uint8")
    write_geotiff(tmp_path / rasters.CODES, codes, transform=grid.transform, crs=grid.crs)
    (outline,) = outlines.building_polygons(tmp_path, grid, XBD, min_area=10, simplify=1).geometry
    assert shapely.intersection(outline, house).area / shapely.union(outline, house).area > 0.93
    corners = np.diff(np.array(outline.exterior.coords), axis=0)
    angles = np.degrees(np.arctan2(corners[:, 1], corners[:, 0]))
    # Multiples of 45 degrees from the first edge, which has the direction of the house within three degrees.
    assert np.abs((angles - angles[0] + 22.5) % 45 - 22.5).max() < 0.1 and len(corners) <= 8
    assert abs((angles[0] - 27 + 22.5) % 45 - 22.5) < 3
