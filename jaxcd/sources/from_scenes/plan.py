"""Plans a build of scenes: places with their grids, the shift of each tile, and the rows of tiles."""

import csv
import glob
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxcd.base.errors import ImageError, LabelError, SceneError
from jaxcd.base.fingerprints import file_state
from jaxcd.base.scales import SCALES
from jaxcd.config import DataConfig, ScenesConfig, check_scaling
from jaxcd.scenes.catalogue import find_scenes
from jaxcd.scenes.pairing import Mosaic, Pairing, ScenePlace, pair, restricted_to
from jaxcd.scenes.raster import is_remote
from jaxcd.scenes.reader import close_scenes, common_grid, open_scene
from jaxcd.scenes.registration import REGISTERED, Shift, View, register
from jaxcd.scenes.window_cache import read_window
from jaxcd.scenes.windows import Grid, Window, tile_windows
from jaxcd.sources.from_scenes.layers import check_layers, label_file, read_polygons
from jaxcd.sources.from_scenes.tiles import PlannedTile, ReadingSettings, Shifts, tile_id

_LEAVE_OUT = "complete or remove it, or set config.data.incomplete=leave_out (jaxcd.prepare: --incomplete leave_out)"


@dataclass(frozen=True, kw_only=True)
class PlannedPlace:
    """A place, its grid, the label file of each post scene (by location; "": none), and a stamp of its files' state."""

    place: ScenePlace
    grid: Grid
    labels: Mapping[str, str]
    stamp: str

    @property
    def label_files(self) -> tuple[str, ...]:
        """All label files, each once."""
        return tuple(dict.fromkeys(file for file in self.labels.values() if file))


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """The places to build tiles of, and what is left out, each with the reason."""

    places: tuple[PlannedPlace, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The shift of one acquisition at one tile: what was estimated, whether it is believed, and what is applied."""

    tile: str
    image: str
    locations: tuple[str, ...]
    shift: Shift
    accepted: bool
    applied: tuple[float, float]


def paired(data: DataConfig) -> tuple[Pairing, tuple[tuple[str, str], ...]]:
    """Find the scenes of a source and pair them; also return the files and rows that are not scenes.

    Raises:
        SceneError: there are none.
    """
    scenes = data.scenes
    found = find_scenes(data.root, scenes.event_date, labelled=not scenes.labels)
    pairing = pair(
        found.scenes,
        min_overlap=scenes.min_overlap,
        max_clouds=scenes.max_clouds,
        max_off_nadir=scenes.max_off_nadir,
    )
    left_out = found.left_out
    if scenes.only:
        pairing = restricted_to(pairing, scenes.only)
        left_out = tuple(entry for entry in left_out if Path(entry[0]).parent.name.startswith(scenes.only))
        if not pairing.places:
            raise SceneError(f"{data.root}: no place whose name begins with {' or '.join(scenes.only)}; see --list")
    return pairing, left_out


def plan(data: DataConfig) -> ScenePlan:
    """Plan the build of a source of scenes; nothing but headers is read.

    Raises:
        SceneError: no place has scenes of before and after, or one can't be used and `incomplete` is refuse.
        LabelError: a place has no labels and `incomplete` is refuse, or there is no file `labelled_area`.
    """
    close_scenes()  # files that an earlier build of this process has read may have changed
    read_polygons.cache_clear()
    area = data.scenes.labelled_area
    if area and not Path(area).is_file():
        raise LabelError(f"--labelled_area {area}: no such file")
    pairing, left_out = paired(data)
    left_out += tuple((scene.location, reason) for scene, reason in pairing.unpaired)
    unwanted = tuple((scene.location, reason) for scene, reason in pairing.unwanted)
    if left_out and data.incomplete == "refuse":
        alone = [(where, reason) for where, reason in left_out if not is_remote(where)]
        if alone:
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise SceneError(f"{alone[0][0]}: {alone[0][1]}{more}; {_LEAVE_OUT}")
    places = []
    for place in pairing.places:
        try:
            found, unlabelled = _planned(place, data)
            places.append(found)
            left_out += unlabelled
        except (ImageError, SceneError, LabelError) as error:
            if data.incomplete == "refuse" and not is_remote(place.reference.location):
                raise type(error)(f"place {place.id}: {error}; {_LEAVE_OUT}") from error
            left_out += ((place.id, str(error)),)
    if not places:
        reasons = "; ".join(f"{where}: {reason}" for where, reason in left_out[:2]) or "none has the wanted name"
        raise SceneError(f"{data.root}: no place with scenes of before and after the event ({reasons})")
    return ScenePlan(places=tuple(places), left_out=left_out + unwanted)


def planned_tiles(planned: PlannedPlace, shifts: Mapping[str, Shifts], scenes: ScenesConfig) -> list[PlannedTile]:
    """Divide a place into its tiles; `shifts` are those of tiles, by id."""
    return [
        PlannedTile(
            place=planned.place,
            grid=planned.grid,
            labels=planned.labels,
            window=window,
            shifts=shifts.get(tile_id(planned.place, window), {}),
        )
        for window in tile_windows(planned.grid, scenes.tile, edges=scenes.edges)
    ]


def others(place: ScenePlace) -> tuple[Mosaic, ...]:
    """Return the acquisitions of a place that are registered to its reference: all but that."""
    return (*place.pre[:-1], *place.post)


def registered(planned: PlannedPlace, image: Mosaic, reading: ReadingSettings) -> list[Estimate]:
    """Estimate the shift of an acquisition at every tile of its place.

    An estimate is believed if its peak stands out of the noise and it lies near the acquisition's median shift; other
    tiles are shifted by that median, or not at all where there is none.
    """
    scenes, place, grid = reading.scenes, planned.place, planned.grid
    windows = list(tile_windows(grid, scenes.tile, edges=scenes.edges))
    found = register(_view(place, image, grid.part(_widened(window, grid)), reading) for window in windows)
    result = []
    for window, shift in zip(windows, found.estimates, strict=True):
        near = found.near_middle(shift)
        result.append(
            Estimate(
                tile=tile_id(place, window),
                image=image.name,
                locations=image.locations,
                shift=shift,
                accepted=near,
                applied=shift[:2] if near else found.middle,
            )
        )
    return result


def _view(place: ScenePlace, image: Mosaic, part: Grid, reading: ReadingSettings) -> View | None:
    """Read the surroundings of a tile from a place's reference and from another acquisition."""
    scaling = check_scaling(reading.scaling, "config.data.scaling")
    try:
        reference, target = (
            read_window(each.locations, part, scaling=scaling, folder=reading.window_folder)
            for each in (place.pre[-1], image)
        )
    except (ImageError, SceneError):
        return None  # reading the tile will report what can't be read
    both = reference.valid & target.valid
    return View(reference.pixels, target.pixels, both) if both.mean() > reading.scenes.valid / 2 else None


def table(estimates: Iterable[tuple[str, Estimate]]) -> str:
    """Write estimates, each with its place, as CSV."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(
        ["place", "tile", "image", "rows", "columns", "confidence", "accepted", "applied_rows", "applied_columns"]
    )
    for place, entry in estimates:
        shift, applied = ([f"{value:.2f}" for value in values] for values in (entry.shift, entry.applied))
        rows.writerow([place, entry.tile, entry.image, *shift, entry.accepted, *applied])
    return text.getvalue()


def _planned(place: ScenePlace, data: DataConfig) -> tuple[PlannedPlace, tuple[tuple[str, str], ...]]:
    """Open the files of a place; also return its unlabelled scenes, where those are left out."""
    scenes = data.scenes
    labels: dict[str, str] = {}
    unlabelled: tuple[tuple[str, str], ...] = ()
    for scene in (scene for image in place.post for scene in image.scenes):
        try:
            labels[scene.location] = label_file(scene.label, scenes)
        except LabelError as error:
            labels[scene.location] = ""
            unlabelled += ((scene.location, str(error)),)
    if unlabelled and (data.incomplete == "refuse" or not any(labels.values())):
        raise LabelError(unlabelled[0][1])
    scaling = check_scaling(data.scaling, "config.data.scaling")
    # Of the reference alone, where a map covers all its pre scenes: those that lie beside it are places of their own.
    grid = common_grid((place.reference.location,), scaling, crs=scenes.crs, gsd=scenes.gsd)
    locations = [location for image in (*place.pre, *place.post) for location in image.locations]
    for location in locations:
        if not is_remote(location):
            open_scene(location, scaling)  # reports errors of its header now
    layers = sorted({file for file in labels.values() if file})
    check_layers(layers, grid, scenes, SCALES[data.scale])
    stats = [
        file_state(part, str(part))
        for name in (*locations, *layers, scenes.labelled_area)
        if name and not is_remote(name)
        for part in _parts(Path(name))
    ]
    stamp = repr((locations, sorted(labels.items()), stats))
    return PlannedPlace(place=place, grid=grid, labels=labels, stamp=stamp), unlabelled


def _parts(file: Path) -> list[Path]:
    """List a file and the files beside it that belong to it: masks, world files, a Shapefile's tables."""
    beside = file.parent.glob(f"{glob.escape(file.stem)}.*")
    return sorted(part for part in beside if part.is_file() and not part.name.endswith(".aux.xml"))


def _widened(window: Window, grid: Grid) -> Window:
    """Return a tile, widened by its surroundings if it is too small to be registered by itself."""
    height, width = (max(side, REGISTERED) for side in (window.rows, window.columns))
    row = max(0, min(window.row - (height - window.rows) // 2, grid.height - height))
    column = max(0, min(window.column - (width - window.columns) // 2, grid.width - width))
    rows, columns = min(height, grid.height - row), min(width, grid.width - column)
    return Window(window.index, row, column, rows, columns, rows, columns)
