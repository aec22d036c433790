"""Estimates the shift between two images of a place: phase correlation of gradient directions, robust to change.

Both images are cut into many overlapping patches, and the cross-power spectra of the patches are summed. Unchanged
ground adds up to a peak at the shift, changed ground adds up to noise. The method uses the directions of gradients and
not their strengths, so light and season hardly matter (orientation correlation: Fitch, Kadyrov, Christmas, Kittler
2002).
"""

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Complex, Float, UInt8
from scipy import fft, ndimage

LARGEST = 32
"""Largest shift that can be found, in pixels."""
REGISTERED = 512
"""Least side, in pixels, of images that a shift is estimated from: with 256, most estimates are rejected."""

_ACCEPTED = 6.0  # least confidence of an estimate that is used
_LARGEST_DEVIATION = 8.0  # pixels; an estimate that lies further from the median of its image is not used
_PATCH = 256
_LEAST_SIDE = 64  # pixels; smaller images are not correlated
_SMOOTHING = 1.5  # standard deviation of the Gaussian filter in pixels
# Gradients whose strength lies below this share of the median are noise, and their directions random.
_FAINT = 0.5
_NEAR = 3  # pixels around the peak that do not count as noise


class Shift(NamedTuple):
    """Where the content of one image lies in another.

    Attributes:
        rows: pixels further down.
        columns: pixels further right.
        confidence: height of the peak above the mean noise, in standard deviations of the noise; 0 means no estimate.
    """

    rows: float
    columns: float
    confidence: float


def estimate(
    pre: UInt8[np.ndarray, "h w 3"],
    post: UInt8[np.ndarray, "h w 3"],
    valid: Bool[np.ndarray, "h w"],
) -> Shift:
    """Estimate where the content of `pre` lies in `post`.

    Args:
        pre: RGB.
        post: RGB, of the same grid.
        valid: where both have data.

    Returns:
        The shift, to a fraction of a pixel. Its confidence is 0 if none could be estimated.
    """
    if min(valid.shape) < _LEAST_SIDE:
        return Shift(0.0, 0.0, 0.0)
    same = _unmoving(pre, post)
    first, second = (_directions(image, valid & ~same) for image in (pre, post))
    surface = _correlation(first, second)
    return _peak(surface)


def believed(shift: Shift) -> bool:
    """Return whether an estimate can be used: its peak stands out of the noise."""
    return shift.confidence >= _ACCEPTED


class View(NamedTuple):
    """The same window of two images that share a grid.

    Attributes:
        pre: RGB.
        post: RGB.
        valid: where both have data.
    """

    pre: UInt8[np.ndarray, "h w 3"]
    post: UInt8[np.ndarray, "h w 3"]
    valid: Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class Registration:
    """The shift of an image, estimated in several of its windows."""

    estimates: tuple[Shift, ...]

    @functools.cached_property
    def believed(self) -> Float[np.ndarray, "n 2"]:
        """Rows and columns of the estimates that are believed."""
        return np.array([shift[:2] for shift in self.estimates if believed(shift)]).reshape(-1, 2)

    @functools.cached_property
    def middle(self) -> tuple[float, float]:
        """Median rows and columns of the believed estimates; zeros if none is believed."""
        values = self.believed
        rows, columns = np.median(values, axis=0) if len(values) else (0.0, 0.0)
        return float(rows), float(columns)

    @property
    def spread(self) -> float:
        """Distance in pixels from the median within which 90 % of the believed estimates lie; 0 if none is believed."""
        values = self.believed
        return float(np.percentile(np.hypot(*(values - self.middle).T), 90)) if len(values) else 0.0

    def near_middle(self, estimate: Shift) -> bool:
        """Return whether an estimate is believed and lies near the median of the believed ones."""
        return believed(estimate) and math.dist(estimate[:2], self.middle) <= _LARGEST_DEVIATION


def register(views: Iterable[View | None]) -> Registration:
    """Estimate the shift of an image in several of its windows.

    Args:
        views: the windows, read one at a time; None for a window with too little data.
    """
    return Registration(tuple(Shift(0.0, 0.0, 0.0) if view is None else estimate(*view) for view in views))


def _directions(image: UInt8[np.ndarray, "h w 3"], usable: Bool[np.ndarray, "h w"]) -> Complex[np.ndarray, "h w"]:
    grey = ndimage.gaussian_filter(image.astype(np.float32).mean(axis=2), _SMOOTHING)
    rows, columns = (ndimage.sobel(grey, axis) for axis in (0, 1))
    strength = np.hypot(rows, columns)
    usable = ndimage.binary_erosion(usable, iterations=6, border_value=1)
    floor = _FAINT * float(np.median(strength[usable])) if usable.any() else 0.0
    # Gradients above the noise get nearly full weight, weaker ones less: division by the strength alone would make
    # noise as strong as edges.
    return np.where(usable, (columns + 1j * rows) / (strength + floor + 1e-3), 0).astype(np.complex64)


def _unmoving(pre: np.ndarray, post: np.ndarray) -> Bool[np.ndarray, "h w"]:
    """Mark pixels that are equal in both images, such as a provider's watermark: they would pull the estimate to 0."""
    same = np.abs(pre.astype(np.int16) - post).max(axis=2) <= 3
    return ndimage.binary_dilation(ndimage.binary_opening(same, np.ones((3, 3), bool)), iterations=4)


def _correlation(first: Complex[np.ndarray, "h w"], second: Complex[np.ndarray, "h w"]) -> Float[np.ndarray, "n n"]:
    """Sum the correlations of all patches; element (LARGEST + r, LARGEST + c) belongs to shift (r, c)."""
    height, width = first.shape
    size = min(_PATCH, height, width)
    taper = np.outer(*(np.hanning(size + 2)[1:-1],) * 2).astype(np.float32)
    total = np.zeros((size, size), np.complex64)
    for top in _starts(height, size):
        for left in _starts(width, size):
            window = slice(top, top + size), slice(left, left + size)
            first_spectrum, second_spectrum = (np.asarray(fft.fft2(image[window] * taper)) for image in (first, second))
            power = np.conj(first_spectrum) * second_spectrum
            total += power / (np.abs(power).mean() + 1e-6)
    # The spectrum is whitened in part. Fully whitened, noise would count as much as structure; not whitened, long
    # edges would blur the peak.
    total /= np.sqrt(np.abs(total)) + 1e-6
    surface = np.fft.fftshift(np.real(np.asarray(fft.ifft2(total))))
    middle, reach = size // 2, min(LARGEST, size // 2 - 1)
    return surface[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]


def _starts(length: int, size: int) -> Sequence[int]:
    """Return the first rows (or columns) of patches that overlap by at least half."""
    count = max(1, -(-(length - size) // (size // 2)) + 1)
    return np.linspace(0, length - size, count).astype(int).tolist()


def _peak(surface: Float[np.ndarray, "n n"]) -> Shift:
    reach = surface.shape[0] // 2
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    row, column = int(row), int(column)
    away = np.ones(surface.shape, bool)
    away[max(0, row - _NEAR) : row + _NEAR + 1, max(0, column - _NEAR) : column + _NEAR + 1] = False
    noise = surface[away]
    spread = float(noise.std())
    if spread <= 0 or not 0 < row < 2 * reach or not 0 < column < 2 * reach:
        return Shift(0.0, 0.0, 0.0)
    confidence = (float(surface[row, column]) - float(noise.mean())) / spread
    return Shift(
        row - reach + _vertex(surface[row - 1 : row + 2, column]),
        column - reach + _vertex(surface[row, column - 1 : column + 2]),
        confidence,
    )


def _vertex(values: Float[np.ndarray, "3"]) -> float:
    """Return the offset of a parabola's top from the middle one of three values."""
    before, middle, after = (float(value) for value in values)
    bend = before - 2 * middle + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
