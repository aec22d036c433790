"""The pairs that are labelled: their scenes or pictures opened and checked, on the grid that a map would have."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from jaxcd.base.errors import ConfigError, SceneError
from jaxcd.base.files import write_whole
from jaxcd.base.fingerprints import digest
from jaxcd.config import DataConfig, ScenesConfig, check_scaling
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.settings import LabelSettings
from jaxcd.mapping import listed_pairs
from jaxcd.mapping.predict.scene_pair import ScenePair, open_pair, register_pair
from jaxcd.mapping.settings import MapSettings
from jaxcd.scenes.dates import date_in, told
from jaxcd.scenes.raster import header, is_remote
from jaxcd.sources import layouts
from jaxcd.sources.from_scenes.plan import paired
from jaxcd.sources.image_pairs import find_pairs

SCENE = "scene"
"""Id of the pair that `--pre` and `--post` name."""
REGISTRATION = "registration.json"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_UNFIT = re.compile(r"[^A-Za-z0-9._-]+")


class Named(NamedTuple):
    """A pair as a user names it: locations of its scenes, or the files of its two pictures."""

    id: str
    title: str
    pre: tuple[str, ...]
    post: tuple[str, ...]
    footprints: Path | None
    pictures: bool = False


@dataclass(frozen=True, kw_only=True)
class OpenPair:
    """A pair that can be shown.

    Attributes:
        pair: as the store knows it.
        scenes: on the grid of a map; None for pictures without a place.
        bounds: west, south, east, north as the page knows them: degrees, or x and minus rows of pictures.
        dates: when it was taken before and after, or "date unknown".
        state: changes with all that affects what is shown.
    """

    pair: Pair
    scenes: ScenePair | None
    bounds: tuple[float, float, float, float]
    dates: tuple[str, str]
    state: str

    @property
    def shift(self) -> tuple[float, float] | None:
        """Rows and columns by which the first post scene was found too far down and right; None: not registered."""
        if self.scenes is None or all(source.shift == (0.0, 0.0) for source in self.scenes.post):
            return None
        return self.scenes.post[0].shift


def named(
    *,
    pre: Sequence[str] = (),
    post: Sequence[str] = (),
    pairs: Path | None = None,
    source: Path | None = None,
    layout: str = "",
    settings: LabelSettings,
) -> tuple[Named, ...]:
    """List the pairs that a user names, in one of three ways: scenes, a list, or a source folder with its layout.

    Raises:
        ConfigError: the list is none.
        LayoutError, SceneError: the source holds no pair in this layout.
    """
    if pairs is not None:
        wanted = listed_pairs.read(pairs)
        return _unique(
            Named(each.name, each.name, each.pre, each.post, each.footprints or settings.footprints) for each in wanted
        )
    if source is None:
        return (Named(SCENE, _title(pre[0], post[0]), tuple(pre), tuple(post), settings.footprints),)
    if layout == layouts.SCENES:
        return _unique(_of_scenes(source, settings))
    found = find_pairs(layout, source)
    return _unique(
        Named(each.id, each.id, (str(each.pre),), (str(each.post),), None, pictures=True)
        for each in found
        if each.id.startswith(settings.only or ("",))
    )


def open_all(wanted: Sequence[Named], settings: LabelSettings, store: Path) -> tuple[OpenPair, ...]:
    """Open pairs, and register them where that is asked for; shifts that were found are kept in the store's folder.

    Raises:
        JaxcdError: a file is missing or cannot be shown; the message names it.
    """
    if not wanted:
        raise ConfigError("--only: no pair's name begins so")
    return tuple(_pictures(each, settings) if each.pictures else _scenes(each, settings, store) for each in wanted)


def _of_scenes(source: Path, settings: LabelSettings) -> Iterator[Named]:
    config = ScenesConfig(event_date=settings.event_date, only=settings.only, labels="none")
    pairing, _ = paired(DataConfig(root=str(source), layout=layouts.SCENES, scenes=config))
    for place in pairing.places:
        for image in place.post:
            name = place.id if len(place.post) == 1 else f"{place.id}_{image.name}"
            yield Named(name, name, place.pre[-1].locations, image.locations, settings.footprints)
    if not pairing.places:
        raise SceneError(f"{source}: no place with scenes of before and after the event; jaxcd.prepare --list says why")


def _scenes(wanted: Named, settings: LabelSettings, store: Path) -> OpenPair:
    pre, post = (tuple(_absolute(each) for each in group) for group in (wanted.pre, wanted.post))
    how = MapSettings(scaling=settings.scaling, cache=settings.cache)
    scenes = open_pair(pre, post, how)
    if scenes.grid.crs.to_epsg() is None:  # labels are kept in a system that has a number
        west, south, east, north = scenes.grid.bounds_degrees
        zone = int(((west + east) / 2 + 180) // 6) % 60 + 1
        scenes = open_pair(pre, post, replace(how, crs=f"EPSG:{32600 + zone + 100 * (south + north < 0)}"))
    for note in scenes.notes:
        print(f"NOTE: {note}", flush=True)
    if settings.register:
        scenes = _registered(scenes, store)
    footprints = str(wanted.footprints.absolute()) if wanted.footprints else None
    grid = scenes.grid
    pair = Pair(
        id=wanted.id,
        title=wanted.title,
        pre=pre,
        post=tuple(source.location for source in scenes.post),
        footprints=footprints,
        epsg=grid.crs.to_epsg(),
        bounds=grid.bounds,
        width=grid.width,
        height=grid.height,
    )
    dates = told(source.date for source in scenes.pre), told(source.date for source in scenes.post)
    state = digest([scenes.identity(grid), wanted.id], digits=16)
    return OpenPair(pair=pair, scenes=scenes, bounds=grid.bounds_degrees, dates=dates, state=state)


def _registered(scenes: ScenePair, store: Path) -> ScenePair:
    """Shift the post scenes as a map of them would; an estimate takes seconds, so it is kept."""
    file = store / REGISTRATION
    known: dict[str, list[list[float]]] = {}
    if file.is_file():
        try:
            known = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{file}: not written by jaxcd; delete it, and shifts are estimated anew") from error
    key = digest(scenes.identity(scenes.grid), digits=32)
    if key not in known:
        print(f"estimating the shift of {len(scenes.post)} post scenes ...", flush=True)
        _, found = register_pair(scenes)
        for each in found:
            print(f"{each.location}: shifted by {each.rows:.1f} rows and {each.columns:.1f} columns "
                  f"({each.believed} of {each.estimated} estimates believed)", flush=True)  # fmt: skip
        known[key] = [[each.rows, each.columns] for each in found]
        store.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(known, indent=1) + "\n")
    shifts = ((float(rows), float(columns)) for rows, columns in known[key])
    return replace(scenes, post=tuple(replace(s, shift=shift) for s, shift in zip(scenes.post, shifts, strict=True)))


def _pictures(wanted: Named, settings: LabelSettings) -> OpenPair:
    (pre,), (post,) = ([_absolute(each) for each in group] for group in (wanted.pre, wanted.post))
    check_scaling(settings.scaling, "--scaling")
    before, after = header(pre), header(post)
    if (before.height, before.width) != (after.height, after.width):
        raise SceneError(
            f"{post}: {after.width} x {after.height} pixels, and {pre} has {before.width} x {before.height}; "
            "pictures of a pair must have one size"
        )
    bounds = (0.0, float(-before.height), float(before.width), 0.0)
    pair = Pair(
        id=wanted.id,
        title=wanted.title,
        pre=(pre,),
        post=(post,),
        footprints=None,
        epsg=None,
        bounds=bounds,
        width=before.width,
        height=before.height,
    )
    stats = [[each, Path(each).stat().st_size, Path(each).stat().st_mtime_ns] for each in (pre, post)]
    dates = told([date_in(Path(pre).stem)]), told([date_in(Path(post).stem)])
    state = digest([stats, settings.scaling, wanted.id], digits=16)
    return OpenPair(pair=pair, scenes=None, bounds=bounds, dates=dates, state=state)


def _absolute(location: str) -> str:
    return location if is_remote(location) else str(Path(location).absolute())


def _title(pre: str, post: str) -> str:
    """Name a pair after the folder of its scenes; where each has its own, the first scene tells more."""
    path, other = (Path(each) if is_remote(each) else Path(each).absolute() for each in (pre, post))
    same = path.parent == other.parent and path.parent.name
    return path.parent.name if same else f"{path.parent.name}/{path.stem}"


def _unique(found: Iterable[Named]) -> tuple[Named, ...]:
    """Give pairs ids that can stand in a URL; where a name cannot, its digest tells it from others."""
    made = []
    for each in found:
        fit = each.id
        if not _ID.fullmatch(fit):
            fit = f"{_UNFIT.sub('_', fit).strip('._-')[:80] or 'pair'}-{digest(fit, digits=8)}"
        made.append(each._replace(id=fit))
    ids = [each.id for each in made]
    twice = next((name for name in ids if ids.count(name) > 1), None) if len(set(ids)) < len(ids) else None
    if twice:
        raise ConfigError(f"{twice}: two pairs have this name; rename one")
    return tuple(made)
