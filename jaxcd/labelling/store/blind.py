"""The blind sample of a store: its plan, its members, and which of them are judged since it was drawn.

Its units are the footprints of the store, or the cells where it has no footprints. One that lies on several pairs is an
object of each. It counts once, as an object of the first of them; no label of any of them teaches anything if it is a
member.
"""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxcd.base.errors import JaxcdError
from jaxcd.labelling.store.objects import CELL, FOOTPRINT
from jaxcd.labelling.store.store import Store

# A label counts as an answer if somebody gave a level after the draw, and that is not undone: whoever judged before may
# have seen a score. An undo brings such an earlier label back, and is none itself.
_ANSWERS = """
SELECT m.id, o.level, n.name, o.at FROM sample_member m JOIN object o ON o.fid = m.object
LEFT JOIN person n ON n.id = o.author WHERE o.level IS NOT NULL AND EXISTS (
  SELECT 1 FROM edit e JOIN change c ON c.seq = e.seq LEFT JOIN change last ON last.seq = c.moved
  WHERE e.object = o.fid AND e.seq > (SELECT MAX(seq) FROM sample) AND NOT e.second
  AND json_extract(e.after, '$.own[0]') IS NOT NULL AND c.kind = 'save' AND COALESCE(last.kind, '') != 'undo')
"""
# Pairs with one file of footprints, or cut into the same cells, have the same units.
_GROUND = """
WITH ground AS MATERIALIZED (SELECT fid, id,
  COALESCE(footprint_digest, json_array(epsg, west, south, east, north, width, height)) AS key FROM pair)
"""
# All objects of a unit that is a member: those of other pairs, too.
_HELD = f"""
{_GROUND} SELECT o.fid FROM sample_member m JOIN object b ON b.fid = m.object JOIN ground q ON q.fid = b.pair
JOIN ground p ON p.key = q.key JOIN object o ON o.pair = p.fid AND o.id = b.id
"""
_UNITS = f"""
{_GROUND} SELECT o.fid, p.id, o.id, o.level, ROW_NUMBER() OVER (PARTITION BY p.key, o.id ORDER BY p.fid) = 1
FROM object o JOIN ground p ON p.fid = o.pair WHERE o.origin = ? ORDER BY o.fid
"""


class SampleStands(JaxcdError):
    """A blind sample of which a member is judged stays as it is."""


class Answer(NamedTuple):
    """What was said of a member since the draw: level or state, by whom, when."""

    level: str
    author: str
    at: str


class Unit(NamedTuple):
    """A footprint or cell of a pair: row of the table, ids of its pair and of itself, label, and whether it counts.

    Attributes:
        fid: row in the table `object`.
        pair: id.
        object: id.
        level: level, state or None.
        first: False where it is counted as an object of an earlier pair.
    """

    fid: int
    pair: str
    object: str
    level: str | None
    first: bool

    @property
    def id(self) -> str:
        """Id among all of the store."""
        return f"{self.pair}/{self.object}"


def unit(store: Store) -> str:
    """Name what is judged, scored and drawn in a store: building or cell."""
    return "cell" if store.cells else "building"


def units(store: Store) -> list[Unit]:
    """Return all footprints of a store, or all cells, pair by pair."""
    with store.reading() as db:
        rows = db.execute(_UNITS, (CELL if store.cells else FOOTPRINT,)).fetchall()
    return [Unit(fid, pair, key, level, bool(first)) for fid, pair, key, level, first in rows]


def keep(store: Store, record: Mapping[str, Any], members: Mapping[str, int], person: int, at: str) -> None:
    """Keep the plan of a new sample in place of one that nobody has begun to judge.

    Args:
        store: the store.
        record: of the plan.
        members: rows of their objects by id, in the order in which they are judged.
        person: who drew it.
        at: when.

    Raises:
        SampleStands: a member of the sample that there is was judged.
    """
    with store.changing() as db:
        _clear(db)
        db.execute(
            "INSERT INTO sample (plan, person, at, seq) SELECT ?, ?, ?, COALESCE(MAX(seq), 0) FROM change",
            (json.dumps(record), person, at),
        )
        db.executemany(
            "INSERT INTO sample_member (id, place, object) VALUES (?, ?, ?)",
            ((key, place, fid) for place, (key, fid) in enumerate(members.items())),
        )


def remove(store: Store) -> None:
    """Take the sample away.

    Raises:
        SampleStands: a member was judged.
    """
    with store.changing() as db:
        _clear(db)


def plan(store: Store) -> tuple[int, dict[str, Any]] | None:
    """Return number and record of the sample's plan, or None where there is none."""
    with store.reading() as db:
        found = db.execute("SELECT number, plan FROM sample ORDER BY number DESC LIMIT 1").fetchone()
    return None if found is None else (found[0], json.loads(found[1]))


def members(store: Store) -> list[str]:
    """Return the ids of the members in the order in which they are judged."""
    with store.reading() as db:
        return [key for (key,) in db.execute("SELECT id FROM sample_member ORDER BY place")]


def answers(store: Store) -> dict[str, Answer]:
    """Return what was said of the members since the draw, by id."""
    with store.reading() as db:
        return {key: Answer(level, author or "", at or "") for key, level, author, at in db.execute(_ANSWERS)}


def held(store: Store) -> frozenset[int]:
    """Return the rows of all objects that nothing may be learned from."""
    with store.reading() as db:
        return held_in(db)


def held_in(db: sqlite3.Connection) -> frozenset[int]:
    """Return the same within a transaction of the caller."""
    return frozenset(fid for (fid,) in db.execute(_HELD))


def held_by_pair(store: Store) -> dict[str, set[str]]:
    """Return the same as ids of objects by the id of their pair; pairs without any are left out."""
    found: dict[str, set[str]] = {}
    with store.reading() as db:
        query = f"SELECT p.id, o.id FROM object o JOIN pair p ON p.fid = o.pair WHERE o.fid IN ({_HELD})"
        for pair, key in db.execute(query):
            found.setdefault(pair, set()).add(key)
    return found


def state(store: Store) -> tuple[int, int]:
    """Return the numbers of the last change and of the sample: while they stay, nothing is new."""
    with store.reading() as db:
        return db.execute(
            "SELECT (SELECT COALESCE(MAX(seq), 0) FROM change), (SELECT COALESCE(MAX(number), 0) FROM sample)"
        ).fetchone()


def _clear(db: sqlite3.Connection) -> None:
    judged = len(db.execute(_ANSWERS).fetchall())
    if judged:
        raise SampleStands(f"the blind sample stays: people have judged {judged} of its members")
    db.execute("DELETE FROM sample_member")
    db.execute("DELETE FROM sample")
