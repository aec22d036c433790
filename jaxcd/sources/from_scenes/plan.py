"""Plans a build from scenes: finds places and their grids, cuts them into tiles, estimates the shifts of tiles."""

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
    """A place of scenes whose files have been checked.

    Attributes:
        place: the place.
        grid: its grid.
        labels: path of the label file of each post scene, by the scene's location; "" for an unlabelled scene.
        stamp: a text that changes when one of the place's files changes.
    """

    place: ScenePlace
    grid: Grid
    labels: Mapping[str, str]
    stamp: str

    @property
    def label_files(self) -> tuple[str, ...]:
        """All label files, without duplicates."""
        return tuple(dict.fromkeys(file for file in self.labels.values() if file))


@dataclass(frozen=True, kw_only=True)
class ScenePlan:
    """The places to build tiles of, and what is left out, each with the reason."""

    places: tuple[PlannedPlace, ...]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The shift of one acquisition at one tile.

    Attributes:
        tile: id of the tile.
        image: name of the acquisition.
        locations: the acquisition's scenes.
        shift: the estimate.
        accepted: whether the estimate is used.
        applied: the rows and columns by which the tile is shifted when it is read.
    """

    tile: str
    image: str
    locations: tuple[str, ...]
    shift: Shift
    accepted: bool
    applied: tuple[float, float]


def paired(data: DataConfig) -> tuple[Pairing, tuple[tuple[str, str], ...]]:
    """Find the scenes of a source and pair them; also return the files and rows that were left out.

    Raises:
        SceneError: the source holds no scenes, or no place that `scenes.only` names.
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
    """Plan a build from scenes. It reads headers and label files, but no tiles.

    Raises:
        SceneError: no place has both pre and post scenes; or a scene can't be used, and `incomplete` is refuse.
        LabelError: a place has no labels, and `incomplete` is refuse; or the file `labelled_area` does not exist.
    """
    close_scenes()  # their files may have changed since an earlier build of this process
    read_polygons.cache_clear()
    area = data.scenes.labelled_area
    if area and not Path(area).is_file():
        raise LabelError(f"--labelled_area {area}: no such file; check the path")
    pairing, left_out = paired(data)
    left_out += tuple((scene.location, reason) for scene, reason in pairing.unpaired)
    unwanted = tuple((scene.location, reason) for scene, reason in pairing.unwanted)
    if left_out and data.incomplete == "refuse":
        local = [(where, reason) for where, reason in left_out if not is_remote(where)]
        if local:
            more = f" (and {len(local) - 1} more)" if len(local) > 1 else ""
            raise SceneError(f"{local[0][0]}: {local[0][1]}{more}; {_LEAVE_OUT}")
    places = []
    for place in pairing.places:
        try:
            planned, unlabelled = _planned(place, data)
            places.append(planned)
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
    """Cut a place into tiles; `shifts` holds the shifts of tiles by the tile's id."""
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
    """Return the acquisitions that are registered to the reference scene: all of a place except the reference."""
    return (*place.pre[:-1], *place.post)


def registered(planned: PlannedPlace, image: Mosaic, reading: ReadingSettings) -> list[Estimate]:
    """Estimate the shift of an acquisition at every tile of its place.

    A tile is shifted by its own estimate if the estimate's peak stands out of the noise and it lies near the median
    shift of the acquisition. Otherwise it is shifted by that median, or not at all if no estimate is good enough.
    """
    scenes, place, grid = reading.scenes, planned.place, planned.grid
    windows = list(tile_windows(grid, scenes.tile, edges=scenes.edges))
    registration = register(_view(place, image, grid.part(_widened(window, grid)), reading) for window in windows)
    result = []
    for window, shift in zip(windows, registration.estimates, strict=True):
        near = registration.near_middle(shift)
        result.append(
            Estimate(
                tile=tile_id(place, window),
                image=image.name,
                locations=image.locations,
                shift=shift,
                accepted=near,
                applied=shift[:2] if near else registration.middle,
            )
        )
    return result


def _view(place: ScenePlace, image: Mosaic, part: Grid, reading: ReadingSettings) -> View | None:
    """Read a window of a place's reference and of another acquisition; None if they share too little ground."""
    scaling = check_scaling(reading.scaling, "config.data.scaling")
    try:
        reference, target = (
            read_window(acquisition.locations, part, scaling=scaling, folder=reading.window_folder)
            for acquisition in (place.pre[-1], image)
        )
    except (ImageError, SceneError):
        return None  # the error will be reported when the tile is read
    both = reference.valid & target.valid
    return View(reference.pixels, target.pixels, both) if both.mean() > reading.scenes.valid / 2 else None


def table(estimates: Iterable[tuple[str, Estimate]]) -> str:
    """Return estimates as the text of a CSV file; each estimate comes with the id of its place."""
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
    """Open the files of a place to check them; also return its scenes that have no labels, each with the reason."""
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
    # The grid covers the reference only: pre scenes beside it form other places. (A map covers all its pre scenes.)
    grid = common_grid((place.reference.location,), scaling, crs=scenes.crs, gsd=scenes.gsd)
    locations = [location for image in (*place.pre, *place.post) for location in image.locations]
    for location in locations:
        if not is_remote(location):
            open_scene(location, scaling)  # an error of its header is reported now
    layers = sorted({file for file in labels.values() if file})
    check_layers(layers, grid, scenes, SCALES[data.scale])
    stats = [
        file_state(part, str(part))
        for name in (*locations, *layers, scenes.labelled_area)
        if name and not is_remote(name)
        for part in _files_of(Path(name))
    ]
    stamp = repr((locations, sorted(labels.items()), stats))
    return PlannedPlace(place=place, grid=grid, labels=labels, stamp=stamp), unlabelled


def _files_of(file: Path) -> list[Path]:
    """List a file and those beside it that share its stem: masks, world files, the tables of a Shapefile."""
    beside = file.parent.glob(f"{glob.escape(file.stem)}.*")
    return sorted(part for part in beside if part.is_file() and not part.name.endswith(".aux.xml"))


def _widened(window: Window, grid: Grid) -> Window:
    """Return the window of a tile; if the tile is too small for registration, the window is larger than the tile."""
    height, width = (max(side, REGISTERED) for side in (window.rows, window.columns))
    row = max(0, min(window.row - (height - window.rows) // 2, grid.height - height))
    column = max(0, min(window.column - (width - window.columns) // 2, grid.width - width))
    rows, columns = min(height, grid.height - row), min(width, grid.width - column)
    return Window(window.index, row, column, rows, columns, rows, columns)
