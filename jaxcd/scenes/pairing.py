"""Groups scenes into places: acquisitions of the same ground before and after the event."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import shapely

from jaxcd.scenes.catalogue import POST, PRE, Scene

# Scenes of one date that overlap by more than this share are repeated acquisitions, not parts of a mosaic.
_MOSAIC_OVERLAP = 0.2
# If the source names no places, two pre scenes belong to one place when they overlap by at least this share of the
# smaller footprint.
_ONE_PLACE = 0.5


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """An acquisition: scenes of one date that lie beside each other; where several cover a pixel, the first is used.

    Attributes:
        scenes: at least one.
        overlap: share of the place's reference scene that they cover.
    """

    scenes: tuple[Scene, ...]
    overlap: float

    @property
    def name(self) -> str:
        """Name of the first scene."""
        return self.scenes[0].name

    @property
    def date(self) -> str:
        """Date of the first scene."""
        return self.scenes[0].date

    @property
    def locations(self) -> tuple[str, ...]:
        """Paths or URLs of its scenes, which identify it; names may be equal."""
        return tuple(scene.location for scene in self.scenes)


@dataclass(frozen=True, kw_only=True)
class ScenePlace:
    """A piece of ground with its acquisitions, oldest first.

    Attributes:
        id: unique in its source.
        pre: acquisitions before the event; the last one's grid is the place's.
        post: acquisitions after the event.
    """

    id: str
    pre: tuple[Mosaic, ...]
    post: tuple[Mosaic, ...]

    @property
    def reference(self) -> Scene:
        """The scene whose grid is the place's."""
        return self.pre[-1].scenes[0]


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """How scenes form places.

    Attributes:
        places: the places.
        unpaired: scenes that belong to no place, each with the reason.
        unwanted: scenes that a filter (clouds, angle) left out, each with the reason.
    """

    places: tuple[ScenePlace, ...]
    unpaired: tuple[tuple[Scene, str], ...]
    unwanted: tuple[tuple[Scene, str], ...]


def pair(
    scenes: Sequence[Scene], *, min_overlap: float, max_clouds: float = 100.0, max_off_nadir: float = 90.0
) -> Pairing:
    """Group scenes into places that have acquisitions before and after the event.

    Scenes whose place the source names stay together. Other pre scenes form one place where at least half of the
    smaller footprint lies on the other; a post scene belongs to every place of which it covers enough.

    Args:
        scenes: the scenes of a catalogue.
        min_overlap: least share of a place's reference scene that another acquisition must cover.
        max_clouds: percent; scenes with more clouds are left out, those of unknown cloud cover stay.
        max_off_nadir: degrees; scenes with a larger angle are left out, those of unknown angle stay.
    """
    unwanted: list[tuple[Scene, str]] = []
    fit = []
    for scene in scenes:
        if scene.clouds is not None and scene.clouds > max_clouds:
            unwanted.append((scene, f"clouds {scene.clouds:g} %, more than {max_clouds:g}"))
        elif scene.off_nadir is not None and scene.off_nadir > max_off_nadir:
            unwanted.append((scene, f"off nadir {scene.off_nadir:g} degrees, more than {max_off_nadir:g}"))
        else:
            fit.append(scene)
    groups: dict[str, list[Scene]] = defaultdict(list)
    for scene in fit:
        if scene.place:
            groups[scene.place].append(scene)
    places, used = [], set()
    groups_of_scenes = [part for name, members in sorted(groups.items()) for part in _parts_of_place(name, members)]
    groups_of_scenes += _by_location([scene for scene in fit if not scene.place])
    for name, members in _with_unique_names(groups_of_scenes):
        place = _place(name, members, min_overlap)
        if place is not None:
            places.append(place)
            used |= {scene.location for image in (*place.pre, *place.post) for scene in image.scenes}
    unpaired = [(scene, _reason(scene, fit, min_overlap)) for scene in fit if scene.location not in used]
    return Pairing(places=tuple(places), unpaired=tuple(unpaired), unwanted=tuple(unwanted))


def restricted_to(pairing: Pairing, names: Sequence[str]) -> Pairing:
    """Keep the places whose ids begin with any of the names, and the unpaired and unwanted scenes of such places."""
    prefixes = tuple(names)
    return Pairing(
        places=tuple(place for place in pairing.places if place.id.startswith(prefixes)),
        unpaired=tuple(entry for entry in pairing.unpaired if entry[0].place.startswith(prefixes)),
        unwanted=tuple(entry for entry in pairing.unwanted if entry[0].place.startswith(prefixes)),
    )


def _parts_of_place(name: str, members: list[Scene]) -> list[tuple[str, list[Scene]]]:
    """Divide a named place into several if its pre scenes lie beside each other: each of these has its own grid."""
    if any(scene.catalog_id for scene in members):  # scenes of a catalogue: those of one quadkey share a grid
        return [(name, members)]
    parts = _by_location(members)
    return [(f"{name}_{part}" if len(parts) > 1 else name, scenes) for part, scenes in parts] or [(name, members)]


def _with_unique_names(groups_of_scenes: list[tuple[str, list[Scene]]]) -> list[tuple[str, list[Scene]]]:
    """Make names unique: prepend the name of the scene's folder, and number those that are still equal."""
    counts = Counter(name for name, _ in groups_of_scenes)
    named = [
        (f"{Path(scenes[0].location).parent.name}_{name}" if counts[name] > 1 else name, scenes)
        for name, scenes in groups_of_scenes
    ]
    again, seen = Counter(name for name, _ in named), Counter()
    unique = []
    for name, scenes in named:
        seen[name] += 1
        unique.append((f"{name}_{seen[name]}" if again[name] > 1 else name, scenes))
    return unique


def _by_location(scenes: Sequence[Scene]) -> list[tuple[str, list[Scene]]]:
    """Group scenes by location: a pre scene begins a group unless it overlaps another group's first scene enough."""
    pre = sorted((scene for scene in scenes if scene.when == PRE), key=lambda scene: (scene.date, scene.location))
    post = [scene for scene in scenes if scene.when == POST]
    pre.reverse()  # the latest first: its grid will be the place's
    # Of many scenes, only those that touch are compared.
    before, after = (shapely.STRtree([scene.footprint for scene in scenes]) for scenes in (pre, post))
    groups: dict[int, list[Scene]] = {}  # by the number of their first scene
    for number, scene in enumerate(pre):
        for first in sorted(before.query(scene.footprint, predicate="intersects").tolist()):
            if first in groups and _share_of_smaller(scene, pre[first]) >= _ONE_PLACE:
                groups[first].append(scene)
                break
        else:
            groups[number] = [scene]
    named = []
    for group in groups.values():
        touching = after.query(group[0].footprint, predicate="intersects")
        named.append((group[0].name, group + [post[number] for number in sorted(touching.tolist())]))
    return sorted(named, key=lambda item: item[0])


def _place(name: str, members: Iterable[Scene], min_overlap: float) -> ScenePlace | None:
    members = sorted(members, key=lambda scene: (scene.date, scene.location))
    pre, post = ([scene for scene in members if scene.when == when] for when in (PRE, POST))
    if not pre or not post:
        return None
    # The reference, which gives the grid, is the latest pre scene that a post acquisition covers enough of.
    for reference in reversed(pre):
        ground = reference.footprint

        def covered(
            images: list[tuple[Scene, ...]], ground: shapely.geometry.base.BaseGeometry = ground
        ) -> list[Mosaic]:
            mosaics = [Mosaic(scenes=image, overlap=_covered(ground, image)) for image in images]
            return [image for image in mosaics if image.overlap >= min_overlap]

        after = covered(_mosaics(post))
        if after:
            before = covered(_mosaics([scene for scene in pre if scene != reference and scene.date <= reference.date]))
            own = Mosaic(scenes=(reference,), overlap=1.0)
            return ScenePlace(id=name, pre=(*before, own), post=tuple(after))
    return None


def _mosaics(scenes: Sequence[Scene]) -> list[tuple[Scene, ...]]:
    """Join scenes of one date (and one catalogue id) that lie beside each other."""
    mosaics: list[list[Scene]] = []
    for scene in scenes:
        for mosaic in mosaics:
            same = (mosaic[0].date, mosaic[0].catalog_id) == (scene.date, scene.catalog_id)
            if same and all(_share_of_smaller(scene, other) < _MOSAIC_OVERLAP for other in mosaic):
                mosaic.append(scene)
                break
        else:
            mosaics.append([scene])
    return [tuple(mosaic) for mosaic in mosaics]


def _covered(ground: shapely.geometry.base.BaseGeometry, scenes: Sequence[Scene]) -> float:
    over = shapely.union_all([shapely.intersection(ground, scene.footprint) for scene in scenes])
    return over.area / ground.area if ground.area else 0.0


def _share_of_smaller(first: Scene, second: Scene) -> float:
    shared = shapely.intersection(first.footprint, second.footprint).area
    return shared / max(min(first.footprint.area, second.footprint.area), 1e-12)


def _reason(scene: Scene, scenes: Sequence[Scene], min_overlap: float) -> str:
    """Say why a scene is part of no place."""
    other = POST if scene.when == PRE else PRE
    candidates = [candidate for candidate in scenes if candidate.when == other and candidate.place == scene.place]
    where = "its place" if scene.place else "this source"
    if not candidates:
        return f"no {other} scene of {where}"
    best = max(_covered(candidate.footprint, [scene]) for candidate in candidates)
    if best == 0:
        return f"overlaps no {other} scene of {where}"
    if best < min_overlap:
        return f"covers at most {best:.1%} of a {other} scene, expected {min_overlap:.0%} (min_overlap)"
    return f"no {other} scene of {where} forms a place with it"
