"""Reads tiles of a place, one at a time: reads pixels on the place's grid, applies the filters, draws the labels."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from jaxcd.base.errors import ImageError, SceneError
from jaxcd.base.scales import INVALID, Scale
from jaxcd.config import ScenesConfig, check_scaling
from jaxcd.scenes.pairing import Mosaic, ScenePlace
from jaxcd.scenes.quality import Statistics, Thresholds, hopeless, reason_to_drop, statistics
from jaxcd.scenes.radiometry import match_histogram
from jaxcd.scenes.raster import is_remote
from jaxcd.scenes.reader import open_scene
from jaxcd.scenes.window_cache import read_window
from jaxcd.scenes.windows import Grid, Window
from jaxcd.sources.from_scenes.layers import draw
from jaxcd.sources.reading import ReadImage, ReadPlace, ReadPost

# A tile is first read decimated by this factor. That costs little if the scene has overviews, and shows whether the
# filters will certainly drop the tile.
_COARSE = 8
THUMBNAIL = 96
_OVERLAP, _NO_DATA = "overlap", "no data"
UNLABELLED = "unlabelled"
_UNMEASURED = Statistics(black=math.nan, brightness=math.nan, variance=math.nan, valid=0)
_LEAST_SHARED = 0.9  # an older pre image must show this share of the ground that the later ones show

Shifts = Mapping[tuple[str, ...], tuple[float, float]]
"""How many rows (down) and columns (right) a tile is shifted in an acquisition; the key is `Mosaic.locations`."""


@dataclass(frozen=True, kw_only=True)
class ReadingSettings:
    """How scenes are read.

    Attributes:
        scenes: settings that decide how scenes become tiles.
        scaling: how 16-bit and float images become 8 bits (`config.data.scaling`).
        scale: scale of the labels.
        refuse: whether an unreadable local file ends the build; if not, the reason is kept with the tile.
        window_folder: folder that keeps downloaded windows.
    """

    scenes: ScenesConfig
    scaling: str
    scale: Scale
    refuse: bool
    window_folder: Path


@dataclass(frozen=True, kw_only=True)
class PlannedTile:
    """A tile that is to be read.

    Attributes:
        place: its place.
        grid: the place's grid.
        labels: path of the label file of each post scene, by the scene's location; "" for an unlabelled scene.
        window: where the tile lies on the grid.
        shifts: shifts of the tile in the place's acquisitions.
    """

    place: ScenePlace
    grid: Grid
    labels: Mapping[str, str]
    window: Window
    shifts: Shifts

    @property
    def id(self) -> str:
        """The tile's name."""
        return tile_id(self.place, self.window)


class SceneTile(NamedTuple):
    """A tile that was read.

    Attributes:
        place: images and labels of the tile, or None if the filters drop it.
        tile: id, place, index, kept, and bounds in degrees.
        images: for each acquisition, its statistics, whether it is kept, and if not, the reason.
        pictures: thumbnails of a pre and a post image, by name.
    """

    place: ReadPlace | None
    tile: dict
    images: list[dict]
    pictures: dict[str, UInt8[np.ndarray, "h w 3"]]


@dataclass(frozen=True)
class _Judged:
    """An acquisition of a tile, as the filters judged it; `reason` is empty if it is kept."""

    image: Mosaic
    when: str
    statistics: Statistics
    reason: str
    decimated: bool = False
    pixels: UInt8[np.ndarray, "h w 3"] | None = None
    valid: Bool[np.ndarray, "h w"] | None = None


def tile_id(place: ScenePlace, window: Window) -> str:
    """Name a tile as the paper does: place and number of the tile, row by row."""
    return f"{place.id}_{window.index}"


def read_tile(planned: PlannedTile, reading: ReadingSettings) -> SceneTile:
    """Read, judge and label a tile.

    Raises:
        ImageError: a local file can't be read, and `reading.refuse` is set.
        LabelError: a label file can't be read as classes of the scale.
    """
    scenes, window, shifts = reading.scenes, planned.window, planned.shifts
    part = planned.grid.part(window)
    if scenes.labelled_only and all(_unlabelled(_drawn(planned, post, part, reading)) for post in planned.place.post):
        return _unread(planned, part)  # of a large scene that is labelled here and there, most tiles
    inside = slice(0, window.rows), slice(0, window.columns)
    on_grid = np.zeros((window.height, window.width), bool)
    on_grid[inside] = True
    seen = {
        when: [_read_and_judge(image, when, part, on_grid, inside, shifts, reading) for image in images]
        for when, images in (("pre", planned.place.pre), ("post", planned.place.post))
    }
    before, pre = on_grid.copy(), []
    # The latest comes first: if an older image shows less ground, it is dropped, and does not make ground invalid that
    # the latest shows.
    for k, image in reversed(list(enumerate(seen["pre"]))):
        if image.reason or image.valid is None:
            continue
        share = (before & image.valid)[inside].mean()
        if pre and share < max(scenes.valid, _LEAST_SHARED * before[inside].mean()):
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
    place = _labelled(planned, part, pre, post, before, reading) if pre and post else None
    if place is not None and scenes.labelled_only and all(_unlabelled(image.codes) for image in place.post):
        place = None  # what is known lies where an image has no data
        seen["post"] = [dataclasses.replace(image, reason=image.reason or UNLABELLED) for image in seen["post"]]
    return SceneTile(
        place=place,
        tile=_facts(planned, part, kept=place is not None),
        images=[_row(image, shifts) for image in (*seen["pre"], *seen["post"])],
        pictures=_thumbnails(seen),
    )


def _facts(planned: PlannedTile, part: Grid, *, kept: bool) -> dict:
    facts = {"id": planned.id, "place": planned.place.id, "index": planned.window.index, "kept": kept}
    return facts | {"bounds": _without_padding(part, planned.window).bounds_degrees}


def _unread(planned: PlannedTile, part: Grid) -> SceneTile:
    """Drop a tile of which nothing is known before its images are read."""
    images = [
        _row(_Judged(image, when, _UNMEASURED, UNLABELLED), planned.shifts)
        for when, group in (("pre", planned.place.pre), ("post", planned.place.post))
        for image in group
    ]
    return SceneTile(place=None, tile=_facts(planned, part, kept=False), images=images, pictures={})


def _unlabelled(codes: UInt8[np.ndarray, "h w"]) -> bool:
    return bool((codes == INVALID).all())


def _read_and_judge(
    image: Mosaic,
    when: str,
    part: Grid,
    on_grid: Bool[np.ndarray, "h w"],
    inside: tuple[slice, slice],
    shifts: Shifts,
    reading: ReadingSettings,
) -> _Judged:
    """Read a tile of an acquisition and apply the filters; if its overview is already hopeless, read only that."""
    scenes, window_folder = reading.scenes, reading.window_folder
    limits = Thresholds(black=scenes.black, snow=scenes.snow, variance=scenes.variance)
    scaling = check_scaling(reading.scaling, "config.data.scaling")
    locations = [scene.location for scene in image.scenes]
    grid = part.moved(*shifts.get(image.locations, (0.0, 0.0)))
    try:
        if all(open_scene(location, scaling).has_overviews for location in locations):
            pixels, valid, covered = read_window(locations, grid, scaling=scaling, folder=window_folder, coarse=_COARSE)
            small = tuple(slice(0, max(1, side.stop // _COARSE)) for side in inside)
            measured = statistics(pixels[small], valid[small], covered[small])
            reason = hopeless(measured, limits)
            if reason:
                return _Judged(image, when, measured, reason, decimated=True, pixels=pixels)
        pixels, valid, covered = read_window(locations, grid, scaling=scaling, folder=window_folder)
    except (ImageError, SceneError) as error:
        if reading.refuse and not any(is_remote(location) for location in locations):
            raise
        return _Judged(image, when, _UNMEASURED, str(error))
    if not on_grid.all():
        valid &= on_grid
        pixels[~on_grid] = 0
    measured = statistics(pixels[inside], valid[inside], covered[inside])
    if covered[inside].mean() < scenes.valid:
        reason = _NO_DATA
    else:
        reason = reason_to_drop(measured, limits) or (_NO_DATA if measured.valid < scenes.valid else "")
    if reason:
        return _Judged(image, when, measured, reason, pixels=pixels)
    if not valid.all():
        pixels[~valid] = 0
    return _Judged(image, when, measured, "", pixels=pixels, valid=valid)


def _labelled(
    planned: PlannedTile,
    part: Grid,
    pre: Sequence[_Judged],
    post: Sequence[_Judged],
    before: Bool[np.ndarray, "h w"],
    reading: ReadingSettings,
) -> ReadPlace:
    """Build a labelled tile of its kept images; `before` marks the pixels where all its pre images have data."""
    images, labelled = [], []
    for image in pre:
        assert image.pixels is not None
        images.append(ReadImage(name=image.image.name, date=image.image.date, pixels=image.pixels))
    for image in post:
        assert image.pixels is not None and image.valid is not None
        both = before & image.valid
        pixels = image.pixels
        if reading.scenes.match_histogram:
            pixels = match_histogram(pixels, images[-1].pixels, both)
        codes = np.where(both, _drawn(planned, image.image, part, reading), INVALID).astype(np.uint8)
        labelled.append(ReadPost(name=image.image.name, date=image.image.date, pixels=pixels, codes=codes))
    return ReadPlace(
        id=planned.id,
        block=None,
        bounds=_without_padding(part, planned.window).bounds_degrees,
        pre=tuple(images),
        post=tuple(labelled),
    )


def _drawn(planned: PlannedTile, image: Mosaic, part: Grid, reading: ReadingSettings) -> UInt8[np.ndarray, "h w"]:
    """Draw the labels of an acquisition; in a mosaic, draw the labels of each scene where that scene lies."""
    own = [planned.labels[location] for location in image.locations]
    if len(set(own)) == 1:
        return draw(own[0], part, reading.scenes, reading.scale)
    moved = part.moved(*planned.shifts.get(image.locations, (0.0, 0.0)))
    scaling = check_scaling(reading.scaling, "config.data.scaling")
    codes = np.full(part.shape, INVALID, np.uint8)
    for location, file in reversed(list(zip(image.locations, own, strict=True))):
        shown = open_scene(location, scaling).inside(moved)
        codes[shown] = draw(file, part, reading.scenes, reading.scale)[shown]
    return codes


def _without_padding(part: Grid, window: Window) -> Grid:
    """Return the grid of a tile without its padding."""
    return dataclasses.replace(part, height=window.rows, width=window.columns)


def _row(image: _Judged, shifts: Shifts) -> dict:
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


def _thumbnails(seen: Mapping[str, Sequence[_Judged]]) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
    """Return thumbnails of the latest pre and the first post image for the contact sheet."""
    pictures = {}
    for when, image in (("pre", seen["pre"][-1]), ("post", seen["post"][0])):
        if image.pixels is not None:
            # First take every n-th pixel: averaging all pixels would take a third of the time that decoding them takes.
            step = max(1, image.pixels.shape[0] // (2 * THUMBNAIL))
            few = np.ascontiguousarray(image.pixels[::step, ::step])
            small = cv2.resize(few, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
            pictures[f"thumbnail/{when}"] = small.astype(np.uint8, copy=False)
    return pictures
