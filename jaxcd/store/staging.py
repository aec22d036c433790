"""Stages a dataset in pieces: reads and encodes consecutive places, and writes them as one shard of records."""

import dataclasses
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from jaxcd.base.files import replacing
from jaxcd.base.fingerprints import digest, file_state
from jaxcd.base.processes import check_wanted
from jaxcd.base.scales import INVALID, SCALES, UNKNOWN, Scale
from jaxcd.sources.layouts import layout_of_tiles
from jaxcd.sources.places import LabelRules, SourcePlace
from jaxcd.sources.reading import ReadImage, ReadPlace, read_place
from jaxcd.store.encodings import JPEG_SIGNATURE, decode, encode_codes, encode_rgb
from jaxcd.store.manifest import Acquisition, BuildSettings, LabelledAcquisition, Sample
from jaxcd.store.records import SUFFIX, Shard, write_shard
from jaxcd.store.registered import registered

_HEADERS = "places.json"
# Most bytes of images in a piece. A worker that is killed loses the work on one piece, a few seconds. Still, staging a
# piece takes longer than starting a worker.
_PIECE = 16 * 2**20
# A process that reads a dataset keeps each of its shards open, and many systems allow 1024 open files.
_MOST_PIECES = 256
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class FoundPlace:
    """A place that was read, to be written to a piece.

    Attributes:
        place: images and labels, or None if it is dropped (a tile of scenes that fails the filters or can't be read).
        pictures: thumbnails by name, which are kept as JPEG.
        more: further facts, as values that JSON can hold.
    """

    place: ReadPlace | None
    pictures: Mapping[str, UInt8[np.ndarray, "h w 3"]] = field(default_factory=dict)
    more: dict = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StagedPlace:
    """A place of a staged piece, without its images.

    Attributes:
        sample: the place, or None if it is dropped.
        notes: remarks on reading the images, one text per image.
        more: further facts about it.
    """

    sample: Sample | None
    notes: tuple[str, ...]
    more: dict
    _facts: Path
    _number: int

    def picture(self, name: str) -> bytes | None:
        """Return one of its thumbnails as JPEG, or None if it has none of this name."""
        with zipfile.ZipFile(self._facts) as archive:
            path = f"{self._number}/{name}"
            return archive.read(path) if path in archive.namelist() else None


@dataclass(frozen=True, kw_only=True)
class Staged:
    """All places of a dataset by id, kept or dropped, and the shards of their records."""

    places: list[StagedPlace]
    shards: list[Shard]


@dataclass(frozen=True)
class Piece:
    """Consecutive places of a dataset, in two files: a shard with the records of the kept places, and facts about all.

    Attributes:
        stem: path of both files without their suffixes.
        length: number of places.
    """

    stem: Path
    length: int

    @classmethod
    def of(cls, contents: Sequence, settings: BuildSettings, folder: Path) -> "Piece":
        """Name a piece by a digest of everything that decides its content.

        So files of this name hold finished work, which a later build reuses. If a source file or a setting changes, the
        name changes too.

        Args:
            contents: for each place, the facts that decide its content in addition to the settings, as JSON values.
            settings: settings of the build.
            folder: where its files lie.
        """
        # `settings.files` is left out: `contents` covers the files of these places, and other files do not matter here.
        common = dataclasses.asdict(settings) | {"files": ""}
        return cls(folder / digest([common, contents], digits=24), len(contents))

    @property
    def shard(self) -> Path:
        """The shard of its records."""
        return self.stem.with_suffix(SUFFIX)

    @property
    def facts(self) -> Path:
        """The file of facts; it is written after the shard."""
        return self.stem.with_suffix(".zip")

    @property
    def is_staged(self) -> bool:
        """Whether the piece is finished."""
        return self.facts.is_file() and self.shard.is_file()

    def places(self) -> list[StagedPlace]:
        """Read the facts about its places."""
        with zipfile.ZipFile(self.facts) as archive:
            headers = json.loads(archive.read(_HEADERS))
        return [
            StagedPlace(
                sample=Sample.from_dict(header["sample"]) if header["sample"] else None,
                notes=tuple(header["notes"]),
                more=header["more"],
                _facts=self.facts,
                _number=number,
            )
            for number, header in enumerate(headers)
        ]


def cut(places: Sequence[T], size: int) -> list[Sequence[T]]:
    """Cut places into pieces.

    All pieces but the last have the same length, a power of two. After a small change of the source, this length
    usually stays the same, so most pieces can be reused.

    Args:
        places: all places of a dataset.
        size: number of bytes of all their images (files of tiles, or pixels of scenes).
    """
    fitting = _PIECE * len(places) // max(size, 1)
    length = 1
    while 2 * length <= fitting or length * _MOST_PIECES < len(places):
        length *= 2
    return [places[start : start + length] for start in range(0, len(places), length)]


def stage_all(jobs: Sequence[tuple], run_all: Callable[..., None], *, unit: str, folder: Path) -> Staged:
    """Stage the pieces that are not staged yet.

    Args:
        jobs: for each piece, in order, a tuple of a function, the piece, and further arguments of the function.
        run_all: runs jobs in processes (`jaxcd.store.build.run_all`) or on Beam.
        unit: name of a place on the progress bar, such as tile.
        folder: the dataset's folder.
    """
    pieces: list[Piece] = [piece for _, piece, *_ in jobs]
    todo = [job for job in jobs if not job[1].is_staged]
    lengths = [piece.length for _, piece, *_ in todo]
    total = sum(piece.length for piece in pieces)
    run_all(todo, lengths, total=total, title="Staging", unit=unit, folder=folder)
    finished = [(piece, piece.places()) for piece in pieces]
    return Staged(
        places=[place for _, places in finished for place in places],
        shards=[Shard(piece.shard, sum(place.sample is not None for place in places)) for piece, places in finished],
    )


def piece_of_tiles(places: Sequence[SourcePlace], settings: BuildSettings, folder: Path) -> Piece:
    """Return the piece that consecutive places of a layout of tiles form."""
    contents = [
        [place.id, place.block, place.part, place.split, [file_state(file, str(file)) for file in place.files]]
        for place in places
    ]
    return Piece.of(contents, settings, folder)


def stage(piece: Piece, places: Sequence[SourcePlace], settings: BuildSettings) -> None:
    """Read, check and label places, and write them as a piece, whole or not at all.

    Raises:
        ImageError, LabelError: see `jaxcd.sources.reading.read_place`.
    """
    layout = layout_of_tiles(settings.layout)
    rules = LabelRules(SCALES[settings.scale], settings.damage_levels)

    def read(place: SourcePlace) -> ReadPlace:
        found = read_place(place, layout, scaling=settings.scaling, rules=rules)
        return registered(found) if settings.register else found

    write_piece(piece, (FoundPlace(place=read(place)) for place in places), settings.encoding, rules.scale)


def write_piece(piece: Piece, places: Iterable[FoundPlace], encoding: str, scale: Scale) -> None:
    """Write a piece, whole or not at all.

    Args:
        piece: the piece, which says where its files lie.
        places: places in the order of their records; one of them is in memory at a time.
        encoding: how images are encoded (`config.data.encoding`).
        scale: scale of the labels.

    Raises:
        Unwanted: the build has ended meanwhile, by an error or a signal.
    """
    check_wanted()
    headers = []

    def records(archive: zipfile.ZipFile) -> Iterator[dict]:
        for number, found in enumerate(places):
            check_wanted()
            sample = None if found.place is None else sample_of(found.place, scale).as_dict()
            notes = () if found.place is None else found.place.notes
            headers.append({"sample": sample, "notes": notes, "more": found.more})
            for name, pixels in found.pictures.items():
                archive.writestr(f"{number}/{name}", encode_rgb(pixels, "jpeg"))
            if found.place is not None:
                yield _record(found.place, encoding)

    with replacing(piece.facts) as partial, zipfile.ZipFile(partial, "w") as archive:
        write_shard(piece.shard, records(archive))
        archive.writestr(_HEADERS, json.dumps(headers))


def _record(place: ReadPlace, encoding: str) -> dict:
    pre = [{"image": _encoded(image, encoding)} for image in place.pre]
    post = [{"image": _encoded(image, encoding), "label": encode_codes(image.codes)} for image in place.post]
    return {"id": place.id, "pre": pre, "post": post}


def sample_of(place: ReadPlace, scale: Scale) -> Sample:
    """Return the sample of a place: the facts that splits and batches need; `scale` is that of its labels."""
    height, width = place.pre[0].pixels.shape[:2]
    return Sample(
        id=place.id,
        block=place.block,
        split=place.split,
        bounds=place.bounds,
        height=height,
        width=width,
        pre=tuple(Acquisition(name=image.name, date=image.date) for image in place.pre),
        post=tuple(
            LabelledAcquisition(
                name=image.name,
                date=image.date,
                valid=int((image.codes != INVALID).sum()),
                damaged=int(scale.is_damaged(image.codes).sum()),
                codes=_count(image.codes, scale) if scale.buildings else (),
            )
            for image in place.post
        ),
    )


def _count(codes: UInt8[np.ndarray, "h w"], scale: Scale) -> tuple[int, ...]:
    """Count the pixels of each code of a scale, then those of buildings of unknown level."""
    counts = np.bincount(codes.ravel(), minlength=256)
    return (*counts[: len(scale.codes)].tolist(), int(counts[UNKNOWN]))


def _encoded(image: ReadImage, encoding: str) -> bytes:
    """Encode an image; the bytes of a JPEG are kept where `encoding` allows it and the loader can decode them."""
    if encoding in ("auto", "jpeg") and image.jpeg is not None:
        content = image.jpeg.read_bytes()
        # Only shapes are compared: GDAL and OpenCV interpolate colours differently, by up to 1 of 255 in real imagery.
        if content.startswith(JPEG_SIGNATURE) and decode(content).shape == image.pixels.shape:
            return content
    return encode_rgb(image.pixels, encoding)
