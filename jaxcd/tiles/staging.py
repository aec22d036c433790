"""One place at a time: read, validate, label, encode, and set aside in a file until all places are there."""

import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8

from jaxcd.config import check_scaling
from jaxcd.files import replacing
from jaxcd.scenes.raster import Raster, read_rgb
from jaxcd.tiles import geolocation
from jaxcd.tiles.encodings import JPEG_SIGNATURE, decode, encode_codes, encode_rgb
from jaxcd.tiles.labels import check_size, rasterise_xbd, read_mask_codes, read_xbd
from jaxcd.tiles.layouts import SourcePlace, SourcePost
from jaxcd.tiles.manifest import Acquisition, Bounds, BuildSettings, LabelledAcquisition, Sample
from jaxcd.types import DAMAGE, INVALID

_HEADER = "place.json"


@dataclass(frozen=True, kw_only=True)
class StagedPlace:
    """A staged file, read without its images.

    Attributes:
        file: the staged file.
        sample: the place, or None where it is dropped (a tile of a scene that is not worth having).
        notes: what the reader of the images had to say, one text an image.
        more: what else there is to say of it.
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


def source_files(place: SourcePlace) -> list[Path]:
    """List the images and labels that a place is made of."""
    return [image.file for image in (*place.pre, *place.post)] + [post.label for post in place.post]


def staged_file(place: SourcePlace, settings: BuildSettings, folder: Path) -> Path:
    """Name the staged file of a place after everything that decides its content.

    A file of this name is therefore finished work: after a kill it is taken as it is, while a source file that has
    changed, or another setting, gives another name.
    """
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in source_files(place)]
    common = dataclasses.asdict(settings) | {"files": ""}  # its own files count, not those of other places
    content = json.dumps([common, place.id, place.block, stats])
    return folder / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.zip"


def stage(place: SourcePlace, settings: BuildSettings, target: Path) -> None:
    """Read, validate and label a place, and write it to `target`, whole or not at all.

    A pixel is INVALID where the post image or any of the pre images has no data.

    Raises:
        ImageError: an image or mask outside the input contract, or images of different sizes.
        LabelError: a label that does not say what is damaged.
    """
    scaling = check_scaling(settings.scaling, "config.data.scaling")
    first = place.pre[0].file
    parts: dict[str, bytes] = {}
    notes, pre, post = [], [], []
    seen: Bool[np.ndarray, "h w"] = np.ones((), bool)
    bounds = size = None
    for i, image in enumerate(place.pre):
        raster = read_rgb(image.file, scaling=scaling)
        size = size or raster.valid.shape
        check_size(image.file, raster.valid.shape, first, size)
        seen = seen & raster.valid
        bounds = bounds or geolocation.bounds_of_raster(raster)
        notes.append(raster.note)
        parts[f"pre/{i}"] = _encoded(image.file, raster, settings.encoding)
        pre.append(Acquisition(name=image.file.stem, date=image.date))
    assert size is not None  # a place has a pre image
    for i, image in enumerate(place.post):
        raster = read_rgb(image.file, scaling=scaling)
        check_size(image.file, raster.valid.shape, first, size)
        codes, date, bounds_of_label = _labelled(image, size, settings)
        codes[~(seen & raster.valid)] = INVALID
        bounds = bounds or geolocation.bounds_of_raster(raster) or bounds_of_label
        notes.append(raster.note)
        parts[f"post/{i}"], parts[f"label/{i}"] = _encoded(image.file, raster, settings.encoding), encode_codes(codes)
        valid, damaged = int((codes != INVALID).sum()), int((codes == DAMAGE).sum())
        post.append(LabelledAcquisition(name=image.file.stem, date=date, valid=valid, damaged=damaged))
    sample = Sample(
        id=place.id, block=place.block, bounds=bounds, height=size[0], width=size[1], pre=tuple(pre), post=tuple(post)
    )
    write_staged(target, sample=sample, notes=[note for note in notes if note], parts=parts, more={})


def _labelled(
    image: SourcePost, size: tuple[int, int], settings: BuildSettings
) -> tuple[UInt8[np.ndarray, "h w"], str, Bounds | None]:
    if settings.layout != "xbd":
        codes = read_mask_codes(image.label)
        check_size(image.label, codes.shape, image.file, size)
        return codes, image.date, None
    label = read_xbd(image.label)
    check_size(image.label, label.size or size, image.file, size)
    height, width = size
    codes = rasterise_xbd(label, height=height, width=width, damage_levels=settings.damage_levels)
    return codes, label.date, geolocation.bounds_of_label(label, height=height, width=width)


def _encoded(file: Path, raster: Raster, encoding: str) -> bytes:
    """Encode an image; a JPEG keeps its bytes where that is asked for and the loader decodes them to what was read."""
    if encoding in ("auto", "jpeg") and file.suffix.lower() in (".jpg", ".jpeg"):
        content = file.read_bytes()
        # GDAL and OpenCV interpolate colour differently (by 1 of 255 in real imagery): only shapes can be compared.
        if (
            content.startswith(JPEG_SIGNATURE)
            and decode(content).shape == raster.pixels.shape
            and not raster.note
            and raster.valid.all()
        ):
            return content
    return encode_rgb(raster.pixels, encoding)


def write_staged(
    target: Path, *, sample: Sample | None, notes: Sequence[str], parts: dict[str, bytes], more: dict
) -> None:
    """Write a staged file, whole or not at all: what `StagedPlace` says of it, and its images and labels."""
    known = None if sample is None else dataclasses.asdict(sample)
    with replacing(target) as partial, zipfile.ZipFile(partial, "w") as archive:
        archive.writestr(_HEADER, json.dumps({"sample": known, "notes": notes, "more": more}))
        for name, content in parts.items():
            archive.writestr(name, content)
