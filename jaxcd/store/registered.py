"""Registers the tiles of a place: what was taken at other times is moved onto the ground of the newest image before.

Scenes are registered by many estimates, of which the median counts (`jaxcd.sources.from_scenes.plan`). A tile has one
estimate alone, so it has to be a clear one.
"""

import dataclasses
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, UInt8
from scipy import ndimage

from jaxcd.base.scales import INVALID
from jaxcd.scenes.registration import REGISTERED, Shift, estimate
from jaxcd.sources.reading import ReadImage, ReadPlace

_CLEAR = 8.0  # least confidence of an estimate that stands alone: some of xBD's of 6 to 7 are wrong by ten pixels
MOVED = "registered to the newest image before the event"
UNMOVED = "no clear shift against the newest image before the event: left where it is"
SMALL = f"smaller than {REGISTERED} pixels: too small to be registered"

Image = TypeVar("Image", bound=ReadImage)


def registered(place: ReadPlace) -> ReadPlace:
    """Move all images of a place onto the ground of the newest one before the event.

    Labels stay where they are: those of xBD are drawn on the image before. Pixels that a moved image lacks are INVALID.

    Args:
        place: images and labels.

    Returns:
        The place, with a note for each image that says what was done.
    """
    reference = place.pre[-1].pixels
    if min(reference.shape[:2]) < REGISTERED:
        return dataclasses.replace(place, notes=(*place.notes, *[SMALL] * (len(place.pre) - 1 + len(place.post))))
    notes, seen = [], np.ones(reference.shape[:2], bool)

    def moved(image: Image) -> tuple[Image, Bool[np.ndarray, "h w"]]:
        shift = estimate(reference, image.pixels, np.ones(reference.shape[:2], bool))
        if shift.confidence < _CLEAR:
            notes.append(UNMOVED)
            return image, np.ones(reference.shape[:2], bool)
        notes.append(MOVED)
        pixels, known = _moved(image.pixels, shift)
        return dataclasses.replace(image, pixels=pixels, jpeg=None), known

    pre = []
    for image in place.pre[:-1]:
        other, known = moved(image)
        pre.append(other)
        seen &= known
    post = []
    for image in place.post:
        other, known = moved(image)
        codes = np.where(seen & known, other.codes, INVALID).astype(np.uint8)
        post.append(dataclasses.replace(other, codes=codes))
    return dataclasses.replace(place, pre=(*pre, place.pre[-1]), post=tuple(post), notes=(*place.notes, *notes))


def _moved(
    pixels: UInt8[np.ndarray, "h w 3"], shift: Shift
) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
    """Read an image at the places that are shifted by so much; return also where it has data."""
    back = (-shift.rows, -shift.columns)
    bands = [ndimage.shift(pixels[:, :, band].astype(np.float32), back, order=3, mode="nearest") for band in range(3)]
    known = ndimage.shift(np.ones(pixels.shape[:2], np.float32), back, order=1, mode="constant") > 0.999
    moved = np.clip(np.rint(np.stack(bands, axis=-1)), 0, 255).astype(np.uint8)
    return np.where(known[..., None], moved, np.uint8(0)), known
