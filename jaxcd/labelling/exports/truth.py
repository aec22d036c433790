"""What the labels of a pair say of each pixel: shapes with codes, and where nothing is known."""

import math
from collections.abc import Collection, Iterable

import numpy as np
import shapely
from jaxtyping import UInt8
from shapely.geometry.base import BaseGeometry

from jaxcd.base.scales import INTACT, INVALID, UNKNOWN, Scale
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import PAIR, Label, Store
from jaxcd.labelling.store.objects import BAD, CELL, CLOUD, DAMAGED, FOOTPRINT
from jaxcd.labelling.store.objects import INTACT as ALL_INTACT
from jaxcd.labelling.store.reading import DONE, labels_where
from jaxcd.sources.labels import paint

Shapes = list[tuple[BaseGeometry, int]]


def shapes_of(store: Store, pair_id: str, without: Collection[str] = ()) -> Shapes:
    """Return what is known of a pair, to be painted over INVALID; empty: nothing is known.

    Ground is intact (or no building) where somebody has looked: on all of a pair whose verdict is intact, or damaged
    with at least one labelled object; in areas that are done; around footprints that were judged, as far as these are
    large. There, a footprint that nobody has judged is a building of unknown level; of an intact pair it is intact; in
    the scale binary, it is ground. Clouds, and all of a bad image, are INVALID.

    Args:
        store: the store.
        pair_id: the pair.
        without: objects that count as if they were not there.

    Returns:
        Outlines in the pair's coordinates with codes of the store's scale.
    """
    pair, scale = store.pairs[pair_id], store.scale
    with store.reading() as db:
        row = store.row(pair_id)
        everything = labels_where(db, row, None, "o.pair = :pair AND NOT o.deleted ORDER BY o.fid")
        done = db.execute(
            "SELECT DISTINCT a.west, a.south, a.east, a.north FROM area a JOIN task t ON t.area = a.fid "
            "WHERE a.pair = ? AND t.state = ? AND NOT t.second",
            (row, DONE),
        ).fetchall()
    verdict = next(label.level for label in everything if label.object == PAIR)
    objects = [label for label in everything if label.geometry is not None and label.object not in without]
    judged = [label for label in objects if label.level is not None]
    if verdict == BAD:
        return []
    bounds = shapely.box(*pair.bounds)
    grounds: list[BaseGeometry] = [_clipped(box, pair) for box in done]
    footprints = [label for label in objects if label.origin == FOOTPRINT]
    complete = bool(footprints) and all(label.level is not None for label in footprints)
    if verdict == ALL_INTACT or (verdict == DAMAGED and judged) or complete:
        grounds = [bounds]
    else:
        grounds += [
            _around(label, bounds) for label in judged if label.origin == FOOTPRINT and label.level in scale.levels
        ]
    left = [label for label in footprints if label.level is None and scale.buildings]
    unjudged = 1 if verdict == ALL_INTACT else UNKNOWN
    shapes = [(ground, INTACT) for ground in grounds]
    shapes += [(outline, unjudged) for outline in _touching((label.geometry for label in left), grounds)]
    return shapes + [(label.geometry, code_of(label, scale)) for label in judged if label.geometry is not None]


def code_of(label: Label, scale: Scale) -> int:
    """Return the code of a level or state: cloud is of unknown class, unknown a building of unknown level.

    A cell without damage is ground: most of it is, and nobody has said where in it buildings stand.
    """
    level = label.level
    if label.origin == CELL and level not in scale.levels[scale.damaged - 1 :]:
        return INTACT if level in scale.levels else INVALID
    if level in scale.levels:
        return scale.levels.index(level) + 1
    return INVALID if level == CLOUD or not scale.buildings else UNKNOWN


def codes_of(shapes: Shapes, pair: Pair, scale: Scale) -> UInt8[np.ndarray, "h w"]:
    """Paint shapes of a pair on its grid, as all labels of jaxcd are painted."""
    return paint(shapes, scale, shape=(pair.height, pair.width), transform=pair.transform, outside=INVALID)


def read_as(shapes: Shapes, scale: Scale, other: Scale) -> Shapes | None:
    """Return the shapes in the codes of another scale; None where these cannot be told."""
    table = scale.read_as(other)
    return None if table is None else [(outline, int(table[code])) for outline, code in shapes]


def _clipped(box: tuple, pair: Pair) -> BaseGeometry:
    west, south, east, north = (edge if math.isinf(own) else own for own, edge in zip(box, pair.bounds, strict=True))
    return shapely.box(west, south, east, north)


def _around(label: Label, bounds: BaseGeometry) -> BaseGeometry:
    """Return the ground around a footprint: whoever judged it has seen that."""
    assert label.geometry is not None
    west, south, east, north = label.geometry.bounds
    by = max(east - west, north - south)
    return shapely.intersection(shapely.box(west - by, south - by, east + by, north + by), bounds)


def _touching(outlines: Iterable[BaseGeometry | None], grounds: list[BaseGeometry]) -> list[BaseGeometry]:
    """Return the outlines that touch one of the grounds."""
    found = [outline for outline in outlines if outline is not None]
    if not found or not grounds:
        return []
    near = np.unique(shapely.STRtree(found).query(grounds, predicate="intersects")[1])
    return [found[i] for i in near]
