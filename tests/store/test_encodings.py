"""Images in records: what comes out is what went in, read by jaxcd and by others."""

import ast
import io
import sys

import numpy as np
import pytest
import zstandard
from PIL import Image

from jaxcd.base.errors import DatasetError
from jaxcd.config import ENCODINGS, DataConfig
from jaxcd.store.build import build
from jaxcd.store.dataset import TileDataset
from jaxcd.store.encodings import decode, encode_codes, encode_rgb
from tests.sources.tile_sources import picture, write_folders


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("shape", [(64, 64), (1, 3), (1024, 16)])
def test_what_comes_out_is_what_went_in(encoding, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    pixels[..., 0] //= 4  # bands that differ show if they are swapped
    out = decode(encode_rgb(pixels, encoding))
    assert out.dtype == np.uint8 and out.shape == pixels.shape
    if encoding == "jpeg":
        smooth = np.full_like(pixels, (200, 100, 30))
        assert np.abs(decode(encode_rgb(smooth, encoding)).astype(int) - smooth).max() <= 2
    else:
        np.testing.assert_array_equal(out, pixels)
    codes = np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8)
    np.testing.assert_array_equal(decode(encode_codes(codes)), codes)


def test_an_array_is_read_without_pythons_parser_which_fails_in_threads(monkeypatch):
    contents = [encode_rgb(picture(3), "raw"), encode_rgb(picture(3), "zstd"), encode_codes(picture(3)[:, :, 0])]
    monkeypatch.setattr(ast, "parse", lambda *_, **__: pytest.fail("parsed"))
    for content in contents:
        assert decode(content).dtype == np.uint8


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: raw + b"0", lambda raw: raw.replace(b"|u1", b"<f4")]
)
def test_a_damaged_array_is_said(damage):
    with pytest.raises(DatasetError, match="an image in the dataset is damaged; delete its folder and build it anew"):
        decode(damage(encode_rgb(picture(3), "raw")))


def test_others_read_it():
    pixels = picture(3)
    for encoding, kind in (("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG")):
        image = Image.open(io.BytesIO(encode_rgb(pixels, encoding)))
        assert image.format == kind
        if kind != "JPEG":
            np.testing.assert_array_equal(np.asarray(image), pixels)
    np.testing.assert_array_equal(np.load(io.BytesIO(encode_rgb(pixels, "raw"))), pixels)
    whole = zstandard.ZstdDecompressor().decompress(encode_rgb(pixels, "auto"))
    np.testing.assert_array_equal(np.load(io.BytesIO(whole)), pixels)


def test_without_opencv_it_says_what_to_install(monkeypatch):
    contents = {encoding: encode_rgb(picture(3), encoding) for encoding in ENCODINGS}
    monkeypatch.setitem(sys.modules, "cv2", None)
    for encoding, content in contents.items():
        if encoding in ("auto", "zstd", "raw"):
            np.testing.assert_array_equal(decode(content), picture(3))
        else:
            with pytest.raises(DatasetError, match="install opencv-python-headless, or build the dataset with"):
                decode(content)


def test_a_crop_of_a_turned_view_is_no_view(tmp_path):
    """Images are encoded as they are seen, whatever their memory looks like."""
    pixels = picture(3)
    for encoding in ("raw", "zstd"):
        np.testing.assert_array_equal(decode(encode_rgb(np.rot90(pixels)[::-1], encoding)), np.rot90(pixels)[::-1])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_dataset_is_in_the_encoding_asked_for(tmp_path, encoding):
    source = write_folders(tmp_path / "source", 2)
    jpeg = tmp_path / "source" / "A" / "p000.jpg"
    Image.fromarray(picture(0)).save(jpeg, quality=80)
    (source / "A" / "p000.png").unlink()
    build(DataConfig(root=str(source), layout="folders", encoding=encoding), tmp_path / "out")
    dataset = TileDataset.open(tmp_path / "out")
    kept = dataset.read(0).pre[0] == jpeg.read_bytes()
    assert kept == (encoding in ("auto", "jpeg"))
    first = {"auto": b"(\xb5/\xfd", "zstd": b"(\xb5/\xfd", "raw": b"\x93NUMPY", "png": b"\x89PNG", "webp": b"RIFF"}
    assert dataset.read(1).post[0].startswith(first.get(encoding, b"\xff\xd8"))
