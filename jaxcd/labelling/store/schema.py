"""The GeoPackage that holds a store: tables, layers, the connection to it, and what its errors mean."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rasterio.crs import CRS

from jaxcd.base.errors import DiskFullError, LabelError, WriteError
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store.geometry import NO_PLACE

FILE = "labels.gpkg"
VERSION = 1
_GEOPACKAGE, _GEOPACKAGE_VERSION = 0x47504B47, 10300
_PATIENCE = 10.0  # seconds to wait for another writer

TABLES = """
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER PRIMARY KEY, organization TEXT NOT NULL,
  organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL REFERENCES gpkg_contents(table_name),
  column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL,
  m TINYINT NOT NULL, PRIMARY KEY (table_name, column_name));
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, at TEXT NOT NULL);
CREATE TABLE pair (fid INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, pre TEXT NOT NULL,
  post TEXT NOT NULL, footprints TEXT, epsg INTEGER, west DOUBLE, south DOUBLE, east DOUBLE, north DOUBLE,
  width INTEGER NOT NULL, height INTEGER NOT NULL, image_digests TEXT NOT NULL, footprint_digest TEXT);
CREATE TABLE object (fid INTEGER PRIMARY KEY, pair INTEGER NOT NULL REFERENCES pair(fid), id TEXT NOT NULL,
  origin TEXT NOT NULL, geom BLOB, x DOUBLE, y DOUBLE, level TEXT, comment TEXT NOT NULL DEFAULT '',
  version INTEGER NOT NULL DEFAULT 0, creator INTEGER REFERENCES person(id), author INTEGER REFERENCES person(id),
  at TEXT, deleted INTEGER NOT NULL DEFAULT 0, second INTEGER REFERENCES person(id), seq INTEGER NOT NULL DEFAULT 0,
  UNIQUE (pair, id));
CREATE INDEX object_seq ON object (pair, seq) WHERE seq > 0;
CREATE INDEX object_level ON object (pair, level) WHERE level IS NOT NULL;
CREATE INDEX object_place ON object (pair, x, y, level, origin, deleted, second);
CREATE VIRTUAL TABLE object_box USING rtree (fid, west, east, south, north);
CREATE TABLE change (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, pair INTEGER NOT NULL,
  person INTEGER NOT NULL REFERENCES person(id), at TEXT NOT NULL, kind TEXT NOT NULL,
  of INTEGER, undone INTEGER, moved INTEGER NOT NULL DEFAULT 0);
CREATE INDEX change_undone ON change (pair, person, undone, seq);
CREATE TABLE edit (seq INTEGER NOT NULL REFERENCES change(seq), object INTEGER NOT NULL REFERENCES object(fid),
  version INTEGER NOT NULL, second INTEGER NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,
  PRIMARY KEY (object, seq));
CREATE INDEX edit_seq ON edit (seq);
CREATE TABLE opinion (object INTEGER NOT NULL REFERENCES object(fid), person INTEGER NOT NULL REFERENCES person(id),
  pair INTEGER NOT NULL, level TEXT, comment TEXT NOT NULL, version INTEGER NOT NULL, second INTEGER NOT NULL,
  at TEXT NOT NULL, PRIMARY KEY (object, person));
CREATE INDEX opinion_person ON opinion (pair, person) WHERE level IS NOT NULL;
CREATE TABLE area (fid INTEGER PRIMARY KEY, pair INTEGER NOT NULL REFERENCES pair(fid), number INTEGER NOT NULL,
  west DOUBLE, south DOUBLE, east DOUBLE, north DOUBLE, UNIQUE (pair, number));
CREATE TABLE task (fid INTEGER PRIMARY KEY, area INTEGER NOT NULL REFERENCES area(fid),
  person INTEGER NOT NULL REFERENCES person(id), second INTEGER NOT NULL, state TEXT NOT NULL, touched REAL NOT NULL);
CREATE INDEX task_person ON task (person, state);
CREATE INDEX task_area ON task (area);
INSERT INTO gpkg_contents (table_name, data_type, identifier) VALUES ('pair', 'attributes', 'pair')
"""
_SAMPLE_TABLES = """
CREATE TABLE sample (number INTEGER PRIMARY KEY AUTOINCREMENT, plan TEXT NOT NULL,
  person INTEGER NOT NULL REFERENCES person(id), at TEXT NOT NULL, seq INTEGER NOT NULL);
CREATE TABLE sample_member (id TEXT PRIMARY KEY, place INTEGER NOT NULL UNIQUE,
  object INTEGER NOT NULL REFERENCES object(fid));
CREATE INDEX sample_object ON sample_member (object)
"""
# `of` is the change that an undo or redo is about; `undone` is 0 for a change that can be undone, 1 for one that can be
# redone, 2 for one that can be neither. `moved` is the last undo or redo of it.


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for several threads (one at a time); each commit is on disk when it returns."""
    db = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Tell the errors of SQLite in one line."""
    try:
        yield
    except sqlite3.Error as error:
        reason = str(error)
        if "disk is full" in reason:
            raise DiskFullError(
                f"{path}: the disk is full, this change was not saved and all others are there; free some space and "
                "save it again"
            ) from error
        if "readonly" in reason or "disk I/O" in reason:
            raise WriteError(f"{path}: cannot be written ({reason}); see that you may write there") from error
        if "locked" in reason:
            raise WriteError(f"{path}: another process has kept it locked; end that one, or try again") from error
        if "not a database" in reason or "malformed" in reason:
            raise LabelError(f"{path}: not a store of labels ({reason}); name another folder with --store") from error
        if "unable to open" in reason:
            raise LabelError(f"{path}: cannot be opened; see that you may read and write in its folder") from error
        raise


@contextmanager
def transaction(db: sqlite3.Connection, *, write: bool) -> Iterator[None]:
    """Run a block in a transaction: all of it is saved, or nothing."""
    db.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself ends it on a full disk
            db.execute("ROLLBACK")
        raise


def create_tables(db: sqlite3.Connection, scale: str, identity: str) -> None:
    """Make an empty store, within a transaction."""
    for statement in TABLES.split(";\n"):
        db.execute(statement)
    db.execute(f"PRAGMA application_id={_GEOPACKAGE}")
    db.execute(f"PRAGMA user_version={_GEOPACKAGE_VERSION}")
    meta = {"version": str(VERSION), "scale": scale, "id": identity}
    db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
    for code in (NO_PLACE, 0, 4326):
        _add_reference_system(db, code)


def add_sample_tables(db: sqlite3.Connection) -> None:
    """Add the tables of the blind sample to a store that has none, because it is older than they are."""
    has = "SELECT 1 FROM sqlite_master WHERE name = 'sample_member'"
    if not db.execute(has).fetchone():
        with transaction(db, write=True):
            if not db.execute(has).fetchone():  # another process may have been faster
                for statement in _SAMPLE_TABLES.split(";\n"):
                    db.execute(statement)


def check_version(db: sqlite3.Connection, path: Path) -> dict[str, str]:
    """Return what the store says of itself.

    Raises:
        LabelError: it is none, or one of a newer version.
    """
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        raise LabelError(f"{path}: not a store of labels; name another folder with --store")
    meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
    if int(meta.get("version", "0")) != VERSION:
        raise LabelError(
            f"{path}: a store of version {meta.get('version')}, this jaxcd knows version {VERSION}; open it with the "
            "jaxcd that made it, or name another folder with --store"
        )
    return meta


def layer_of(epsg: int | None, alone: bool) -> str:
    """Name the layer of labels in a reference system; with one system only, it is just `labels`."""
    return "labels" if alone else f"labels_{epsg or 'pixels'}"


def make_layers(db: sqlite3.Connection, pairs: Iterable[Pair]) -> None:
    """Show the current labels as layers, one for each reference system; they are views, so that no GIS edits them."""
    for (name,) in db.execute("SELECT table_name FROM gpkg_contents WHERE data_type = 'features'").fetchall():
        db.execute(f'DROP VIEW "{name}"')
    db.execute("DELETE FROM gpkg_geometry_columns")
    db.execute("DELETE FROM gpkg_contents WHERE data_type = 'features'")
    systems: dict[int | None, list[Pair]] = {}
    for pair in pairs:
        systems.setdefault(pair.epsg, []).append(pair)
    for epsg, members in systems.items():
        name, code = layer_of(epsg, len(systems) == 1), NO_PLACE if epsg is None else epsg
        _add_reference_system(db, code)
        db.execute(
            f'CREATE VIEW "{name}" AS SELECT o.fid AS OGC_FID, o.geom AS geom, p.id AS pair, o.id AS object, '
            "o.level AS level, o.comment AS comment, o.version AS version, n.name AS author, o.at AS at, "
            "o.origin AS origin FROM object o JOIN pair p ON p.fid = o.pair LEFT JOIN person n ON n.id = o.author "
            "WHERE o.version > 0 AND NOT o.deleted AND o.second IS NULL AND o.geom IS NOT NULL AND "
            f"p.epsg IS {'NULL' if epsg is None else int(epsg)}"
        )
        edges = list(zip(*(pair.bounds for pair in members), strict=True))
        box = (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3]))
        db.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, min_x, min_y, max_x, max_y, srs_id) "
            "VALUES (?, 'features', ?, ?, ?, ?, ?, ?)",
            (name, name, *box, code),
        )
        db.execute("INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'GEOMETRY', ?, 0, 0)", (name, code))


def _add_reference_system(db: sqlite3.Connection, code: int) -> None:
    if code in (NO_PLACE, 0):
        kind = "Cartesian" if code == NO_PLACE else "geographic"
        row = (f"Undefined {kind}", code, "NONE", code, "undefined", "")
    else:
        row = (f"EPSG:{code}", code, "EPSG", code, CRS.from_epsg(code).to_wkt(), "")
    db.execute("INSERT OR IGNORE INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)", row)
