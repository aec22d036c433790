"""Builds a tile dataset from a source folder, in two phases; a build that is killed can continue in either of them.

In the first phase, a pool of processes reads the places and writes them in pieces, each a shard of ArrayRecord. If an
earlier build was killed, its finished pieces are reused. In the second phase, the shards are moved to where TFDS finds
them, and the marker is written.
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
_SHOWN = 20  # left-out files that the description lists


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """The result of a build.

    Attributes:
        samples: places of the dataset.
        left_out: files that are part of no place, each with the reason.
        notes: remarks on reading the images, each with the number of images it concerns.
        tiles: for scenes, the number of kept tiles, and the number of dropped tiles for each reason.
        polygons: for scenes, the numbers of label polygons in kept tiles, in dropped tiles only, and outside of all.
        built: False if the dataset was finished before, so that nothing was built.
    """

    samples: tuple[Sample, ...]
    left_out: tuple[tuple[str, str], ...]
    notes: dict[str, int]
    tiles: dict[str, int] = field(default_factory=dict)
    polygons: dict[str, int] = field(default_factory=dict)
    built: bool = True

    def describe(self, report: Path) -> str:
        """Return lines on what was built, and on the first files that were left out; the file `report` lists all."""
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
    """Settings of Apache Beam for a build: its runner, and its options in one text."""

    runner: str
    options: str = ""


def build(data: DataConfig, out: Path, *, on: Beam | None = None) -> BuildReport:
    """Build the tile dataset of a source folder, or continue a build that was killed.

    Args:
        data: its fields `root`, `layout`, `scale`, `damage_levels`, `scaling`, `encoding`, `incomplete`, `cache` and
            `scenes` are used.
        out: the dataset's folder; a finished dataset of the same settings is left as it is. With Beam, all machines
            must reach this folder and the source under the same paths.
        on: settings of Apache Beam, or None for a pool of processes on this machine.

    Returns:
        The report of the build.

    Raises:
        LayoutError, SceneError: the source does not have the layout, or the counterpart of a file is missing and
            `incomplete` is refuse.
        ConfigError: labels of the layout cannot be read in the scale.
        ImageError, LabelError: an image or label breaks its contract; the first one ends the build.
        DatasetError: `out` holds other files or another dataset, or lies in the source.
        DiskFullError: the disk is full; finished pieces stay for the next attempt.
    """
    settings = BuildSettings.of(data)
    if on is not None:  # relative paths mean nothing to other machines
        paths = {"root": settings.source, "cache": str(Path(data.cache).resolve())}
        scenes = settings.scenes_config if settings.scenes else data.scenes
        data, out = dataclasses.replace(data, **paths, scenes=scenes), out.resolve()
    if data.layout == layouts.SCENES and Path(settings.source) in (out.resolve(), *out.resolve().parents):
        raise DatasetError(
            f"{out}: lies in the source folder, so its files would be read as scenes; give another folder"
        )
    try:
        _check_folder(out)
        # The source is read before the folder is made: if it lacks the layout, no empty folder must be left.
        stage_source = None
        if not manifest.is_complete(out) or not settings.files:
            stage_source = (_scenes_stage if data.layout == layouts.SCENES else _tiles_stage)(data, settings)
        out.mkdir(parents=True, exist_ok=True)
        # If two processes build here, the second one waits, and then finds a finished dataset.
        with locked(out / _LOCK, waiting=f"{out}: another process is building here; waiting for it"):
            if stage_source is None or manifest.is_complete(out):
                return _report_of_finished(out, settings)
            staging = out / _STAGING
            staging.mkdir(exist_ok=True)
            records.take_back(out, staging)
            run = run_all
            if on is not None:
                from jaxcd.store import beam  # imported here because its package is an extra

                run = beam.runs_all(on.runner, on.options)
            report, shards = stage_source(out, run)
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
"""Runs jobs, in a pool of processes or on Beam; it takes the arguments of `run_all`."""
_Stage = Callable[[Path, RunAll], tuple[BuildReport, list[Shard]]]
"""Stages all places in a dataset's folder; returns the report, and the shards in the order of the report's samples."""


def _tiles_stage(data: DataConfig, settings: BuildSettings) -> _Stage:
    """Find the places of a layout of tiles, and return the function that stages them."""
    discovery = layouts.discover(data.layout, Path(data.root))
    left_out = _checked_left_out(discovery, data.incomplete)

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
    """Refuse masks without any building in a scale of buildings: they are probably binary, with 0 and 255."""
    posts = [post for sample in samples for post in sample.post if post.codes]
    masks = not layouts.layout_of_tiles(data.layout).label_suffix
    if masks and posts and not any(any(post.codes[1:]) for post in posts):
        raise LabelError(
            f"{data.root}: no mask holds a building in the scale {data.scale}; for masks of damage alone (0 and "
            "255), set the scale binary (config.data.scale, --scale)"
        )


def _scenes_stage(data: DataConfig, settings: BuildSettings) -> _Stage:
    """Plan the tiles of scenes, and return the function that stages them."""
    # Imported here because they load the vector packages.
    from jaxcd.sources.from_scenes.plan import plan
    from jaxcd.store import scene_build

    planned = plan(data)

    def work(out: Path, run: RunAll) -> tuple[BuildReport, list[Shard]]:
        staged = scene_build.stage_scenes(planned, settings, out, out / _STAGING, Path(data.cache) / _WINDOWS, run)
        report = BuildReport(
            samples=staged.samples,
            left_out=staged.left_out,
            notes=staged.notes,
            tiles=staged.tiles,
            polygons=staged.polygons,
        )
        return report, staged.shards

    return work


def _checked_left_out(discovery: Discovery, incomplete: str) -> tuple[tuple[str, str], ...]:
    unmatched = discovery.incomplete
    if unmatched and incomplete == "refuse":
        file, reason = unmatched[0]
        more = f" (and {len(unmatched) - 1} more files like it)" if len(unmatched) > 1 else ""
        raise LayoutError(
            f"{file}: {reason}{more}; complete or remove it, or set config.data.incomplete=leave_out "
            "(jaxcd.prepare: --incomplete leave_out)"
        )
    return discovery.left_out + unmatched


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise DatasetError(f"{out}: is a file; give a new or an empty folder for the dataset")
    names = [entry.name for entry in out.iterdir()] if out.exists() else []
    if names and not {manifest.MARKER, _LOCK} & set(names):
        raise DatasetError(f"{out}: holds {names[0]!r} and is no dataset; give a new or an empty folder")


def _report_of_finished(out: Path, settings: BuildSettings) -> BuildReport:
    old = manifest.read_settings(out)
    difference = old.difference(settings)
    if difference and dataclasses.replace(old, files=settings.files) == settings:
        raise DatasetError(
            f"{out}: holds a dataset of {settings.source} as it was before its files changed; give another folder, or "
            "delete this one and build it anew"
        )
    refuse_other(out, difference, holds="dataset", error=DatasetError)
    # The folder exists if a build was killed just after it had written the marker.
    shutil.rmtree(out / _STAGING, ignore_errors=True)
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
    """Run jobs with a progress bar: a single job in this process, several jobs in a pool of processes.

    Args:
        jobs: for each job, a tuple of its function and arguments. A job should take longer than the start of a process.
        sizes: for each job, its number of units of work.
        total: number of all units, including those that an earlier build has done.
        title: text in front of the bar.
        unit: name of a unit, such as tile.
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
                # Results are taken in order: if several files are bad, the error always names the same one.
                future.result()
                done(size)
        except BrokenProcessPool as error:
            raise DatasetError(
                f"{folder}: a worker process was killed, often for lack of memory; run the same command again, it "
                "continues where it stopped"
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
