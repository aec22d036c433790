"""How well people agree: Cohen's kappa of what two judged without seeing each other, IoU of the damage they drew."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from jaxcd.base.scales import Scale
from jaxcd.labelling.store import Store
from jaxcd.labelling.store.geometry import unpacked
from jaxcd.labelling.store.objects import PAIR, STATES, VERDICTS
from jaxcd.labelling.store.reading import DONE, OPEN


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How two people agree.

    Attributes:
        people: their names.
        objects: footprints and polygons that both judged, one of them as a second opinion.
        same: of these, those with the same level or state.
        kappa: Cohen's, unweighted, over levels and states; None where it is not defined.
        weighted_kappa: with quadratic weights, over the objects that both gave a level.
        verdicts: pairs that both judged as a whole.
        verdict_kappa: Cohen's, unweighted, over these.
        drawn_iou: intersection over union of the damage that both drew where both had the task; None: none drawn.
        table: counts by level of the first (rows) and of the second person; order of `names`.
        names: levels and states.
        differing: pair and object of those that differ.
    """

    people: tuple[str, str]
    objects: int
    same: int
    kappa: float | None
    weighted_kappa: float | None
    verdicts: int
    verdict_kappa: float | None
    drawn_iou: float | None
    table: list[list[int]]
    names: tuple[str, ...]
    differing: list[tuple[str, str]]


def agreement(store: Store) -> list[Agreement]:
    """Compare every two people who judged something independently of each other.

    Where one of them still works on a second opinion, nothing is compared: it would tell them what the other one said.
    """
    names = (*store.scale.levels, *STATES)
    with store.reading() as db:
        people = dict(db.execute("SELECT id, name FROM person").fetchall())
        judged = _judged_by_both(db)
        drawn = {key: _drawn_iou(db, *key, store.scale) for key in _common_tasks(db)}
    found = []
    for first, second in sorted({*judged, *drawn}):
        rows = judged.get((first, second), [])
        objects = [row for row in rows if row[1] != PAIR]
        verdicts = [row for row in rows if row[1] == PAIR]
        table = counted([(one, two) for *_, one, two in objects], names)
        of_pairs = counted([(one, two) for *_, one, two in verdicts], VERDICTS)
        levels = len(store.scale.levels)
        found.append(
            Agreement(
                people=(people[first], people[second]),
                objects=len(objects),
                same=int(np.trace(table)),
                kappa=cohens_kappa(table),
                weighted_kappa=cohens_kappa(table[:levels, :levels], quadratic=True),
                verdicts=len(verdicts),
                verdict_kappa=cohens_kappa(of_pairs),
                drawn_iou=drawn.get((first, second)),
                table=table.tolist(),
                names=names,
                differing=[(pair, key) for pair, key, one, two in rows if one != two],
            )
        )
    return found


def counted(pairs: Iterable[tuple[str, str]], names: Sequence[str]) -> np.ndarray:
    """Return how often the first says one and the second another name, as a table n x n."""
    table = np.zeros((len(names), len(names)), int)
    for one, two in pairs:
        table[names.index(one), names.index(two)] += 1
    return table


def cohens_kappa(table: np.ndarray, *, quadratic: bool = False) -> float | None:
    """Return Cohen's kappa: 1 - disagreement seen / disagreement expected of two who judge independently.

    Args:
        table: counts n x n, as of `counted`.
        quadratic: weights a disagreement by the square of its levels' distance, otherwise all are alike (Cohen, 1960
            and 1968).

    Returns:
        Kappa; None for an empty table, and where both say the same of everything, so that no disagreement is expected.
    """
    total = table.sum()
    if not total:
        return None
    index = np.arange(len(table))
    apart = index[:, None] - index[None, :]
    weights = apart.astype(float) ** 2 if quadratic else (apart != 0).astype(float)
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / total
    chance = (weights * expected).sum()
    return float(1 - (weights * table).sum() / chance) if chance else None


def _judged_by_both(db: sqlite3.Connection) -> dict[tuple[int, int], list[tuple[str, str, str, str]]]:
    """Return, by two people, pair, object and both levels of what they judged, one without seeing the other's."""
    rows = db.execute(
        "SELECT a.person, b.person, p.id, o.id, a.level, b.level FROM opinion a JOIN opinion b ON b.object = a.object "
        "AND b.person > a.person JOIN object o ON o.fid = a.object JOIN pair p ON p.fid = o.pair "
        "WHERE a.level IS NOT NULL AND b.level IS NOT NULL AND (a.second OR b.second) AND NOT o.deleted "
        "AND NOT EXISTS (SELECT 1 FROM task t JOIN area r ON r.fid = t.area WHERE t.second AND t.state = ? "
        "AND t.person IN (a.person, b.person) AND r.pair = o.pair AND (o.x IS NULL OR "
        "(o.x >= r.west AND o.x < r.east AND o.y >= r.south AND o.y < r.north))) "
        "ORDER BY p.fid, o.fid",
        (OPEN,),
    )
    found: dict[tuple[int, int], list[tuple[str, str, str, str]]] = {}
    for first, second, *rest in rows:
        found.setdefault((first, second), []).append((rest[0], rest[1], rest[2], rest[3]))
    return found


def _common_tasks(db: sqlite3.Connection) -> list[tuple[int, int]]:
    rows = db.execute(
        "SELECT DISTINCT MIN(a.person, b.person), MAX(a.person, b.person) FROM task a JOIN task b ON b.area = a.area "
        "AND b.second AND NOT a.second AND a.person != b.person WHERE a.state = ? AND b.state = ?",
        (DONE, DONE),
    )
    return [(first, second) for first, second in rows]


def _drawn_iou(db: sqlite3.Connection, first: int, second: int, scale: Scale) -> float | None:
    """Compare the ground of the damaged polygons that two drew in the areas that both have done."""
    areas = db.execute(
        "SELECT DISTINCT a.pair, a.west, a.south, a.east, a.north FROM area a JOIN task s ON s.area = a.fid AND "
        "NOT s.second JOIN task t ON t.area = a.fid AND t.second WHERE s.state = ? AND t.state = ? AND "
        "(s.person, t.person) IN (VALUES (?, ?), (?, ?))",
        (DONE, DONE, first, second, second, first),
    ).fetchall()
    both = either = 0.0
    for pair, *box in areas:
        one, two = (_damage(db, pair, box, person, scale) for person in (first, second))
        both += shapely.intersection(one, two).area
        either += shapely.union(one, two).area
    return both / either if either else None


def _damage(db: sqlite3.Connection, pair: int, box: Sequence[float], person: int, scale: Scale) -> BaseGeometry:
    damaged = scale.levels[scale.damaged - 1 :]
    rows = db.execute(
        "SELECT geom FROM object WHERE pair = ? AND NOT deleted AND origin = 'drawn' AND creator = ? AND "
        "level IN (SELECT value FROM json_each(?)) AND x >= ? AND x < ? AND y >= ? AND y < ?",
        (pair, person, json.dumps(damaged), box[0], box[2], box[1], box[3]),
    )
    return shapely.union_all([unpacked(blob) for (blob,) in rows])
