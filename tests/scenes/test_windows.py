"""Grids and tiles: every pixel in a tile, rounding is no rotation, ground stays ground."""

import math

import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.crs import CRS

from jaxcd.base.errors import SceneError
from jaxcd.scenes.windows import Grid, footprint_of, grid_of, offset_between, rotation, tile_windows
from tests.scenes.scene_files import GSD, at

UTM = CRS.from_epsg(32637)


def grid(height: int, width: int) -> Grid:
    return Grid(crs=UTM, transform=at(), height=height, width=width)


def footprint(of: Grid):
    return footprint_of(of.crs, of.transform, of.height, of.width)


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([32, 64, 100]), st.sampled_from(["pad", "shift"]))
def test_tiles_cover_every_pixel(height, width, tile, edges):
    counts = np.zeros((height, width), int)
    for number, window in enumerate(tile_windows(grid(height, width), tile, edges=edges)):
        assert window.index == number and (window.height, window.width) == (tile, tile)
        assert window.rows == min(tile, height - window.row) and window.columns == min(tile, width - window.column)
        counts[window.row : window.row + window.rows, window.column : window.column + window.columns] += 1
    assert counts.min() == 1
    if edges == "pad":
        assert counts.max() == 1
    elif min(height, width) >= tile:
        assert all(w.rows == tile and w.columns == tile for w in tile_windows(grid(height, width), tile, edges=edges))


def test_the_papers_scene_has_289_tiles():
    assert sum(1 for _ in tile_windows(grid(17408, 17408), 1024, edges="pad")) == 289


def test_rounding_is_no_rotation():
    turkey = Affine(0.5000000001, -2.2e-10, 309111.75, 1.5e-9, -0.5000000030, 4139774.25)
    assert rotation(turkey, 2160, 3840) == 0
    made = grid_of(UTM, turkey, 2160, 3840)
    assert (made.transform.b, made.transform.d, made.transform.c) == (0, 0, 309111.75)
    turned = at() @ Affine.rotation(3)
    assert rotation(turned, 1000, 1000) == pytest.approx(-3)
    with pytest.raises(SceneError, match=r"rotated by -3\.0 degrees against north; give --crs or --gsd"):
        grid_of(UTM, turned, 1000, 1000)
    straight = grid_of(UTM, turned, 1000, 1000, gsd=GSD)
    assert footprint(straight).buffer(1e-6).contains(footprint_of(UTM, turned, 1000, 1000))


def test_another_reference_system_covers_the_same_ground():
    there = grid_of(UTM, at(), 400, 600, to="EPSG:4326")
    assert there.crs == CRS.from_epsg(4326)
    own = footprint(grid(400, 600))
    share = footprint(there).intersection(own).area / own.area
    assert share > 0.999 and there.metres == pytest.approx(0.5, rel=0.1)
    with pytest.raises(SceneError, match="--crs EPSG:0: not a reference system"):
        grid_of(UTM, at(), 10, 10, to="EPSG:0")


def test_coordinates_of_another_system_are_refused():
    with pytest.raises(SceneError, match="outside of the area of its reference system"):
        footprint_of(CRS.from_epsg(4326), at(), 100, 100)


def test_offsets_are_whole_pixels_or_none():
    assert offset_between(at(), (500, 500), Grid(crs=UTM, transform=at(7, -3), height=10, width=10)) == (7, -3)
    assert offset_between(at(), (500, 500), Grid(crs=UTM, transform=at(0.3, 0), height=10, width=10)) is None
    assert offset_between(at(), (500, 500), Grid(crs=UTM, transform=at(gsd=0.4), height=10, width=10)) is None
    # A thousandth more a pixel is a pixel at the far edge.
    assert offset_between(at(gsd=GSD * 1.001), (500, 500), grid(500, 500)) is None


def test_metres_of_a_pixel():
    assert grid(100, 100).metres == pytest.approx(GSD, rel=5e-3)
    degrees = Grid(crs=CRS.from_epsg(4326), transform=Affine(6e-6, 0, -94.5, 0, -6e-6, 37.07), height=9, width=9)
    # WGS 84's radii of curvature at this latitude give these metres a degree.
    assert degrees.sides == pytest.approx((6e-6 * 88_930, 6e-6 * 110_979), rel=1e-4)
    assert degrees.metres == pytest.approx(6e-6 * math.sqrt(88_930 * 110_979), rel=1e-4)
