"""The store: nothing acknowledged is lost, nothing is doubled, whatever happens to the process or the disk."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely

from jaxcd.base.errors import DiskFullError, LabelError
from jaxcd.base.scales import EMS98, XBD
from jaxcd.labelling.store import Conflict, Edit, Store
from tests.labelling.label_stores import (
    SOUTH,
    WEST,
    draw,
    drawn_id,
    judge,
    levels_of,
    new_id,
    picture_pair,
    placed_pair,
    squares,
    town,
    write_footprints,
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


def changes_of(store: Store) -> dict[str, int]:
    with store.reading() as db:
        return dict(db.execute("SELECT id, seq FROM change").fetchall())


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


def test_two_who_save_one_object_one_is_told(tmp_path):
    store = town(tmp_path)
    anna, ben = store.person("Anna"), store.person("  Ben ")
    assert store.person("Ben") == ben != anna
    judge(store, anna, {"f3": "major"})
    with pytest.raises(Conflict, match="f3: changed by Anna in the meantime; nothing was saved") as error:
        edits = [Edit(object="f4", base=0, level="minor"), Edit(object="f3", base=0, level="minor")]
        store.save("town", new_id(), ben, edits)
    (current,) = error.value.labels
    assert (current.object, current.level, current.version, current.author) == ("f3", "major", 1, "Anna")
    assert levels_of(store) == {"f3": "major"}  # f4 was not saved either
    judge(store, ben, {"f3": "minor", "f4": "minor"})
    assert levels_of(store) == {"f3": "minor", "f4": "minor"}
    steps = [(step.version, step.author, step.changes["level"]) for step in store.history("town", "f3")]
    assert steps == [(1, "Anna", (None, "major")), (2, "Ben", ("major", "minor"))]
    store.close()


def test_a_change_that_is_sent_twice_is_saved_once(tmp_path):
    store = town(tmp_path)
    anna, change = store.person("Anna"), new_id()
    edits = [Edit(object=drawn_id(), base=0, level="minor", geometry=squares(1)[0])]
    first = store.save("town", change, anna, edits)
    store.close()
    store = town(tmp_path)
    again = store.save("town", change, anna, edits)
    assert (first.repeated, again.repeated) == (False, True)
    assert again.labels == first.labels and again.seq == first.seq
    assert len(store.labels("town", viewer=None)) == 1
    with pytest.raises(LabelError, match="this id of a change was used for another one"):
        store.save("town", change, store.person("Ben"), edits)
    undone = new_id()
    store.undo("town", anna, undone)
    assert store.undo("town", anna, undone).repeated  # a resent undo does not undo more
    store.close()


def test_undo_leaves_what_a_later_change_made_that_cannot_be_undone(tmp_path):
    store = town(tmp_path)
    anna, ben = store.person("Anna"), store.person("Ben")
    judge(store, anna, {"f0": "minor"})
    judge(store, anna, {"f0": "destroyed", "f1": "destroyed"})
    judge(store, ben, {"f1": "intact"})
    for objects in (["f1"], ["f0"]):  # first the later change, of whose objects Ben changed one; then the earlier one
        with pytest.raises(Conflict) as caught:
            store.undo("town", anna)
        assert [label.object for label in caught.value.labels] == objects
    assert levels_of(store) == {"f0": "destroyed", "f1": "intact"}
    store.close()


def test_undo_and_redo_go_on_after_a_restart(tmp_path):
    store = town(tmp_path)
    anna = store.person("Anna")
    judge(store, anna, {"f1": "minor", "f2": "minor"})
    judge(store, anna, {"f1": "major"})
    name = draw(store, anna, squares(1)[0], "destroyed")
    larger = shapely.box(WEST + 1, SOUTH + 1, WEST + 20, SOUTH + 20)
    store.save("town", new_id(), anna, [Edit(object=name, base=1, geometry=larger, comment="larger")])
    store.close()
    store = town(tmp_path)
    back = store.undo("town", anna).labels[0]
    assert back.geometry.equals(squares(1)[0]) and (back.comment, back.version) == ("", 3)
    (gone,) = store.undo("town", anna).labels
    assert gone.deleted and gone.object == name and name not in levels_of(store)
    store.undo("town", anna)
    assert levels_of(store) == {"f1": "minor", "f2": "minor"}
    store.close()
    store = town(tmp_path)
    store.undo("town", anna)
    assert levels_of(store) == {"f1": None, "f2": None}
    with pytest.raises(LabelError, match="nothing to undo"):
        store.undo("town", anna)
    for _ in range(4):
        store.redo("town", anna)
    assert levels_of(store) == {"f1": "major", "f2": "minor", name: "destroyed"}
    (label,) = store.labels("town", viewer=None, ids=[name])
    assert label.geometry.equals(larger) and label.comment == "larger" and not label.deleted
    store.undo("town", anna)
    judge(store, anna, {"f5": "intact"})
    with pytest.raises(LabelError, match="nothing to redo"):
        store.redo("town", anna)
    kinds = [step.kind for step in store.history("town", name)]
    assert kinds == ["save", "save", "undo", "undo", "redo", "redo", "undo"]
    store.close()


def test_what_others_changed_since_is_not_undone(tmp_path):
    store = town(tmp_path)
    anna, ben = store.person("Anna"), store.person("Ben")
    judge(store, anna, {"f1": "minor"})
    judge(store, anna, {"f2": "minor"})
    judge(store, ben, {"f2": "major"})
    with pytest.raises(Conflict, match="f2: changed by Ben in the meantime"):
        store.undo("town", anna)
    assert levels_of(store) == {"f1": "minor", "f2": "major"}
    store.undo("town", anna)  # goes on with the change before
    assert levels_of(store) == {"f1": None, "f2": "major"}
    judge(store, ben, {"f1": "intact"})
    with pytest.raises(Conflict):
        store.redo("town", anna)
    assert levels_of(store)["f1"] == "intact"
    store.undo("town", ben)  # Anna's undo of the same object came before
    store.close()


def test_the_verdict_of_a_pair_is_an_object_too(tmp_path):
    store = town(tmp_path)
    anna = store.person("Anna")
    judge(store, anna, {"pair": "damaged", "f1": "major", "f2": "unknown", "f3": "cloud"})
    found = store.progress("town")
    assert found == {
        "levels": {"major": 1, "unknown": 1, "cloud": 1},
        "judged": 3,
        "verdict": "damaged",
        "verdict_version": 1,
        "people": {"Anna": 3},
    }
    with pytest.raises(LabelError, match="level 'major', expected one of damaged, intact, bad image"):
        judge(store, anna, {"pair": "major"})
    store.undo("town", anna)
    assert store.progress("town")["verdict"] is None
    store.close()


def test_since_tells_what_changed_also_what_was_deleted(tmp_path):
    store = town(tmp_path)
    anna = store.person("Anna")
    judge(store, anna, {"f1": "minor"})
    name = draw(store, anna, squares(1)[0], "major")
    labels, seq = store.since("town", 0, None)
    assert [label.object for label in labels] == ["f1", name]
    assert store.since("town", seq, None) == ([], seq)
    store.save("town", new_id(), anna, [Edit(object=name, base=1, deleted=True)])
    (label,), later = store.since("town", seq, None)
    assert label.deleted and label.object == name and later > seq
    assert levels_of(store) == {"f1": "minor"} and store.progress("town")["judged"] == 1
    store.close()


def test_objects_in_a_box(tmp_path):
    store = town(tmp_path)
    name = draw(store, store.person("Anna"), shapely.box(WEST + 10, SOUTH, WEST + 12, SOUTH + 1), None)
    labels, total = store.objects("town", (WEST, SOUTH, WEST + 27, SOUTH + 9), viewer=None)
    assert [label.object for label in labels] == ["f0", "f1", "f2", name] and total == 4
    assert [label.version for label in labels] == [0, 0, 0, 1]
    assert shapely.equals_exact([label.geometry for label in labels[:3]], squares(3), 1e-6, normalize=True).all()
    labels, total = store.objects("town", (WEST, SOUTH, WEST + 27, SOUTH + 9), viewer=None, limit=2)
    assert len(labels) == 2 and total == 4
    store.close()


def circle(vertices: int) -> shapely.Polygon:
    angle = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
    return shapely.Polygon(np.stack([WEST + 20 + 9 * np.cos(angle), SOUTH + 20 + 9 * np.sin(angle)], axis=1))


def corner_at(x: float) -> shapely.Polygon:
    with np.errstate(invalid="ignore"):
        return shapely.Polygon([(WEST, SOUTH), (x, SOUTH), (WEST, SOUTH + 5)])


@pytest.mark.parametrize(
    "outline, message",
    [
        (corner_at(np.nan), "coordinates that are no numbers"),
        (corner_at(np.inf), "coordinates that are no numbers"),
        (circle(100_000), "100001 vertices, expected at most 10000; draw it simpler, or in parts"),
        (shapely.Polygon([(WEST, SOUTH), (WEST + 5, SOUTH), (WEST + 9, SOUTH)]), "an outline without ground"),
        (shapely.box(WEST - 20, SOUTH, WEST - 10, SOUTH + 5), "lies outside of the pair's ground"),
        (shapely.Point(WEST, SOUTH), "a Point without ground, expected a polygon"),
        (shapely.Polygon(), "a Polygon without ground"),
    ],
)
def test_outlines_that_are_none_are_refused(tmp_path, outline, message):
    store = town(tmp_path)
    with pytest.raises(LabelError, match=message) as error:
        draw(store, store.person("Anna"), outline, "major")
    assert "\n" not in str(error.value)
    assert levels_of(store) == {} and changes_of(store) == {}
    store.close()


def test_an_outline_that_crosses_itself_is_repaired(tmp_path):
    store = town(tmp_path)
    tie = shapely.Polygon([(WEST, SOUTH), (WEST + 10, SOUTH + 10), (WEST + 10, SOUTH), (WEST, SOUTH + 10)])
    name = draw(store, store.person("Anna"), tie, "major")
    (label,) = store.labels("town", viewer=None, ids=[name])
    assert label.geometry.is_valid and label.geometry.area == 50 and label.geometry.geom_type == "MultiPolygon"
    store.close()


@pytest.mark.parametrize(
    "edits, message",
    [
        ([Edit(object="f99", base=0, level="major")], "f99 of town: no such object"),
        ([Edit(object="d-1", base=0, geometry=squares(1)[0])], "d-1 of town: no such object"),
        ([Edit(object="f1", base=0, level="grade 1")], "level 'grade 1', expected one of intact, minor, major, destro"),
        ([Edit(object="f1", base=0, deleted=True)], "f1 of town: a footprint keeps its outline"),
        ([Edit(object="f1", base=0, comment="x" * 2001)], "a comment of 2001 characters, expected at most 2000"),
        ([Edit(object="f1", base=0, level="major")] * 2, "one of each object"),
        ([], "at least one edit"),
    ],
)
def test_wrong_edits_are_refused(tmp_path, edits, message):
    store = town(tmp_path)
    with pytest.raises(LabelError, match=message):
        store.save("town", new_id(), store.person("Anna"), edits)
    with pytest.raises(LabelError, match="no person 7 in"):
        store.save("town", new_id(), 7, [Edit(object="f1", base=0, level="major")])
    with pytest.raises(LabelError, match="no such pair"):
        store.labels("city", viewer=None)
    with pytest.raises(LabelError, match="1 to 80 printable characters"):
        store.person("a\x00b")
    assert changes_of(store) == {}
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
from tests.labelling.label_stores import draw, judge
from tests.labelling.test_store import circle
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


def test_another_scale_version_or_file_is_refused(tmp_path):
    town(tmp_path).close()
    with pytest.raises(LabelError, match="its labels are of the scale xbd, not ems98; give --scale xbd, or another"):
        town(tmp_path, scale=EMS98)
    other = write_footprints(tmp_path / "other.gpkg", squares(3))
    with pytest.raises(LabelError, match="was made with other footprints of the pair town"):
        Store.create_or_open(tmp_path / "store", XBD, [placed_pair(other)])
    with pytest.raises(LabelError, match="was made with other images of the pair town"):
        Store.create_or_open(tmp_path / "store", XBD, [placed_pair(tmp_path / "footprints.gpkg", width=500)])
    path = tmp_path / "store" / "labels.gpkg"
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = '2' WHERE name = 'version'")
    db.commit()
    db.close()
    with pytest.raises(LabelError, match="a store of version 2, this jaxcd knows version 1"):
        town(tmp_path)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "labels.gpkg").write_text("no database" * 100)
    with pytest.raises(LabelError, match="not a store of labels"):
        Store.create_or_open(tmp_path / "text", XBD, [])
    write_footprints(tmp_path / "labels.gpkg", squares(3))
    with pytest.raises(LabelError, match="not a store of labels; name another folder with --store"):
        Store.create_or_open(tmp_path, XBD, [])
    with pytest.raises(LabelError, match="no such store of labels"):
        Store.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_images_may_move_but_not_change(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"first")
    Store.create_or_open(tmp_path / "store", XBD, [picture_pair(pre=str(image), post=str(image))]).close()
    moved = image.rename(tmp_path / "b.png")
    store = Store.create_or_open(tmp_path / "store", XBD, [picture_pair(pre=str(moved), post=str(moved))])
    assert store.pairs["tile"].pre == (str(moved),)
    store.close()
    moved.write_bytes(b"other")
    with pytest.raises(LabelError, match="other images of the pair tile; give those, or another folder with --store"):
        Store.create_or_open(tmp_path / "store", XBD, [picture_pair(pre=str(moved), post=str(moved))])


def test_footprints_in_another_reference_system_and_without_any(tmp_path):
    degrees = write_footprints(tmp_path / "degrees.geojson", squares(5), epsg=4326)
    store = Store.create_or_open(tmp_path / "store", XBD, [placed_pair(degrees)])
    labels, total = store.objects("town", store.pairs["town"].bounds, viewer=None)
    assert total == 5
    for label, outline in zip(labels, squares(5), strict=True):
        assert shapely.hausdorff_distance(label.geometry, outline) < 0.01  # GeoJSON's decimals
    store.close()
    bare = tmp_path / "bare.shp"
    write_footprints(bare, squares(5))
    bare.with_suffix(".prj").unlink()
    with pytest.raises(LabelError, match=r"bare\.shp: has no reference system; export it with its reference system"):
        Store.create_or_open(tmp_path / "bare", XBD, [placed_pair(bare)])
    store = Store.create_or_open(tmp_path / "bare", XBD, [placed_pair(degrees)])  # nothing half-made was left
    assert store.objects("town", store.pairs["town"].bounds, viewer=None)[1] == 5
    store.close()


def test_the_store_opens_as_layers(tmp_path):
    store = town(tmp_path)
    anna = store.person("Anna")
    judge(store, anna, {"f1": "minor", "pair": "damaged"})
    draw(store, anna, squares(1)[0], "major")
    assert pyogrio.list_layers(store.path).tolist() == [["labels", "Unknown"], ["pair", None]]
    frame = pyogrio.read_dataframe(store.path, layer="labels")
    assert frame.crs == "EPSG:32637" and sorted(frame.level) == ["major", "minor"]
    assert frame.author.tolist() == ["Anna"] * 2 and frame.geometry.area.round(3).tolist() == [25, 25]
    store.close()
    both = [placed_pair(tmp_path / "footprints.gpkg"), picture_pair()]
    store = Store.create_or_open(tmp_path / "store", XBD, both)
    name = draw(store, anna, shapely.box(1, -5, 4, -1), "intact", pair="tile")
    layers = {layer for layer, _ in pyogrio.list_layers(store.path)}
    assert layers == {"labels_32637", "labels_pixels", "pair"}
    frame = pyogrio.read_dataframe(store.path, layer="labels_pixels")
    assert frame.object.tolist() == [name] and frame.total_bounds.tolist() == [1, -5, 4, -1]
    store.close()
