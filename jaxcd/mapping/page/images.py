"""Makes the images of `map.html` as data URIs: the scenes before and after, the ranks of probabilities, the levels."""

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

from jaxcd.base.scales import BINARY, Scale
from jaxcd.mapping.predict.scene_pair import ScenePair
from jaxcd.mapping.products.rasters import CODES, EMPTY
from jaxcd.mapping.products.styles import rgba
from jaxcd.mapping.products.thresholds import Ranked
from jaxcd.scenes.windows import Grid, Window

_QUALITY = 82


def of_part(
    out: Path, pair: ScenePair, ranked: Ranked, window: Window, factor: int, scale: Scale = BINARY
) -> dict[str, str]:
    """Make the images of a part of a map.

    Args:
        out: folder of the map, with its rasters.
        pair: the scenes that were mapped.
        ranked: the probabilities.
        window: the part.
        factor: side of the images' pixels, in pixels of the map; the last row and column may reach beyond the part.
        scale: scale of the map.

    Returns:
        Data URIs of images of the same size: before, after, ranks (grey: the rank of each probability, 255 without
        data; the page colours them) and, for a map of levels, levels.
    """
    before, after = pair.images(pair.grid.part(window), coarse=factor)
    return {"before": _jpeg(before), "after": _jpeg(after)} | painted(out, pair.grid, ranked, window, factor, scale)


def painted(
    out: Path, grid: Grid, ranked: Ranked, window: Window, factor: int, scale: Scale, *, without: Sequence[Window] = ()
) -> dict[str, str]:
    """Make the image of the ranks of probabilities, and in a map of levels that of the levels, for a part of a map.

    Args:
        out: folder of the map, with its rasters.
        grid: grid of the map.
        ranked: the probabilities.
        window: the part.
        factor: side of the images' pixels, in pixels of the map.
        scale: scale of the map.
        without: windows that stay transparent; their edges are edges of the images' pixels.

    Returns:
        Data URIs: ranks and, for a map of levels, levels.
    """
    uris = {"ranks": _ranks(_filled(ranked.read(window, factor), grid, window, factor, without))}
    if scale.buildings:
        with rasterio.open(out / CODES) as source:
            rows, columns = window.height // factor, window.width // factor  # rows and columns of complete pixels
            part: Any = RasterWindow(window.column, window.row, columns * factor, rows * factor)  # type: ignore[call-arg]
            codes = source.read(1, window=part, out_shape=(rows, columns), resampling=Resampling.mode)
        uris["levels"] = _levels(_filled(codes, grid, window, factor, without), scale)
    return uris


def _filled(
    read: UInt8[np.ndarray, "rows columns"], grid: Grid, window: Window, factor: int, without: Sequence[Window]
) -> UInt8[np.ndarray, "h w"]:
    """Extend what was read to the size of an image; pixels beyond the raster and in `without` become EMPTY."""
    values = np.full(grid.part(window).coarser(factor).shape, EMPTY, np.uint8)
    values[: read.shape[0], : read.shape[1]] = read
    for hole in without:
        top, left = (hole.row - window.row) // factor, (hole.column - window.column) // factor
        values[top : top + hole.height // factor, left : left + hole.width // factor] = EMPTY
    return values


def _jpeg(image: UInt8[np.ndarray, "h w 3"]) -> str:
    done = io.BytesIO()
    Image.fromarray(image).save(done, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(done.getvalue()).decode()}"


def _levels(values: UInt8[np.ndarray, "h w"], scale: Scale) -> str:
    """Colour codes of levels; ground and pixels without data stay transparent."""
    codes = np.where(values == EMPTY, np.uint8(0), values)
    return _png(codes, [(0, 0, 0, 0), *(rgba(colour, 255) for colour in scale.colours)])


def _ranks(values: UInt8[np.ndarray, "h w"]) -> str:
    done = io.BytesIO()
    Image.fromarray(values).save(done, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(done.getvalue()).decode()}"


def _png(entries: UInt8[np.ndarray, "h w"], palette: Sequence[tuple[int, ...]]) -> str:
    table = np.array(palette, np.uint8)
    image = Image.fromarray(entries)
    image.putpalette(table[:, :3].tobytes())
    done = io.BytesIO()
    image.save(done, "PNG", transparency=table[:, 3].tobytes())
    return f"data:image/png;base64,{base64.b64encode(done.getvalue()).decode()}"
