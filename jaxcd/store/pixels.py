"""The size of pixels on the ground, by dataset and event, and tiles resampled to another size."""

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable

import numpy as np
from jaxtyping import UInt8

from jaxcd.base.errors import DatasetError
from jaxcd.base.types import METRES_PER_DEGREE
from jaxcd.store.manifest import Sample

_UNLIKE = 1.25
"""Ratio of the sides of pixels from which a training is warned."""


def metres_of(samples: Iterable[Sample]) -> float:
    """Return the side of a pixel in metres, as the median over places; 0 if no place has bounds."""
    sides = [
        math.sqrt((east - west) * math.cos(math.radians(north)) * (north - south) / (sample.height * sample.width))
        for sample in samples
        if sample.bounds is not None
        for west, south, east, north in [sample.bounds]
    ]
    return statistics.median(sides) * METRES_PER_DEGREE if sides else 0.0


def unlike(samples: Iterable[Sample]) -> str:
    """Say which events, or else datasets, have pixels of different size; empty if none has."""
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.event or sample.origin].append(sample)
    sizes = {name: metres for name, own in groups.items() if (metres := metres_of(own))}
    if not sizes or max(sizes.values()) < _UNLIKE * min(sizes.values()):
        return ""
    told = ", ".join(f"{metres:.2f} m in {name}" for name, metres in sorted(sizes.items(), key=lambda item: item[1]))
    return (
        f"the sides of pixels differ: {told}. Buildings of one size on the ground have several in the images; "
        "config.data.metres=M resamples all tiles to pixels of M metres"
    )


def resampled(sample: Sample, factor: float) -> Sample:
    """Return a place whose tiles become `factor` times as high and wide; its counts of pixels are estimates."""

    def count(pixels: int) -> int:
        return min(pixels, 1) if pixels * factor**2 < 1 else round(pixels * factor**2)

    post = tuple(
        dataclasses.replace(
            image,
            valid=count(image.valid),
            damaged=count(image.damaged),
            codes=tuple(count(pixels) for pixels in image.codes),
        )
        for image in sample.post
    )
    height, width = (max(round(side * factor), 1) for side in (sample.height, sample.width))
    return dataclasses.replace(sample, height=height, width=width, post=post)


def resized(pixels: UInt8[np.ndarray, "h w *c"], sample: Sample, *, codes: bool) -> UInt8[np.ndarray, "h2 w2 *c"]:
    """Resample a tile to the size of its place: images by area or bilinearly, codes by the nearest pixel.

    Raises:
        DatasetError: OpenCV is missing.
    """
    if pixels.shape[:2] == (sample.height, sample.width):
        return pixels
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise DatasetError("config.data.metres: OpenCV resamples tiles: install opencv-python-headless") from error
    smooth = cv2.INTER_AREA if sample.height < pixels.shape[0] else cv2.INTER_LINEAR
    how = cv2.INTER_NEAREST if codes else smooth
    return np.asarray(cv2.resize(pixels, (sample.width, sample.height), interpolation=how))
