"""Stages the tiles of planned scenes: first shifts, then tiles, then their index and contact sheet."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxcd.base.errors import DatasetError
from jaxcd.base.files import write_whole
from jaxcd.base.fingerprints import digest
from jaxcd.scenes.pairing import Mosaic
from jaxcd.scenes.registration import Shift
from jaxcd.sources.from_scenes.plan import Estimate, PlannedPlace, ScenePlan, others, registered, table, tile_rows
from jaxcd.sources.from_scenes.tiles import ReadingSettings, TileRow, read_tile, tile_id
from jaxcd.store import scene_index
from jaxcd.store.manifest import DIGITS, BuildSettings
from jaxcd.store.staging import StagedPlace, named_staged_file, write_staged

REGISTRATION = "registration.csv"
# Starting a worker takes about as long as staging this many tiles of 512 x 512 pixels.
_TILES_A_WORKER = 8


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
        planned: the result of `plan`.
        settings: settings of the build.
        out: the dataset's folder.
        folder: for staged files.
        window_folder: for windows that came over the network.
        run_all: runs jobs in processes (`jaxcd.store.build.run_all`) or on Beam.

    Raises:
        ImageError: a file can't be read, and such files are not left out.
        LabelError: a label does not say what is damaged.
        DatasetError: no tile is kept.
    """
    scenes = settings.scenes_config
    reading = ReadingSettings(
        scenes=scenes,
        scaling=settings.scaling,
        refuse=settings.incomplete == "refuse",
        window_folder=window_folder,
    )
    shifts: dict[str, dict[str, dict[tuple[str, ...], tuple[float, float]]]] = {}
    if scenes.register:
        estimates = _registered(planned, settings, reading, folder, run_all)
        write_whole(out / REGISTRATION, table(estimates))
        for place, estimate in estimates:
            shifts.setdefault(place, {}).setdefault(estimate.tile, {})[estimate.locations] = estimate.applied
    rows = [
        (row, _staged_files(row, planned_place, settings, folder))
        for planned_place in planned.places
        for row in tile_rows(planned_place, shifts.get(planned_place.place.id, {}), scenes)
    ]
    files = [file for _, own in rows for file in own]
    todo = [(row, own, sum(not file.is_file() for file in own)) for row, own in rows]
    todo = [(row, own, count) for row, own, count in todo if count]
    run_all(
        [(stage_row, row, own, reading, settings.encoding) for row, own, _ in todo],
        [count for *_, count in todo],
        total=len(files),
        title="Staging",
        unit="tile",
        folder=out,
        workers=sum(count for *_, count in todo) // _TILES_A_WORKER + 1,
    )
    staged = sorted((StagedPlace.open(file) for file in files), key=lambda each: each.more["tile"]["id"])
    kept = [each for each in staged if each.sample]
    scene_index.write_tiles(staged, out / scene_index.TILES)
    scene_index.write_sheet(staged, scenes, out / scene_index.SHEET)
    dropped = scene_index.reasons(staged)
    if not kept:
        summary = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise DatasetError(
            f"{out}: none of {len(staged)} tiles is kept ({summary}); look at {scene_index.SHEET} and "
            f"{scene_index.TILES} there, and set other thresholds"
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


def _staged_files(row: TileRow, planned: PlannedPlace, settings: BuildSettings, folder: Path) -> list[Path]:
    """Name the staged files of a row's tiles after everything that decides their content."""
    grid = row.grid
    found = []
    for window, shifts in zip(row.windows, row.shifts, strict=True):
        where = [str(grid.crs), list(grid.transform)[:6], grid.height, grid.width, list(window)]
        content = [tile_id(row.place, window), planned.stamp, where, sorted(shifts.items())]
        found.append(named_staged_file(folder, settings, content))
    return found


def stage_row(row: TileRow, files: Sequence[Path], reading: ReadingSettings, encoding: str) -> None:
    """Stage the tiles of a row that are not staged yet.

    Args:
        row: the tiles.
        files: staged file of each tile.
        reading: how scenes are read.
        encoding: of images (`config.data.encoding`).

    Raises:
        ImageError, LabelError: as `jaxcd.sources.from_scenes.tiles.read_tile`.
    """
    for window, shifts, file in zip(row.windows, row.shifts, files, strict=True):
        if not file.is_file():
            found = read_tile(row, window, shifts, reading)
            more = {"tile": found.tile, "images": found.images}
            write_staged(file, place=found.place, encoding=encoding, pictures=found.pictures, more=more)


def _registered(
    planned: ScenePlan, settings: BuildSettings, reading: ReadingSettings, folder: Path, run_all: Callable[..., None]
) -> list[tuple[str, Estimate]]:
    """Estimate all shifts, or read those that an earlier, killed build has estimated."""
    tasks = [(each, image) for each in planned.places for image in others(each.place)]
    decisive = [[each.stamp, image.locations, settings.scenes, settings.scaling] for each, image in tasks]
    files = [folder / f"shifts-{digest(own, digits=DIGITS)}.json" for own in decisive]
    todo = [(task, file) for task, file in zip(tasks, files, strict=True) if not file.is_file()]
    run_all(
        [(_register, each, image, reading, file) for (each, image), file in todo],
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


def _register(planned: PlannedPlace, image: Mosaic, reading: ReadingSettings, file: Path) -> None:
    found = [dataclasses.asdict(estimate) for estimate in registered(planned, image, reading)]
    write_whole(file, json.dumps(found))
