"""Polygons that fine-tuned maps suggest, without those that somebody has accepted, drawn over or rejected."""

import json
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from jaxcd.base.errors import RunError
from jaxcd.base.files import write_whole
from jaxcd.labelling.learning.tuning import TUNED, suggestions
from jaxcd.labelling.store import Store

_REJECTED = "rejected.json"
_COVERED = 0.5  # of its area by drawn objects: it is no news
_lock = threading.Lock()


def open_suggestions(store: Store, pair: str, viewer: int | None) -> list[dict[str, Any]]:
    """Return the suggestions of a pair that nobody has decided on, as `tuning.suggestions` describes them.

    One that is accepted has become an object of its id in the store; if that is deleted again, it counts as rejected.
    """
    found = suggestions(store.path.parent, pair)
    if not found:
        return []
    gone = set(_rejected(store.path.parent).get(pair, ()))
    with store.reading() as db:
        query = "SELECT id FROM object WHERE pair = ? AND version > 0"
        gone |= {key for (key,) in db.execute(query, (store.row(pair),))}
    left = [one for one in found if one["id"] not in gone]
    labels, _ = store.objects(pair, store.pairs[pair].bounds, viewer=viewer, limit=2**31)
    drawn = [label.geometry for label in labels if label.geometry is not None]
    return [one for one, new in zip(left, _uncovered(left, drawn), strict=True) if new]


def reject(store: Store, pair: str, ids: Iterable[str], *, rejected: bool) -> list[str]:
    """Remember, or forget, that suggestions of a pair are not wanted; returns all that are not."""
    with _lock:
        known = _rejected(store.path.parent)
        before = set(known.get(pair, ()))
        known[pair] = sorted(before | set(ids) if rejected else before - set(ids))
        folder = store.path.parent / TUNED
        folder.mkdir(exist_ok=True)
        write_whole(folder / _REJECTED, json.dumps(known))
    return known[pair]


def _rejected(store: Path) -> dict[str, list[str]]:
    path = store / TUNED / _REJECTED
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path}: damaged; delete it, and rejected suggestions are shown again") from error


def _uncovered(found: list[dict[str, Any]], drawn: list) -> np.ndarray:
    shapes = np.array([shapely.from_wkb(one["outline"]) for one in found], object)
    covered = np.zeros(len(shapes))
    if len(shapes) and drawn:
        others = np.array(drawn, object)
        mine, theirs = shapely.STRtree(others).query(shapes, predicate="intersects")
        np.add.at(covered, mine, shapely.area(shapely.intersection(shapes[mine], others[theirs])))
    return covered <= _COVERED * shapely.area(shapes) if len(shapes) else covered == 0
