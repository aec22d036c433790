"""How far the labels of pairs are: counted for one pair or for all at once, and anew only where something changed."""

import sqlite3
import time
from collections.abc import Mapping, Sequence

from jaxcd.labelling.pairs import Box
from jaxcd.labelling.store.objects import CELL, FOOTPRINT, PAIR
from jaxcd.labelling.store.reading import hidden_areas, hidden_places, labels_of

Progress = dict[str, object]
"""Judged objects by level, their number, by who judged them; the pair's verdict and its version."""
_WHOLE = {"whole": PAIR}
_LONG = 0.2  # seconds of counting, after which a pair is left alone
_REST = 10  # times as long as that took


class Counts:
    """Progress of pairs, kept until a label of the pair changes; one thread at a time may ask.

    Where counting takes long, as with hundreds of thousands of labels, counts may be some seconds old: else people who
    label at once would have the store count without end.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, int | None], tuple[int, Sequence[Box], Progress]] = {}
        self._rests: dict[int, float] = {}  # by pair: when it may be counted again

    def of_one(self, db: sqlite3.Connection, pair: int, viewer: int | None) -> Progress:
        """Return the progress of a pair, as far as a viewer may know it."""
        areas = hidden_areas(db, pair, viewer)
        key = (pair, viewer if areas else None)  # others all see the same
        (seq,) = db.execute("SELECT COALESCE(MAX(seq), 0) FROM object WHERE pair = ? AND seq > 0", (pair,)).fetchone()
        known = self._known.get(key)
        begun = time.monotonic()
        if known is None or known[1] != areas or (known[0] != seq and begun >= self._rests.get(pair, 0.0)):
            counted = _hidden(db, pair, viewer, areas) if areas else _seen(db, pair)[pair]
            known = self._known[key] = (seq, areas, counted)
            took = time.monotonic() - begun
            self._rests[pair] = begun + _REST * took if took > _LONG else 0.0
        return known[2]

    def of_all(self, db: sqlite3.Connection, viewer: int | None) -> Mapping[int, Progress]:
        """Return the progress of all pairs by their rows, in a few queries whatever their number."""
        seqs = dict(db.execute("SELECT pair, MAX(seq) FROM object WHERE seq > 0 GROUP BY pair").fetchall())
        pairs = [pair for (pair,) in db.execute("SELECT fid FROM pair")]
        known = {pair: self._known.get((pair, None)) for pair in pairs}
        if any(one is None or one[0] != seqs.get(pair, 0) for pair, one in known.items()):
            for pair, counted in _seen(db).items():
                self._known[pair, None] = (seqs.get(pair, 0), [], counted)
        found = {pair: self._known[pair, None][2] for pair in pairs}
        query = "SELECT DISTINCT a.pair FROM task t JOIN area a ON a.fid = t.area WHERE t.person = ? AND t.second"
        secret = db.execute(query, (viewer,)).fetchall()
        return found | {pair: self.of_one(db, pair, viewer) for (pair,) in secret}


def units_of(db: sqlite3.Connection) -> dict[int, int]:
    """Count the footprints or cells on the ground of each pair that has some, by its row."""
    counted = "SELECT pair, COUNT(*) FROM object WHERE origin IN (?, ?) GROUP BY pair"
    return dict(db.execute(counted, (FOOTPRINT, CELL)).fetchall())


def _seen(db: sqlite3.Connection, pair: int | None = None) -> dict[int, Progress]:
    """Count what anybody may know of one pair, or of all."""
    one, values = ("", _WHOLE) if pair is None else ("pair = :pair AND ", {**_WHOLE, "pair": pair})
    found: dict[int, tuple[dict, dict]] = {
        row: ({}, {}) for (row,) in db.execute(f"SELECT fid FROM pair WHERE {one.replace('pair =', 'fid =')}1", values)
    }
    for row, level, count in db.execute(
        f"SELECT pair, level, COUNT(*) FROM object WHERE {one}level IS NOT NULL AND NOT deleted AND second IS NULL "
        "AND origin != :whole GROUP BY pair, level",
        values,
    ):
        found[row][0][level] = count
    # Of a large pair most opinions count: those of deleted objects and of the pair itself are taken off.
    people: dict[tuple[int, int], int] = {
        (row, person): count
        for row, person, count in db.execute(
            f"SELECT pair, person, COUNT(*) FROM opinion WHERE {one}level IS NOT NULL GROUP BY pair, person", values
        )
    }
    for row, person, count in db.execute(
        f"SELECT h.pair, o.person, COUNT(*) FROM object h JOIN opinion o ON o.object = h.fid AND o.level IS NOT NULL "
        f"WHERE {one and 'h.'}{one}(h.deleted OR h.origin = :whole) GROUP BY h.pair, o.person",
        values,
    ):
        people[row, person] -= count
    names = dict(db.execute("SELECT id, name FROM person").fetchall())
    for (row, person), count in sorted(people.items()):
        if count:
            found[row][1][names[person]] = count
    verdicts = {
        row: (level, version)
        for row, level, version in db.execute(
            "SELECT pair, level, version FROM object WHERE id = :whole AND pair IN "
            f"(SELECT fid FROM pair WHERE {one.replace('pair =', 'fid =')}1)",
            values,
        )
    }
    return {row: _told(levels, people_, *verdicts[row]) for row, (levels, people_) in found.items()}


def _hidden(db: sqlite3.Connection, pair: int, viewer: int | None, areas: Sequence[Box]) -> Progress:
    """Count what a viewer may know who gives a second opinion in some areas: there, only what is their own."""
    hidden, values = hidden_places(areas)
    there = f"SELECT fid FROM object WHERE pair = :pair AND ({hidden})"
    values |= {"pair": pair, "viewer": viewer, **_WHOLE}
    levels = dict(
        db.execute(
            "SELECT level, COUNT(*) FROM object WHERE pair = :pair AND level IS NOT NULL AND NOT deleted "
            f"AND second IS NULL AND origin != :whole AND NOT ({hidden}) GROUP BY level",
            values,
        ).fetchall()
    )
    own = db.execute(
        "SELECT o.level, COUNT(*) FROM opinion o JOIN object x ON x.fid = o.object AND NOT x.deleted "
        "AND x.origin != :whole WHERE o.pair = :pair AND o.person = :viewer AND o.level IS NOT NULL "
        f"AND x.fid IN ({there}) GROUP BY o.level",
        values,
    )
    for level, count in own:
        levels[level] = levels.get(level, 0) + count
    people = dict(
        db.execute(
            "SELECT n.name, COUNT(*) FROM opinion o JOIN person n ON n.id = o.person "
            "JOIN object h ON h.fid = o.object AND NOT h.deleted AND h.origin != :whole "
            "WHERE o.pair = :pair AND o.level IS NOT NULL AND (o.person IS :viewer OR h.fid NOT IN "
            f"({there})) GROUP BY o.person",
            values,
        ).fetchall()
    )
    (verdict,) = labels_of(db, pair, viewer, [PAIR])
    return _told(levels, people, verdict.level, verdict.version)


def _told(levels: Mapping[str, int], people: Mapping[str, int], verdict: str | None, version: int) -> Progress:
    return {
        "levels": levels,
        "judged": sum(levels.values()),
        "verdict": verdict,
        "verdict_version": version,
        "people": people,
    }
