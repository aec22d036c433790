"""One tile of a place at a time: read on the place's grid, judged, labelled, and set aside with what was found."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from jaxcd.config import check_scaling
from jaxcd.errors import ImageError, SceneError
from jaxcd.scenes.pairing import Acquisition, ScenePlace
from jaxcd.scenes.quality import Statistics, Thresholds, hopeless, reason_to_drop, statistics
from jaxcd.scenes.radiometry import match_histogram
from jaxcd.scenes.raster import is_remote
from jaxcd.scenes.reader import open_scene
from jaxcd.scenes.window_cache import read_window
from jaxcd.scenes.windows import Grid, Window
from jaxcd.tiles.damage_layers import draw
from jaxcd.tiles.encodings import encode_codes, encode_rgb
from jaxcd.tiles.manifest import Acquisition as Image
from jaxcd.tiles.manifest import BuildSettings, LabelledAcquisition, Sample
from jaxcd.tiles.staging import write_staged
from jaxcd.types import DAMAGE, INVALID

# A decimated tile shows whether it is hopeless; read at a fraction of the cost where there are overviews.
_COARSE = 8
THUMBNAIL = 96
_OVERLAP, _NO_DATA = "overlap", "no data"
_MOST_LOST = 0.9  # of the ground that is seen without an older image must be seen with it, too

Shifts = Mapping[tuple[str, ...], tuple[float, float]]
"""Of acquisitions, by their locations: rows and columns that a tile's content lies further down and right."""


@dataclass(frozen=True, kw_only=True)
class TileJob:
    """Tiles of one place that one process stages, one after the other.

    Attributes:
        place: what was taken of the ground.
        grid: of the place.
        labels: files that label each post scene, by its location.
        windows: the tiles.
        shifts: of each tile.
        files: staged file of each tile.
        window_folder: for windows that came over the network.
    """

    place: ScenePlace
    grid: Grid
    labels: Mapping[str, tuple[str, ...]]
    windows: tuple[Window, ...]
    shifts: tuple[Shifts, ...]
    files: tuple[Path, ...]
    window_folder: Path


@dataclass(frozen=True)
class _Seen:
    image: Acquisition
    when: str
    statistics: Statistics
    reason: str
    decimated: bool = False
    pixels: UInt8[np.ndarray, "h w 3"] | None = None
    valid: Bool[np.ndarray, "h w"] | None = None


def tile_id(place: ScenePlace, window: Window) -> str:
    """Name a tile as the paper does: place and number of the tile, row by row."""
    return f"{place.id}_{window.index}"


def staged_tile(
    place: ScenePlace, grid: Grid, window: Window, shifts: Shifts, settings: BuildSettings, folder: Path, stamp: str
) -> Path:
    """Name the staged file of a tile after everything that decides its content; `stamp` tells the files' state."""
    common = dataclasses.asdict(settings) | {"files": ""}
    where = [str(grid.crs), list(grid.transform)[:6], grid.height, grid.width, list(window)]
    content = json.dumps([common, tile_id(place, window), stamp, where, sorted(shifts.items())])
    return folder / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.zip"


def stage_tiles(job: TileJob, settings: BuildSettings) -> None:
    """Stage the tiles of a job that are not staged yet.

    Raises:
        ImageError: a file that can't be read, where those are not left out.
        LabelError: a label that does not say what is damaged.
    """
    for window, shifts, file in zip(job.windows, job.shifts, job.files, strict=True):
        if not file.is_file():
            _stage(job, window, shifts, file, settings)


def _stage(job: TileJob, window: Window, shifts: Shifts, file: Path, settings: BuildSettings) -> None:
    scenes = settings.scenes_config
    part = job.grid.part(window)
    inside = slice(0, window.rows), slice(0, window.columns)
    on_grid = np.zeros((window.height, window.width), bool)
    on_grid[inside] = True
    seen = {
        when: [_look(image, when, part, on_grid, inside, shifts, settings, job.window_folder) for image in images]
        for when, images in (("pre", job.place.pre), ("post", job.place.post))
    }
    before, pre = on_grid.copy(), []
    # The latest first: an older image that shows less of the ground must not cost what the latest shows.
    for k, image in reversed(list(enumerate(seen["pre"]))):
        if image.reason or image.valid is None:
            continue
        share = (before & image.valid)[inside].mean()
        if pre and share < max(scenes.valid, _MOST_LOST * before[inside].mean()):
            seen["pre"][k] = dataclasses.replace(image, reason=_OVERLAP, valid=None)
        else:
            before &= image.valid
            pre.insert(0, image)
    post = []
    for k, image in enumerate(seen["post"]):
        if image.reason or image.valid is None:
            continue
        if (before & image.valid)[inside].mean() < scenes.valid:
            seen["post"][k] = dataclasses.replace(image, reason=_OVERLAP, valid=None)
        else:
            post.append(image)
    rows = [_row(image, shifts) for image in (*seen["pre"], *seen["post"])]
    tile = {"id": tile_id(job.place, window), "place": job.place.id, "index": window.index}
    tile |= {
        "kept": bool(pre and post),
        "bounds": _on_scene(part, window).bounds_degrees,
    }
    parts = _thumbnails(seen)
    sample = None
    if pre and post:
        sample, more = _sample(job, window, part, pre, post, before, shifts, settings)
        parts |= more
    write_staged(file, sample=sample, notes=[], parts=parts, more={"tile": tile, "images": rows})


def _look(
    image: Acquisition,
    when: str,
    part: Grid,
    on_grid: Bool[np.ndarray, "h w"],
    inside: tuple[slice, slice],
    shifts: Shifts,
    settings: BuildSettings,
    window_folder: Path,
) -> _Seen:
    """Read a tile of an acquisition, unless it is hopeless by its overview, and judge it."""
    scenes = settings.scenes_config
    limits = Thresholds(black=scenes.black, snow=scenes.snow, variance=scenes.variance)
    scaling = check_scaling(settings.scaling, "config.data.scaling")
    locations = [scene.location for scene in image.scenes]
    grid = part.moved(*shifts.get(image.locations, (0.0, 0.0)))
    try:
        if all(open_scene(location, scaling).has_overviews for location in locations):
            pixels, valid, covered = read_window(locations, grid, scaling=scaling, folder=window_folder, coarse=_COARSE)
            small = tuple(slice(0, max(1, side.stop // _COARSE)) for side in inside)
            found = statistics(pixels[small], valid[small], covered[small])
            reason = hopeless(found, limits)
            if reason:
                return _Seen(image, when, found, reason, decimated=True, pixels=pixels)
        pixels, valid, covered = read_window(locations, grid, scaling=scaling, folder=window_folder)
    except (ImageError, SceneError) as error:
        if settings.incomplete == "refuse" and not any(is_remote(location) for location in locations):
            raise
        return _Seen(
            image, when, Statistics(black=math.nan, brightness=math.nan, variance=math.nan, valid=0), str(error)
        )
    if not on_grid.all():
        valid &= on_grid
        pixels[~on_grid] = 0
    found = statistics(pixels[inside], valid[inside], covered[inside])
    if covered[inside].mean() < scenes.valid:
        reason = _NO_DATA
    else:
        reason = reason_to_drop(found, limits) or (_NO_DATA if found.valid < scenes.valid else "")
    if reason:
        return _Seen(image, when, found, reason, pixels=pixels)
    if not valid.all():
        pixels[~valid] = 0
    return _Seen(image, when, found, "", pixels=pixels, valid=valid)


def _sample(
    job: TileJob,
    window: Window,
    part: Grid,
    pre: Sequence[_Seen],
    post: Sequence[_Seen],
    before: Bool[np.ndarray, "h w"],
    shifts: Shifts,
    settings: BuildSettings,
) -> tuple[Sample, dict[str, bytes]]:
    scenes = settings.scenes_config
    parts, labelled = {}, []
    for i, image in enumerate(pre):
        assert image.pixels is not None
        parts[f"pre/{i}"] = encode_rgb(image.pixels, settings.encoding)
    reference = pre[-1].pixels
    for i, image in enumerate(post):
        assert image.pixels is not None and image.valid is not None and reference is not None
        both = before & image.valid
        pixels = match_histogram(image.pixels, reference, both) if scenes.match_histogram else image.pixels
        codes = np.where(both, _drawn(job, image.image, part, shifts, settings), INVALID).astype(np.uint8)
        parts[f"post/{i}"], parts[f"label/{i}"] = encode_rgb(pixels, settings.encoding), encode_codes(codes)
        valid, damaged = int((codes != INVALID).sum()), int((codes == DAMAGE).sum())
        labelled.append(LabelledAcquisition(name=image.image.name, date=image.image.date, valid=valid, damaged=damaged))
    sample = Sample(
        id=tile_id(job.place, window),
        block=None,
        bounds=_on_scene(part, window).bounds_degrees,
        height=window.height,
        width=window.width,
        pre=tuple(Image(name=image.image.name, date=image.image.date) for image in pre),
        post=tuple(labelled),
    )
    return sample, parts


def _drawn(
    job: TileJob, image: Acquisition, part: Grid, shifts: Shifts, settings: BuildSettings
) -> UInt8[np.ndarray, "h w"]:
    """Draw the labels of an acquisition: of scenes beside each other, each on the ground that it shows."""
    scenes = settings.scenes_config
    own = [job.labels[location] for location in image.locations]
    if len(set(own)) == 1:
        return draw(own[0], part, scenes)
    moved = part.moved(*shifts.get(image.locations, (0.0, 0.0)))
    scaling = check_scaling(settings.scaling, "config.data.scaling")
    codes = np.full(part.shape, INVALID, np.uint8)
    for location, files in reversed(list(zip(image.locations, own, strict=True))):
        shown = open_scene(location, scaling).inside(moved)
        codes[shown] = draw(files, part, scenes)[shown]
    return codes


def _on_scene(part: Grid, window: Window) -> Grid:
    """Return the part of a tile that is no padding."""
    return dataclasses.replace(part, height=window.rows, width=window.columns)


def _row(image: _Seen, shifts: Shifts) -> dict:
    rows, columns = shifts.get(image.image.locations, (0.0, 0.0))
    return {
        "image": image.image.name,
        "when": image.when,
        "date": image.image.date,
        **dataclasses.asdict(image.statistics),
        "shift_rows": rows,
        "shift_columns": columns,
        "kept": not image.reason,
        "reason": image.reason,
        "decimated": image.decimated,
    }


def _thumbnails(seen: Mapping[str, Sequence[_Seen]]) -> dict[str, bytes]:
    """Give small pictures of the latest pre and the first post image, for the contact sheet."""
    found = {}
    for when, image in (("pre", seen["pre"][-1]), ("post", seen["post"][0])):
        if image.pixels is not None:
            # Every n-th pixel first: to average all of them takes as long as a third of their decoding.
            step = max(1, image.pixels.shape[0] // (2 * THUMBNAIL))
            few = np.ascontiguousarray(image.pixels[::step, ::step])
            small = cv2.resize(few, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
            found[f"thumbnail/{when}"] = encode_rgb(small, "jpeg")
    return found
