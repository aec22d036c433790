"""From planned scenes to staged tiles: shifts first, then tiles, then what there is to look at."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxcd.errors import DatasetError
from jaxcd.files import write_whole
from jaxcd.scenes.pairing import Acquisition
from jaxcd.scenes.registration import Shift
from jaxcd.tiles import scene_index
from jaxcd.tiles.manifest import BuildSettings, digest
from jaxcd.tiles.scene_plan import Estimate, PlannedPlace, ScenePlan, jobs, others, plan, registered, table
from jaxcd.tiles.scene_tiles import Shifts, stage_tiles
from jaxcd.tiles.staging import StagedPlace

REGISTRATION = "registration.csv"
# To start a worker takes as long as to stage about as many tiles of 512 x 512 pixels, or to register an image.
_TILES_A_WORKER = 8

__all__ = ["StagedScenes", "plan", "stage_scenes"]


@dataclass(frozen=True, kw_only=True)
class StagedScenes:
    """What staging found: kept tiles by id, and the counts and reasons of a report."""

    kept: list[StagedPlace]
    left_out: tuple[tuple[str, str], ...]
    notes: dict[str, int]
    tiles: dict[str, int]
    polygons: dict[str, int]


def stage_scenes(
    planned: ScenePlan,
    settings: BuildSettings,
    out: Path,
    folder: Path,
    window_folder: Path,
    run_all: Callable[..., None],
) -> StagedScenes:
    """Stage all tiles; write index, polygons, shifts and contact sheet into the dataset's folder.

    Args:
        planned: of `plan`.
        settings: of the build.
        out: the dataset's folder.
        folder: for staged files.
        window_folder: for windows that came over the network.
        run_all: runs jobs in processes (`jaxcd.tiles.build.run_all`) or on Beam.

    Raises:
        ImageError: a file that can't be read, where those are not left out.
        LabelError: a label that does not say what is damaged.
        DatasetError: no tile is kept.
    """
    scenes = settings.scenes_config
    shifts: dict[tuple[str, str], dict[tuple[str, ...], tuple[float, float]]] = {}
    if scenes.register:
        estimates = _registered(planned, settings, folder, window_folder, run_all)
        write_whole(out / REGISTRATION, table(estimates))
        for place, one in estimates:
            shifts.setdefault((place, one.tile), {})[one.locations] = one.applied
    found: dict[tuple[str, str], Shifts] = dict(shifts)
    work = jobs(planned.places, found, settings, folder, window_folder)
    files = [file for job in work for file in job.files]
    todo = [(job, sum(not file.is_file() for file in job.files)) for job in work]
    todo = [(job, count) for job, count in todo if count]
    run_all(
        [(stage_tiles, job, settings) for job, _ in todo],
        [count for _, count in todo],
        total=len(files),
        title="Staging",
        unit="tile",
        folder=out,
        workers=sum(count for _, count in todo) // _TILES_A_WORKER + 1,
    )
    staged = sorted((StagedPlace.open(file) for file in files), key=lambda each: each.more["tile"]["id"])
    kept = [each for each in staged if each.sample]
    scene_index.write_tiles(staged, out / scene_index.TILES)
    scene_index.write_sheet(staged, scenes, out / scene_index.SHEET)
    dropped = scene_index.reasons(staged)
    if not kept:
        told = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise DatasetError(
            f"{out}: none of {len(staged)} tiles is kept ({told}); look at {scene_index.SHEET} and {scene_index.TILES} "
            "there, and set other thresholds"
        )
    ids = {each.sample.id for each in kept if each.sample}
    notes, polygons = scene_index.write_polygons(planned.places, scenes, ids, out / scene_index.POLYGONS)
    if scenes.edges == "shift":
        notes["tiles at the edges share ground with those before: split them by block"] = len(planned.places)
    unread = {
        (f"{each.more['tile']['id']}, {image['image']}", image["reason"])
        for each in staged
        for image in each.more["images"]
        if scene_index.is_unreadable(image["reason"])
    }
    return StagedScenes(
        kept=kept,
        left_out=planned.left_out + tuple(sorted(unread)),
        notes=notes,
        tiles={"kept": len(kept)} | dropped,
        polygons=polygons,
    )


def _registered(
    planned: ScenePlan, settings: BuildSettings, folder: Path, window_folder: Path, run_all: Callable[..., None]
) -> list[tuple[str, Estimate]]:
    """Estimate all shifts, or read those that an earlier, killed build has estimated."""
    tasks = [(each, image) for each in planned.places for image in others(each.place)]
    files = [
        folder / f"shifts-{digest([each.stamp, image.locations, settings.scenes, settings.scaling])}.json"
        for each, image in tasks
    ]
    todo = [(task, file) for task, file in zip(tasks, files, strict=True) if not file.is_file()]
    run_all(
        [(_register, each, image, settings, window_folder, file) for (each, image), file in todo],
        [1] * len(todo),
        total=len(tasks),
        title="Registering",
        unit="image",
        folder=folder,
        workers=len(todo),
    )
    estimates = []
    for (each, _), file in zip(tasks, files, strict=True):
        for values in json.loads(file.read_text()):
            values |= {name: tuple(values[name]) for name in ("applied", "locations")}
            values["shift"] = Shift(*values["shift"])
            estimates.append((each.place.id, Estimate(**values)))
    return estimates


def _register(each: PlannedPlace, image: Acquisition, settings: BuildSettings, window_folder: Path, file: Path) -> None:
    found = [dataclasses.asdict(one) for one in registered(each, image, settings, window_folder)]
    write_whole(file, json.dumps(found))
