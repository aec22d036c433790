"""Who labels what: pairs, or areas of large ones, each given to one person, and some to a second one."""

import hashlib
import math
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from jaxcd.labelling.pairs import Box, Pair
from jaxcd.labelling.store import Store, blind
from jaxcd.labelling.store.objects import FOOTPRINT, PAIR
from jaxcd.labelling.store.reading import DONE, LEFT, OPEN

_WHOLE, _IN_AREA = 200, 100  # footprints: more are cut into areas of about so many
_WHOLE_SIDE, _AREA_SIDE = 2048, 1024  # pixels: likewise of pairs without footprints
_IDLE = 3600.0  # seconds after which a task that nobody works on is free again

_INSIDE = "x >= :west AND x < :east AND y >= :south AND y < :north"


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one person shall label now.

    Attributes:
        pair_id: the pair.
        area: box in the pair's coordinates; None: all of the pair.
        objects: ids of the footprints there that the person has not judged yet; None where there are no footprints.
        second: whether another person has labelled it, whose labels this one does not see until it is done.
    """

    pair_id: str
    area: Box | None
    objects: list[str] | None
    second: bool


class _Area(NamedTuple):
    fid: int
    pair: int
    number: int
    box: Box


class Queues:
    """Gives out the pairs of a store, so that no two people get the same one unless a second opinion is wanted.

    Several processes may do so at once.
    """

    def __init__(
        self, store: Store, second_opinions: float = 0.0, *, pairs: Iterable[str] | None = None, idle: float = _IDLE
    ):
        """Set up the queue.

        Args:
            store: the store.
            second_opinions: share of the areas that a second person gets, too, 0 to 1.
            pairs: ids of those that are given out; None: all of the store.
            idle: seconds after which a task that nobody works on is free again.
        """
        self._store, self._share, self._idle = store, second_opinions, idle
        self._names = {store.row(key): key for key in (store.pairs if pairs is None else pairs)}
        self._served = f"({', '.join(map(str, self._names))})"  # numbers of rows, for SQL

    def next(self, person: int, after: str | None = None) -> Task | None:
        """Return what a person shall label: the task that they have, or a new one; None if nothing is left.

        Second opinions come first, then what nobody has, at last what the person has given back before.

        Args:
            person: number in the store.
            after: id of the pair that the person is done with. Footprints of the task that they have not judged make
                it free for others.
        """
        now = time.time()
        with self._store.changing() as db:
            self._cut(db)
            if after is not None:
                self._finish(db, person, self._store.row(after))
            current = self._current(db, person, now)
            if current is None:
                found = self._second(db, person, now) or self._first(db, person, now)
                if found is None:
                    return None
                area, second = found
                db.execute(
                    "INSERT INTO task (area, person, second, state, touched) VALUES (?, ?, ?, ?, ?)",
                    (area.fid, person, second, OPEN, now),
                )
                current = area, second
            return self._task(db, person, *current)

    def _cut(self, db: sqlite3.Connection) -> None:
        """Cut the pairs that are new into areas."""
        new = db.execute(
            f"SELECT fid FROM pair WHERE fid IN {self._served} AND fid NOT IN (SELECT pair FROM area)"
        ).fetchall()
        for (fid,) in new:
            rows = db.execute("SELECT x, y FROM object WHERE pair = ? AND origin = ?", (fid, FOOTPRINT)).fetchall()
            boxes = _areas(self._store.pairs[self._names[fid]], np.array(rows, float).reshape(-1, 2))
            values = ((fid, number, *box) for number, box in enumerate(boxes))
            db.executemany(
                "INSERT INTO area (pair, number, west, south, east, north) VALUES (?, ?, ?, ?, ?, ?)", values
            )

    def _finish(self, db: sqlite3.Connection, person: int, pair: int) -> None:
        """End the person's tasks of a pair: done, or given back.

        They are given back where footprints are left; of a whole pair without footprints, where the person said nothing
        of it. In an area without footprints, to go on says that all of it was looked at.
        """
        tasks = db.execute(
            "SELECT t.fid, t.second, a.west, a.south, a.east, a.north FROM task t JOIN area a ON a.fid = t.area "
            "WHERE t.person = ? AND t.state = ? AND a.pair = ?",
            (person, OPEN, pair),
        ).fetchall()
        drawn_on = not self._store.pairs[self._names[pair]].footprints
        for task, second, *box in tasks:
            said = [
                name
                for (name,) in db.execute(
                    "SELECT x.id FROM opinion o JOIN object x ON x.fid = o.object "
                    "WHERE o.person = ? AND o.pair = ? AND o.level IS NOT NULL AND NOT x.deleted",
                    (person, pair),
                )
            ]
            left = bool(self._unjudged(db, pair, tuple(box), person if second else None))
            if all(map(math.isinf, box)):
                left = PAIR not in said and (not said if drawn_on else left)
            db.execute("UPDATE task SET state = ? WHERE fid = ?", (LEFT if left else DONE, task))

    def _unjudged(self, db: sqlite3.Connection, pair: int, box: tuple, person: int | None) -> list[str]:
        """Return the footprints of an area that a person, or anybody, has not judged.

        Members of the blind sample are not among them: they are judged in an order of their own.
        """
        judged = "SELECT object FROM opinion WHERE pair = :pair AND level IS NOT NULL AND person = :person"
        other = "level IS NULL" if person is None else f"fid NOT IN ({judged})"
        rows = db.execute(
            f"SELECT fid, id FROM object WHERE pair = :pair AND origin = :origin AND {_INSIDE} AND {other} "
            "ORDER BY fid",
            {"pair": pair, "origin": FOOTPRINT, "person": person, **_named(box)},
        )
        held = blind.held_in(db)
        return [name for fid, name in rows if fid not in held]

    def _current(self, db: sqlite3.Connection, person: int, now: float) -> tuple[_Area, bool] | None:
        """Return the task that a person has, unless it was idle and somebody else has it now."""
        tasks = db.execute(
            "SELECT t.fid, t.area, t.second FROM task t JOIN area a ON a.fid = t.area "
            f"WHERE t.person = ? AND t.state = ? AND a.pair IN {self._served}",
            (person, OPEN),
        )
        for task, area, second in tasks.fetchall():
            taken = db.execute(
                "SELECT 1 FROM task WHERE area = ? AND person != ? AND second = ? AND (state = ? OR "
                "(state = ? AND touched > ?))",
                (area, person, second, DONE, OPEN, now - self._idle),
            ).fetchone()
            if not taken:
                db.execute("UPDATE task SET touched = ? WHERE fid = ?", (now, task))
                return self._area(db, area), bool(second)
            db.execute("UPDATE task SET state = ? WHERE fid = ?", (LEFT, task))
        return None

    def _second(self, db: sqlite3.Connection, person: int, now: float) -> tuple[_Area, bool] | None:
        """Find an area for a second opinion of somebody who had nothing to do with it."""
        if not self._share:
            return None
        areas = db.execute(
            "SELECT DISTINCT a.fid, a.pair, a.number FROM area a JOIN task t ON t.area = a.fid AND NOT t.second AND "
            f"t.state = ? WHERE a.pair IN {self._served} AND a.fid NOT IN "
            "(SELECT area FROM task WHERE person = ? OR (second AND (state = ? OR "
            "(state = ? AND touched > ?)))) ORDER BY a.fid",
            (DONE, person, DONE, OPEN, now - self._idle),
        ).fetchall()
        for fid, pair, number in areas:
            if self._wanted(pair, number) and not self._has_worked(db, fid, person):
                return self._area(db, fid), True
        return None

    def _wanted(self, pair: int, number: int) -> bool:
        """Say whether an area is one of the share that gets a second opinion: by chance, and always the same ones."""
        drawn = hashlib.sha256(f"{self._store.id} {self._names[pair]} {number}".encode()).digest()
        return int.from_bytes(drawn[:8], "big") < self._share * 2**64

    def _has_worked(self, db: sqlite3.Connection, area: int, person: int) -> bool:
        found = self._area(db, area)
        row = db.execute(
            "SELECT 1 FROM opinion o JOIN object x ON x.fid = o.object WHERE o.person = :person AND x.pair = :pair "
            f"AND {_INSIDE} LIMIT 1",
            {"person": person, "pair": found.pair, **_named(found.box)},
        ).fetchone()
        return row is not None

    def _first(self, db: sqlite3.Connection, person: int, now: float) -> tuple[_Area, bool] | None:
        """Find an area that nobody has and nobody has done; what the person gave back comes last."""
        row = db.execute(
            f"SELECT a.fid FROM area a WHERE a.pair IN {self._served} AND a.fid NOT IN "
            "(SELECT area FROM task WHERE NOT second AND (state = ? OR "
            "(state = ? AND touched > ?))) ORDER BY EXISTS (SELECT 1 FROM task WHERE area = a.fid AND person = ?), "
            "a.fid LIMIT 1",
            (DONE, OPEN, now - self._idle, person),
        ).fetchone()
        return (self._area(db, row[0]), False) if row else None

    def _area(self, db: sqlite3.Connection, fid: int) -> _Area:
        pair, number, *box = db.execute(
            "SELECT pair, number, west, south, east, north FROM area WHERE fid = ?", (fid,)
        ).fetchone()
        return _Area(fid, pair, number, (box[0], box[1], box[2], box[3]))

    def _task(self, db: sqlite3.Connection, person: int, area: _Area, second: bool) -> Task:
        pair = self._store.pairs[self._names[area.pair]]
        objects = self._unjudged(db, area.pair, area.box, person if second else None) if pair.footprints else None
        west, south, east, north = area.box
        box = None
        if not all(map(math.isinf, area.box)):
            bounds = pair.bounds
            box = (max(west, bounds[0]), max(south, bounds[1]), min(east, bounds[2]), min(north, bounds[3]))
        return Task(pair_id=pair.id, area=box, objects=objects, second=second)


def _areas(pair: Pair, anchors: np.ndarray) -> list[Box]:
    """Cut a pair into squares: of about so many footprints, or of so many pixels; small pairs stay whole.

    The outer ones are endless, because outlines may reach beyond the pair.

    Args:
        pair: the pair.
        anchors: of its footprints, n x 2; squares without any are left out.
    """
    west, south, east, north = pair.bounds
    long = max(east - west, north - south)
    if len(anchors) > _WHOLE:
        pieces = math.ceil(math.sqrt(len(anchors) / _IN_AREA))
    elif not pair.footprints and max(pair.width, pair.height) > _WHOLE_SIDE:
        pieces = math.ceil(max(pair.width, pair.height) / _AREA_SIDE)
    else:
        return [(-math.inf, -math.inf, math.inf, math.inf)]
    side = long / pieces
    columns, rows = (max(1, math.ceil(extent / side - 1e-9)) for extent in (east - west, north - south))
    across = [-math.inf, *(west + side * i for i in range(1, columns)), math.inf]
    up = [-math.inf, *(south + side * i for i in range(1, rows)), math.inf]
    full = np.ones((rows, columns), bool)
    if len(anchors):
        column = np.digitize(anchors[:, 0], across[1:-1])
        row = np.digitize(anchors[:, 1], up[1:-1])
        full[:] = False
        full[row, column] = True
    # The first ones lie far apart: what is labelled early shows all of the pair.
    cells = [(i, j) for i in range(rows) for j in range(columns) if full[i, j]]
    bits = (max(rows, columns) - 1).bit_length()
    cells.sort(key=lambda cell: _rank(rows - 1 - cell[0], cell[1], bits))
    return [(across[j], up[i], across[j + 1], up[i + 1]) for i, j in cells]


def _rank(down: int, across: int, bits: int) -> int:
    """Return the place of a cell in an order in which each quarter, and each quarter of a quarter, has its turn."""
    rank = 0
    for bit in range(bits):  # the bit that says most, which half of the pair, changes fastest
        rank = rank * 4 + 2 * ((down >> bit) & 1) + ((across >> bit) & 1)
    return rank


def _named(box: tuple) -> dict[str, float]:
    return dict(zip(("west", "south", "east", "north"), box, strict=True))
