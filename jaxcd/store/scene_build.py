"""Stages the tiles of planned scenes: estimates shifts, stages tiles, and writes their index and contact sheet."""

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
"""Rows and columns of each shift, by id of the place, id of the tile, and locations of the acquisition."""


@dataclass(frozen=True, kw_only=True)
class StagedScenes:
    """The staged tiles: kept tiles, the shards of their records, and the counts and reasons for `BuildReport`."""

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
    """Stage all tiles; write their index, label polygons, shifts and contact sheet to the dataset's folder.

    Args:
        planned: the plan of the build.
        settings: settings of the build.
        out: the dataset's folder.
        folder: folder of staged files.
        window_folder: folder that keeps downloaded windows.
        run_all: runs jobs in processes (`jaxcd.store.build.run_all`) or on Beam.

    Raises:
        ImageError: a local file can't be read, and `incomplete` is refuse.
        LabelError: a label file can't be read as classes of the scale.
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
    if settings.registers:
        estimates = _registered(planned, settings, reading, folder, run_all)
        write_whole(out / REGISTRATION, table(estimates))
        for place, estimate in estimates:
            shifts.setdefault(place, {}).setdefault(estimate.tile, {})[estimate.locations] = estimate.applied
    staged_tiles = _staged(planned, shifts, settings, reading, out, folder, run_all)
    staged, kept = staged_tiles.places, [tile for tile in staged_tiles.places if tile.sample]
    scene_index.write_tiles(staged, out / scene_index.TILES)
    scene_index.write_sheet(staged, scenes, out / scene_index.SHEET)
    dropped = scene_index.reasons(staged)
    if not kept:
        summary = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise DatasetError(
            f"{out}: none of {len(staged)} tiles is kept ({summary}); look at {scene_index.SHEET} and "
            f"{scene_index.TILES} in this folder, and set other thresholds"
        )
    ids = {tile.sample.id for tile in kept if tile.sample}
    notes, polygons = scene_index.write_polygons(planned.places, scenes, reading.scale, ids, out / scene_index.POLYGONS)
    if scenes.edges == "shift":
        notes["tiles at the edges overlap their neighbours: split the dataset by block"] = len(planned.places)
    unread = {
        (f"{tile.more['tile']['id']}, {image['image']}", image["reason"])
        for tile in staged
        for image in tile.more["images"]
        if scene_index.is_unreadable(image["reason"])
    }
    return StagedScenes(
        samples=tuple(tile.sample for tile in kept if tile.sample),
        shards=staged_tiles.shards,
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
    """Return the piece that consecutive tiles form; each tile comes with the stamp of its place."""
    contents = []
    for tile, stamp in tiles:
        grid = tile.grid
        where = [str(grid.crs), list(grid.transform)[:6], grid.height, grid.width, list(tile.window)]
        contents.append([tile.id, stamp, where, sorted(tile.shifts.items())])
    return Piece.of(contents, settings, folder)


def stage_tiles(piece: Piece, tiles: Sequence[PlannedTile], reading: ReadingSettings, encoding: str) -> None:
    """Stage tiles as a piece, whole or not at all.

    Args:
        piece: the piece, which says where its files lie.
        tiles: tiles in order of their ids.
        reading: how scenes are read.
        encoding: how images are encoded (`config.data.encoding`).

    Raises:
        ImageError, LabelError: see `jaxcd.sources.from_scenes.tiles.read_tile`.
    """

    def read_place(tile: PlannedTile) -> FoundPlace:
        read = read_tile(tile, reading)
        more = {"tile": read.tile, "images": read.images}
        return FoundPlace(place=read.place, pictures=read.pictures, more=more)

    write_piece(piece, map(read_place, tiles), encoding, reading.scale)


def _registered(
    planned: ScenePlan, settings: BuildSettings, reading: ReadingSettings, folder: Path, run_all: Callable[..., None]
) -> list[tuple[str, Estimate]]:
    """Estimate the shifts of all tiles, or read the files of those that an earlier build has estimated."""
    tasks = [(place, image) for place in planned.places for image in others(place.place)]
    decisive = [[place.stamp, image.locations, settings.scenes, settings.scaling] for place, image in tasks]
    files = [folder / f"shifts-{digest(own, digits=DIGITS)}.json" for own in decisive]
    todo = [(task, file) for task, file in zip(tasks, files, strict=True) if not file.is_file()]
    run_all(
        [(_register, place, image, reading, file) for (place, image), file in todo],
        [1] * len(todo),
        total=len(tasks),
        title="Registering",
        unit="image",
        folder=folder,
    )
    estimates = []
    for (place, _), file in zip(tasks, files, strict=True):
        for values in json.loads(file.read_text()):
            values |= {name: tuple(values[name]) for name in ("applied", "locations")}
            values["shift"] = Shift(*values["shift"])
            estimates.append((place.place.id, Estimate(**values)))
    return estimates


def _register(planned: PlannedPlace, image: Mosaic, reading: ReadingSettings, file: Path) -> None:
    estimates = [dataclasses.asdict(estimate) for estimate in registered(planned, image, reading)]
    write_whole(file, json.dumps(estimates))
