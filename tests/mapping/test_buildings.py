import datetime
from decimal import Decimal
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from affine import Affine
from rasterio.crs import CRS

from jaxcd.base.errors import ConfigError, LabelError
from jaxcd.mapping.products import buildings, cells, layers, outlines, rasters
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.raster import write_geotiff
from jaxcd.scenes.windows import Grid
from tests.scenes.scene_files import ORIGIN, UTM, at

# A map of 100 x 100 m in pixels of half a metre: damaged in its west, not seen in its east.
DECISION = np.zeros((200, 200), np.uint8)
DECISION[:, :60], DECISION[:, 160:] = 1, 255
PROBABILITY = np.where(DECISION == 255, 255, np.where(DECISION == 1, 203, 51)).astype(np.uint8)
HOUSES = {  # metres east and south of the corner, and sides
    "whole": (5, 10, 10, 10),
    "half": (25, 10, 10, 10),
    "beside": (31, 40, 10, 10),  # one metre from the damage
    "intact": (50, 10, 10, 10),
    "unseen": (85, 10, 10, 10),
    "small": (10, 60, 4, 4),
}


@pytest.fixture
def out(tmp_path):
    crs = CRS.from_user_input(UTM)
    write_geotiff(tmp_path / rasters.DECISION, DECISION, transform=at(), crs=crs, nodata=255)
    write_geotiff(tmp_path / rasters.PROBABILITY, PROBABILITY, transform=at(), crs=crs, nodata=255)
    with rasterio.open(tmp_path / rasters.PROBABILITY, "r+") as target:
        target.scales = (1 / rasters.TOP,)
    return tmp_path, Grid(crs=crs, transform=at(), height=200, width=200)


def houses(path, crs=UTM, **columns):
    west, north = ORIGIN
    shapes = [shapely.box(west + x, north - y - h, west + x + w, north - y) for x, y, w, h in HOUSES.values()]
    frame = gpd.GeoDataFrame({"name": list(HOUSES), **columns}, geometry=shapes, crs=UTM).to_crs(crs)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_file(path)
    return path


def judged(out, path, **settings):
    folder, grid = out
    wanted = MapSettings(footprints=path, **settings)
    footprints = buildings.read(grid, wanted)
    return buildings.judge(footprints.frame, folder, grid, wanted).set_index("name")


def test_numbers_and_classes(out):
    frame = judged(out, houses(out[0] / "h.gpkg"), buffer=0)
    shares = {"whole": 1.0, "half": 0.5, "beside": 0.0, "intact": 0.0, "small": 1.0}
    for name, share in shares.items():
        assert frame.damaged_share[name] == pytest.approx(share, abs=2e-3), name
    assert frame.mean_probability["whole"] == pytest.approx(203 / 254, abs=1e-3)
    assert frame.mean_probability["half"] == pytest.approx((203 + 51) / 2 / 254, abs=1e-3)
    assert frame.seen_share["unseen"] == 0 and np.isnan(frame.damaged_share["unseen"])
    assert frame.area_m2["whole"] == pytest.approx(100, rel=2e-3)
    assert dict(frame.damage_class) == {
        "whole": "damaged", "half": "damaged", "beside": "intact", "intact": "intact", "unseen": "not seen",
        "small": "too small to judge",
    }  # fmt: skip
    assert buildings.counts(frame) == {
        "intact": 2, "possibly": 0, "damaged": 2, "not seen": 1, "too small to judge": 1
    }  # fmt: skip


def test_a_buffer_finds_damage_beside_the_footprint(out):
    frame = judged(out, houses(out[0] / "h.gpkg"), buffer=3)
    # Two of the three metres reach into the damage, along sixteen that the widened outline is long, less its corners.
    assert frame.damaged_share["beside"] == pytest.approx(0.29, abs=0.03)
    assert frame.damaged_share["whole"] == 1


@pytest.mark.parametrize(("file", "crs"), [("h.geojson", "EPSG:4326"), ("h.parquet", "EPSG:3857"), ("h.gpkg", UTM)])
def test_any_format_and_reference_system(out, file, crs):
    frame = judged(out, houses(out[0] / file, crs), buffer=0)
    assert frame.damaged_share["half"] == pytest.approx(0.5, abs=0.02)
    assert frame.crs.to_epsg() == 32637


def agreed(out, path, **truth):
    folder, grid = out
    wanted = MapSettings(footprints=path, buffer=0, **truth)
    found = buildings.read(grid, wanted)
    assert found.truth is not None
    return buildings.agreement(buildings.judge(found.frame, folder, grid, wanted), found.truth)


@pytest.mark.parametrize("attribute", ["grade", "damage_class"])
def test_agreement_with_true_classes(out, attribute):
    grades = ["D5", "D1", "D5", "D1", "D5", None]
    path = houses(out[0] / "h.gpkg", **{attribute: grades})
    truth: Any = {"label_attribute": attribute, "label_values": ("D5", "D4")}
    scores = agreed(out, path, **truth)
    assert scores["confusion"]["damaged"] == {
        "intact": 1, "possibly": 0, "damaged": 1, "not seen": 1, "too small to judge": 0
    }  # fmt: skip
    assert scores["confusion"]["intact"] == {
        "intact": 1, "possibly": 0, "damaged": 1, "not seen": 0, "too small to judge": 0
    }  # fmt: skip
    assert scores["damaged"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    unknown = agreed(out, path, label_unknown=("D1",), **truth)
    assert unknown["confusion"]["damaged"] == scores["confusion"]["damaged"]
    assert sum(unknown["confusion"]["intact"].values()) == 0
    with pytest.raises(LabelError, match="no attribute 'level'; it has name"):
        judged(out, path, label_attribute="level", label_values=("x",))
    with pytest.raises(LabelError, match=f"no polygon's '{attribute}' is one of D6; its values are D1, D5"):
        judged(out, path, label_attribute=attribute, label_values=("D6",))


def test_truth_of_one_of_two_attributes_that_differ_by_case(out):
    path = houses(out[0] / "h.parquet", Damage=[0] * 6, damage=[1, 0, 1, 0, 1, 0])
    scores = agreed(out, path, label_attribute="damage", label_values=("1",))
    assert sum(scores["confusion"]["damaged"].values()) == 3


def test_scores_that_nothing_tells_are_not_told(out):
    path = houses(out[0] / "h.gpkg", grade=[None, None, None, "D1", "D5", None])
    scores = agreed(out, path, label_attribute="grade", label_values=("D5",))
    assert scores["damaged"] == {"precision": None, "recall": None, "f1": None}


def test_damage_in_a_neighbours_footprint_is_the_neighbours(out):
    """Of two terraced houses that share a wall, one is a ruin."""
    folder, grid = out
    west, north = ORIGIN
    ruin, other = (shapely.box(west + x, north - 70, west + x + 10, north - 50) for x in (20, 30))
    frame = gpd.GeoDataFrame({"name": ["ruin", "intact"]}, geometry=[ruin, other], crs=UTM)
    frame.to_file(folder / "h.gpkg")
    shares = judged(out, folder / "h.gpkg", buffer=2).damaged_share
    # Above and below the ruin two metres of the ring are damage that lies in no footprint.
    assert shares["ruin"] == 1 and shares["intact"] == pytest.approx(2 * 2 * 2 / 200, abs=0.01)


def test_attributes_that_a_geopackage_cannot_hold(out):
    many = len(HOUSES)
    path = houses(
        out[0] / "h.parquet",
        fid=["a"] * many,
        Name=["B"] * many,
        area_m2=[1.0] * many,
        names=[{"primary": "x"}] * many,
        sources=[[{"dataset": "OSM"}]] * many,
        built=[datetime.date(2020, 1, 2)] * many,
        price=[Decimal("1.5")] * many,
        span=[np.timedelta64(90, "s")] * many,
        code=np.full(many, 2**63 + 1, np.uint64),
        floors=pd.array([1, None] * (many // 2), dtype="Int64"),
        half=np.full(many, 0.5, np.float16),
    )
    frame = judged(out, path)
    layers.write_layers(out[0] / "b.gpkg", {"buildings": frame.reset_index()})
    again = gpd.read_file(out[0] / "b.gpkg")
    assert {"source_fid", "source_Name", "source_area_m2", "names"} <= set(again.columns)
    assert list(again.source_area_m2) == [1.0] * many and again.area_m2[0] == pytest.approx(100, rel=2e-3)
    assert again.names[0] == '{"primary": "x"}' and again.sources[0] == '[{"dataset": "OSM"}]'
    assert (again.built[0], again.price[0], again.span[0]) == ("2020-01-02", "1.5", "0 days 00:01:30")
    assert again.code[0] == str(2**63 + 1) and again.half[0] == 0.5
    assert again.floors[0] == 1 and np.isnan(again.floors[1])


def test_cells_count_ground_and_buildings(out):
    folder, grid = out
    frame = judged(out, houses(folder / "h.gpkg"), buffer=0)
    found = cells.count(folder, grid, frame, side=50)
    assert list(found.seen_m2) == pytest.approx([2500, 1500, 2500, 1500], rel=2e-3)
    assert list(found.damaged_m2) == pytest.approx([1500, 0, 1500, 0], rel=2e-3)
    assert list(found.damaged_share) == [0.6, 0, 0.6, 0]
    assert list(found.buildings_damaged) == [2, 0, 0, 0]
    assert list(found.buildings_not_seen) == [0, 1, 0, 0]
    west, north = ORIGIN
    assert found.total_bounds == pytest.approx([west, north - 100, west + 100, north])
    beside = frame.set_geometry(frame.geometry.translate(xoff=-1000, yoff=1000))  # off the map: counted at its corner
    assert cells.count(folder, grid, beside, side=50).buildings_damaged.tolist() == [2, 0, 0, 0]
    # One that nobody saw, in a cell that nobody saw: it counts, and has no share to tell.
    small = cells.count(folder, grid, frame, side=20)
    assert small.buildings_not_seen.sum() == 1 and small.loc[small.buildings_not_seen == 1, "seen_m2"].tolist() == [0]
    assert len(cells.count(folder, grid, None, side=20)) == len(small) - 1
    assert sum(small[f"buildings_{name.replace(' ', '_')}"].sum() for name in buildings.CLASSES) == len(HOUSES)


def test_cells_are_square_on_the_ground_and_not_too_many(out):
    place = Affine(5e-6, 0, 10, 0, -5e-6, 60)
    grid = Grid(crs=CRS.from_epsg(4326), transform=place, height=40_000, width=40_000)
    rows, columns = cells.shape_of(grid, 100)
    # At 59.9 degrees of latitude WGS 84 has 111,410 and 55,970 metres a degree.
    assert (rows, columns) == pytest.approx((100 / (5e-6 * 111_410), 100 / (5e-6 * 55_970)), abs=1)
    with pytest.raises(ConfigError, match="--cell 2: the map would have .* cells, but at most 200,000"):
        cells.shape_of(grid, 2)


def test_polygons_keep_holes_and_drop_specks(out):
    folder, grid = out
    decision = np.zeros((200, 200), np.uint8)
    decision[20:60, 20:60], decision[30:50, 30:50], decision[100:103, 100:103] = 1, 0, 1
    write_geotiff(folder / rasters.DECISION, decision, transform=at(), crs=grid.crs, nodata=255)
    every = outlines.damage_polygons(folder, grid, min_area=0, simplify=0)
    assert [round(area) for area in every.area_m2] == [300, 2]
    assert len(every.geometry[0].interiors) == 1
    (large,) = outlines.damage_polygons(folder, grid, min_area=10, simplify=1).itertuples()
    assert large.area_m2 == pytest.approx(300, rel=2e-3) and large.id == 1
    # Of the pixels, not of the simpler outline.
    assert large.mean_probability == large.max_probability == pytest.approx(203 / 254, abs=1e-4)


def test_patches_are_whole_where_strips_meet_and_specks_are_dropped(tmp_path):
    decision = np.zeros((2200, 64), np.uint8)
    decision[1022:1026, 10:17] = 1  # four rows of seven: in each strip of 1024 half of them, too few
    decision[1500:1502, 10:15] = 1  # ten
    decision[2040:2060, 40:60], decision[2045:2050, 45:50] = 1, 0  # across the next line, with a hole
    decision[np.arange(100, 1000, 3), 30] = 1
    crs = CRS.from_user_input(UTM)
    for name, values in ((rasters.DECISION, decision), (rasters.PROBABILITY, decision * 200)):
        write_geotiff(tmp_path / name, values, transform=at(), crs=crs, nodata=255)
    grid = Grid(crs=crs, transform=at(), height=2200, width=64)
    found = outlines.damage_polygons(tmp_path, grid, min_area=5, simplify=0)
    assert [round(area, 1) for area in found.area_m2] == pytest.approx([375 / 4, 28 / 4], rel=2e-2)
    assert [len(shape.interiors) for shape in found.geometry] == [1, 0]
    assert shapely.get_num_coordinates(found.geometry[1]) == 5
    every = outlines.damage_polygons(tmp_path, grid, min_area=0, simplify=0)
    assert len(every) == 3 + 300 and every.is_valid.all()


def test_pixels_without_data_take_no_part_under_any_of_many_polygons(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 255, (600, 600)).astype(np.uint8)
    values[:, 200:] = np.where(rng.random((600, 400)) < 0.5, values[:, 200:], rasters.EMPTY)
    values[:, 400:] = rasters.EMPTY
    crs = CRS.from_user_input(UTM)
    write_geotiff(tmp_path / rasters.PROBABILITY, values, transform=at(), crs=crs, nodata=rasters.EMPTY)
    with rasterio.open(tmp_path / rasters.PROBABILITY, "r+") as target:
        target.scales = (1 / rasters.TOP,)
    tops, lefts = (10 * part.ravel() for part in np.meshgrid(np.arange(60), np.arange(60), indexing="ij"))
    boxes = [
        shapely.box(*(at() @ (left, top + 10)), *(at() @ (left + 10, top)))
        for top, left in zip(tops, lefts, strict=True)
    ]
    frame = gpd.GeoDataFrame(geometry=boxes, crs=UTM)
    found = outlines.statistics_under_polygons(tmp_path / rasters.PROBABILITY, frame, ["mean", "max", "count"])
    pieces = values.reshape(60, 10, 60, 10).transpose(0, 2, 1, 3).reshape(3600, 100)
    masked = np.ma.masked_equal(pieces, rasters.EMPTY) / rasters.TOP
    np.testing.assert_allclose(found["count"], masked.count(axis=1), atol=1e-6)
    np.testing.assert_allclose(found["mean"], masked.mean(axis=1).filled(np.nan), atol=1e-6)
    np.testing.assert_allclose(found["max"], masked.max(axis=1).filled(np.nan), atol=1e-6)
