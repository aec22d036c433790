"""Vector files as users have them: several layers, styles beside them, GeoParquet of all kinds, the date line."""

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet
import pyogrio
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS

from jaxcd.base.errors import LabelError
from jaxcd.scenes.polygons import around, damage_of, read_frame
from jaxcd.scenes.windows import Grid

UTM = Grid(crs=CRS.from_epsg(32637), transform=Affine(1, 0, 433_000, 0, -1, 4_180_000), height=500, width=500)
FIJI = Grid(crs=CRS.from_epsg(32760), transform=Affine(1, 0, 818_800, 0, -1, 8_150_000), height=2000, width=2000)


def boxes(crs=32637):
    """One on the grid, one far from it."""
    west, north = UTM.transform.c, UTM.transform.f
    shapes = [shapely.box(west + x, north - 60, west + x + 20, north - 40) for x in (100, 90_000)]
    return gpd.GeoDataFrame({"name": ["near", "far"]}, geometry=shapes, crs=32637).to_crs(crs)


def test_tables_beside_the_polygons_are_passed_over_and_two_layers_refused(tmp_path):
    path = tmp_path / "a.gpkg"
    boxes().to_file(path, layer="houses")
    pyogrio.write_dataframe(pd.DataFrame({"styleName": ["x"]}), path, layer="layer_styles")
    gpd.GeoDataFrame(geometry=[shapely.Point(0, 0)], crs=32637).to_file(path, layer="points")
    frame, notes = read_frame(path, over=UTM)
    assert list(frame.name) == ["near"] and notes == ()
    boxes().to_file(path, layer="more")
    with pytest.raises(LabelError, match="a.gpkg: holds the layers houses, more, expected one"):
        read_frame(path)


@pytest.mark.parametrize("bounds", [True, False])
@pytest.mark.parametrize("crs", [4326, 3857])
def test_geoparquet_whatever_its_name(tmp_path, bounds, crs):
    path = tmp_path / "a.geoparquet"
    boxes(crs).to_parquet(path, write_covering_bbox=bounds)
    frame, _ = read_frame(path, over=UTM)
    assert list(frame.name) == ["near"] and len(read_frame(path)[0]) == 2


def test_geoparquet_with_bounds_is_read_near_the_scenes_alone(tmp_path):
    """A row far away whose outline nobody could read is not looked at."""
    path = tmp_path / "a.parquet"
    boxes(4326).to_parquet(path, write_covering_bbox=True)
    table = pyarrow.parquet.read_table(path)
    place = table.column_names.index("geometry")
    outlines = [table["geometry"][0].as_py(), b"broken"]
    pyarrow.parquet.write_table(table.set_column(place, "geometry", [outlines]), path)
    assert list(read_frame(path, over=UTM)[0].name) == ["near"]
    with pytest.raises(LabelError, match="cannot be read as polygons"):
        read_frame(path)


@pytest.mark.parametrize(
    "metadata", [b'{"columns": null}', b'{"primary_column": "geometry", "columns": {"geometry": {}}}']
)
def test_metadata_as_no_standard_wants_them_end_in_an_error(tmp_path, metadata):
    path = tmp_path / "a.parquet"
    boxes(4326).to_parquet(path)
    table = pyarrow.parquet.read_table(path).replace_schema_metadata({b"geo": metadata})
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(LabelError, match=r"a\.parquet: cannot be read as polygons"):
        read_frame(path, over=UTM)


def test_files_that_say_too_little(tmp_path):
    with pytest.raises(LabelError, match="none.gpkg: no such file"):
        read_frame(tmp_path / "none.gpkg")
    boxes().to_file(tmp_path / "a.shp")
    (tmp_path / "a.prj").unlink()
    with pytest.raises(LabelError, match="a.shp: has no reference system"):
        read_frame(tmp_path / "a.shp", over=UTM)
    (tmp_path / "a.csv").write_text("name,height\nx,3\n")
    with pytest.raises(LabelError, match="a.csv: a table without geometries"):
        read_frame(tmp_path / "a.csv", over=UTM)


def test_polygons_with_heights_become_flat(tmp_path):
    frame = boxes()
    frame.set_geometry(shapely.force_3d(frame.geometry, 7.0)).to_file(tmp_path / "a.gpkg")
    assert not read_frame(tmp_path / "a.gpkg", over=UTM)[0].has_z.any()


@pytest.mark.parametrize("name", ["a.geojson", "a.parquet"])
def test_both_sides_of_the_date_line_are_read(tmp_path, name):
    west, south, east, north = FIJI.bounds_degrees
    assert west < 180 < east
    shapes = [shapely.box(x - 1e-4, -16.72, x + 1e-4, -16.7198) for x in (179.9990, -179.9990, 100.0)]
    assert south < -16.72 < north
    frame = gpd.GeoDataFrame({"name": ["west", "east", "away"]}, geometry=shapes, crs=4326)
    frame.to_parquet(tmp_path / name, write_covering_bbox=True) if name.endswith("parquet") else frame.to_file(
        tmp_path / name
    )
    assert sorted(read_frame(tmp_path / name, over=FIJI)[0].name) == ["east", "west"]


def test_long_edges_are_straight_in_their_own_reference_system():
    """A parallel is no straight line in UTM: an edge along one of a whole country is bent where it crosses the map."""
    north = shapely.box(20, 37.76, 60, 50)
    (cut,) = around(gpd.GeoDataFrame(geometry=[north], crs=4326), UTM).geometry
    middle = gpd.GeoSeries([shapely.Point(38.2402, 37.76)], crs=4326).to_crs(32637)[0]
    assert cut.exterior.distance(middle) < 0.05 and np.isfinite(cut.area)


def test_values_are_compared_as_a_user_would_write_them(tmp_path):
    """Labels of training and footprints of a map are read alike: "v1.0" is a text, 1.0 a whole number."""
    frame = boxes().iloc[[0] * 6].reset_index(drop=True)
    frame["version"] = ["v1.0", "v1", None, "2.0", "2", "?"]
    frame["level"] = [1.0, 2.0, np.nan, 4.0, 1.5, 3.0]
    file = tmp_path / "labels.gpkg"
    frame.to_file(file)
    read, _ = read_frame(file)
    found = damage_of(read, file, "version", ("v1.0", "2"), ("?",))
    assert found.tolist() == [True, False, pd.NA, False, True, pd.NA]
    assert damage_of(read, file, "level", ("1", "1.5"), ("3",)).tolist() == [True, False, pd.NA, False, True, pd.NA]
    with pytest.raises(LabelError, match="labels.gpkg: no attribute 'grade'; it has name, version, level"):
        damage_of(read, file, "grade", ("1",))
