import json
import math
import re

import pytest
from affine import Affine
from rasterio.crs import CRS

from jaxcd.base.types import METRES_PER_DEGREE
from jaxcd.scenes.raster import read_rgb, write_geotiff
from jaxcd.sources.geolocation import bounds_of_label, bounds_of_raster
from jaxcd.sources.labels import read_xbd
from tests.sources.tile_sources import picture, to_degrees, xbd_label


def label_of(tmp_path, content):
    path = tmp_path / "label.json"
    path.write_text(json.dumps(content))
    return read_xbd(path)


def test_one_building_places_its_tile_exactly(tmp_path):
    label = label_of(tmp_path, xbd_label([((10, 10, 20, 22), "destroyed")]))
    west, north = to_degrees(0, 0)
    east, south = to_degrees(64, 48)
    assert bounds_of_label(label, height=48, width=64) == pytest.approx((west, south, east, north), abs=1e-9)


@pytest.mark.parametrize("spoil", ["none", "contradiction", "flat", "absurd pixel"])
def test_vertices_that_do_not_tell_give_no_place(tmp_path, spoil):
    content = xbd_label([((10, 10, 20, 22), "destroyed"), ((40, 40, 50, 50), "destroyed")])
    degrees = content["features"]["lng_lat"]
    if spoil == "none":
        degrees.clear()
    elif spoil == "contradiction":
        degrees[0]["wkt"], degrees[1]["wkt"] = degrees[1]["wkt"], degrees[0]["wkt"]
        degrees[1]["wkt"] = degrees[1]["wkt"].replace("37.0", "37.1")
    elif spoil == "flat":
        for feature in (*degrees, *content["features"]["xy"]):
            feature["wkt"] = "POLYGON ((1 1, 2 2, 3 3, 1 1))"
    else:
        for feature in degrees:
            feature["wkt"] = re.sub(r"37\.0*(\d+)", r"37.\1", feature["wkt"])
    assert bounds_of_label(label_of(tmp_path, content), height=64, width=64) is None


def test_a_georeferenced_raster_tells_its_place(tmp_path):
    path = tmp_path / "a.tif"
    transform = Affine(0.5, 0, 326_000, 0, -0.5, 4_150_000)
    write_geotiff(path, picture(0), transform=transform, crs=CRS.from_epsg(32637))
    bounds = bounds_of_raster(read_rgb(path))
    assert bounds is not None
    west, south, east, north = bounds
    assert 36 < west < east < 38 and 37 < south < north < 38
    # 64 pixels of 0.5 m, in a zone whose axes lean by a degree here.
    width = (east - west) * METRES_PER_DEGREE * math.cos(math.radians(north))
    assert width == pytest.approx(32, rel=0.05)
    assert (north - south) * METRES_PER_DEGREE == pytest.approx(32, rel=0.05)
    write_geotiff(path, picture(0), transform=None, crs=None)
    assert bounds_of_raster(read_rgb(path)) is None


def test_real_tiles_that_adjoin_share_their_edge(shared_data):
    def bounds(number: int) -> tuple[float, float, float, float]:
        path = shared_data / "xbd_santa_rosa" / "labels" / f"santa-rosa-wildfire_{number:08}_post_disaster.json"
        placed = bounds_of_label(read_xbd(path), height=1024, width=1024)
        assert placed is not None
        return placed

    tile, above, right = bounds(198), bounds(144), bounds(202)
    # In degrees: 2e-5 is about two metres, of a tile of 461; one of the three tiles has three buildings only.
    assert tile[3] == pytest.approx(above[1], abs=2e-5) and tile[0] == pytest.approx(above[0], abs=2e-5)
    assert tile[2] == pytest.approx(right[0], abs=3e-5) and tile[1] == pytest.approx(right[1], abs=2e-5)
    assert (tile[3] - tile[1]) * METRES_PER_DEGREE == pytest.approx(1024 * 0.4505, rel=1e-3)


def test_a_real_tile_without_buildings_has_no_place(shared_data):
    path = shared_data / "xbd_santa_rosa" / "labels" / "santa-rosa-wildfire_00000087_post_disaster.json"
    assert bounds_of_label(read_xbd(path), height=1024, width=1024) is None
