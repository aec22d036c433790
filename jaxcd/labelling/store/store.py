"""The store of labels."""

import datetime
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import Scale
from jaxcd.labelling.pairs import Box, Pair
from jaxcd.labelling.store import opening, reading, writing
from jaxcd.labelling.store.commits import Commits
from jaxcd.labelling.store.counting import Counts, Progress, units_of
from jaxcd.labelling.store.objects import Conflict, Edit, Entry, Label, Saved
from jaxcd.labelling.store.schema import FILE, connect, told, transaction
from jaxcd.labelling.store.writing import Author

_MOST_NAME = 80


class Store:
    """Labels of pairs with their history, in `labels.gpkg` of a folder.

    Any number of threads and processes may use a store; each change is on disk when its call returns. Every method may
    raise DiskFullError and WriteError.

    Attributes:
        path: of the GeoPackage.
        scale: of the levels.
        pairs: by id.
        id: of this store among all.
        cells: side in metres of the cells that are judged where there are no footprints; 0: it has none.
    """

    def __init__(self, path: Path, opened: opening.Opened):
        self.path, self.scale, self.id, self.cells = path, opened.scale, opened.id, opened.cells
        self.pairs = opened.pairs
        self._rows = opened.rows
        # One connection that writes and one that reads, so that nobody waits for a commit to see labels.
        self._writer, self._reader = opened.db, connect(path)
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        self._commits = Commits(self._writer, self._write_lock)
        self._counts = Counts()

    @classmethod
    def create_or_open(
        cls,
        folder: Path,
        scale: Scale,
        pairs: Sequence[Pair],
        seen: Mapping[str, opening.Seen] | None = None,
        cells: float = 0.0,
    ) -> "Store":
        """Open the store of a folder for some pairs; new pairs are added, with their footprints.

        Args:
            folder: of the store.
            scale: of the levels.
            pairs: the pairs.
            seen: by the id of a pair, what says where its images have data; what lies elsewhere is left out.
            cells: side in metres of the cells that all pairs are cut into, once; 0: as the store has it.

        Raises:
            LabelError: another scale, other images or footprints of a pair than the store was made with, a store of
                another version, or no store; footprints that cannot be read; cells beside footprints, or too many.
        """
        path = Path(folder) / FILE
        return cls(path, opening.create_or_open(path, scale, pairs, seen or {}, cells))

    @classmethod
    def open(cls, folder: Path) -> "Store":
        """Open a store with the scale and the pairs that it was made with.

        Raises:
            LabelError: there is none, or one of another version.
        """
        path = Path(folder) / FILE
        return cls(path, opening.open_existing(path))

    def close(self) -> None:
        """Close the file; all is saved already."""
        with self._write_lock, self._read_lock:
            self._reader.close()
            self._writer.close()

    def person(self, name: str) -> int:
        """Return the number of a person, known or new.

        Raises:
            LabelError: not 1 to 80 printable characters.
        """
        name = " ".join(name.split())
        if not 1 <= len(name) <= _MOST_NAME or not name.isprintable():
            raise LabelError(f"a name has 1 to {_MOST_NAME} printable characters")
        with self.reading() as db:
            found = db.execute("SELECT id FROM person WHERE name = ?", (name,)).fetchone()
        if found:
            return found[0]
        with self.changing() as db:
            db.execute("INSERT OR IGNORE INTO person (name, at) VALUES (?, ?)", (name, _now()))
            return db.execute("SELECT id FROM person WHERE name = ?", (name,)).fetchone()[0]

    def save(self, pair_id: str, change_id: str, person: int, edits: Sequence[Edit]) -> Saved:
        """Save edits of a pair's objects, all or none; a change that was saved before is not saved again.

        Args:
            pair_id: the pair.
            change_id: made by the author, unique among all changes.
            person: number of the author.
            edits: at most one for each object.

        Raises:
            LabelError: a wrong level, object or outline.
            Conflict: an object was changed since the author saw it; nothing is saved.
        """

        def change(db: "opening.Connection") -> Saved:
            author = self._author(pair_id, person)
            repeated = self._repeated(db, change_id, author)
            if repeated is not None:
                return repeated
            seq = writing.save(db, change_id, edits, author)
            writing.touch(db, author, time.time())
            return self._outcome(db, seq, author)

        with told(self.path):
            return self._commits.save(change)

    def undo(self, pair_id: str, person: int, change_id: str | None = None) -> Saved:
        """Undo the person's last change of a pair that is not undone; that is a change of its own.

        Raises:
            LabelError: nothing to undo.
            Conflict: others have changed one of its objects since; the next call goes on with the change before.
        """
        return self._take_back(pair_id, person, change_id, redo=False)

    def redo(self, pair_id: str, person: int, change_id: str | None = None) -> Saved:
        """Do again what the person undid last in a pair, unless they changed something else there since.

        Raises:
            LabelError: nothing to redo.
            Conflict: others have changed one of its objects since.
        """
        return self._take_back(pair_id, person, change_id, redo=True)

    def labels(self, pair_id: str, *, viewer: int | None, ids: Iterable[str] | None = None) -> list[Label]:
        """Return labels as a viewer may see them.

        Args:
            pair_id: the pair.
            viewer: number of a person; None sees all.
            ids: objects, also such as were never saved; None: all that were saved and are not deleted.
        """
        with self.reading() as db:
            return reading.labels_of(db, self.row(pair_id), viewer, ids)

    def objects(self, pair_id: str, box: Box, *, viewer: int | None, limit: int = 5000) -> tuple[list[Label], int]:
        """Return the footprints and drawn objects in a box of the pair's coordinates, and how many there are in all."""
        with self.reading() as db:
            return reading.labels_in(db, self.row(pair_id), viewer, box, limit)

    def since(self, pair_id: str, seq: int, viewer: int | None) -> tuple[list[Label], int]:
        """Return the labels that changed after a number, and the number of the last change.

        Deleted objects are among them. The number is that of all pairs together.
        """
        with self.reading() as db:
            last = db.execute("SELECT COALESCE(MAX(seq), 0) FROM change").fetchone()[0]
            where = "o.pair = :pair AND o.seq > 0 AND o.seq > :seq ORDER BY o.seq, o.fid"  # 0: for the index
            return reading.labels_where(db, self.row(pair_id), viewer, where, {"seq": max(seq, 0)}), last

    def history(self, pair_id: str, object_id: str, viewer: int | None = None) -> list[Entry]:
        """Return the steps of an object, oldest first.

        Raises:
            LabelError: no such object.
        """
        with self.reading() as db:
            found = reading.history_of(db, self.row(pair_id), object_id, viewer)
        if found is None:
            raise LabelError(f"{object_id[:60]} of {pair_id}: no such object")
        return found

    def progress(self, pair_id: str, viewer: int | None = None) -> Progress:
        """Count the judged objects of a pair by level and by person; also its verdict with its version."""
        with self.reading() as db:
            return self._counts.of_one(db, self.row(pair_id), viewer)

    def progress_of_all(self, viewer: int | None = None) -> dict[str, Progress]:
        """Return what `progress` does of all pairs, by their ids."""
        with self.reading() as db:
            found = self._counts.of_all(db, viewer)
        return {key: found[row] for key, row in self._rows.items()}

    def units(self) -> dict[str, int]:
        """Count the footprints or cells on the ground of each pair, by the pair's id."""
        with self.reading() as db:
            found = units_of(db)
        return {key: found.get(row, 0) for key, row in self._rows.items()}

    def gives_second_opinion(self, pair_id: str, person: int) -> bool:
        """Say whether a person must not see all of a pair now, because they give a second opinion on it."""
        with self.reading() as db:
            return bool(reading.hidden_areas(db, self.row(pair_id), person))

    def row(self, pair_id: str) -> int:
        """Return the number of a pair's row in the table `pair`.

        Raises:
            LabelError: no such pair.
        """
        if pair_id not in self._rows:
            raise LabelError(f"{pair_id[:60]}: no such pair in {self.path}")
        return self._rows[pair_id]

    @contextmanager
    def reading(self) -> Iterator["opening.Connection"]:
        """Give a connection that sees one state of the store."""
        with told(self.path), self._read_lock, transaction(self._reader, write=False):
            yield self._reader

    @contextmanager
    def changing(self) -> Iterator["opening.Connection"]:
        """Give a connection in a transaction that is saved when the block ends without an error."""
        with told(self.path), self._write_lock, transaction(self._writer, write=True):
            yield self._writer

    def _author(self, pair_id: str, person: int) -> Author:
        fid = self.row(pair_id)
        return Author(pair=self.pairs[pair_id], fid=fid, person=person, at=_now(), scale=self.scale)

    def _repeated(self, db: "opening.Connection", change_id: str, author: Author) -> Saved | None:
        """Return the outcome of a change that was saved before."""
        if not db.execute("SELECT 1 FROM person WHERE id = ?", (author.person,)).fetchone():
            raise LabelError(f"no person {author.person} in {self.path}; say who you are again")
        found = db.execute("SELECT seq, pair, person FROM change WHERE id = ?", (change_id,)).fetchone()
        if found is None:
            return None
        if found[1:] != (author.fid, author.person):
            raise LabelError("this id of a change was used for another one; send it with a new id")
        return self._outcome(db, found[0], author, repeated=True)

    def _outcome(self, db: "opening.Connection", seq: int, author: Author, *, repeated: bool = False) -> Saved:
        where = "+o.pair = :pair AND o.fid IN (SELECT object FROM edit WHERE seq = :seq) ORDER BY o.fid"
        labels = reading.labels_where(db, author.fid, author.person, where, {"seq": seq})
        return Saved(labels=labels, seq=seq, repeated=repeated)

    def _take_back(self, pair_id: str, person: int, change_id: str | None, *, redo: bool) -> Saved:
        change_id = change_id or str(uuid.uuid4())

        def change(db: "opening.Connection") -> Saved | Conflict:
            author = self._author(pair_id, person)
            repeated = self._repeated(db, change_id, author)
            if repeated is not None:
                return repeated
            seq, changed = writing.take_back(db, change_id, author, redo=redo)
            if seq is not None:
                writing.touch(db, author, time.time())
                return self._outcome(db, seq, author)
            # Returned, not raised: that this change is passed over from now on is saved.
            return Conflict(reading.labels_of(db, author.fid, person, changed))

        with told(self.path):
            saved = self._commits.save(change)
        if isinstance(saved, Conflict):
            raise saved
        return saved


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
