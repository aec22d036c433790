"""Makes the images of `map.html` as data URIs: the scenes before and after, the probability of damage, the levels."""

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
from jaxcd.mapping.products.rasters import CODES, EMPTY, PROBABILITY, TOP
from jaxcd.mapping.products.styles import RAMP, rgba
from jaxcd.scenes.windows import Grid, Window

_QUALITY = 82
_STEPS = 32  # colours of the probability: the eye sees no more, and even noise then takes only 5 bits a pixel
_NOTHING = _STEPS  # transparent entry of the palette


def of_part(out: Path, pair: ScenePair, window: Window, factor: int, scale: Scale = BINARY) -> dict[str, str]:
    """Make the images of a part of a map.

    Args:
        out: folder of the map, with its rasters.
        pair: the scenes that were mapped.
        window: the part.
        factor: side of the images' pixels, in pixels of the map; the last row and column may reach beyond the part.
        scale: scale of the map.

    Returns:
        Data URIs of images of the same size: before, after, likely (the probability, transparent where it is low) and,
        for a map of levels, levels.
    """
    before, after = pair.images(pair.grid.part(window), coarse=factor)
    return {"before": _jpeg(before), "after": _jpeg(after)} | painted(out, pair.grid, window, factor, scale)


def painted(
    out: Path, grid: Grid, window: Window, factor: int, scale: Scale, *, without: Sequence[Window] = ()
) -> dict[str, str]:
    """Make the image of the probability of damage, and in a map of levels that of the levels, for a part of a map.

    Args:
        out: folder of the map, with its rasters.
        grid: grid of the map.
        window: the part.
        factor: side of the images' pixels, in pixels of the map.
        scale: scale of the map.
        without: windows that stay transparent; their edges are edges of the images' pixels.

    Returns:
        Data URIs: likely and, for a map of levels, levels.
    """
    uris = {"likely": _likely(_values(out / PROBABILITY, grid, window, factor, Resampling.average, without))}
    if scale.buildings:
        uris["levels"] = _levels(_values(out / CODES, grid, window, factor, Resampling.mode, without), scale)
    return uris


def _values(
    raster: Path, grid: Grid, window: Window, factor: int, resampling: Resampling, without: Sequence[Window]
) -> UInt8[np.ndarray, "h w"]:
    """Read a part of a raster in pixels of the image; pixels beyond the raster and in `without` are EMPTY."""
    values = np.full(grid.part(window).coarser(factor).shape, EMPTY, np.uint8)
    rows, columns = window.height // factor, window.width // factor  # rows and columns of complete pixels
    if rows and columns:
        with rasterio.open(raster) as source:
            part: Any = RasterWindow(window.column, window.row, columns * factor, rows * factor)  # type: ignore[call-arg]
            values[:rows, :columns] = source.read(1, window=part, out_shape=(rows, columns), resampling=resampling)
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


def _likely(values: UInt8[np.ndarray, "h w"]) -> str:
    """Colour probabilities; pixels without data stay transparent."""
    levels = np.rint(np.arange(256) * ((_STEPS - 1) / TOP)).astype(np.uint8)
    levels[EMPTY] = _NOTHING
    at = np.linspace(0, 1, _STEPS)
    bands = np.array([rgba(*stop[1:]) for stop in RAMP]).T
    table = np.stack([np.rint(np.interp(at, [stop[0] for stop in RAMP], band)) for band in bands]).astype(np.uint8)
    return _png(levels[values], [*map(tuple, table.T.tolist()), (0, 0, 0, 0)])


def _png(entries: UInt8[np.ndarray, "h w"], palette: Sequence[tuple[int, ...]]) -> str:
    table = np.array(palette, np.uint8)
    image = Image.fromarray(entries)
    image.putpalette(table[:, :3].tobytes())
    done = io.BytesIO()
    image.save(done, "PNG", transparency=table[:, 3].tobytes())
    return f"data:image/png;base64,{base64.b64encode(done.getvalue()).decode()}"
