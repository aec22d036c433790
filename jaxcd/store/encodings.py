"""Encodings of images and labels in a record; the first bytes say which one it is.

OpenCV is imported only for PNG, JPEG and WebP: a machine that trains on the default encoding does without it.
"""

import io
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import zstandard
from jaxtyping import Shaped, UInt8

from jaxcd.base.errors import DatasetError

JPEG_SIGNATURE = b"\xff\xd8"
_NPY_SIGNATURE = b"\x93NUMPY"
# What numpy writes before an array of bytes. numpy reads it with Python's parser, which in Python 3.11 up to 3.11.7 now
# and then fails where several threads use it at a time (python/cpython, issue 106905). The loader's threads do.
_NPY_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|u1', 'fortran_order': False, 'shape': \((\d+), (\d+)(?:, (\d+))?\), \} *\n",
    re.DOTALL,
)
# Level 5: real tiles are an eighth smaller than at level 3, and written as fast as PNG; all levels read equally fast.
_LEVEL = 5
# OpenCV's settings, by its numbers for IMWRITE_JPEG_QUALITY and IMWRITE_WEBP_QUALITY (above 100: lossless).
_JPEG, _WEBP = (1, 95), (64, 101)


def encode_rgb(pixels: UInt8[np.ndarray, "h w 3"], encoding: str) -> bytes:
    """Encode an image.

    Args:
        pixels: RGB.
        encoding: one of `jaxcd.config.ENCODINGS`; auto is zstd. All but jpeg (quality 95) are lossless.
    """
    return _ENCODERS[encoding](pixels)


def encode_codes(codes: UInt8[np.ndarray, "h w"]) -> bytes:
    """Encode a label as zstd: it is read in a fiftieth of the time of its PNG, and has a fifth of the size."""
    return _zstd(codes)


def decode_codes(content: bytes, reading: UInt8[np.ndarray, "256"]) -> UInt8[np.ndarray, "h w"]:
    """Decode a label.

    Args:
        content: what `encode_codes` gave.
        reading: the code to give for each code that is stored (`jaxcd.base.scales.Scale.read_as`).
    """
    return reading[decode(content)]


def decode(content: bytes) -> UInt8[np.ndarray, "h w *c"]:
    """Decode an image (RGB) or a label.

    Orientation tags are ignored, as labels are drawn on the pixel grid. Raw images are views of `content`.

    Raises:
        DatasetError: the image is damaged, or OpenCV is needed and missing.
    """
    if content.startswith(zstandard.FRAME_HEADER):
        content = zstandard.ZstdDecompressor().decompress(content)
    if content.startswith(_NPY_SIGNATURE):
        header = _NPY_HEADER.match(content)
        shape = [int(length) for length in header.groups() if length] if header else []
        if header is None or len(content) != header.end() + math.prod(shape):
            raise DatasetError("an image in the dataset is damaged; delete its folder and build it anew")
        return np.frombuffer(content, np.uint8, offset=header.end()).reshape(shape)
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise DatasetError(
            "the dataset holds PNG, JPEG or WebP images, and OpenCV, which reads them, is missing here: install "
            "opencv-python-headless, or build the dataset with --encoding zstd"
        ) from error
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), flags))


def _raw(array: Shaped[np.ndarray, "h w *c"]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return file.getvalue()


def _zstd(array: Shaped[np.ndarray, "h w *c"]) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(_raw(array))


def _png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    return _opencv(pixels, ".png")


def _jpeg(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    return _opencv(pixels, ".jpg", _JPEG)


def _webp(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    return _opencv(pixels, ".webp", _WEBP)


def _opencv(pixels: UInt8[np.ndarray, "h w 3"], suffix: str, settings: Sequence[int] = ()) -> bytes:
    import cv2

    return cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), settings)[1].tobytes()


_ENCODERS: dict[str, Callable[[UInt8[np.ndarray, "h w 3"]], bytes]] = {
    "auto": _zstd,
    "png": _png,
    "jpeg": _jpeg,
    "webp": _webp,
    "zstd": _zstd,
    "raw": _raw,
}
