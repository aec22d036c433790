"""Changes that come at one time: one commit for all, and each stands or falls on its own."""

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

from jaxcd.base.errors import DiskFullError, LabelError, WriteError
from jaxcd.labelling.store import Conflict, Edit, Saved, Store, schema
from tests.labelling.label_stores import changes_of, circle, drawn_id, judge, levels_of, new_id, town


def at_once(store: Store, calls: list[Callable[[], Any]]) -> tuple[list[Any], list[str]]:
    """Make calls that wait for one connection together; returns their outcomes, and the statements of the writer."""
    outcomes: list[Any] = [None] * len(calls)

    def work(number: int) -> None:
        try:
            outcomes[number] = calls[number]()
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
    statements: list[str] = []
    store._writer.set_trace_callback(statements.append)
    with store._write_lock:
        for number, thread in enumerate(threads, start=1):
            thread.start()
            while len(store._commits._waiting) < number:
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    store._writer.set_trace_callback(None)
    return outcomes, statements


def save(store: Store, person: int, **edit: Any) -> Callable[[], Saved]:
    return lambda: store.save("town", new_id(), person, [Edit(**edit)])


def test_what_waits_is_saved_by_one_commit_and_a_conflict_undoes_nothing_else(tmp_path):
    store = town(tmp_path)
    anna, ben = store.person("Anna"), store.person("Ben")
    judge(store, anna, {"f9": "minor"})
    calls = [
        save(store, anna, object="f1", base=0, level="major"),
        save(store, ben, object="f1", base=0, level="minor"),
        save(store, ben, object="f2", base=0, level="grade 1"),
        save(store, ben, object="f3", base=0, level="destroyed"),
        lambda: store.undo("town", ben),
        lambda: store.redo("town", anna),
    ]
    found, statements = at_once(store, calls)
    assert statements.count("COMMIT") == 1 and "ROLLBACK" not in statements
    assert isinstance(found[0], Saved) and isinstance(found[3], Saved) and isinstance(found[4], Saved)
    assert isinstance(found[1], Conflict) and found[1].labels[0].level == "major"
    assert isinstance(found[2], LabelError) and "grade 1" in str(found[2])
    assert isinstance(found[5], LabelError) and "nothing to redo" in str(found[5])
    assert levels_of(store) == {"f9": "minor", "f1": "major", "f3": None}  # Ben's undo came after his save
    assert [step.author for step in store.history("town", "f1")] == ["Anna"]
    assert len(changes_of(store)) == 4
    store.close()


def test_a_change_that_the_disk_has_no_place_for_takes_no_other_with_it(tmp_path):
    store = town(tmp_path)
    anna = store.person("Anna")
    with store.reading() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    calls = [
        save(store, anna, object="f1", base=0, level="major"),
        save(store, anna, object=drawn_id(), base=0, level="major", geometry=circle(9000)),
        save(store, anna, object="f2", base=0, level="minor"),
    ]
    store._writer.execute(f"PRAGMA max_page_count={pages + 4}")
    found, _ = at_once(store, calls)
    assert isinstance(found[1], DiskFullError)
    assert levels_of(store) == {"f1": "major", "f2": "minor"}
    store.close()


def test_a_file_that_another_process_keeps_is_told_to_all(tmp_path, monkeypatch):
    patience = 1.0
    monkeypatch.setattr(schema, "_PATIENCE", patience)
    store = town(tmp_path)
    anna = store.person("Anna")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    calls = [save(store, anna, object=f"f{number}", base=0, level="major") for number in range(4)]
    begun = time.monotonic()
    found, _ = at_once(store, calls)
    assert all(isinstance(error, WriteError) and "has kept it locked" in str(error) for error in found)
    assert time.monotonic() - begun < 3 * patience, "all wait together, and not one after the other"
    other.execute("ROLLBACK")
    other.close()
    calls[0]()
    assert levels_of(store) == {"f0": "major"}
    store.close()
