"""A built tile dataset: its places in memory, its images read by random access."""

import glob
import math
import statistics
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
from jaxcd.base.types import METRES_PER_DEGREE
from jaxcd.config import DataConfig
from jaxcd.sources import layouts
from jaxcd.store import manifest
from jaxcd.store.encodings import decode_codes
from jaxcd.store.manifest import BuildSettings, Sample
from jaxcd.store.records import open_records


class Record(NamedTuple):
    """The encoded images of a place: `post[i]` is labelled by `label[i]`."""

    pre: Sequence[bytes]
    post: Sequence[bytes]
    label: Sequence[bytes]


@dataclass(frozen=True, kw_only=True)
class TileDataset:
    """Places of a finished dataset; a row is a position in `samples`.

    Attributes:
        path: its folder.
        scale: of the labels that it gives; they may be stored in a finer one.
        samples: its places.
    """

    path: Path
    scale: Scale
    samples: tuple[Sample, ...] = field(repr=False)
    _reading: UInt8[np.ndarray, "256"] = field(repr=False, compare=False)
    _records: Sequence[dict] = field(repr=False, compare=False)

    @classmethod
    def open(cls, path: Path, scale: Scale | None = None) -> "TileDataset":
        """Open a dataset that `jaxcd.prepare` built.

        Args:
            path: its folder.
            scale: to read its labels in; by default the one they are stored in.

        Raises:
            DatasetError: the folder is missing, unfinished, or no dataset, or its labels cannot be read in the scale.
        """
        path = Path(path)
        if not path.is_dir():
            raise DatasetError(f"{path}: no such folder, expected a dataset built by python -m jaxcd.prepare")
        if not manifest.is_complete(path):
            state = "the build was not finished; run the same command again" if (path / "staging").is_dir() else ""
            hint = state or "build one with python -m jaxcd.prepare --layout LAYOUT --source DIR --out DIR"
            raise DatasetError(f"{path}: not a finished dataset (no {manifest.MARKER}); {hint}")
        stored = SCALES[manifest.read_settings(path).scale]
        reading = stored.read_as(scale or stored)
        if reading is None:
            raise DatasetError(
                f"{path}: holds labels of the scale {stored.name}, which cannot be read as {scale and scale.name}"
            )
        samples = manifest.read_samples(path)
        records = open_records(path)
        if len(records) != len(samples):
            raise DatasetError(
                f"{path}: {len(records)} records for {len(samples)} places; delete the folder and build it anew"
            )
        if scale not in (None, stored):
            samples = tuple(sample.read_as(reading, scale) for sample in samples)
        return cls(path=path, scale=scale or stored, samples=samples, _reading=reading, _records=records)

    def __reduce__(self):
        # Loader processes open the files for themselves.
        return TileDataset.open, (self.path, self.scale)

    @property
    def positive_unlabelled(self) -> bool:
        """Whether much of its damage is unlabelled, so that precision means nothing."""
        return bool(manifest.read_settings(self.path).scenes.get("positive_unlabelled"))

    @property
    def metres(self) -> float:
        """Side of its pixels in metres: the median over its places; 0 where no place has bounds."""
        found = [
            math.sqrt((east - west) * math.cos(math.radians(north)) * (north - south) / (sample.height * sample.width))
            for sample in self.samples
            if sample.bounds is not None
            for west, south, east, north in [sample.bounds]
        ]
        return statistics.median(found) * METRES_PER_DEGREE if found else 0.0

    def digest(self) -> str:
        """Return a digest of the dataset's places and labels: eight hexadecimal digits."""
        return digest([sample.as_dict() for sample in self.samples], digits=manifest.DIGITS)

    def codes(self, label: bytes) -> UInt8[np.ndarray, "h w"]:
        """Decode a label of a record as codes of the scale."""
        return decode_codes(label, self._reading)

    def damage(self, codes: UInt8[np.ndarray, "*s"]) -> UInt8[np.ndarray, "*s"]:
        """Return codes of the scale as those of `binary`."""
        reading = self.scale.read_as(BINARY)
        assert reading is not None  # every scale can be read so
        return reading[codes] if self.scale.buildings else codes

    def read(self, row: int) -> Record:
        """Read the encoded images of a place.

        Raises:
            DatasetError: the record is another place's.
        """
        record = self._records[row]
        if record["id"].decode() != self.samples[row].id:
            raise DatasetError(f"{self.path}: record {row} is not {self.samples[row].id!r}; build the dataset anew")
        return Record(pre=record["pre"]["image"], post=record["post"]["image"], label=record["post"]["label"])


def open_or_build(data: DataConfig) -> TileDataset:
    """Open the dataset of a configuration; a source folder is built into `data.cache` on first use.

    Raises:
        ConfigError: the layout's labels cannot tell the levels of `data.scale`.
        DatasetError: `data.root` is no finished dataset, or is one and the layout says otherwise, or its labels cannot
            be read in `data.scale`.
        LayoutError, ImageError, LabelError, DiskFullError: as `jaxcd.store.build.build`.
    """
    root = Path(data.root)
    layouts.check(data.layout, data.scale)
    if data.layout == layouts.PREPARED:
        return TileDataset.open(root, SCALES[data.scale])
    if manifest.is_complete(root):
        raise DatasetError(f"{root}: is a built dataset; set config.data.layout=prepared (it is {data.layout!r})")
    settings = BuildSettings.of(data)
    stem = f"{data.layout}-{Path(settings.source).name}-{settings.fingerprint()}"
    out = Path(data.cache) / (f"{stem}-{settings.files}" if settings.files else stem)
    if not settings.files and data.layout != layouts.SIMULATED:
        out = _last_built(Path(data.cache), stem) or out
    if not manifest.is_complete(out):
        from jaxcd.store.build import REPORT, build  # here: loader processes import this file, and never build

        # Built under a name that does not change with the source's files: after one is corrected, others stay staged.
        making = out.with_name(f"{stem}.building")
        making.parent.mkdir(parents=True, exist_ok=True)
        with locked(out.with_name(f".{stem}.lock"), waiting=f"{out}: another process is building it; waiting for it"):
            if not manifest.is_complete(out):
                print(f"First use of {root} as it is now: building its tile dataset in {out}", flush=True)
                report = build(data, making)
                making.rename(out)
                print(report.describe(out / REPORT), flush=True)
    dataset = TileDataset.open(out)
    print(f"tiles: {out}, {len(dataset.samples)} places", flush=True)
    return dataset


def _last_built(cache: Path, stem: str) -> Path | None:
    """Find the dataset that was last built from a source which no longer exists."""
    built = [folder for folder in cache.glob(f"{glob.escape(stem)}-*") if manifest.is_complete(folder)]
    if not built:
        return None
    last = max(built, key=lambda folder: (folder / manifest.MARKER).stat().st_mtime)
    print(f"the source folder of {last} is gone; using what was built of it", flush=True)
    return last
