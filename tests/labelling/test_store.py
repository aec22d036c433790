"""The store: what is saved, told and refused."""

import numpy as np
import pytest
import shapely

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import XBD
from jaxcd.labelling.store import Conflict, Edit, Store
from tests.labelling.label_stores import (
    SOUTH,
    WEST,
    changes_of,
    circle,
    draw,
    drawn_id,
    judge,
    levels_of,
    new_id,
    picture_pair,
    squares,
    town,
)


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


def test_the_progress_of_all_pairs_takes_as_many_queries_as_that_of_few(tmp_path):
    asked: dict[int, list[int]] = {}
    for count in (3, 60):
        pairs = [picture_pair(f"t{i}", pre=f"a{i}", post=f"b{i}") for i in range(count)]
        store = Store.create_or_open(tmp_path / str(count), XBD, pairs)
        anna, ben = store.person("Anna"), store.person("Ben")
        name = draw(store, anna, shapely.box(1, -5, 4, -1), "major", pair="t1")
        draw(store, ben, shapely.box(1, -5, 4, -1), "minor", pair="t1")
        judge(store, ben, {"pair": "damaged", name: "minor"}, pair="t1")
        gone = draw(store, ben, shapely.box(1, -5, 4, -1), "minor", pair="t2")
        store.save("t2", new_id(), ben, [Edit(object=gone, base=1, deleted=True)])
        statements: list[str] = []
        store._reader.set_trace_callback(statements.append)
        asked[count] = []
        for _ in range(2):
            statements.clear()
            found = store.progress_of_all()
            asked[count].append(len(statements))
        assert found["t1"] == {
            "levels": {"minor": 2},
            "judged": 2,
            "verdict": "damaged",
            "verdict_version": 1,
            "people": {"Anna": 1, "Ben": 2},
        }
        assert found["t2"]["judged"] == 0 and found["t2"]["people"] == {}
        judge(store, anna, {"pair": "intact"}, pair="t2")  # what is kept is counted anew where something changed
        assert store.progress_of_all()["t2"]["verdict"] == "intact" == store.progress("t2")["verdict"]
        fresh = Store.open(tmp_path / str(count))
        assert store.progress_of_all() == {key: fresh.progress(key) for key in store.pairs}
        fresh.close()
        store.close()
    assert asked[3] == asked[60] and asked[60][1] < asked[60][0] < 15
