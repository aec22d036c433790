"""Windows of scenes on a grid: the pixels themselves where grids agree, the same ground where they don't."""

import numpy as np
import pytest
from affine import Affine
from rasterio.crs import CRS
from rasterio.warp import Resampling, reproject

from jaxcd.base.errors import ImageError, SceneError
from jaxcd.scenes.quality import empty_border
from jaxcd.scenes.reader import SceneReader, read_band, read_mosaic
from jaxcd.scenes.windows import Grid, grid_of
from tests.scenes.scene_files import GSD, UTM, at, ground, write

IMAGE = ground(0, 200, 240)


def on(row: float = 0, column: float = 0, height: int = 64, width: int = 64, gsd: float = GSD) -> Grid:
    return Grid(crs=CRS.from_string(UTM), transform=at(row, column, gsd), height=height, width=width)


@pytest.fixture
def scene(tmp_path):
    return SceneReader(str(write(tmp_path / "scene.tif", IMAGE)))


def test_pixels_of_one_grid_are_read_as_they_are(scene):
    read = scene.read(on(30, 50))
    np.testing.assert_array_equal(read.pixels, IMAGE[30:94, 50:114])
    assert read.valid.all() and read.inside.all()


def test_beyond_the_edge_there_is_nothing(scene):
    read = scene.read(on(-10, 200))
    assert not read.valid[:10].any() and not read.valid[:, 40:].any() and read.valid[10:, :40].all()
    np.testing.assert_array_equal(read.pixels[10:, :40], IMAGE[:54, 200:])
    np.testing.assert_array_equal(read.inside, read.valid)
    far = scene.read(on(1000, 1000))
    assert not far.valid.any() and not far.inside.any() and not far.pixels.any()


def test_a_shift_of_a_fraction_of_a_pixel_is_interpolated(scene):
    """A linear ramp read half a pixel further right is half a step brighter."""
    ramp = np.repeat(np.arange(40, 240, dtype=np.uint8)[None, :, None], 50, axis=0).repeat(3, axis=2)
    reader = SceneReader(str(write(scene_path(scene), ramp)))
    read = reader.read(on(5, 10.5, 20, 100))
    np.testing.assert_allclose(read.pixels[:, :, 0], np.broadcast_to(50.5 + np.arange(100), (20, 100)), atol=0.51)


def scene_path(scene: SceneReader):
    from pathlib import Path

    return Path(scene.location).with_name("ramp.tif")


def test_another_reference_system_is_warped_to_the_grid(tmp_path):
    """What GDAL's own reprojection gives of the whole scene is what windows of it give."""
    degrees = grid_of(CRS.from_string(UTM), at(), 200, 240, to="EPSG:4326", gsd=5e-6)
    bands = np.zeros((3, degrees.height, degrees.width), np.uint8)
    reproject(
        IMAGE.transpose(2, 0, 1).copy(), bands, src_crs=UTM, src_transform=at(), dst_crs=degrees.crs,
        dst_transform=degrees.transform, resampling=Resampling.cubic,
    )  # fmt: skip
    reader = SceneReader(str(write(tmp_path / "d.tif", bands.transpose(1, 2, 0), degrees.transform, crs="EPSG:4326")))
    read = reader.read(on(60, 70))
    assert read.valid.all()
    # Warped there and back: the same ground to a tenth of a pixel's contrast.
    assert np.abs(read.pixels.astype(int) - IMAGE[60:124, 70:134]).mean() < 6
    moved = np.abs(read.pixels.astype(int) - IMAGE[61:125, 70:134]).mean()
    assert moved > 2 * np.abs(read.pixels.astype(int) - IMAGE[60:124, 70:134]).mean()


def test_finer_pixels_are_averaged(tmp_path):
    fine = IMAGE.repeat(2, axis=0).repeat(2, axis=1)
    reader = SceneReader(str(write(tmp_path / "fine.tif", fine, at(gsd=GSD / 2))))
    read = reader.read(on(40, 40))
    assert np.abs(read.pixels.astype(int) - IMAGE[40:104, 40:104]).mean() < 6 and read.valid.all()


def test_a_turned_scene_is_warped(tmp_path):
    turned = at(0, 120) @ Affine.rotation(-20)
    reader = SceneReader(str(write(tmp_path / "turned.tif", IMAGE, turned)))
    read = reader.read(on(-150, -100, 600, 700))
    assert 0.97 < read.valid.sum() / IMAGE[..., 0].size < 1.03
    column, row = ~turned @ (at() @ (150.5, 60.5))
    assert np.abs(read.pixels[210, 250].astype(int) - IMAGE[int(row), int(column)]).max() < 40


HOLE = np.full((200, 240), 255, np.uint8)
HOLE[50:100, 60:120] = 0


@pytest.mark.parametrize("kind", ["mask", "nodata", "alpha"])
@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_what_a_file_declares_empty_is_not_valid(tmp_path, kind, fraction):
    emptied = np.where(HOLE[..., None] > 0, IMAGE, 0).astype(np.uint8)
    emptied[150, 150] = (0, 90, 90)  # a zero in one band is a colour
    path = tmp_path / "scene.tif"
    if kind == "mask":
        write(path, emptied, mask=HOLE)
    elif kind == "nodata":
        write(path, emptied, nodata=0)
    else:
        write(path, np.dstack([emptied, HOLE]), photometric="RGB", alpha="yes")
    read = SceneReader(str(path)).read(on(fraction, fraction, 200, 240))
    expected = (HOLE > 0)[:199, :239]
    difference = read.valid[:199, :239] != expected
    assert difference.sum() <= 220 * (fraction > 0)  # of a moved grid, a rim
    assert not read.pixels[~read.valid].any() and read.inside[:199, :239].all()
    assert read.valid[150, 150]


def test_borders_that_nobody_declared_are_found(tmp_path):
    """Joplin's files have black rims; a lake of the same size is none, though the edge of a window cuts it."""
    black = IMAGE.copy()
    black[:40] = 1
    black[100:140, 100:140] = 1
    reader = SceneReader(str(write(tmp_path / "scene.tif", black)))
    read = reader.read(on(0, 0, 200, 240))
    assert not read.valid[:40].any() and read.valid[44:].all()
    assert read.inside.all()
    assert reader.read(on(110, 110)).valid.all()
    moved = reader.read(on(0.4, 0.4, 200, 240))
    assert not moved.valid[:39].any() and moved.valid[45:199, :239].all()
    spots = IMAGE.copy()
    spots[:3, :3] = 0
    assert empty_border(spots.transpose(2, 0, 1)) is None


def test_where_scenes_overlap_the_first_counts(tmp_path):
    other = ground(1, 200, 240)
    paths = [str(write(tmp_path / "a.tif", IMAGE)), str(write(tmp_path / "b.tif", other, at(0, 200)))]
    read = read_mosaic(paths, on(0, 100, 100, 300))
    np.testing.assert_array_equal(read.pixels[:, :140], IMAGE[:100, 100:])
    np.testing.assert_array_equal(read.pixels[:, 140:], other[:100, 40:200])
    assert read.valid.all() and read.inside.all()


def test_percentiles_are_those_of_the_scene_in_every_window(tmp_path):
    deep = IMAGE.astype(np.uint16) * 16
    path = str(write(tmp_path / "deep.tif", deep))
    with pytest.raises(ImageError, match="pixels are uint16.*--scaling"):
        SceneReader(path)
    low, high = np.percentile(deep, (2, 98))
    expected = np.rint(np.clip((deep - low) / (high - low), 0, 1) * 255)
    reader = SceneReader(path, scaling=("percentiles", 2, 98))
    for row, column in ((0, 0), (100, 120)):
        read = reader.read(on(row, column))
        np.testing.assert_allclose(read.pixels, expected[row : row + 64, column : column + 64], atol=1)
    ranged = SceneReader(path, scaling=("range", 0, 4080)).read(on(0, 0))
    np.testing.assert_allclose(ranged.pixels, IMAGE[:64, :64], atol=1)


def test_masks_keep_their_values(tmp_path):
    mask = np.zeros((200, 240), np.uint8)
    mask[20:40, 30:60] = 255
    path = str(write(tmp_path / "mask.tif", mask))
    values, valid = read_band(path, on(10, 20))
    np.testing.assert_array_equal(values, mask[10:74, 20:84])
    assert valid.all() and set(np.unique(values)) == {0, 255}
    values, valid = read_band(path, on(-32, 0))
    assert not valid[:32].any() and valid[32:].all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_files_outside_the_contract_are_refused(tmp_path):
    with pytest.raises(SceneError, match="has no reference system"):
        SceneReader(str(write(tmp_path / "nowhere.tif", IMAGE, crs=None)))
    with pytest.raises(ImageError, match="grey"):
        SceneReader(str(write(tmp_path / "grey.tif", IMAGE[..., 0])))
    whole = write(tmp_path / "cut.tif", IMAGE, compress="jpeg", tiled=True, blockxsize=64, blockysize=64)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    with pytest.raises(ImageError, match="damaged or truncated"):
        SceneReader(str(whole)).read(on(100, 100, 100, 140))
