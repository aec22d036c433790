"""A built tile dataset: its places in memory, its images read by random access."""

import dataclasses
import glob
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jaxcd.base.errors import DatasetError
from jaxcd.base.files import locked
from jaxcd.base.fingerprints import digest
from jaxcd.base.types import METRES_PER_DEGREE
from jaxcd.config import DataConfig
from jaxcd.sources import layouts
from jaxcd.store import manifest
from jaxcd.store.manifest import BuildSettings, Sample
from jaxcd.store.records import open_records


class Record(NamedTuple):
    """The encoded images of a place: `post[i]` is labelled by `label[i]`."""

    pre: Sequence[bytes]
    post: Sequence[bytes]
    label: Sequence[bytes]


@dataclass(frozen=True, kw_only=True)
class TileDataset:
    """Places of a finished dataset; a row is a position in `samples`."""

    path: Path
    samples: tuple[Sample, ...] = field(repr=False)
    _records: Sequence[dict] = field(repr=False, compare=False)

    @classmethod
    def open(cls, path: Path) -> "TileDataset":
        """Open a dataset that `jaxcd.prepare` built.

        Raises:
            DatasetError: the folder is missing, unfinished, or no dataset.
        """
        path = Path(path)
        if not path.is_dir():
            raise DatasetError(f"{path}: no such folder, expected a dataset built by python -m jaxcd.prepare")
        if not manifest.is_complete(path):
            state = "the build was not finished; run the same command again" if (path / "staging").is_dir() else ""
            hint = state or "build one with python -m jaxcd.prepare --layout LAYOUT --source DIR --out DIR"
            raise DatasetError(f"{path}: not a finished dataset (no {manifest.MARKER}); {hint}")
        manifest.read_settings(path)
        samples = manifest.read_samples(path)
        records = open_records(path)
        if len(records) != len(samples):
            raise DatasetError(
                f"{path}: {len(records)} records for {len(samples)} places; delete the folder and build it anew"
            )
        return cls(path=path, samples=samples, _records=records)

    def __reduce__(self):
        # Loader processes open the files for themselves.
        return TileDataset.open, (self.path,)

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
        return digest([dataclasses.asdict(sample) for sample in self.samples], digits=manifest.DIGITS)

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
        DatasetError: `data.root` is no finished dataset, or is one and the layout says otherwise.
        LayoutError, ImageError, LabelError, DiskFullError: as `jaxcd.store.build.build`.
    """
    root = Path(data.root)
    layouts.check(data.layout)
    if data.layout == layouts.PREPARED:
        return TileDataset.open(root)
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
