"""Makes and opens a store: its file, its pairs with their footprints, and whether they are those that it knows."""

import hashlib
import json
import os
import re
import sqlite3
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from sqlite3 import Connection

from jaxcd.base.errors import LabelError, WriteError
from jaxcd.base.fingerprints import file_digest
from jaxcd.base.scales import SCALES, Scale
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import schema
from jaxcd.labelling.store.geometry import packed
from jaxcd.labelling.store.objects import FOOTPRINT, PAIR

__all__ = ["Connection", "Opened", "create_or_open", "open_existing"]

_PAIR_ID = re.compile(r"\w[\w.\- ]{0,150}")
_SAMPLE = 2**20  # bytes of the beginning and of the end of an image that stand for its content


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An open store: connection, scale, id, the pairs by id, and the numbers of their rows."""

    db: sqlite3.Connection
    scale: Scale
    id: str
    pairs: dict[str, Pair]
    rows: dict[str, int]


def create_or_open(path: Path, scale: Scale, pairs: Sequence[Pair]) -> Opened:
    """Open a store, or make it; see `Store.create_or_open`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"{path.parent}: cannot be made ({error.strerror}); name another folder with --store"
        ) from error
    with schema.told(path):
        db = schema.connect(path)
        try:
            with schema.transaction(db, write=True):
                if not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                    schema.create_tables(db, scale.name, str(uuid.uuid4()))
                meta = schema.check_version(db, path)
                if meta["scale"] != scale.name:
                    raise LabelError(
                        f"{path}: its labels are of the scale {meta['scale']}, not {scale.name}; give --scale "
                        f"{meta['scale']}, or another folder with --store"
                    )
                known, _ = _pairs(db)
                for pair in pairs:
                    _add(db, path, pair, known.get(pair.id))
                if any(pair.id not in known for pair in pairs):
                    schema.make_layers(db, _pairs(db)[0].values())
            # GDAL looks for the mark of a GeoPackage in the file itself, not in what is written ahead of it.
            db.execute("PRAGMA wal_checkpoint(PASSIVE)")
            return _opened(db, path)
        except BaseException:
            db.close()
            raise


def open_existing(path: Path) -> Opened:
    """Open a store that is there; see `Store.open`."""
    if not path.is_file():
        raise LabelError(f"{path}: no such store of labels; name the folder that jaxcd.label --store made")
    with schema.told(path):
        db = schema.connect(path)
        try:
            return _opened(db, path)
        except BaseException:
            db.close()
            raise


def _opened(db: sqlite3.Connection, path: Path) -> Opened:
    meta = schema.check_version(db, path)
    schema.add_sample_tables(db)
    pairs, rows = _pairs(db)
    return Opened(db=db, scale=SCALES[meta["scale"]], id=meta["id"], pairs=pairs, rows=rows)


def _pairs(db: sqlite3.Connection) -> tuple[dict[str, Pair], dict[str, int]]:
    pairs, rows = {}, {}
    query = "SELECT fid, id, title, pre, post, footprints, epsg, west, south, east, north, width, height FROM pair"
    for fid, key, title, pre, post, footprints, epsg, *bounds, width, height in db.execute(f"{query} ORDER BY fid"):
        rows[key] = fid
        pairs[key] = Pair(
            id=key,
            title=title,
            pre=tuple(json.loads(pre)),
            post=tuple(json.loads(post)),
            footprints=footprints,
            epsg=epsg,
            bounds=(bounds[0], bounds[1], bounds[2], bounds[3]),
            width=width,
            height=height,
        )
    return pairs, rows


def _add(db: sqlite3.Connection, path: Path, pair: Pair, known: Pair | None) -> None:
    """Add a pair, or see that it is the one that the store knows."""
    if not _PAIR_ID.fullmatch(pair.id):
        raise LabelError(f"{pair.id[:60]!r}: the name of a pair names files, too; expected letters, digits, -, _ and .")
    images = [[_image_digest(location) for location in locations] for locations in (pair.pre, pair.post)]
    footprints = file_digest(Path(pair.footprints)) if pair.footprints else None
    if known is None:
        values = (pair.id, pair.title, json.dumps(pair.pre), json.dumps(pair.post), pair.footprints, pair.epsg)
        fid = db.execute(
            "INSERT INTO pair (id, title, pre, post, footprints, epsg, west, south, east, north, width, height, "
            f"image_digests, footprint_digest) VALUES ({', '.join('?' * 14)})",
            (*values, *pair.bounds, pair.width, pair.height, json.dumps(images), footprints),
        ).lastrowid
        assert fid is not None
        db.execute("INSERT INTO object (pair, id, origin) VALUES (?, ?, ?)", (fid, PAIR, PAIR))
        if pair.footprints:
            _take_in(db, fid, pair, Path(pair.footprints))
        return
    old_images, old_footprints = db.execute(
        "SELECT image_digests, footprint_digest FROM pair WHERE id = ?", (pair.id,)
    ).fetchone()
    placed = (pair.epsg, pair.bounds, pair.width, pair.height)
    if json.loads(old_images) != images or placed != (known.epsg, known.bounds, known.width, known.height):
        raise LabelError(
            f"{path}: was made with other images of the pair {pair.id}; give those, or another folder with --store"
        )
    if old_footprints != footprints:
        raise LabelError(
            f"{path}: was made with other footprints of the pair {pair.id} ({known.footprints or 'none'}); give those, "
            "or another folder with --store"
        )
    db.execute(  # files may have moved
        "UPDATE pair SET title = ?, pre = ?, post = ?, footprints = ? WHERE id = ?",
        (pair.title, json.dumps(pair.pre), json.dumps(pair.post), pair.footprints, pair.id),
    )


def _take_in(db: sqlite3.Connection, fid: int, pair: Pair, file: Path) -> None:
    """Take the footprints on a pair's ground into the store."""
    import numpy as np
    import shapely

    from jaxcd.scenes.polygons import read_frame

    if pair.epsg is None:
        raise LabelError(f"{file}: footprints of the pair {pair.id}, whose images have no place; leave them out")
    frame, _ = read_frame(file)
    outlines = np.asarray(frame.geometry.to_crs(pair.epsg))
    boxes = shapely.bounds(outlines)
    near = np.isfinite(boxes).all(axis=1) & shapely.intersects(outlines, shapely.box(*pair.bounds))
    (last,) = db.execute("SELECT COALESCE(MAX(fid), 0) FROM object").fetchone()
    fids = range(last + 1, last + 1 + int(near.sum()))
    rows = [f"f{row}" for row in frame.index[near]]
    blobs = packed(outlines[near], pair.epsg)
    west, south, east, north = boxes[near].T
    db.executemany(
        "INSERT INTO object (fid, pair, id, origin, geom, x, y) VALUES (?, ?, ?, ?, ?, ?, ?)",
        zip(
            fids, repeat(fid), rows, repeat(FOOTPRINT), blobs,
            ((west + east) / 2).tolist(), ((south + north) / 2).tolist(),
        ),
    )  # fmt: skip
    db.executemany(
        "INSERT INTO object_box (fid, west, east, south, north) VALUES (?, ?, ?, ?, ?)",
        zip(fids, west.tolist(), east.tolist(), south.tolist(), north.tolist(), strict=True),
    )


def _image_digest(location: str) -> str:
    """Return what tells an image from another: of a file its size and parts of its content, of a URL the URL."""
    path = Path(location)
    if not path.is_file():
        return location
    size = path.stat().st_size
    sha = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        sha.update(file.read(_SAMPLE))
        file.seek(max(0, size - _SAMPLE), os.SEEK_SET)
        sha.update(file.read(_SAMPLE))
    return sha.hexdigest()
