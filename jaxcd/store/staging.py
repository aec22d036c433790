"""Stages one place at a time: encodes it, and keeps it in a file until all places are there."""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jaxtyping import UInt8

from jaxcd.base.files import replacing
from jaxcd.base.types import DAMAGE, INVALID
from jaxcd.sources.layouts import layout_of_tiles
from jaxcd.sources.places import SourcePlace
from jaxcd.sources.reading import ReadImage, ReadPlace, read_place
from jaxcd.store.encodings import JPEG_SIGNATURE, decode, encode_codes, encode_rgb
from jaxcd.store.manifest import Acquisition, BuildSettings, LabelledAcquisition, Sample

_HEADER = "place.json"


@dataclass(frozen=True, kw_only=True)
class StagedPlace:
    """A staged file, read without its images.

    Attributes:
        file: the staged file.
        sample: the place, or None where it is dropped (a tile of scenes that fails the filters or can't be read).
        notes: remarks on reading the images, one text per image.
        more: further facts about it.
    """

    file: Path
    sample: Sample | None
    notes: tuple[str, ...]
    more: dict

    @classmethod
    def open(cls, file: Path) -> "StagedPlace":
        """Read the header of a staged file."""
        with zipfile.ZipFile(file) as archive:
            header = json.loads(archive.read(_HEADER))
        sample = Sample.from_dict(header["sample"]) if header["sample"] else None
        return cls(file=file, sample=sample, notes=tuple(header["notes"]), more=header["more"])

    def part(self, name: str) -> bytes | None:
        """Read one of its parts, if it is there."""
        with zipfile.ZipFile(self.file) as archive:
            return archive.read(name) if name in archive.namelist() else None

    def record(self) -> dict:
        """Read the place as a record of the TFDS builder; it must not be dropped."""
        assert self.sample is not None
        with zipfile.ZipFile(self.file) as archive:
            pre = [{"image": archive.read(f"pre/{i}")} for i in range(len(self.sample.pre))]
            post = [
                {"image": archive.read(f"post/{i}"), "label": archive.read(f"label/{i}")}
                for i in range(len(self.sample.post))
            ]
        return {"id": self.sample.id, "pre": pre, "post": post}


def staged_file(place: SourcePlace, settings: BuildSettings, folder: Path) -> Path:
    """Name the staged file of a place after everything that decides its content.

    An existing file of this name is therefore finished work, and is reused after a kill; a changed source file or
    setting gives another name.
    """
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in place.files]
    return named_staged_file(folder, settings, [place.id, place.block, stats])


def named_staged_file(folder: Path, settings: BuildSettings, content: list) -> Path:
    """Name a staged file after the settings of its build and what else decides its content."""
    common = dataclasses.asdict(settings) | {
        "files": ""
    }  # `content` has the place's own files; those of other places do not count
    digits = hashlib.sha256(json.dumps([common, *content]).encode()).hexdigest()
    return folder / f"{digits[:24]}.zip"


def stage(place: SourcePlace, settings: BuildSettings, target: Path) -> None:
    """Read, check and label a place, and write it to `target`, whole or not at all.

    Raises:
        ImageError, LabelError: as `jaxcd.sources.reading.read_place`.
    """
    layout = layout_of_tiles(settings.layout)
    read = read_place(place, layout, scaling=settings.scaling, damage_levels=settings.damage_levels)
    write_staged(target, place=read, encoding=settings.encoding)


def write_staged(
    target: Path,
    *,
    place: ReadPlace | None,
    encoding: str,
    pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]] = MappingProxyType({}),
    more: dict | None = None,
) -> None:
    """Write a staged file, whole or not at all.

    Args:
        target: the file.
        place: what was read, or None where it is dropped.
        encoding: of its images (`config.data.encoding`).
        pictures: small images by name, which are kept as JPEG.
        more: further facts that JSON can hold.
    """
    sample = None if place is None else dataclasses.asdict(sample_of(place))
    notes = () if place is None else place.notes
    with replacing(target) as partial, zipfile.ZipFile(partial, "w") as archive:
        archive.writestr(_HEADER, json.dumps({"sample": sample, "notes": notes, "more": more or {}}))
        for name, pixels in pictures.items():
            archive.writestr(name, encode_rgb(pixels, "jpeg"))
        if place is not None:
            for i, image in enumerate(place.pre):
                archive.writestr(f"pre/{i}", _encoded(image, encoding))
            for i, image in enumerate(place.post):
                archive.writestr(f"post/{i}", _encoded(image, encoding))
                archive.writestr(f"label/{i}", encode_codes(image.codes))


def sample_of(place: ReadPlace) -> Sample:
    """Return what splits and batches need to know of a place."""
    height, width = place.pre[0].pixels.shape[:2]
    return Sample(
        id=place.id,
        block=place.block,
        bounds=place.bounds,
        height=height,
        width=width,
        pre=tuple(Acquisition(name=image.name, date=image.date) for image in place.pre),
        post=tuple(
            LabelledAcquisition(
                name=image.name,
                date=image.date,
                valid=int((image.codes != INVALID).sum()),
                damaged=int((image.codes == DAMAGE).sum()),
            )
            for image in place.post
        ),
    )


def _encoded(image: ReadImage, encoding: str) -> bytes:
    """Encode an image; the bytes of a JPEG are kept where `encoding` allows it and the loader can decode them."""
    if encoding in ("auto", "jpeg") and image.jpeg is not None:
        content = image.jpeg.read_bytes()
        # GDAL and OpenCV interpolate colour differently (by 1 of 255 in real imagery): only shapes can be compared.
        if content.startswith(JPEG_SIGNATURE) and decode(content).shape == image.pixels.shape:
            return content
    return encode_rgb(image.pixels, encoding)
