"""Commits that several changes share: whoever waits for the disk takes along what others want to save meanwhile."""

import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from jaxcd.labelling.store.schema import transaction

T = TypeVar("T")
_Change = Callable[[sqlite3.Connection], Any]


class Commits:
    """Saves the changes of several threads, those that come at one time by one commit.

    A commit waits for the disk, and changes that came one after the other would each wait for all before them. So the
    first one that gets the connection saves all that wait with it. Each is undone on its own where it fails.
    """

    def __init__(self, db: sqlite3.Connection, lock: threading.Lock):
        """Set up for a connection.

        Args:
            db: the connection.
            lock: held by whoever uses it.
        """
        self._db, self._lock = db, lock
        self._waiting: list[tuple[_Change, Future[Any]]] = []
        self._guard = threading.Lock()  # of the list

    def save(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Make a change; returns what it returns, once it is on disk.

        Args:
            change: is called within a transaction, more than once if the commit that it shares fails.

        Raises:
            Exception: what the change raised; nothing of it is saved.
        """
        outcome: Future[T] = Future()
        mine = (change, outcome)
        with self._guard:
            self._waiting.append(mine)
        try:
            with self._lock:
                if not outcome.done():
                    with self._guard:
                        group = [each for each in self._waiting if not each[1].done()]
                    self._commit(group)
        finally:
            with self._guard:
                self._waiting.remove(mine)
        return outcome.result()

    def _commit(self, group: Sequence[tuple[_Change, Future[Any]]]) -> None:
        """Save changes by one commit, or each by its own where that fails: the disk may be full for one of them."""
        begun = False
        try:
            with transaction(self._db, write=True):
                begun = True
                found = [self._tried(change) for change, _ in group]
        except sqlite3.Error as error:
            if begun and len(group) > 1:
                for each in group:
                    self._commit([each])
            else:  # another process has kept the file locked, and would go on
                for _, outcome in group:
                    outcome.set_exception(error)
            return
        for (_, outcome), (value, failed) in zip(group, found, strict=True):
            if failed is None:
                outcome.set_result(value)
            else:
                outcome.set_exception(failed)

    def _tried(self, change: _Change) -> tuple[Any, Exception | None]:
        """Make one of the changes of a transaction; returns its value, or why nothing of it is left."""
        self._db.execute("SAVEPOINT change")
        try:
            value, failed = change(self._db), None
        except sqlite3.Error:
            raise  # SQLite may have ended the transaction
        except Exception as error:
            self._db.execute("ROLLBACK TO change")
            value, failed = None, error
        self._db.execute("RELEASE change")
        return value, failed
