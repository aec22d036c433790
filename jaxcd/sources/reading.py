"""Reads places: their images, and labels that give each pixel a class; all have one size."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from jaxcd.base.errors import ImageError
from jaxcd.base.scales import INVALID
from jaxcd.base.types import Bounds
from jaxcd.config import check_scaling
from jaxcd.scenes.raster import Raster, read_rgb
from jaxcd.sources.geolocation import bounds_of_raster
from jaxcd.sources.labels import check_size
from jaxcd.sources.places import LabelRules, Layout, SourcePlace


class Label(NamedTuple):
    """The content of an image's label file.

    Attributes:
        codes: code of each pixel in a scale.
        date: date of the image, as text that sorts by time, or "".
        bounds: where the image lies, or None if the label file does not hold it.
    """

    codes: UInt8[np.ndarray, "h w"]
    date: str
    bounds: Bounds | None


@dataclass(frozen=True, kw_only=True)
class ReadImage:
    """An image of a place, as it was read.

    Attributes:
        name: its file's stem.
        date: text that sorts by time, or "".
        pixels: RGB.
        jpeg: path of a JPEG file with exactly these pixels, whose bytes can be kept; None if there is no such file.
    """

    name: str
    date: str
    pixels: UInt8[np.ndarray, "h w 3"]
    jpeg: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ReadPost(ReadImage):
    """An image after the event, with a code of a scale for each pixel."""

    codes: UInt8[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class ReadPlace:
    """A place with its images, all of one size, oldest first.

    Attributes:
        id: unique in its source.
        block: spatial block given by the source, or None.
        bounds: where it lies, or None if unknown; always None if the place is a part of larger images.
        pre: images before the event.
        post: labelled images after the event.
        notes: remarks on reading the images.
        split: train, validation or test where the source has a published split, or None.
    """

    id: str
    block: str | None
    bounds: Bounds | None
    pre: tuple[ReadImage, ...]
    post: tuple[ReadPost, ...]
    notes: tuple[str, ...] = ()
    split: str | None = None


def read_place(place: SourcePlace, layout: Layout, *, scaling: str, rules: LabelRules) -> ReadPlace:
    """Read, check and label a place.

    A pixel is INVALID where the post image or any of the pre images has no data.

    Args:
        place: the place's files.
        layout: the layout, which reads the labels.
        scaling: how 16-bit and float images become 8 bits (`config.data.scaling`).
        rules: how labels are read.

    Raises:
        ImageError: an image or mask breaks the input contract, or sizes differ: from each other, or from the size that
            the published split expects.
        LabelError: a label file can't be read as classes of the scale.
    """
    how = check_scaling(scaling, "config.data.scaling")
    first, part = place.pre[0].file, place.part
    window = (slice(None), slice(None)) if part is None else part.window
    seen: Bool[np.ndarray, "h w"] = np.ones((), bool)
    bounds = size = None
    pre, post, notes = [], [], []
    for image in place.pre:
        raster = read_rgb(image.file, scaling=how)
        size = size or raster.valid.shape
        if part is not None and size != part.image:
            raise ImageError(
                f"{image.file}: {size[0]} x {size[1]} pixels, but the published split is defined on images of "
                f"{part.image[0]} x {part.image[1]}; use the benchmark's own files"
            )
        check_size(image.file, raster.valid.shape, first, size)
        seen = seen & raster.valid
        bounds = bounds or bounds_of_raster(raster)
        notes.append(raster.note)
        jpeg = _jpeg(image.file, raster) if part is None else None
        pre.append(ReadImage(name=image.file.stem, date=image.date, pixels=raster.pixels[window], jpeg=jpeg))
    assert size is not None  # a place has a pre image
    for image in place.post:
        raster = read_rgb(image.file, scaling=how)
        check_size(image.file, raster.valid.shape, first, size)
        label = layout.read_label(image, size, rules)
        codes = np.where(seen & raster.valid, label.codes, INVALID).astype(np.uint8)[window]
        bounds = bounds or bounds_of_raster(raster) or label.bounds
        notes.append(raster.note)
        jpeg = _jpeg(image.file, raster) if part is None else None
        pixels = raster.pixels[window]
        post.append(ReadPost(name=image.file.stem, date=label.date, pixels=pixels, jpeg=jpeg, codes=codes))
    return ReadPlace(
        id=place.id,
        block=place.block,
        split=place.split,
        bounds=bounds if part is None else None,
        pre=tuple(pre),
        post=tuple(post),
        notes=tuple(note for note in notes if note),
    )


def _jpeg(file: Path, raster: Raster) -> Path | None:
    """Return the file if it is a JPEG of which all pixels and bands were used; else None."""
    whole = not raster.note and bool(raster.valid.all())
    return file if whole and file.suffix.lower() in (".jpg", ".jpeg") else None
