"""Opens a built tile dataset, or several as one: facts about places are in memory, images are read when needed."""

import bisect
import dataclasses
import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from jaxcd.base.errors import DatasetError
from jaxcd.base.files import locked
from jaxcd.base.fingerprints import digest
from jaxcd.base.scales import BINARY, SCALES, Scale
from jaxcd.config import DataConfig
from jaxcd.sources import layouts
from jaxcd.store import manifest
from jaxcd.store.encodings import decode, decode_codes
from jaxcd.store.events import with_events
from jaxcd.store.manifest import BuildSettings, Sample
from jaxcd.store.pixels import metres_of, resampled, resized, unlike
from jaxcd.store.records import open_records


class Record(NamedTuple):
    """The encoded images of a place; `label[i]` is the label of `post[i]`."""

    pre: Sequence[bytes]
    post: Sequence[bytes]
    label: Sequence[bytes]


class _Part(NamedTuple):
    """One of the datasets that a `TileDataset` joins.

    Attributes:
        path: its folder.
        first: row of its first place in the joined dataset.
        ids: ids of its places, as its records hold them.
        reading: table with the code to return for each code that its labels hold.
        records: records of its places.
    """

    path: Path
    first: int
    ids: Sequence[str]
    reading: UInt8[np.ndarray, "256"]
    records: Sequence[dict]


@dataclass(frozen=True, kw_only=True)
class TileDataset:
    """The places of a finished dataset, or of several; a row is a position in `samples`.

    Attributes:
        scale: scale in which labels are returned; they may be stored in a finer scale.
        samples: the places.
    """

    scale: Scale
    samples: tuple[Sample, ...] = field(repr=False)
    _parts: tuple[_Part, ...] = field(repr=False, compare=False)
    _names: tuple[str, ...] = field(repr=False, compare=False)
    _metres: float = field(default=0.0, repr=False, compare=False)

    @classmethod
    def open(cls, path: Path, scale: Scale | None = None) -> "TileDataset":
        """Open a dataset that `jaxcd.prepare` built; see `join` for arguments and errors."""
        return cls.join((Path(path),), scale)

    @classmethod
    def join(
        cls, paths: Sequence[Path], scale: Scale | None = None, names: Sequence[str] = (), metres: float = 0.0
    ) -> "TileDataset":
        """Open datasets that `jaxcd.prepare` built, as one.

        Args:
            paths: their folders.
            scale: scale in which labels are returned; by default the scale in which the first dataset stores them.
            names: names of the datasets, for `Sample.origin` of their places; empty for a single dataset. If several
                datasets have a place of the same id, the name is prepended to this id.
            metres: side of the pixels that tiles are resampled to; 0: they are as they were built.

        Raises:
            DatasetError: a folder is missing or holds no finished dataset, its labels cannot be read in the scale, or
                the size of its pixels is wanted and not known.
        """
        parts: list[_Part] = []
        samples: list[Sample] = []
        for path in paths:
            settings = _finished(path)
            stored = SCALES[settings.scale]
            scale = scale or stored
            reading = stored.read_as(scale)
            if reading is None:
                raise DatasetError(
                    f"{path}: holds labels of the scale {stored.name}, which cannot be read in the scale {scale.name}; "
                    f"set config.data.scale={stored.name} (jaxcd.evaluate: --scale {stored.name})"
                )
            own = manifest.read_samples(path)
            records = open_records(path)
            if len(records) != len(own):
                raise DatasetError(
                    f"{path}: {len(records)} records for {len(own)} places; delete the folder and build it anew"
                )
            parts.append(_Part(path, len(samples), [sample.id for sample in own], reading, records))
            own = [dataclasses.replace(s, event=layouts.event_of(settings.layout, s.id)) for s in own]
            own = own if scale == stored else [sample.read_as(reading, scale) for sample in own]
            if metres:
                factor = metres_of(own) / metres
                if not factor:
                    raise DatasetError(
                        f"{path}: none of its places has bounds, so the size of its pixels is not known; "
                        "config.data.metres cannot be used with it"
                    )
                own = [resampled(sample, factor) for sample in own]
            samples += own
        assert scale is not None  # there is at least one dataset
        if names:
            origins = [name for part, name in zip(parts, names, strict=True) for _ in part.ids]
            counts = Counter(sample.id for sample in samples)
            samples = [
                dataclasses.replace(
                    sample,
                    origin=origin,
                    event=sample.event or origin,
                    id=f"{origin}/{sample.id}" if counts[sample.id] > 1 else sample.id,
                )
                for sample, origin in zip(samples, origins, strict=True)
            ]
        return cls(scale=scale, samples=tuple(samples), _parts=tuple(parts), _names=tuple(names), _metres=metres)

    def __reduce__(self):
        # Files cannot be sent to loader processes: each process opens them again.
        return TileDataset.join, (self.paths, self.scale, self._names, self._metres)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Folders of the joined datasets."""
        return tuple(part.path for part in self._parts)

    @property
    def where(self) -> str:
        """Folders of the datasets as one text, for messages."""
        return ", ".join(map(str, self.paths))

    @property
    def positive_unlabelled(self) -> bool:
        """Whether much of its damage is unlabelled, so that precision means nothing."""
        return any(manifest.read_settings(path).scenes.get("positive_unlabelled") for path in self.paths)

    @property
    def metres(self) -> float:
        """Side of a pixel in metres, as the median over all places; 0 if no place has bounds."""
        return metres_of(self.samples)

    def warnings(self, rows: Sequence[int]) -> list[str]:
        """Say what should not differ between the datasets and events of some places: size of pixels, scale of labels.

        Args:
            rows: of the places.
        """
        scales = {path.name: manifest.read_settings(path).scale for path in self.paths}
        found = [unlike([self.samples[row] for row in rows])]
        if len(set(scales.values())) > 1:
            told = ", ".join(f"{scale} in {name}" for name, scale in scales.items())
            found.append(f"the scales of labels differ: {told}; all are read as {self.scale.name}")
        return [text for text in found if text]

    def digest(self) -> str:
        """Return a digest of the dataset's places and labels: eight hexadecimal digits."""
        return digest([sample.as_dict() for sample in self.samples], digits=manifest.DIGITS)

    def damage(self, codes: UInt8[np.ndarray, "*s"]) -> UInt8[np.ndarray, "*s"]:
        """Return the codes of `binary` for codes of the dataset's scale."""
        reading = self.scale.read_as(BINARY)
        assert reading is not None  # every scale can be read as `binary`
        return reading[codes] if self.scale.buildings else codes

    def read(self, row: int) -> Record:
        """Read the encoded images and labels of a place.

        Raises:
            DatasetError: the record belongs to another place.
        """
        part = self._part(row)
        record, place = part.records[row - part.first], part.ids[row - part.first]
        if record["id"].decode() != place:
            raise DatasetError(
                f"{part.path}: record {row - part.first} is not that of place {place!r}; build the dataset anew"
            )
        return Record(pre=record["pre"]["image"], post=record["post"]["image"], label=record["post"]["label"])

    def image(self, row: int, content: bytes) -> UInt8[np.ndarray, "h w 3"]:
        """Decode an image of a place's record."""
        return resized(decode(content), self.samples[row], codes=False)

    def codes(self, row: int, label: bytes) -> UInt8[np.ndarray, "h w"]:
        """Decode a label of a place's record as codes of the scale."""
        return resized(decode_codes(label, self._part(row).reading), self.samples[row], codes=True)

    def _part(self, row: int) -> _Part:
        return self._parts[bisect.bisect_right([part.first for part in self._parts], row) - 1]


def _finished(path: Path) -> BuildSettings:
    """Return the settings of a finished dataset; raise an error if the folder holds none."""
    if not path.is_dir():
        raise DatasetError(f"{path}: no such folder, expected a dataset built by python -m jaxcd.prepare")
    if not manifest.is_complete(path):
        state = "the build was not finished; run the same command again" if (path / "staging").is_dir() else ""
        hint = state or "build one with python -m jaxcd.prepare --layout LAYOUT --source DIR --out DIR"
        raise DatasetError(f"{path}: not a finished dataset (no {manifest.MARKER}); {hint}")
    return manifest.read_settings(path)


def open_or_build(data: DataConfig) -> TileDataset:
    """Open the dataset of a configuration. The dataset of a source folder is built in `data.cache` on first use.

    If the configuration has several roots, their datasets are joined.

    Raises:
        ConfigError: labels of the layout cannot be read in `data.scale`.
        DatasetError: the layout is prepared, and `data.root` holds no finished dataset, or one that was built without
            the registration that is wanted; it holds one, and the layout is another; its labels cannot be read in
            `data.scale`; or the table of events does not fit.
        LayoutError, ImageError, LabelError, DiskFullError: see `jaxcd.store.build.build`.
    """
    layouts.check(data.layout, data.scale)
    paths = [_found_or_built(dataclasses.replace(data, root=root, weights=())) for root in data.roots]
    names = [Path(root).name for root in data.roots] if len(paths) > 1 else []
    dataset = TileDataset.join(paths, SCALES[data.scale], names, data.metres)
    if data.events:
        dataset = dataclasses.replace(dataset, samples=with_events(dataset.samples, Path(data.events)))
    if data.layout != layouts.PREPARED:
        print(f"tiles: {dataset.where}, {len(dataset.samples)} places", flush=True)
    return dataset


def _found_or_built(data: DataConfig) -> Path:
    """Return the folder of the dataset of a single root; build the dataset if needed."""
    root = Path(data.root)
    if data.layout == layouts.PREPARED:
        if data.register and not _finished(root).registers:
            raise DatasetError(
                f"{root}: was built without registration; build it with jaxcd.prepare --register, or set "
                "config.data.register=False"
            )
        return root
    if manifest.is_complete(root):
        raise DatasetError(f"{root}: is a built dataset; set config.data.layout=prepared (it is {data.layout!r})")
    settings = BuildSettings.of(data)
    stem = f"{data.layout}-{Path(settings.source).name}-{settings.fingerprint()}"
    out = Path(data.cache) / (f"{stem}-{settings.files}" if settings.files else stem)
    if not settings.files and data.layout != layouts.SIMULATED:
        out = _last_built(Path(data.cache), stem) or out
    if not manifest.is_complete(out):
        from jaxcd.store.build import REPORT, build  # imported here: loader processes import this file, and never build

        # During the build, the folder's name does not depend on the source's files. So if a bad file ends the build and
        # is corrected, the finished pieces of other files are reused.
        unfinished = out.with_name(f"{stem}.building")
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        with locked(out.with_name(f".{stem}.lock"), waiting=f"{out}: another process is building it; waiting for it"):
            if not manifest.is_complete(out):
                print(f"First use of {root} with its present files: building its tile dataset in {out}", flush=True)
                report = build(data, unfinished)
                unfinished.rename(out)
                print(report.describe(out / REPORT), flush=True)
    return out


def _last_built(cache: Path, stem: str) -> Path | None:
    """Return the newest dataset that was built from a source whose folder no longer exists, or None."""
    built = [folder for folder in cache.glob(f"{glob.escape(stem)}-*") if manifest.is_complete(folder)]
    if not built:
        return None
    last = max(built, key=lambda folder: (folder / manifest.MARKER).stat().st_mtime)
    print(f"the source folder of {last} is gone; using the dataset that was built from it", flush=True)
    return last
