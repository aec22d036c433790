"""Stages the tiles of planned scenes: first shifts, then tiles, then their index and contact sheet."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxcd.base.errors import DatasetError
from jaxcd.base.files import write_whole
from jaxcd.base.fingerprints import digest
from jaxcd.base.scales import SCALES
from jaxcd.scenes.pairing import Mosaic
from jaxcd.scenes.registration import Shift
from jaxcd.sources.from_scenes.plan import Estimate, PlannedPlace, ScenePlan, others, planned_tiles, registered, table
from jaxcd.sources.from_scenes.tiles import PlannedTile, ReadingSettings, read_tile
from jaxcd.store import scene_index
from jaxcd.store.manifest import DIGITS, BuildSettings, Sample
from jaxcd.store.records import Shard
from jaxcd.store.staging import FoundPlace, Piece, Staged, cut, stage_all, write_piece

REGISTRATION = "registration.csv"
_Shifts = dict[str, dict[str, dict[tuple[str, ...], tuple[float, float]]]]
"""By place, tile and an acquisition's locations: rows and columns."""


@dataclass(frozen=True, kw_only=True)
class StagedScenes:
    """What staging found: kept tiles by id, the shards of their records, and the counts and reasons of a report."""

    samples: tuple[Sample, ...]
    shards: list[Shard]
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
        scale=SCALES[settings.scale],
        refuse=settings.incomplete == "refuse",
        window_folder=window_folder,
    )
    shifts: _Shifts = {}
    if scenes.register:
        estimates = _registered(planned, settings, reading, folder, run_all)
        write_whole(out / REGISTRATION, table(estimates))
        for place, estimate in estimates:
            shifts.setdefault(place, {}).setdefault(estimate.tile, {})[estimate.locations] = estimate.applied
    found = _staged(planned, shifts, settings, reading, out, folder, run_all)
    staged, kept = found.places, [each for each in found.places if each.sample]
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
    notes, polygons = scene_index.write_polygons(planned.places, scenes, reading.scale, ids, out / scene_index.POLYGONS)
    if scenes.edges == "shift":
        notes["tiles at the edges share ground with those before: split them by block"] = len(planned.places)
    unread = {
        (f"{each.more['tile']['id']}, {image['image']}", image["reason"])
        for each in staged
        for image in each.more["images"]
        if scene_index.is_unreadable(image["reason"])
    }
    return StagedScenes(
        samples=tuple(each.sample for each in kept if each.sample),
        shards=found.shards,
        left_out=planned.left_out + tuple(sorted(unread)),
        notes=notes,
        tiles={"kept": len(kept)} | dropped,
        polygons=polygons,
    )


def _staged(
    planned: ScenePlan,
    shifts: _Shifts,
    settings: BuildSettings,
    reading: ReadingSettings,
    out: Path,
    folder: Path,
    run_all: Callable[..., None],
) -> Staged:
    tiles = [
        (tile, planned_place.stamp)
        for planned_place in planned.places
        for tile in planned_tiles(planned_place, shifts.get(planned_place.place.id, {}), reading.scenes)
    ]
    tiles.sort(key=lambda item: item[0].id)
    images = sum(len(tile.place.pre) + len(tile.place.post) for tile, _ in tiles)
    jobs = [
        (stage_tiles, _piece(group, settings, folder), [tile for tile, _ in group], reading, settings.encoding)
        for group in cut(tiles, 3 * reading.scenes.tile**2 * images)
    ]
    return stage_all(jobs, run_all, unit="tile", folder=out)


def _piece(tiles: Sequence[tuple[PlannedTile, str]], settings: BuildSettings, folder: Path) -> Piece:
    """Name the piece of some tiles; each comes with the stamp of its place."""
    contents = []
    for tile, stamp in tiles:
        grid = tile.grid
        where = [str(grid.crs), list(grid.transform)[:6], grid.height, grid.width, list(tile.window)]
        contents.append([tile.id, stamp, where, sorted(tile.shifts.items())])
    return Piece.of(contents, settings, folder)


def stage_tiles(piece: Piece, tiles: Sequence[PlannedTile], reading: ReadingSettings, encoding: str) -> None:
    """Stage tiles as a piece, whole or not at all.

    Args:
        piece: where.
        tiles: in order of their ids.
        reading: how scenes are read.
        encoding: of images (`config.data.encoding`).

    Raises:
        ImageError, LabelError: as `jaxcd.sources.from_scenes.tiles.read_tile`.
    """

    def found(tile: PlannedTile) -> FoundPlace:
        read = read_tile(tile, reading)
        more = {"tile": read.tile, "images": read.images}
        return FoundPlace(place=read.place, pictures=read.pictures, more=more)

    write_piece(piece, map(found, tiles), encoding, reading.scale)


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
