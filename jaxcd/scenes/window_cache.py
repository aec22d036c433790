"""Keeps windows of scenes behind URLs on disk: other thresholds, or another tile's shift, download nothing again."""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from jaxcd.base.files import write_whole
from jaxcd.base.fingerprints import digest
from jaxcd.scenes.raster import is_remote
from jaxcd.scenes.reader import Reading, read_mosaic
from jaxcd.scenes.windows import Grid


def read_window(
    locations: Sequence[str],
    grid: Grid,
    *,
    scaling: tuple[str, float, float] | None,
    folder: Path,
    coarse: int = 1,
) -> Reading:
    """Read as `jaxcd.scenes.reader.read_mosaic` does; windows of URLs are kept in a folder for the next time.

    A window is named after everything that decides its content, except the state of the file behind the URL: delete
    the folder when that changes.

    Args:
        locations: scenes of one acquisition.
        grid: what to read.
        scaling: of 16-bit and float scenes.
        folder: for kept windows, each in a file of a few megabytes; made when the first is kept.
        coarse: decimation.

    Raises:
        ImageError, SceneError: a scene can't be read.
        DiskFullError: no space left.
    """
    if not any(is_remote(location) for location in locations):
        return read_mosaic(locations, grid, scaling=scaling, coarse=coarse)
    where = [list(locations), grid.crs.to_wkt(), list(grid.transform)[:6], *grid.shape, scaling, coarse]
    file = folder / f"{digest(where, digits=32)}.npz"
    if file.is_file():
        return _unpacked(file)
    found = read_mosaic(locations, grid, scaling=scaling, coarse=coarse)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(file, _packed(found))
    return found


def _packed(reading: Reading) -> memoryview:
    content = io.BytesIO()
    image = cv2.imencode(".png", reading.pixels)[1]
    np.savez(content, image=image, masks=np.packbits(np.stack([reading.valid, reading.inside])))
    return content.getbuffer()


def _unpacked(file: Path) -> Reading:
    with np.load(file) as content:
        pixels = np.asarray(cv2.imdecode(content["image"], cv2.IMREAD_UNCHANGED))
        count = 2 * pixels.shape[0] * pixels.shape[1]
        valid, inside = np.unpackbits(content["masks"], count=count).reshape(2, *pixels.shape[:2]).astype(bool)
    return Reading(pixels, valid, inside)
