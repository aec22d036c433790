"""The store: nothing acknowledged is lost or doubled, whatever happens to processes or the disk."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxcd.base.errors import DiskFullError
from jaxcd.labelling.store import Store
from tests.labelling.label_stores import (
    changes_of,
    circle,
    draw,
    judge,
    levels_of,
    town,
)

ROOT = Path(__file__).resolve().parents[2]

# Saves random edits until it is killed, and tells each acknowledged one: change id, object, version, level.
_SAVER = """
import json, random, sys, time, uuid
from pathlib import Path
from jaxcd.labelling.store import Conflict, Edit, Store
store = Store.open(Path(sys.argv[1]))
me, end, objects = store.person(sys.argv[2]), time.monotonic() + float(sys.argv[3]), int(sys.argv[4])
print("ready", flush=True)
rng = random.Random(sys.argv[2])
while time.monotonic() < end:
    name, level = f"f{rng.randrange(objects)}", rng.choice(store.scale.levels)
    (seen,) = store.labels("town", viewer=me, ids=[name])
    change = str(uuid.uuid4())
    try:
        saved = store.save("town", change, me, [Edit(object=name, base=seen.version, level=level)])
    except Conflict:
        print(json.dumps(None), flush=True)
        continue
    print(json.dumps([change, name, saved.labels[0].version, level, saved.seq]), flush=True)
"""


def saver(store: Store, name: str, seconds: float, objects: int = 20) -> subprocess.Popen:
    command = [sys.executable, "-c", _SAVER, str(store.path.parent), name, str(seconds), str(objects)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def acknowledged(process: subprocess.Popen) -> list:
    """What a saver told before it ended; the last line may be cut short."""
    assert process.stdout is not None
    lines = process.stdout.read().split("\n")[:-1]
    process.stdout.close()
    process.wait()
    return [json.loads(line) for line in lines]


def check_whole(path: Path) -> None:
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        # An object's version counts its edits: none is missing, none is there twice.
        counts = "SELECT o.id FROM object o LEFT JOIN edit e ON e.object = o.fid GROUP BY o.fid HAVING COUNT(e.seq) != "
        assert db.execute(counts + "o.version").fetchall() == []
    db.close()


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    store = town(tmp_path)
    rng = random.Random(0)
    told: list = []
    for round_ in range(4):
        process = saver(store, f"person {round_}", 60)
        time.sleep(rng.uniform(0.2, 0.6))
        process.send_signal(signal.SIGKILL)
        found = acknowledged(process)
        assert process.returncode == -signal.SIGKILL and len(found) > 3
        told += found
        check_whole(store.path)
    store.close()
    store = town(tmp_path)
    changes = changes_of(store)
    assert [changes[change] for change, *_ in told] == sorted(seq for *_, seq in told)
    assert 0 <= len(changes) - len(told) <= 4  # at most one for each kill was saved and not told
    last = {name: (version, level) for _, name, version, level, _ in told}
    now = {label.object: (label.version, label.level) for label in store.labels("town", viewer=None)}
    unlike = [name for name in last if now[name] != last[name]]
    assert len(unlike) <= 4 and all(now[name][0] > last[name][0] for name in unlike)
    store.close()


def test_four_processes_at_once_lose_and_double_nothing(tmp_path):
    store = town(tmp_path, 6)
    processes = [saver(store, f"person {i}", 2.5, objects=6) for i in range(4)]
    outcomes = [acknowledged(process) for process in processes]
    assert all(process.returncode == 0 for process in processes)
    told = sorted((entry for found in outcomes for entry in found if entry), key=lambda entry: entry[-1])
    assert all(sum(entry is not None for entry in found) > 5 for found in outcomes)
    assert changes_of(store) == {change: seq for change, *_, seq in told}
    versions: dict[str, list[int]] = {}
    for _, name, version, _, _ in told:
        versions.setdefault(name, []).append(version)
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())
    assert levels_of(store) == {name: level for _, name, _, level, _ in told}
    check_whole(store.path)
    store.close()


def test_a_full_disk_is_told_and_the_store_stays_whole(tmp_path):
    store = town(tmp_path)
    anna = store.person("Anna")
    judge(store, anna, {"f1": "minor"})
    with store.changing() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    store._writer.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(DiskFullError, match="the disk is full, this change was not saved and all others are there"):
        for _ in range(200):
            draw(store, anna, circle(500), "major")
    held = levels_of(store)
    store._writer.execute("PRAGMA max_page_count=1000000")
    name = draw(store, anna, circle(500), "major")
    assert levels_of(store) == held | {name: "major"}
    check_whole(store.path)
    store.close()


def test_a_file_that_may_not_grow_is_told_in_one_line(tmp_path):
    store = town(tmp_path)
    store.close()
    code = """
import resource, signal, sys
from pathlib import Path
from tests.labelling.label_stores import circle, draw, judge
from jaxcd.base.errors import JaxcdError
from jaxcd.labelling.store import Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store.open(Path(sys.argv[1]))
me = store.person("Anna")
judge(store, me, {"f1": "minor"})
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    for i in range(200):
        draw(store, me, circle(2000), "major")
        print("saved", flush=True)
except JaxcdError as error:
    print(type(error).__name__, error)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(store.path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    *saved, last = done.stdout.strip().split("\n")
    assert done.stderr == "" and set(saved) == {"saved"}
    assert last.startswith(("WriteError", "DiskFullError")) and str(store.path) in last
    check_whole(store.path)
    store = town(tmp_path)
    assert len(levels_of(store)) == len(saved) + 1
    store.close()
