"""The input contract, on real files made on the spot."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from PIL import Image
from rasterio.crs import CRS
from rasterio.enums import ColorInterp

from jaxcd.base.errors import DiskFullError, ImageError
from jaxcd.scenes.raster import read_mask, read_rgb, write_geotiff

PLACE = Affine(0.5, 0, 432_000, 0, -0.5, 4_178_000)
UTM = CRS.from_epsg(32637)


def noise(height: int, width: int, bands: int = 3, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(3).integers(1, 250, (height, width, bands)).astype(dtype)


def write_tiff(path: Path, bands_last: np.ndarray, colours: tuple[ColorInterp, ...] = (), **profile: object) -> Path:
    height, width, count = bands_last.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=count, dtype=bands_last.dtype,
        transform=PLACE, crs=UTM, **profile,
    ) as target:  # fmt: skip
        if colours:
            target.colorinterp = colours
        target.write(bands_last.transpose(2, 0, 1))
    return path


def encoded(kind: str, pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def test_png_keeps_pixels_and_has_no_place(tmp_path: Path) -> None:
    pixels = noise(40, 60)
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG", pixels))
    raster = read_rgb(path)
    np.testing.assert_array_equal(raster.pixels, pixels)
    assert raster.pixels.flags.c_contiguous
    assert raster.valid.all() and raster.valid.shape == (40, 60)
    assert raster.transform is None and raster.crs is None and raster.note == ""


def test_jpeg_is_near_what_was_stored(tmp_path: Path) -> None:
    pixels = np.full((48, 64, 3), (200, 90, 30), np.uint8)
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded("JPEG", pixels))
    assert np.abs(read_rgb(path).pixels.astype(int) - pixels).max() <= 3


@pytest.mark.parametrize(("height", "width"), [(30, 50), (1030, 1100)])
def test_geotiff_round_trip(tmp_path: Path, height: int, width: int) -> None:
    pixels = noise(height, width)
    write_geotiff(tmp_path / "a.tif", pixels, transform=PLACE, crs=UTM)
    raster = read_rgb(tmp_path / "a.tif")
    np.testing.assert_array_equal(raster.pixels, pixels)
    assert raster.transform == PLACE and raster.crs == UTM
    with rasterio.open(tmp_path / "a.tif") as source:
        assert source.profile["tiled"] == (height > 1024)
        assert source.compression.name == "deflate"
    assert os.listdir(tmp_path) == ["a.tif"]


def test_write_without_place(tmp_path: Path) -> None:
    write_geotiff(tmp_path / "a.tif", noise(8, 9), transform=None, crs=None)
    assert read_rgb(tmp_path / "a.tif").transform is None


def test_alpha_zero_is_no_data(tmp_path: Path) -> None:
    pixels = noise(20, 30, 4)
    pixels[:5, :7, 3] = 0
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG", pixels))
    raster = read_rgb(path)
    expected = np.ones((20, 30), bool)
    expected[:5, :7] = False
    np.testing.assert_array_equal(raster.valid, expected)
    np.testing.assert_array_equal(raster.pixels, pixels[..., :3] * expected[..., None])
    assert raster.note == "4 bands: used the first three"


def test_near_infrared_is_left_out(tmp_path: Path) -> None:
    pixels = noise(20, 30, 4)
    pixels[:3, :, 3] = 0
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined)
    raster = read_rgb(write_tiff(tmp_path / "a.tif", pixels, colours))
    np.testing.assert_array_equal(raster.pixels, pixels[..., :3])
    assert raster.valid.all() and raster.note == "4 bands: used the first three"


def test_nodata_needs_all_bands(tmp_path: Path) -> None:
    pixels = noise(6, 6)
    pixels[0, 0] = 0
    pixels[1, 1] = (200, 0, 0)
    raster = read_rgb(write_tiff(tmp_path / "a.tif", pixels, nodata=0))
    assert not raster.valid[0, 0] and raster.valid.sum() == 35
    np.testing.assert_array_equal(raster.pixels[1, 1], (200, 0, 0))


def test_mask_band_is_used(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(6, 6))
    mask = np.full((6, 6), 255, np.uint8)
    mask[2] = 0
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as target:
        target.write_mask(mask)
    np.testing.assert_array_equal(read_rgb(path).valid, mask > 0)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_wide_types_need_a_scaling(tmp_path: Path, dtype: type) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(6, 6, dtype=dtype))
    with pytest.raises(ImageError, match=rf"a\.tif: pixels are {np.dtype(dtype)}.*config\.data\.scaling"):
        read_rgb(path)


def test_range_scaling(tmp_path: Path) -> None:
    values = np.zeros((1, 4, 3), np.uint16)
    values[0] = np.array([50, 100, 600, 5000])[:, None]
    raster = read_rgb(write_tiff(tmp_path / "a.tif", values), scaling=("range", 100, 1100))
    np.testing.assert_array_equal(raster.pixels[0, :, 0], (0, 0, 128, 255))


def test_percentiles_take_valid_pixels_of_all_bands_together(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 300, dtype=np.float32).reshape(10, 10, 3)
    values[0, 0] = np.nan
    values[9, 9, 1] = np.inf
    raster = read_rgb(write_tiff(tmp_path / "a.tif", values), scaling=("percentiles", 10, 90))
    kept = np.ones((10, 10), bool)
    kept[0, 0] = kept[9, 9] = False
    np.testing.assert_array_equal(raster.valid, kept)
    low, high = np.percentile(values[kept], (10, 90))
    expected = np.rint(np.clip((values[kept] - low) / (high - low), 0, 1) * 255)
    np.testing.assert_allclose(raster.pixels[kept], expected, atol=1)
    assert not raster.pixels[~kept].any()


def test_constant_and_empty_images_scale_to_black(tmp_path: Path) -> None:
    flat = read_rgb(write_tiff(tmp_path / "a.tif", np.full((4, 4, 3), 7, np.float32)), scaling=("percentiles", 2, 98))
    assert flat.valid.all() and not flat.pixels.any()
    void = write_tiff(tmp_path / "b.tif", np.full((4, 4, 3), np.nan, np.float32))
    assert not read_rgb(void, scaling=("percentiles", 2, 98)).valid.any()


def test_eight_bits_stay_as_they_are_under_a_scaling(tmp_path: Path) -> None:
    pixels = noise(6, 6)
    raster = read_rgb(write_tiff(tmp_path / "a.tif", pixels), scaling=("range", 100, 101))
    np.testing.assert_array_equal(raster.pixels, pixels)


@pytest.mark.parametrize(("bands", "said"), [(1, "grey image"), (2, "2 bands"), (5, "5 bands")])
def test_other_band_counts_are_refused(tmp_path: Path, bands: int, said: str) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(6, 6, bands))
    with pytest.raises(ImageError, match=rf"a\.tif: .*{said}.*expected three bands"):
        read_rgb(path)


def test_palette_is_refused(tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8)).convert("P").save(tmp_path / "a.png")
    with pytest.raises(ImageError, match="palette"):
        read_rgb(tmp_path / "a.png")


def test_blue_first_is_refused(tmp_path: Path) -> None:
    colours = (ColorInterp.blue, ColorInterp.green, ColorInterp.red)
    with pytest.raises(ImageError, match="bands are blue, green, red"):
        read_rgb(write_tiff(tmp_path / "a.tif", noise(6, 6), colours))


def _tiff(pixels: np.ndarray, **profile: object) -> bytes:
    with rasterio.MemoryFile() as memory:
        size = {"width": pixels.shape[1], "height": pixels.shape[0], "count": 3, "dtype": "uint8"}
        with memory.open(driver="GTiff", transform=PLACE, crs=UTM, **size, **profile) as target:
            target.write(pixels.transpose(2, 0, 1))
        return memory.read()


@pytest.mark.parametrize("share", [0.0, 0.002, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "progressive", "deflate", "plain", "tiled"])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, share: float) -> None:
    pixels = noise(128, 128)
    if kind == "progressive":
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", progressive=True)
        content = buffer.getvalue()
    elif kind in ("PNG", "JPEG"):
        content = encoded(kind, pixels)
    else:
        profiles = {"deflate": {"compress": "deflate"}, "plain": {}}
        content = _tiff(pixels, **profiles.get(kind, {"tiled": True, "blockxsize": 64, "blockysize": 64}))
    path = tmp_path / "cut"
    path.write_bytes(content)
    assert read_rgb(path).pixels.shape == (128, 128, 3)
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match="cut: .*(empty|truncated)|cut: neither"):
        read_rgb(path)


def test_a_flipped_bit_in_a_png_is_found(tmp_path: Path) -> None:
    content = bytearray(encoded("PNG", noise(64, 64)))
    content[len(content) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png: the PNG is damaged"):
        read_rgb(tmp_path / "a.png")


def test_missing_folder_and_foreign_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image at all")
    for name, said in (("none.png", "no such file"), ("", "no such file"), ("text.png", "neither PNG, JPEG nor TIFF")):
        with pytest.raises(ImageError, match=said):
            read_rgb(tmp_path / name)


def test_masks_are_read_raw(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255, 7]], np.uint8)
    for mode, array in (("one", values), ("three", np.repeat(values[..., None], 3, axis=2))):
        path = tmp_path / f"{mode}.png"
        path.write_bytes(encoded("PNG", array))
        np.testing.assert_array_equal(read_mask(path), values)


def test_masks_that_are_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="bands that differ"):
        read_mask(write_tiff(tmp_path / "a.tif", noise(5, 5)))
    with pytest.raises(ImageError, match="1 bands of uint16"):
        read_mask(write_tiff(tmp_path / "b.tif", noise(5, 5, 1, np.uint16)))
    with pytest.raises(ImageError, match="2 bands"):
        read_mask(write_tiff(tmp_path / "c.tif", noise(5, 5, 2)))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full outside Linux")
def test_full_disk_leaves_nothing(tmp_path: Path) -> None:
    # Every write to /dev/full fails as on a full disk.
    (tmp_path / ".partial-a.tif").symlink_to("/dev/full")
    with pytest.raises(DiskFullError, match=r"the disk is full: could not write .*a\.tif;"):
        write_geotiff(tmp_path / "a.tif", noise(9, 9), transform=PLACE, crs=UTM)
    assert os.listdir(tmp_path) == []
