"""Reads PNG, JPEG and TIFF files under the input contract, and writes GeoTIFFs.

The contract is: three uint8 bands. Of four bands (RGBA, or RGB and near infrared) the first three are used.
16-bit and float images need a scaling; grey, palette and two-band images are refused.
"""

import struct
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from jaxtyping import Bool, Num, UInt8, UInt16
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.features import rasterize
from rasterio.io import DatasetReader, MemoryFile

from jaxcd.base.errors import ImageError
from jaxcd.base.files import write_whole

# First bytes of the files read here (TIFF: little and big endian, classic and BigTIFF), with GDAL's driver.
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DRIVERS = {_PNG_SIGNATURE: "PNG", b"\xff\xd8\xff": "JPEG"} | dict.fromkeys(
    (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "GTiff"
)
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
_UNNAMED = (ColorInterp.gray, ColorInterp.undefined)
_TILED_FROM = 1024  # least side in pixels of a GeoTIFF that is written in tiles
_SETTINGS: dict[str, Any] = {
    # Without this, GDAL returns the missing part of a truncated JPEG as grey and only warns.
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
    # By default, GDAL's cache of decoded blocks takes a twentieth of the machine's memory, in every process.
    "GDAL_CACHEMAX": 128 * 2**20,
}
_REMOTE: dict[str, Any] = {
    # For URLs: no folder listings, no sidecar files, several attempts, and time limits (in seconds).
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".tif,.tiff",
    "GDAL_HTTP_MAX_RETRY": "4",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": "60",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "VSI_CACHE": "TRUE",
}
# warnings.catch_warnings replaces a list that all threads share: only one thread at a time may use it.
_OPENING = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Raster:
    """An RGB image with its mask, transform and reference system.

    Attributes:
        pixels: RGB 0..255; 0 where not valid.
        valid: False where the file holds no data (nodata value, mask band, alpha 0, NaN).
        transform: pixel to map coordinates; None where the file is not georeferenced.
        crs: reference system of the map coordinates; None where the file is not georeferenced.
        note: a remark that the user is shown once, or "".
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    valid: Bool[np.ndarray, "h w"]
    transform: Affine | None
    crs: CRS | None
    note: str


def read_rgb(path: Path, *, scaling: tuple[str, float, float] | None = None) -> Raster:
    """Read an image under the input contract.

    Args:
        path: a PNG, JPEG or TIFF file.
        scaling: how 16-bit and float values become 0..255: ("range", low, high) in values of the file, or
            ("percentiles", low, high) in percent over this image's valid pixels, the three bands together. 8-bit
            images stay as they are.

    Returns:
        The image with its mask and georeference.

    Raises:
        ImageError: the file is missing, empty, truncated or outside the contract.
    """
    with _opened(path) as source:
        check_bands(path, source)
        kind = np.dtype(source.dtypes[0])
        if kind != np.uint8 and scaling is None:
            raise ImageError(
                f"{path}: pixels are {kind}, expected uint8; set config.data.scaling to range:LOW,HIGH or "
                "percentiles:LOW,HIGH to say how they become 8 bits"
            )
        values = source.read((1, 2, 3))
        # A pixel has no data only if all bands have none: pure red has zeros in two bands, and nodata is often zero.
        valid = (source.read_masks((1, 2, 3)) != 0).any(axis=0)
        if not np.issubdtype(kind, np.integer):
            valid &= np.isfinite(values).all(axis=0)
        transform = None if source.transform.is_identity else source.transform
        crs, note = source.crs, "4 bands: used the first three" if source.count == 4 else ""
    if kind != np.uint8 and scaling is not None:
        values = scaled(values, valid, scaling)
    values[:, ~valid] = 0
    pixels = np.ascontiguousarray(values.transpose(1, 2, 0))
    return Raster(pixels=pixels, valid=valid, transform=transform, crs=crs, note=note)


def read_mask(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Read a mask of one band without changing its values; three equal bands are accepted too.

    Args:
        path: a PNG, JPEG or TIFF file.

    Returns:
        The raw values.

    Raises:
        ImageError: the file is missing, empty, truncated, not uint8, or has bands that differ.
    """
    with _opened(path) as source:
        if source.count not in (1, 3) or any(kind != "uint8" for kind in source.dtypes):
            raise ImageError(
                f"{path}: {source.count} bands of {source.dtypes[0]}, expected a mask of one uint8 band; export it anew"
            )
        bands = source.read()
    if any((band != bands[0]).any() for band in bands[1:]):
        raise ImageError(f"{path}: three bands that differ, expected a mask of one band; is it an image?")
    return bands[0]


def write_geotiff(
    path: Path,
    array: UInt8[np.ndarray, "h w"] | UInt16[np.ndarray, "h w"] | UInt8[np.ndarray, "h w c"],
    *,
    transform: Affine | None,
    crs: CRS | None,
    **profile: Any,
) -> None:
    """Write a GeoTIFF with deflate compression, whole or not at all.

    Args:
        path: the file; an existing one is replaced.
        array: one band, or bands last.
        transform: pixel to map coordinates, or None.
        crs: reference system, or None.
        profile: further GDAL creation options and rasterio keywords, such as `nodata=0`.

    Raises:
        DiskFullError: no space left.
    """
    bands = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    count, height, width = bands.shape
    tiling = {"tiled": True, "blockxsize": 256, "blockysize": 256} if min(height, width) >= _TILED_FROM else {}
    layout = {"compress": "deflate", "predictor": 2, "interleave": "pixel"} | tiling | profile
    # GDAL reports a full disk late or not at all. So GDAL writes to memory, and Python writes the file.
    with MemoryFile() as memory:
        with (
            unreferenced_allowed(),
            memory.open(
                driver="GTiff",
                width=width,
                height=height,
                count=count,
                dtype=array.dtype,
                transform=transform,
                crs=crs,
                **layout,
            ) as target,
        ):
            target.write(bands)
        write_whole(path, memory.getbuffer())


@contextmanager
def unreferenced_allowed() -> Iterator[None]:
    """Silence rasterio's warning about images without coordinates: PNG tiles and drawn masks have none."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def drawn(
    outlines: Iterable[Any], shape: tuple[int, int], transform: Affine, *, touched: bool = False
) -> Bool[np.ndarray, "h w"]:
    """Mark the pixels whose centres lie in any of the polygons; with `touched`, all pixels that a polygon touches."""
    with unreferenced_allowed():
        found: Any = rasterize(outlines, out_shape=shape, transform=transform, dtype="uint8", all_touched=touched)
        return found != 0


@dataclass(frozen=True, kw_only=True)
class Header:
    """Size and georeference of a file; `crs` and `transform` are None where it is not georeferenced."""

    height: int
    width: int
    crs: CRS | None
    transform: Affine | None


def header(location: str) -> Header:
    """Read the size and georeference of a raster (a file or a URL), and check its bands.

    Raises:
        ImageError: it can't be read, or lies outside the input contract.
    """
    with reading(location), open_raster(location) as source:
        check_bands(location, source)
        transform = None if source.transform.is_identity else source.transform
        return Header(height=source.height, width=source.width, crs=source.crs, transform=transform)


def is_remote(location: str) -> bool:
    """Say whether a location is a URL."""
    return location.startswith(("http://", "https://"))


@contextmanager
def _opened(path: Path) -> Iterator[DatasetReader]:
    with reading(str(path)), open_raster(str(path)) as source:
        yield source


def open_raster(location: str) -> DatasetReader:
    """Open a PNG, JPEG or TIFF file, or the URL of a TIFF file; call it within `reading`.

    Raises:
        ImageError: the file is missing, empty, or of another format.
    """
    if is_remote(location):
        return rasterio.open(location, driver="GTiff")
    path = Path(location)
    if not path.is_file():
        raise ImageError(f"{path}: no such file, expected a PNG, JPEG or TIFF image")
    if path.stat().st_size == 0:
        raise ImageError(f"{path}: the file is empty, expected a PNG, JPEG or TIFF image")
    with path.open("rb") as file:
        start = file.read(len(_PNG_SIGNATURE))
    driver = next((name for signature, name in _DRIVERS.items() if start.startswith(signature)), None)
    if driver is None:
        raise ImageError(f"{path}: neither PNG, JPEG nor TIFF (it starts with {start!r}); convert it")
    if driver == "PNG":
        _check_png(path)
    with unreferenced_allowed():
        return rasterio.open(path, driver=driver)


@contextmanager
def reading(location: str) -> Iterator[None]:
    """Set up GDAL for reading a raster, and turn its errors into `ImageError` with the file's name.

    Raises:
        ImageError: the file is damaged or truncated, or the URL can't be reached.
    """
    try:
        with rasterio.Env(**_SETTINGS, **(_REMOTE if is_remote(location) else {})):
            yield
    except (RasterioError, OSError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        if is_remote(location):
            raise ImageError(f"{location}: cannot be read ({reason}); check the URL and the network") from error
        raise ImageError(
            f"{location}: damaged or truncated, cannot be read ({reason}); copy or export it anew"
        ) from error


def _check_png(path: Path) -> None:
    """Check a PNG's chunks: GDAL returns the missing part of a truncated PNG as black, without an error."""
    content = memoryview(path.read_bytes())
    at, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        if at + 12 > len(content):
            raise ImageError(f"{path}: the PNG is truncated after {len(content)} bytes; copy or export it anew")
        (size,) = struct.unpack(">I", content[at : at + 4])
        kind, body = bytes(content[at + 4 : at + 8]), content[at + 4 : at + 8 + size]
        if at + 12 + size > len(content):
            raise ImageError(f"{path}: the PNG is truncated after {len(content)} bytes; copy or export it anew")
        if zlib.crc32(body) != struct.unpack(">I", content[at + 8 + size : at + 12 + size])[0]:
            raise ImageError(f"{path}: the PNG is damaged near byte {at}; copy or export it anew")
        at += 12 + size


def check_bands(path: Path | str, source: DatasetReader) -> None:
    """Refuse an open raster outside the input contract.

    Raises:
        ImageError: its bands break the contract; the message names them.
    """
    count, colours = source.count, source.colorinterp
    if count == 1 and colours[0] == ColorInterp.palette:
        raise ImageError(f"{path}: a palette image, expected three bands (RGB); convert it to RGB")
    if count not in (3, 4):
        what = "a grey image (1 band)" if count == 1 else f"{count} bands"
        raise ImageError(
            f"{path}: {what}, expected three bands (RGB), or four with alpha or near infrared last; convert it"
        )
    if any(colour not in (*_UNNAMED, wanted) for colour, wanted in zip(colours, _RGB, strict=False)):
        given = ", ".join(colour.name for colour in colours)
        raise ImageError(f"{path}: bands are {given}, expected red, green, blue first; reorder or convert them")
    if len(set(source.dtypes)) > 1 or np.issubdtype(np.dtype(source.dtypes[0]), np.complexfloating):
        raise ImageError(f"{path}: bands of {', '.join(source.dtypes)}, expected one real type; convert them to uint8")


def scaled(
    values: Num[np.ndarray, "3 h w"], valid: Bool[np.ndarray, "h w"], scaling: tuple[str, float, float]
) -> UInt8[np.ndarray, "3 h w"]:
    """Stretch values to 0..255: a range of values, or the range between two percentiles of the valid pixels."""
    kind, low, high = scaling
    if not valid.any():
        return np.zeros(values.shape, np.uint8)
    if kind == "percentiles":
        low, high = np.percentile(values[:, valid], (low, high))
    # A constant image has equal percentiles: it becomes 0 instead of a division by zero.
    span = max(float(high) - float(low), np.finfo(np.float32).tiny)
    stretched = (np.where(valid, values, low).astype(np.float64) - low) / span
    return np.rint(np.clip(stretched, 0, 1) * 255).astype(np.uint8)
