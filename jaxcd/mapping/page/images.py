"""The images of `map.html`, as data URIs: the ground before and after, and the probability of damage."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from jaxtyping import UInt8
from PIL import Image
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterWindow

from jaxcd.mapping.predict.scene_pair import ScenePair
from jaxcd.mapping.products.rasters import EMPTY, PROBABILITY, TOP
from jaxcd.mapping.products.styles import RAMP, rgba
from jaxcd.scenes.windows import Grid, Window

_QUALITY = 82
_LEVELS = 32  # of the probability: the eye tells no more apart, and noise takes 5 bits a pixel
_NOTHING = _LEVELS  # entry of the palette that paints nothing


def of_part(out: Path, pair: ScenePair, window: Window, factor: int) -> dict[str, str]:
    """Make the images of a part of a map.

    Args:
        out: folder of the map, with its rasters.
        pair: what was mapped.
        window: the part.
        factor: side of the images' pixels, in pixels of the map; the last row and column may reach beyond the part.

    Returns:
        Data URIs of three images of one size: before, after, and likely (the probability, transparent where it is low).
    """
    before, after = pair.images(pair.grid.part(window), coarse=factor)
    return {
        "before": _jpeg(before),
        "after": _jpeg(after),
        "likely": probability_image(out, pair.grid, window, factor),
    }


def probability_image(out: Path, grid: Grid, window: Window, factor: int, *, without: Sequence[Window] = ()) -> str:
    """Paint the probability of damage on a part of a map.

    Args:
        out: folder of the map, with its rasters.
        grid: of the map.
        window: the part.
        factor: side of the image's pixels, in pixels of the map.
        without: parts that are left unpainted; their edges lie on edges of the image's pixels.

    Returns:
        A data URI.
    """
    values = np.full(grid.part(window).coarser(factor).shape, EMPTY, np.uint8)
    rows, columns = window.height // factor, window.width // factor  # those that are complete
    if rows and columns:
        with rasterio.open(out / PROBABILITY) as source:
            part: Any = RasterWindow(window.column, window.row, columns * factor, rows * factor)  # type: ignore[call-arg]
            values[:rows, :columns] = source.read(
                1, window=part, out_shape=(rows, columns), resampling=Resampling.average
            )
    for hole in without:
        top, left = (hole.row - window.row) // factor, (hole.column - window.column) // factor
        values[top : top + hole.height // factor, left : left + hole.width // factor] = EMPTY
    return _png(values)


def _jpeg(image: UInt8[np.ndarray, "h w 3"]) -> str:
    done = io.BytesIO()
    Image.fromarray(image).save(done, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(done.getvalue()).decode()}"


def _png(values: UInt8[np.ndarray, "h w"]) -> str:
    """Colour probabilities; pixels without data stay transparent."""
    levels = np.rint(np.arange(256) * ((_LEVELS - 1) / TOP)).astype(np.uint8)
    levels[EMPTY] = _NOTHING
    at = np.linspace(0, 1, _LEVELS)
    bands = np.array([rgba(*stop[1:]) for stop in RAMP]).T
    table = np.stack([np.rint(np.interp(at, [stop[0] for stop in RAMP], band)) for band in bands]).astype(np.uint8)
    image = Image.fromarray(levels[values])
    image.putpalette(table[:3].T.tobytes() + bytes(3))
    done = io.BytesIO()
    image.save(done, "PNG", transparency=table[3].tobytes() + bytes(1))
    return f"data:image/png;base64,{base64.b64encode(done.getvalue()).decode()}"
