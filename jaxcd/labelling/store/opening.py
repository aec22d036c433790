"""Makes and opens a store: its file, its pairs with their footprints, and whether they are those that it knows."""

import hashlib
import json
import os
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from sqlite3 import Connection

import numpy as np

from jaxcd.base.errors import LabelError, WriteError
from jaxcd.base.fingerprints import file_digest
from jaxcd.base.scales import SCALES, Scale
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import schema
from jaxcd.labelling.store.geometry import packed
from jaxcd.labelling.store.objects import CELL, FOOTPRINT, PAIR

__all__ = ["Connection", "Opened", "create_or_open", "open_existing"]

Seen = Callable[..., np.ndarray]
"""Says of places (x and y, each n) of a pair whether its images show them."""
_PAIR_ID = re.compile(r"\w[\w.\- ]{0,150}")
MOST = 100_000
"""Footprints or cells up to which there are scores: their features have to fit into memory."""
_CELLS = "cells"  # name in the table `meta` of the side of cells in metres
_SAMPLE = 2**20  # bytes of the beginning and of the end of an image that stand for its content


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An open store: connection, scale, id, the pairs by id, the numbers of their rows, the side of its cells or 0."""

    db: sqlite3.Connection
    scale: Scale
    id: str
    pairs: dict[str, Pair]
    rows: dict[str, int]
    cells: float


def create_or_open(
    path: Path, scale: Scale, pairs: Sequence[Pair], seen: Mapping[str, Seen], cells: float = 0.0
) -> Opened:
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
                    _add(db, path, pair, known.get(pair.id), seen.get(pair.id))
                _add_cells(db, path, cells, seen)
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
    return Opened(
        db=db, scale=SCALES[meta["scale"]], id=meta["id"], pairs=pairs, rows=rows, cells=float(meta.get(_CELLS, 0))
    )


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


def _add(db: sqlite3.Connection, path: Path, pair: Pair, known: Pair | None, seen: Seen | None) -> None:
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
            _take_in(db, fid, pair, Path(pair.footprints), seen)
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


def _take_in(db: sqlite3.Connection, fid: int, pair: Pair, file: Path, seen: Seen | None) -> None:
    """Take the footprints on a pair's ground into the store, but those that no image shows."""
    import shapely

    from jaxcd.scenes.polygons import read_frame

    if pair.epsg is None:
        raise LabelError(f"{file}: footprints of the pair {pair.id}, whose images have no place; leave them out")
    frame, _ = read_frame(file)
    outlines = np.asarray(frame.geometry.to_crs(pair.epsg))
    boxes = shapely.bounds(outlines)
    near = np.isfinite(boxes).all(axis=1) & shapely.intersects(outlines, shapely.box(*pair.bounds))
    names = [f"f{row}" for row in frame.index[near]]
    _insert(db, fid, pair, FOOTPRINT, names, outlines[near], seen)


def _add_cells(db: sqlite3.Connection, path: Path, side: float, seen: Mapping[str, Seen]) -> None:
    """Cut all pairs into cells that are not cut yet, if somebody wants cells or the store has some."""
    (had,) = db.execute("SELECT MAX(value) FROM meta WHERE name = ?", (_CELLS,)).fetchone()
    if had is not None and side not in (0.0, float(had)):
        raise LabelError(f"{path}: its cells have a side of {float(had):g} m; give --cells {float(had):g}")
    side = side if had is None else float(had)
    if not side:
        return
    pairs, rows = _pairs(db)
    outlined = next((key for key, pair in pairs.items() if pair.footprints), None)
    if outlined is not None:
        raise LabelError(f"{path}: cells are for pairs without footprints, and {outlined} has some; leave out --cells")
    db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (_CELLS, repr(side)))
    cut = {row for (row,) in db.execute("SELECT DISTINCT pair FROM object WHERE origin = ?", (CELL,))}
    for key, pair in pairs.items():
        if rows[key] not in cut:
            outlines = _cells_of(pair, side)
            _insert(db, rows[key], pair, CELL, [f"c{i}" for i in range(len(outlines))], outlines, seen.get(key))


def _cells_of(pair: Pair, side: float) -> np.ndarray:
    from rasterio.crs import CRS

    from jaxcd.active.coverage import cells
    from jaxcd.scenes.windows import Grid

    if pair.epsg is None:
        raise LabelError(f"--cells: the images of the pair {pair.id} have no place; leave it out")
    grid = Grid(crs=CRS.from_epsg(pair.epsg), transform=pair.transform, height=pair.height, width=pair.width)
    count = pair.width * pair.height * grid.metres**2 / side**2
    if count > MOST:
        raise LabelError(
            f"--cells {side:g}: {pair.id} would have about {count:,.0f} cells, more than the {MOST:,} that scores are "
            "made for; give a larger side"
        )
    return cells(grid, side).geometry.to_numpy()


def _insert(
    db: sqlite3.Connection, fid: int, pair: Pair, origin: str, names: Iterable[str], outlines: np.ndarray,
    seen: Seen | None,
) -> None:  # fmt: skip
    """Take in the objects of a pair that an image shows."""
    import shapely

    west, south, east, north = shapely.bounds(outlines).T
    there = np.ones(len(outlines), bool)
    if seen is not None and len(outlines):
        there = seen((west + east) / 2, (south + north) / 2)
    west, south, east, north = (edge[there] for edge in (west, south, east, north))
    (last,) = db.execute("SELECT COALESCE(MAX(fid), 0) FROM object").fetchone()
    fids = range(last + 1, last + 1 + int(there.sum()))
    rows = [name for name, shown in zip(names, there, strict=True) if shown]
    blobs = packed(outlines[there], pair.epsg)
    db.executemany(
        "INSERT INTO object (fid, pair, id, origin, geom, x, y) VALUES (?, ?, ?, ?, ?, ?, ?)",
        zip(
            fids, repeat(fid), rows, repeat(origin), blobs,
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
