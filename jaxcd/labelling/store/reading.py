"""What a viewer may see of a pair's objects.

Whoever gives a second opinion sees, until that task is done, only what is their own: their level of a footprint, and
the polygons that they drew themselves.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from jaxcd.labelling.pairs import Box
from jaxcd.labelling.store.geometry import unpacked
from jaxcd.labelling.store.objects import DRAWN, IMPORTED, Entry, Label, own_version

OPEN, DONE, LEFT = "open", "done", "left"
"""States of a task: being worked on; finished; given back."""

_QUERY = """
SELECT o.id, o.origin, o.geom, o.level, o.comment, o.version, a.name, o.at, o.deleted, o.x, o.y, o.creator,
  v.level, v.comment, v.version, v.at,
  (SELECT json_group_array(json_array(q.name, m.level)) FROM opinion m JOIN person q ON q.id = m.person
   WHERE m.object = o.fid AND m.level IS NOT NULL)
FROM object o LEFT JOIN person a ON a.id = o.author LEFT JOIN opinion v ON v.object = o.fid AND v.person = :viewer
WHERE (o.second IS NULL OR o.second = :viewer) AND """


def hidden_areas(db: sqlite3.Connection, pair: int, viewer: int | None) -> list[Box]:
    """Return where a viewer gives a second opinion, and so must not see what others think."""
    if viewer is None:
        return []
    return db.execute(
        "SELECT a.west, a.south, a.east, a.north FROM task t JOIN area a ON a.fid = t.area "
        "WHERE t.person = ? AND t.state = ? AND t.second AND a.pair = ?",
        (viewer, OPEN, pair),
    ).fetchall()


def is_hidden(areas: Sequence[Box], x: float | None, y: float | None) -> bool:
    """Say whether an object lies in one of the areas; a pair as a whole does if there is any."""
    if x is None or y is None:
        return bool(areas)
    return any(west <= x < east and south <= y < north for west, south, east, north in areas)


def hidden_places(areas: Sequence[Box]) -> tuple[str, dict[str, float]]:
    """Return a condition of SQL on x and y that holds in any of the areas, and its values."""
    parts = [f"(x >= :w{i} AND x < :e{i} AND y >= :s{i} AND y < :n{i})" for i in range(len(areas))]
    values = {f"{edge}{i}": value for i, area in enumerate(areas) for edge, value in zip("wsen", area, strict=True)}
    return " OR ".join(parts) or "0", values


def labels_where(
    db: sqlite3.Connection, pair: int, viewer: int | None, where: str, values: Mapping[str, object] | None = None
) -> list[Label]:
    """Return the objects of a pair that fulfil a condition of SQL as the viewer may see them.

    The condition names the pair itself (`o.pair = :pair`), as `+o.pair` where another index leads to its few objects.
    """
    areas = hidden_areas(db, pair, viewer)
    rows = db.execute(f"{_QUERY}{where}", {"pair": pair, "viewer": viewer, **(values or {})})
    name = ""
    if areas:
        (name,) = db.execute("SELECT name FROM person WHERE id = ?", (viewer,)).fetchone()
    return [label for row in rows if (label := _label(row, areas, viewer, name)) is not None]


def _label(row: tuple, areas: Sequence[Box], viewer: int | None, viewer_name: str) -> Label | None:
    key, origin, blob, level, comment, version, author, at, deleted, x, y, creator = row[:12]
    own_level, own_comment, own_edits, own_at, opinions = row[12:]
    others = tuple((name, opinion) for name, opinion in json.loads(opinions))
    if areas and creator != viewer and is_hidden(areas, x, y):
        if origin in (DRAWN, IMPORTED):
            return None
        level, comment, version, at = own_level, own_comment, own_version(own_edits or 0), own_at
        author, others = viewer_name if own_edits else "", ()
    return Label(
        object=key,
        level=level,
        geometry=unpacked(blob),
        comment=comment or "",
        version=version,
        author=author or "",
        at=at or "",
        origin=origin,
        deleted=bool(deleted),
        opinions=others if len(others) > 1 else (),
    )


def labels_of(db: sqlite3.Connection, pair: int, viewer: int | None, ids: Iterable[str] | None) -> list[Label]:
    """Return objects by id, also those never saved; without ids, all that were saved and are there."""
    if ids is None:
        return labels_where(
            db, pair, viewer, "o.pair = :pair AND o.seq > 0 AND NOT o.deleted AND o.version > 0 ORDER BY o.fid"
        )
    wanted = {"ids": json.dumps(list(ids))}
    return labels_where(
        db, pair, viewer, "o.pair = :pair AND o.id IN (SELECT value FROM json_each(:ids)) ORDER BY o.fid", wanted
    )


def labels_in(db: sqlite3.Connection, pair: int, viewer: int | None, box: Box, limit: int) -> tuple[list[Label], int]:
    """Return footprints and drawn objects that touch a box, at most `limit` of them, and how many there are."""
    values: dict[str, object] = dict(zip(("west", "south", "east", "north"), box, strict=True))
    inside = "SELECT fid FROM object_box WHERE west <= :east AND east >= :west AND south <= :north AND north >= :south"
    (total,) = db.execute(
        f"SELECT COUNT(*) FROM object WHERE +pair = :pair AND NOT deleted AND (second IS NULL OR second = :viewer) AND "
        f"fid IN ({inside})",
        {"pair": pair, "viewer": viewer, **values},
    ).fetchone()
    where = f"+o.pair = :pair AND o.fid IN ({inside}) AND NOT o.deleted ORDER BY o.fid LIMIT :limit"
    return labels_where(db, pair, viewer, where, {**values, "limit": limit}), total


def history_of(db: sqlite3.Connection, pair: int, object_id: str, viewer: int | None) -> list[Entry] | None:
    """Return the steps of an object, oldest first, as far as the viewer may see them; None: no such object."""
    row = db.execute("SELECT fid, x, y, second FROM object WHERE pair = ? AND id = ?", (pair, object_id)).fetchone()
    if row is None or (row[3] is not None and row[3] != viewer):
        return None
    hidden = is_hidden(hidden_areas(db, pair, viewer), row[1], row[2])
    steps = db.execute(
        "SELECT e.version, c.kind, n.name, c.at, e.before, e.after, c.person "
        "FROM edit e JOIN change c ON c.seq = e.seq JOIN person n ON n.id = c.person WHERE e.object = ? ORDER BY e.seq",
        (row[0],),
    )
    return [
        Entry(version=version, kind=kind, author=name, at=at, changes=_changes(json.loads(before), json.loads(after)))
        for version, kind, name, at, before, after, person in steps
        if not hidden or person == viewer
    ]


def _changes(before: dict, after: dict) -> dict[str, tuple[object, object]]:
    """Tell what was changed; a second opinion changes what its author thinks, not the object."""
    if "level" not in after and "own" in after:
        before, after = ({**side, "level": side["own"][0]} for side in (before, after))
    return {name: (before[name], after[name]) for name in after if name != "own"}
