"""Map tiles: the pixels that rasterio warps, shifted as a map's, transparent where nothing was seen."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from jaxcd.base.errors import ImageError
from jaxcd.labelling import imagery, workspace
from jaxcd.labelling.imagery import Imagery, encoded, mercator_grid
from jaxcd.labelling.settings import LabelSettings
from tests.labelling.served import tile_at, write_scenes
from tests.scenes.scene_files import at, ground, write


def opened(pre, post, folder, **settings):
    chosen = LabelSettings(**settings)
    named = workspace.named(pre=[*map(str, pre)], post=[*map(str, post)], settings=chosen)
    (found,) = workspace.open_all(named, chosen, folder / "store")
    return found, Imagery(found, chosen.scaling)


def middle(found, zoom):
    west, south, east, north = found.bounds
    return tile_at((west + east) / 2, (south + north) / 2, zoom)


def warped(file, grid):
    with (
        rasterio.open(file) as source,
        WarpedVRT(
            source, crs=grid.crs, transform=grid.transform, height=256, width=256,
            resampling=Resampling.cubic, add_alpha=True,
        ) as vrt,
    ):  # fmt: skip
        return vrt.read()


def test_a_tile_has_the_pixels_that_rasterio_warps(tmp_path):
    scenes = write_scenes(tmp_path)
    found, tiles = opened([scenes.pre], [scenes.post], tmp_path)
    least, most = tiles.zooms
    assert (least, most) == (16, 20)  # 300 m at 37.8° north; pixels of half a metre are those of zoom 18
    for zoom in (least, 18, most):
        x, y = middle(found, zoom)
        for when, file in (("pre", scenes.pre), ("post", scenes.post)):
            tile = tiles.tile(when, zoom, x, y)
            wanted = warped(file, mercator_grid(zoom, x, y))
            assert tile is not None and tile.shape == (256, 256, 4) and tile.dtype == np.uint8
            seen = tile[..., 3] == 255
            assert np.isin(tile[..., 3], (0, 255)).all() and (seen == (wanted[3] == 255)).mean() > 0.99
            np.testing.assert_array_equal(tile[seen][:, 2::-1], wanted[:3, seen].T)
    assert tiles.tile("pre", 18, 0, 0) is None and tiles.tile("pre", 3, *middle(found, 3)) is None


def test_a_tile_at_the_edge_is_transparent_beside_the_scene(tmp_path):
    scenes = write_scenes(tmp_path)
    found, tiles = opened([scenes.pre], [scenes.post], tmp_path)
    west, _, _, north = found.bounds
    tile = tiles.tile("pre", 18, *tile_at(west, north, 18))
    assert tile is not None
    opaque = tile[..., 3] == 255
    assert 0.01 < opaque.mean() < 0.99 and not tile[~opaque].any() and tile[opaque][:, :3].max(axis=1).min() > 5
    image = cv2.imdecode(np.frombuffer(encoded(tile, 0, 255), np.uint8), cv2.IMREAD_UNCHANGED)
    assert image is not None and image.shape == (256, 256, 4)
    np.testing.assert_array_equal(image[..., 3], tile[..., 3])
    assert np.abs(image[opaque][:, :3].astype(int) - tile[opaque][:, :3]).mean() < 8


def test_black_borders_and_masks_are_transparent(tmp_path):
    pixels = ground(3, 600, 600)
    black = pixels.copy()
    black[:, :200] = 0
    valid = np.full((600, 600), 255, np.uint8)
    valid[:, :200] = 0
    files = {
        "black": write(tmp_path / "black.tif", black),
        "mask": write(tmp_path / "mask.tif", pixels, mask=valid),
        "nodata": write(tmp_path / "nodata.tif", black, nodata=0),
    }
    whole = write(tmp_path / "pre.tif", pixels)
    shares = {}
    for name, file in files.items():
        found, tiles = opened([whole], [file], tmp_path)
        west, south, east, north = found.bounds
        at_border = tile_at(west + (east - west) / 3, (south + north) / 2, 18)
        tile, other = tiles.tile("post", 18, *at_border), tiles.tile("pre", 18, *at_border)
        assert tile is not None and other is not None
        shares[name] = (tile[..., 3] == 255).mean() / (other[..., 3] == 255).mean()
        assert not tile[tile[..., 3] == 0].any()
    assert all(0.1 < share < 0.9 for share in shares.values()), shares
    assert max(shares.values()) - min(shares.values()) < 0.05


def test_scenes_of_one_date_make_a_mosaic_in_any_reference_system(tmp_path):
    pixels = ground(4, 600, 600)
    whole = write(tmp_path / "whole.tif", pixels)
    left = write(tmp_path / "left.tif", pixels[:, :320])
    right = write(tmp_path / "right.tif", pixels[:, 280:], at(0, 280))
    degrees = tmp_path / "degrees.tif"
    with rasterio.open(whole) as source, WarpedVRT(source, crs="EPSG:4326", resampling=Resampling.cubic) as vrt:
        values, affine = vrt.read(), vrt.transform
    write(degrees, values.transpose(1, 2, 0), affine, crs="EPSG:4326", nodata=0)
    found, tiles = opened([left, right], [degrees], tmp_path)
    assert found.pair.epsg == 32637 and (found.pair.width, found.pair.height) == (600, 600)
    x, y = middle(found, 18)
    wanted = warped(whole, mercator_grid(18, x, y))
    before, after = tiles.tile("pre", 18, x, y), tiles.tile("post", 18, x, y)
    assert before is not None and after is not None
    inside = wanted[3] == 255
    assert (before[..., 3] == 255)[inside].all()
    differences = np.abs(before[inside][:, 2::-1].astype(int) - wanted[:3, inside].T)
    assert (differences == 0).mean() > 0.97  # but along the seam, where cubic interpolation ends
    seen = inside & (after[..., 3] == 255)
    assert seen.mean() > 0.9 * inside.mean()
    assert np.abs(after[seen][:, 2::-1].astype(int) - wanted[:3, seen].T).mean() < 12  # warped twice


def test_the_shift_is_the_maps(tmp_path):
    """Content that lies 7 rows too far down and 4 columns too far left is shown where it belongs."""
    pixels = ground(5, 1100, 1100)
    pre = write(tmp_path / "pre.tif", pixels[40:1064, 40:1064])
    post = write(tmp_path / "post.tif", pixels[33:1057, 44:1068])
    found, tiles = opened([pre], [post], tmp_path, register=True)
    assert found.shift == pytest.approx((7, -4), abs=0.15)
    x, y = middle(found, 18)
    before, after = tiles.tile("pre", 18, x, y), tiles.tile("post", 18, x, y)
    assert before is not None and after is not None
    _, unshifted = opened([pre], [post], tmp_path)
    apart = unshifted.tile("post", 18, x, y)
    assert apart is not None
    error, without = (np.abs(before[..., :3].astype(int) - each[..., :3]).mean() for each in (after, apart))
    assert error < 5 < 25 < without
    # What a map reads there is the same: the shift is taken from the same estimates.
    assert found.scenes is not None
    view = found.scenes.read(found.scenes.grid)
    assert np.abs(view.pre[100:900, 100:900].astype(int) - view.post[100:900, 100:900]).mean() < 5
    again, _ = opened([pre], [post], tmp_path, register=True)  # out of registration.json
    assert again.shift == found.shift


def test_scenes_of_16_bits_are_stretched_as_asked(tmp_path):
    pixels = ground(6, 600, 600)
    wide = write(tmp_path / "wide.tif", pixels.astype(np.uint16) * 16)
    with pytest.raises(ImageError, match="expected uint8; give --scaling"):
        opened([wide], [wide], tmp_path)
    found, tiles = opened([wide], [wide], tmp_path, scaling="range:0,4080")
    x, y = middle(found, 18)
    tile = tiles.tile("pre", 18, x, y)
    wanted = warped(write(tmp_path / "plain.tif", pixels), mercator_grid(18, x, y))
    assert tile is not None
    seen = tile[..., 3] == 255
    assert np.abs(tile[seen][:, 2::-1].astype(int) - wanted[:3, seen].T).max() <= 1


def test_contrast_is_stretched_between_two_values():
    ramp = np.zeros((256, 256, 4), np.uint8)
    ramp[..., :3] = np.arange(256, dtype=np.uint8)[None, :, None]
    ramp[..., 3] = 255
    image = cv2.imdecode(np.frombuffer(encoded(ramp, 50, 150), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    row = image[128, :, 1].astype(int)
    assert row[:48].max() <= 6 and row[152:].min() >= 249 and abs(row[100] - 128) <= 8
    assert imagery.empty()[:4] == b"RIFF"


def test_pictures_are_cut_as_leaflet_counts_their_tiles(tmp_path):
    for when in ("pre", "post"):
        (tmp_path / "images").mkdir(exist_ok=True)
        pixels = ground(7, 300, 700)
        cv2.imwrite(str(tmp_path / "images" / f"town_00000001_{when}_disaster.png"), pixels[..., ::-1])
    settings = LabelSettings()
    named = workspace.named(source=tmp_path, layout="xbd", settings=settings)
    assert [each.id for each in named] == ["town_00000001"]
    (found,) = workspace.open_all(named, settings, tmp_path / "store")
    assert found.bounds == (0.0, -300.0, 700.0, 0.0) and found.pair.epsg is None
    tiles = Imagery(found, "")
    assert tiles.zooms == (-2, 4)
    tile = tiles.tile("pre", 0, 1, 0)
    assert tile is not None
    np.testing.assert_array_equal(tile[..., 2::-1], pixels[:256, 256:512])
    below = tiles.tile("pre", 0, 2, 1)
    assert below is not None
    np.testing.assert_array_equal(below[:44, :188, 2::-1], pixels[256:, 512:])
    assert (below[..., 3] == 255).sum() == 44 * 188
    closer = tiles.tile("pre", 1, 2, 0)  # twice as close: columns from 256, rows from 0
    assert closer is not None
    near = cv2.resize(closer[..., 2::-1], (128, 128), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(near - pixels[:128, 256:384]).mean() < 8 and (closer[..., 3] == 255).all()
    whole = tiles.tile("pre", -2, 0, 0)
    assert whole is not None and (whole[..., 3] == 255).sum() == 75 * 175
    wanted = cv2.resize(pixels, (175, 75), interpolation=cv2.INTER_AREA)
    assert np.abs(whole[:75, :175, 2::-1].astype(int) - wanted).max() <= 1
    assert tiles.tile("pre", 0, 3, 0) is None and tiles.tile("pre", 0, -1, 0) is None
    assert tiles.tile("pre", -12, 0, 0) is None
    closest = tiles.tile("pre", 6, 0, 0)
    assert closest is not None
    assert all(tiles.tile("pre", zoom, 0, 0) is None for zoom in (7, 16, 24))  # would be gigapixels


def test_files_that_moved_are_told(tmp_path):
    scenes = write_scenes(tmp_path)
    found, tiles = opened([scenes.pre], [scenes.post], tmp_path)
    shutil.move(scenes.pre, tmp_path / "elsewhere.tif")
    from jaxcd.scenes.reader import close_scenes

    close_scenes()
    with pytest.raises(ImageError, match="no such file"):
        tiles.tile("pre", 18, *middle(found, 18))
    assert tiles.tile("post", 18, *middle(found, 18)) is not None


def test_real_scenes_of_two_reference_systems(shared_data):
    folder: Path = shared_data / "joplin_2011"
    pre, post = (sorted((folder / when).glob("*.tif")) for when in ("pre", "post"))
    found, tiles = opened(pre, post, Path("unused"))
    assert found.pair.epsg == 26915
    x, y = middle(found, 17)
    before, after = tiles.tile("pre", 17, x, y), tiles.tile("post", 17, x, y)
    assert before is not None and after is not None
    assert (before[..., 3] == 255).mean() > 0.99 and (after[..., 3] == 255).mean() > 0.9
