from typing import Any

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.crs import CRS

from jaxcd.errors import LabelError
from jaxcd.mapping import buildings, layers, outlines, rasters
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
    footprints, _ = buildings.read(grid, wanted)
    return buildings.judge(footprints, folder, grid, wanted).set_index("name")


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


def test_agreement_with_true_classes(out):
    path = houses(out[0] / "h.gpkg", grade=["D5", "D1", "D5", "D1", "D5", None])
    truth: Any = {"label_attribute": "grade", "label_values": ("D5", "D4")}
    frame = judged(out, path, buffer=0, **truth)
    told = buildings.agreement(frame, MapSettings(footprints=path, **truth))
    assert told["confusion"]["damaged"] == {
        "intact": 1, "possibly": 0, "damaged": 1, "not seen": 1, "too small to judge": 0
    }  # fmt: skip
    assert told["confusion"]["intact"] == {
        "intact": 1, "possibly": 0, "damaged": 1, "not seen": 0, "too small to judge": 0
    }  # fmt: skip
    assert told["damaged"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5}
    unknown = buildings.agreement(frame, MapSettings(footprints=path, label_unknown=("D1",), **truth))
    assert unknown["confusion"]["damaged"] == told["confusion"]["damaged"]
    assert sum(unknown["confusion"]["intact"].values()) == 0
    with pytest.raises(LabelError, match="no attribute 'level'; it has name, grade"):
        judged(out, path, label_attribute="level", label_values=("x",))


def test_attributes_that_a_geopackage_cannot_hold(out):
    many = len(HOUSES)
    path = houses(
        out[0] / "h.parquet",
        fid=["a"] * many,
        Name=["B"] * many,
        area_m2=[1.0] * many,
        names=[{"primary": "x"}] * many,
    )
    frame = judged(out, path)
    layers.write_layers(out[0] / "b.gpkg", {"buildings": (frame.reset_index(), "")})
    again = gpd.read_file(out[0] / "b.gpkg", layer="buildings")
    assert {"source_fid", "source_Name", "source_area_m2", "names"} <= set(again.columns)
    assert list(again.source_area_m2) == [1.0] * many and again.area_m2[0] == pytest.approx(100, rel=2e-3)
    assert again.names[0] == '{"primary": "x"}'


def test_cells_count_ground_and_buildings(out):
    folder, grid = out
    cells = outlines.cells(folder, grid, side=50)
    frame = judged(out, houses(folder / "h.gpkg"), buffer=0)
    counted = buildings.counted_in(cells, frame)
    assert list(cells.seen_m2) == pytest.approx([2500, 1500, 2500, 1500], rel=2e-3)
    assert list(cells.damaged_m2) == pytest.approx([1500, 0, 1500, 0], rel=2e-3)
    assert list(counted.buildings_damaged) == [2, 0, 0, 0]
    assert counted.buildings_not_seen.sum() == 1


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
    assert large.max_probability == pytest.approx(203 / 254, abs=1e-3)
    assert 51 / 254 < large.mean_probability < 203 / 254


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
    found = outlines.under(tmp_path / rasters.PROBABILITY, frame, ["mean", "max", "count"])
    pieces = values.reshape(60, 10, 60, 10).transpose(0, 2, 1, 3).reshape(3600, 100)
    masked = np.ma.masked_equal(pieces, rasters.EMPTY) / rasters.TOP
    np.testing.assert_allclose(found["count"], masked.count(axis=1), atol=1e-6)
    np.testing.assert_allclose(found["mean"], masked.mean(axis=1).filled(np.nan), atol=1e-6)
    np.testing.assert_allclose(found["max"], masked.max(axis=1).filled(np.nan), atol=1e-6)
