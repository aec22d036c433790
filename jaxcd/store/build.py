"""Builds a tile dataset from a source folder, in two phases that survive a kill at any moment.

First a pool of processes stages the places in pieces, each a finished shard of ArrayRecord; pieces that an earlier,
killed build staged are reused. Then the shards are moved to where TFDS finds them, and the marker is written.
"""

import collections
import dataclasses
import multiprocessing
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from jaxcd.base import progress
from jaxcd.base.errors import DatasetError, LabelError, LayoutError
from jaxcd.base.files import FULL, full_disk, locked
from jaxcd.base.fingerprints import refuse_other
from jaxcd.base.processes import cores, start_worker
from jaxcd.config import DataConfig
from jaxcd.sources import layouts
from jaxcd.sources.places import Discovery
from jaxcd.store import manifest, records
from jaxcd.store.manifest import BuildSettings, Sample
from jaxcd.store.records import Shard
from jaxcd.store.staging import cut, piece_of_tiles, stage, stage_all

REPORT = "report.json"
_STAGING = "staging"
_WINDOWS = "windows"  # windows of scenes behind URLs, in `data.cache`
_LOCK = "build.lock"
_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build made of its source.

    Attributes:
        samples: the places.
        left_out: files that are part of no place, each with the reason.
        notes: remarks on reading the images, each with the number of images that it holds for.
        tiles: of scenes: the number of tiles kept, and of those dropped for each reason.
        polygons: of scenes: the number of label polygons in kept tiles, in dropped tiles only, and outside.
        built: False where a finished dataset was found and nothing had to be done.
    """

    samples: tuple[Sample, ...]
    left_out: tuple[tuple[str, str], ...]
    notes: dict[str, int]
    tiles: dict[str, int] = field(default_factory=dict)
    polygons: dict[str, int] = field(default_factory=dict)
    built: bool = True

    def describe(self, report: Path) -> str:
        """Describe in some lines what was built, and the first files that were left out; `report` lists them all."""
        lines = []
        for name, count in self.counts().items():
            value = f"{count:.3%}" if isinstance(count, float) else str(count)
            lines.append(f"  {name.replace('_', ' '):<22}{value}")
        lines += [f"  tiles {reason:<16}{count}" for reason, count in self.tiles.items()]
        lines += [f"  label polygons {where:<24}{count}" for where, count in self.polygons.items()]
        lines += [f"  note on {count} files: {note}" for note, count in self.notes.items()]
        lines.append(f"{len(self.left_out)} files left out" + (":" if self.left_out else ""))
        lines += [f"  {file}: {reason}" for file, reason in self.left_out[:_SHOWN]]
        if len(self.left_out) > _SHOWN:
            lines.append(f"  and {len(self.left_out) - _SHOWN} more, all in {report}")
        return "\n".join(lines)

    def counts(self) -> dict[str, int | float]:
        """Return the numbers of places, images and pixels, and the class balance as shares of all pixels."""
        pixels = sum(sample.height * sample.width * len(sample.post) for sample in self.samples)
        valid = sum(post.valid for sample in self.samples for post in sample.post)
        damaged = sum(sample.damaged for sample in self.samples)
        return {
            "places": len(self.samples),
            "places_with_damage": sum(sample.damaged > 0 for sample in self.samples),
            "pre_images": sum(len(sample.pre) for sample in self.samples),
            "labelled_post_images": sum(len(sample.post) for sample in self.samples),
            "pixels": pixels,
            "damaged_share": damaged / pixels,
            "invalid_share": 1 - valid / pixels,
        }


@dataclass(frozen=True, kw_only=True)
class Beam:
    """How Apache Beam runs a build: its runner, and its options as one text."""

    runner: str
    options: str = ""


def build(data: DataConfig, out: Path, *, on: Beam | None = None) -> BuildReport:
    """Build the tile dataset of a source folder, or go on where a killed build stopped.

    Args:
        data: `root`, `layout`, `scale`, `damage_levels`, `scaling`, `encoding`, `incomplete` and `scenes` count.
        out: the dataset's folder; a finished dataset of the same settings is left as it is. On Beam, all machines
            must see it under this path, and the source under its own.
        on: Apache Beam, or None for a pool of processes here.

    Returns:
        What was built.

    Raises:
        LayoutError, SceneError: the source lacks the layout, or a file its counterpart (`incomplete` = refuse).
        ConfigError: the layout's labels cannot tell the levels of the scale.
        ImageError, LabelError: the first file found outside the contract ends the build.
        DatasetError: `out` holds something else.
        DiskFullError: no space left; what is staged stays for the next attempt.
    """
    settings = BuildSettings.of(data)
    if on is not None:  # other machines have another working folder
        paths = {"root": settings.source, "cache": str(Path(data.cache).resolve())}
        scenes = settings.scenes_config if settings.scenes else data.scenes
        data, out = dataclasses.replace(data, **paths, scenes=scenes), out.resolve()
    if data.layout == layouts.SCENES and Path(settings.source) in (out.resolve(), *out.resolve().parents):
        raise DatasetError(f"{out}: lies in the source, where its own files would count as scenes; give another folder")
    try:
        _check_folder(out)
        # Found before the folder is made: a source without the layout must leave none behind.
        work = None
        if not manifest.is_complete(out) or not settings.files:
            work = (_scenes if data.layout == layouts.SCENES else _tiles)(data, settings)
        out.mkdir(parents=True, exist_ok=True)
        # The second of two processes waits, and then finds a finished dataset.
        with locked(out / _LOCK, waiting=f"{out}: another process is building here; waiting for it"):
            if work is None or manifest.is_complete(out):
                return _finished(out, settings)
            staging = out / _STAGING
            staging.mkdir(exist_ok=True)
            records.take_back(out, staging)
            run = run_all
            if on is not None:
                from jaxcd.store import beam  # imported here because its package is an extra

                run = beam.runs_all(on.runner, on.options)
            report, shards = work(out, run)
            records.publish(out, staging, shards)
            _write_report(out / REPORT, report)
            manifest.write(out, settings, report.samples)
            shutil.rmtree(staging)
    except OSError as error:
        if error.errno in FULL:
            raise full_disk(f"could not write {out}") from error
        raise
    return report


RunAll = Callable[..., None]
"""Runs jobs somewhere: see `run_all`."""
_Work = Callable[[Path, RunAll], tuple[BuildReport, list[Shard]]]
"""Stages everything in a dataset's folder; returns the report and the shards, in the order of its samples."""


def _tiles(data: DataConfig, settings: BuildSettings) -> _Work:
    """Find the places of a layout of tiles."""
    discovery = layouts.discover(data.layout, Path(data.root))
    left_out = _left_out(discovery, data.incomplete)

    def work(out: Path, run: RunAll) -> tuple[BuildReport, list[Shard]]:
        size = sum(file.stat().st_size for place in discovery.places for file in place.files)
        groups = cut(discovery.places, size)
        jobs = [(stage, piece_of_tiles(group, settings, out / _STAGING), group, settings) for group in groups]
        staged = stage_all(jobs, run, unit="place", folder=out)
        notes = collections.Counter(note for place in staged.places for note in place.notes)
        samples = tuple(place.sample for place in staged.places if place.sample)
        _check_buildings(samples, data)
        return BuildReport(samples=samples, left_out=left_out, notes=dict(notes)), staged.shards

    return work


def _check_buildings(samples: tuple[Sample, ...], data: DataConfig) -> None:
    """Refuse masks that hold no building at all where the scale knows buildings: 0 and 255 mean damage in no other."""
    posts = [post for sample in samples for post in sample.post if post.codes]
    masks = not layouts.layout_of_tiles(data.layout).label_suffix
    if masks and posts and not any(any(post.codes[1:]) for post in posts):
        raise LabelError(
            f"{data.root}: no mask holds a building in the scale {data.scale}; masks of damage alone (0 and 255) are "
            "of the scale binary (config.data.scale, --scale)"
        )


def _scenes(data: DataConfig, settings: BuildSettings) -> _Work:
    """Plan the tiles of scenes."""
    # Imported here because they load the vector packages.
    from jaxcd.sources.from_scenes.plan import plan
    from jaxcd.store import scene_build

    planned = plan(data)

    def work(out: Path, run: RunAll) -> tuple[BuildReport, list[Shard]]:
        found = scene_build.stage_scenes(planned, settings, out, out / _STAGING, Path(data.cache) / _WINDOWS, run)
        report = BuildReport(
            samples=found.samples,
            left_out=found.left_out,
            notes=found.notes,
            tiles=found.tiles,
            polygons=found.polygons,
        )
        return report, found.shards

    return work


def _left_out(discovery: Discovery, incomplete: str) -> tuple[tuple[str, str], ...]:
    alone = discovery.incomplete
    if alone and incomplete == "refuse":
        file, reason = alone[0]
        more = f" (and {len(alone) - 1} more such files)" if len(alone) > 1 else ""
        raise LayoutError(
            f"{file}: {reason}{more}; complete or remove it, or set config.data.incomplete=leave_out "
            "(jaxcd.prepare: --incomplete leave_out)"
        )
    return discovery.left_out + alone


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out}: is a file, expected an empty or a new folder for the dataset")
    names = [entry.name for entry in out.iterdir()] if out.exists() else []
    if names and not {manifest.MARKER, _LOCK} & set(names):
        raise DatasetError(f"{out}: holds {names[0]!r} and is no dataset; give an empty or a new folder")


def _finished(out: Path, settings: BuildSettings) -> BuildReport:
    there = manifest.read_settings(out)
    difference = there.difference(settings)
    if difference and dataclasses.replace(there, files=settings.files) == settings:
        raise DatasetError(
            f"{out}: holds a dataset of {settings.source} as it was before its files changed; give another folder, or "
            "delete this one to build it anew"
        )
    refuse_other(out, difference, holds="dataset", error=DatasetError)
    shutil.rmtree(out / _STAGING, ignore_errors=True)  # exists if the build was killed right after the marker
    report = manifest.read_json(out / REPORT)
    return BuildReport(
        samples=manifest.read_samples(out),
        left_out=tuple((file, reason) for file, reason in report["left_out"]),
        notes=report["notes"],
        tiles=report.get("tiles", {}),
        polygons=report.get("polygons", {}),
        built=False,
    )


def run_all(
    jobs: Sequence[tuple],
    sizes: Sequence[int],
    *,
    total: int,
    title: str,
    unit: str,
    folder: Path,
) -> None:
    """Run jobs with a progress bar: one in this process, several in a pool of processes.

    Args:
        jobs: for each, its function and arguments; it takes longer than a process takes to start.
        sizes: units of work of each.
        total: all units, including those that were done before.
        title: words before the bar.
        unit: what is counted.
        folder: where the jobs write, for the message.

    Raises:
        DatasetError: a process was killed.
    """
    workers = min(len(jobs), cores())
    with progress.bar(total, initial=total - sum(sizes), title=title, unit=unit) as bar:
        if workers > 1:
            _run_in_pool(jobs, sizes, workers, bar.update, folder)
            return
        for (function, *arguments), size in zip(jobs, sizes, strict=True):
            function(*arguments)
            bar.update(size)


def _run_in_pool(
    jobs: Sequence[tuple], sizes: Sequence[int], workers: int, done: Callable[[int], object], folder: Path
) -> None:
    # Spawned, not forked: the parent may run threads of JAX and GDAL.
    context = multiprocessing.get_context("spawn")
    unwanted = context.Event()
    with ProcessPoolExecutor(workers, context, initializer=start_worker, initargs=(unwanted,)) as pool:
        try:
            futures = [pool.submit(*job) for job in jobs]
            for future, size in zip(futures, sizes, strict=True):
                # In order, so that of several bad files the same one is always named.
                future.result()
                done(size)
        except BrokenProcessPool as error:
            raise DatasetError(
                f"{folder}: a worker process was killed, often for lack of memory; run the same command again, it goes "
                "on where it stopped"
            ) from error
        except BaseException:
            unwanted.set()
            pool.shutdown(cancel_futures=True)
            raise


def _write_report(path: Path, report: BuildReport) -> None:
    content = report.counts() | {
        "left_out": report.left_out,
        "notes": report.notes,
        "tiles": report.tiles,
        "polygons": report.polygons,
        "places_by_id": [sample.as_dict() for sample in report.samples],
    }
    manifest.write_json(path, content)
