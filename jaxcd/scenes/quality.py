"""Which tiles are worth having (filters of docs/method.md, Data processing), and where a scene is empty at its edge."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Num, UInt8
from scipy import ndimage

BLACK = 10
"""Sum of the three bands below which a pixel counts as black, and above which as seen."""


_SUMS = 3 * 255 + 1
# An empty border is a large black area that touches the edge of the scene; small ones are shadows.
_BORDER_PIXELS, _BORDER_SHARE = 16, 1e-3  # least size: in pixels, and as a share of the decimated scene


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """Limits beyond which a tile is dropped.

    Attributes:
        black: largest share of black pixels.
        snow: largest mean brightness (R + G + B, 0..765) of the seen pixels.
        variance: least variance of the grey value (0..255) of the seen pixels.
    """

    black: float = 0.05
    snow: float = 500.0
    variance: float = 0.04 * 255**2


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The statistics of a tile that the filters use.

    Attributes:
        black: share of pixels whose bands sum up to less than 10.
        brightness: mean of R + G + B over the pixels where it is above 10; 0 where there are none.
        variance: variance of (R + G + B) / 3 over the same pixels.
        valid: share of the tile with data.
    """

    black: float
    brightness: float
    variance: float
    valid: float


def statistics(
    pixels: UInt8[np.ndarray, "h w 3"], valid: Bool[np.ndarray, "h w"], inside: Bool[np.ndarray, "h w"]
) -> Statistics:
    """Compute the statistics of a tile, exactly: from a histogram of the sums R + G + B.

    Args:
        pixels: RGB; 0 where there is no data.
        valid: where there is data.
        inside: where the image covers the tile, with or without data: ground beyond it is missing (`valid`), not black.
    """
    # Band by band: a sum over the last axis takes numpy twenty times as long.
    red, green, blue = cv2.split(pixels)
    sums = red.astype(np.uint16) + green + blue
    sums = sums if inside.all() else sums[inside]
    counts = cv2.calcHist([sums], [0], None, [_SUMS], [0, _SUMS]).ravel().astype(np.int64)
    values = np.arange(_SUMS, dtype=np.float64)
    seen = counts[BLACK + 1 :]
    total = int(seen.sum())
    mean = float(seen @ values[BLACK + 1 :]) / total if total else 0.0
    variance = float(seen @ (values[BLACK + 1 :] - mean) ** 2) / total / 9 if total else 0.0
    return Statistics(
        black=float(counts[:BLACK].sum()) / max(sums.size, 1),
        brightness=mean,
        variance=variance,
        valid=float(valid.mean()) if valid.size else 0.0,
    )


def reason_to_drop(found: Statistics, limits: Thresholds) -> str:
    """Name the first filter that drops a tile (black, snow, variance), or ""."""
    if found.black > limits.black:
        return "black"
    if found.brightness > limits.snow:
        return "snow"
    if found.variance < limits.variance:
        return "variance"
    return ""


def hopeless(coarse: Statistics, limits: Thresholds) -> str:
    """Name the filter that drops a tile beyond doubt, judged by its decimated image, or "".

    Averaging keeps the mean, and nearly the share of black: with a wide margin the decision is that of the full image.
    It lowers the variance, which therefore is not tested here.
    """
    if coarse.black > limits.black + 0.25:
        return "black"
    if coarse.brightness > limits.snow + 60:
        return "snow"
    return ""


def black_pixels(bands: Sequence[np.ndarray], white: float) -> Bool[np.ndarray, "h w"]:
    """Mark pixels that are black in all bands, apart from JPEG noise.

    Args:
        bands: red, green and blue.
        white: value of white in them; 0: only pixels that are 0 in all bands are black.
    """
    red, green, blue = bands
    return np.maximum(np.maximum(red, green), blue) < max(1, white * BLACK // 3 / 255)


def empty_border(values: Num[np.ndarray, "3 h w"]) -> Bool[np.ndarray, "h w"] | None:
    """Mark the empty border of a scene that declares no nodata: black areas that touch the edge of the scene.

    Args:
        values: the whole scene, decimated, before scaling.

    Returns:
        The mask of these areas; None if there are none.
    """
    black = black_pixels(list(values), 255 if values.dtype == np.uint8 else 0)
    labels: np.ndarray = np.empty(black.shape, np.int32)
    ndimage.label(black, output=labels)
    edge: np.ndarray = np.ones(black.shape, bool)
    edge[1:-1, 1:-1] = False
    sizes = np.bincount(labels.ravel())
    least = max(_BORDER_PIXELS, _BORDER_SHARE * black.size)
    large = [label for label in np.unique(labels[edge & black]).tolist() if sizes[label] >= least]
    return np.isin(labels, large) if large else None
