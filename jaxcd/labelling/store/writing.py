"""How a change is saved: edits become the new state of objects, with what they were before, so that it can be undone.

All functions work within one transaction of the caller.
"""

import json
import re
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from shapely.geometry.base import BaseGeometry

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import Scale
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store.geometry import checked, packed, unpacked
from jaxcd.labelling.store.objects import DRAWN, IMPORTED, PAIR, STATES, VERDICTS, Conflict, Edit, Keep, own_version
from jaxcd.labelling.store.reading import OPEN, hidden_areas, is_hidden, labels_of

_DRAWN_ID = re.compile(r"d-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MOST_COMMENT = 2000
CAN_UNDO, CAN_REDO, NEITHER = 0, 1, 2
"""Whether a change can be undone or done again (`change.undone`)."""


class Author(NamedTuple):
    """Who saves what where: the pair with its row, the person, the time, the scale of levels."""

    pair: Pair
    fid: int
    person: int
    at: str
    scale: Scale


class _Row(NamedTuple):
    fid: int
    origin: str
    level: str | None
    comment: str
    version: int
    deleted: int
    geom: bytes | None
    creator: int | None
    x: float | None
    y: float | None


class _Opinion(NamedTuple):
    level: str | None
    comment: str
    version: int


def save(db: sqlite3.Connection, change_id: str, edits: Sequence[Edit], author: Author) -> int:
    """Save the edits as one change; returns its number.

    Raises:
        LabelError: one cannot be saved, or is of an object that the author must not see now.
        Conflict: an object has another version than the author saw.
    """
    names = [edit.object for edit in edits]
    if not edits or len(set(names)) < len(names):
        raise LabelError("a change holds at least one edit, and one of each object")
    areas = hidden_areas(db, author.fid, author.person)
    rows = {name: _row(db, author.fid, name) for name in names}
    stale = []
    for edit in edits:
        row = rows[edit.object]
        if row is not None and row.origin in (DRAWN, IMPORTED) and _is_second(row, areas, author):
            raise LabelError(f"{edit.object[:60]} of {author.pair.id}: no such object; load the pair again")
        _check(edit, row, author)
        if _version(db, rows[edit.object], areas, author) != edit.base:
            stale.append(edit.object)
    if stale:
        raise Conflict(labels_of(db, author.fid, author.person, stale))
    seq = _new_change(db, change_id, author, "save")
    for edit in edits:
        row = rows[edit.object]
        if row is None:
            row = _new_object(db, edit, author, areas)
        _apply(db, seq, row, edit, author, _is_second(row, areas, author))
    db.execute(
        "UPDATE change SET undone = ? WHERE pair = ? AND person = ? AND undone = ?",
        (NEITHER, author.fid, author.person, CAN_REDO),
    )
    return seq


def _new_change(db: sqlite3.Connection, change_id: str, author: Author, kind: str, of: int | None = None) -> int:
    """Note a change; returns its number."""
    if not 1 <= len(change_id) <= 80 or not change_id.isprintable():
        raise LabelError("the id of a change: expected 1 to 80 printable characters, such as a UUID")
    undone = CAN_UNDO if kind == "save" else None
    seq = db.execute(
        "INSERT INTO change (id, pair, person, at, kind, of, undone) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (change_id, author.fid, author.person, author.at, kind, of, undone),
    ).lastrowid
    assert seq is not None
    return seq


def take_back(db: sqlite3.Connection, change_id: str, author: Author, *, redo: bool) -> tuple[int | None, list[str]]:
    """Undo the author's last change that is not undone, or do again the one that was undone last.

    Returns:
        The number of the new change. None where objects of the change have been changed since, and those objects: it
        can be neither undone nor done again from now on.

    Raises:
        LabelError: there is no such change.
    """
    last = "ASC" if redo else "DESC"
    found = db.execute(
        f"SELECT seq, moved FROM change WHERE pair = ? AND person = ? AND undone = ? ORDER BY seq {last} LIMIT 1",
        (author.fid, author.person, CAN_REDO if redo else CAN_UNDO),
    ).fetchone()
    if found is None:
        raise LabelError(f"nothing to {'redo' if redo else 'undo'}")
    target, moved = found
    steps = db.execute("SELECT object, second, before, after FROM edit WHERE seq = ?", (target,)).fetchall()
    steps = [
        (
            fid,
            bool(second),
            *((json.loads(before), json.loads(after)) if redo else (json.loads(after), json.loads(before))),
        )
        for fid, second, before, after in steps
    ]
    changed = _changed_by_others(db, target, max(target, moved), author.person)
    # A later change of the author's own that can't be undone any more stands, too.
    changed += [
        name for fid, _, old, _ in steps if (name := _changed(db, fid, old, author.person)) not in (None, *changed)
    ]
    if changed:
        db.execute("UPDATE change SET undone = ? WHERE seq = ?", (NEITHER, target))
        return None, changed
    seq = _new_change(db, change_id, author, "redo" if redo else "undo", of=target)
    db.execute("UPDATE change SET undone = ?, moved = ? WHERE seq = ?", (CAN_UNDO if redo else CAN_REDO, seq, target))
    for fid, second, old, new in steps:
        _write(db, seq, fid, old, new, author, second=second)
    return seq, []


def _changed(db: sqlite3.Connection, fid: int, expected: dict, person: int) -> str | None:
    """Return the id of an object whose values are not the expected ones, else None."""
    name, level, comment, deleted, blob = db.execute(
        "SELECT id, level, comment, deleted, geom FROM object WHERE fid = ?", (fid,)
    ).fetchone()
    own = _opinion(db, fid, person)
    now = {"level": level, "comment": comment, "deleted": bool(deleted), "geometry": blob.hex() if blob else None}
    now["own"] = [own.level, own.comment]
    expected = {key: value for key, value in expected.items() if (key, value) != ("geometry", None)}  # it stays kept
    return name if any(now[key] != value for key, value in expected.items()) else None


def _changed_by_others(db: sqlite3.Connection, target: int, since: int, person: int) -> list[str]:
    """Return the objects of a change that others have changed since; second opinions change nothing of an object."""
    rows = db.execute(
        "SELECT DISTINCT o.id FROM edit t JOIN edit e ON e.object = t.object AND e.seq > ? AND NOT e.second "
        "JOIN change c ON c.seq = e.seq AND c.person != ? JOIN object o ON o.fid = t.object "
        "WHERE t.seq = ? AND NOT t.second",
        (since, person, target),
    )
    return [name for (name,) in rows]


def _row(db: sqlite3.Connection, pair: int, name: str) -> _Row | None:
    found = db.execute(
        "SELECT fid, origin, level, comment, version, deleted, geom, creator, x, y FROM object "
        "WHERE pair = ? AND id = ?",
        (pair, name),
    ).fetchone()
    return _Row(*found) if found else None


def _is_second(row: _Row, areas: list, author: Author) -> bool:
    return bool(areas) and row.creator != author.person and is_hidden(areas, row.x, row.y)


def _opinion(db: sqlite3.Connection, fid: int, person: int) -> _Opinion:
    found = db.execute(
        "SELECT level, comment, version FROM opinion WHERE object = ? AND person = ?", (fid, person)
    ).fetchone()
    return _Opinion(*found) if found else _Opinion(None, "", 0)


def _version(db: sqlite3.Connection, row: _Row | None, areas: list, author: Author) -> int:
    if row is None:
        return 0
    if _is_second(row, areas, author):
        return own_version(_opinion(db, row.fid, author.person).version)
    return row.version


def _check(edit: Edit, row: _Row | None, author: Author) -> None:
    """Refuse what cannot be saved, whatever the object's version."""
    pair, name = author.pair, edit.object
    where = f"{name[:60]} of {pair.id}"
    if row is None and (edit.geometry is None or edit.base or not _DRAWN_ID.fullmatch(name)):
        raise LabelError(f"{where}: no such object; load the pair again")
    if edit.origin not in (DRAWN, IMPORTED):
        raise LabelError(f"{where}: origin {edit.origin!r}, expected {DRAWN} or {IMPORTED}")
    if row is not None and row.origin not in (DRAWN, IMPORTED) and (edit.deleted or edit.geometry is not None):
        raise LabelError(f"{where}: a {row.origin} keeps its outline; take its label away instead")
    known = VERDICTS if name == PAIR else (*author.scale.levels, *STATES)
    if not isinstance(edit.level, Keep) and edit.level is not None and edit.level not in known:
        raise LabelError(f"{where}: level {edit.level[:40]!r}, expected one of {', '.join(known)}")
    if not isinstance(edit.comment, Keep) and len(edit.comment) > _MOST_COMMENT:
        raise LabelError(f"{where}: a comment of {len(edit.comment)} characters, expected at most {_MOST_COMMENT}")


def _new_object(db: sqlite3.Connection, edit: Edit, author: Author, areas: list) -> _Row:
    """Make a drawn object that is still deleted: the edit brings it about."""
    assert edit.geometry is not None
    outline = checked(edit.geometry, author.pair.bounds, edit.object)
    x, y = _middle(outline)
    second = author.person if is_hidden(areas, x, y) else None
    fid = db.execute(
        "INSERT INTO object (pair, id, origin, creator, second, deleted) VALUES (?, ?, ?, ?, ?, 1)",
        (author.fid, edit.object, edit.origin, author.person, second),
    ).lastrowid
    assert fid is not None
    return _Row(fid, edit.origin, None, "", 0, 1, None, author.person, x, y)


def _middle(outline: BaseGeometry) -> tuple[float, float]:
    west, south, east, north = outline.bounds
    return (west + east) / 2, (south + north) / 2


def _apply(db: sqlite3.Connection, seq: int, row: _Row, edit: Edit, author: Author, second: bool) -> None:
    """Save one edit, of the object or, as a second opinion, of what its author thinks of it."""
    own = _opinion(db, row.fid, author.person)
    level = edit.level if not isinstance(edit.level, Keep) else (own.level if second else row.level)
    comment = edit.comment if not isinstance(edit.comment, Keep) else (own.comment if second else row.comment)
    new: dict = {"own": [level, comment]} if second or not isinstance(edit.level, Keep) else {}
    old: dict = {"own": [own.level, own.comment]} if new else {}
    if not second:
        states: dict[str, tuple] = {"level": (row.level, level), "comment": (row.comment, comment)}
        states["deleted"] = (bool(row.deleted), edit.deleted)
        if edit.geometry is not None:
            outline = checked(edit.geometry, author.pair.bounds, edit.object)
            (blob,) = packed(np.array([outline]), author.pair.epsg)
            states["geometry"] = (row.geom.hex() if row.geom else None, blob.hex())
        for name, (was, now) in states.items():
            if was != now:
                old[name], new[name] = was, now
    _write(db, seq, row.fid, old, new, author, second=second)


def _write(db: sqlite3.Connection, seq: int, fid: int, old: dict, new: dict, author: Author, *, second: bool) -> None:
    """Give an object the new values, and keep both in the history."""
    if not second:
        names = {"level": "level", "comment": "comment", "deleted": "deleted"}
        values = {column: new[name] for name, column in names.items() if name in new}
        if new.get("geometry"):
            values["geom"] = bytes.fromhex(new["geometry"])
        values |= {"author": author.person, "at": author.at}
        places = "".join(f", {column} = :{column}" for column in values)
        db.execute(
            f"UPDATE object SET version = version + 1, seq = :seq{places} WHERE fid = :fid",
            {**values, "seq": seq, "fid": fid},
        )
        if "geom" in values:
            _place(db, fid, values["geom"])
    else:
        db.execute("UPDATE object SET seq = ? WHERE fid = ?", (seq, fid))
    if "own" in new:
        db.execute(
            "INSERT INTO opinion VALUES (:object, :person, :pair, :level, :comment, 1, :second, :at) "
            "ON CONFLICT (object, person) DO UPDATE SET level = :level, comment = :comment, version = version + 1, "
            "second = :second, at = :at",
            {
                "object": fid,
                "person": author.person,
                "pair": author.fid,
                "level": new["own"][0],
                "comment": new["own"][1],
                "second": second,
                "at": author.at,
            },
        )
    table = "opinion WHERE object = :fid AND person = :person" if second else "object WHERE fid = :fid"
    db.execute(
        f"INSERT INTO edit SELECT :seq, :fid, version, :second, :old, :new FROM {table}",
        {
            "seq": seq,
            "fid": fid,
            "person": author.person,
            "second": second,
            "old": json.dumps(old),
            "new": json.dumps(new),
        },
    )


def _place(db: sqlite3.Connection, fid: int, blob: bytes) -> None:
    """Keep where an object lies."""
    outline = unpacked(blob)
    assert outline is not None
    west, south, east, north = outline.bounds
    db.execute("UPDATE object SET x = ?, y = ? WHERE fid = ?", (*_middle(outline), fid))
    db.execute(
        "INSERT OR REPLACE INTO object_box (fid, west, east, south, north) VALUES (?, ?, ?, ?, ?)",
        (fid, west, east, south, north),
    )


def touch(db: sqlite3.Connection, author: Author, now: float) -> None:
    """Note that a person works on their task of this pair."""
    db.execute(
        "UPDATE task SET touched = ? WHERE person = ? AND state = ? AND area IN (SELECT fid FROM area WHERE pair = ?)",
        (now, author.person, OPEN, author.fid),
    )
