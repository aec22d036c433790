"""Who gets what: no pair to two people, unless as a second opinion, and then without seeing the first."""

import math

import pytest
import shapely

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import XBD
from jaxcd.labelling.queues import Queues
from jaxcd.labelling.store import PAIR, Conflict, Edit, Store
from jaxcd.labelling.store.objects import own_version
from tests.labelling.label_stores import (
    SOUTH,
    WEST,
    draw,
    judge,
    levels_of,
    new_id,
    picture_pair,
    placed_pair,
    town,
    write_footprints,
)


def tiles(folder, count: int) -> Store:
    pairs = [picture_pair(f"t{i}", pre=f"a{i}", post=f"b{i}") for i in range(count)]
    return Store.create_or_open(folder / "store", XBD, pairs)


def test_each_pair_goes_to_one_person(tmp_path):
    store = tiles(tmp_path, 5)
    people = [store.person(name) for name in ("Anna", "Ben", "Cleo")]
    queues = Queues(store)
    given: list[str] = []
    now: dict[int, str] = {}
    for turn in range(5):
        person = people[turn % 3]
        task = queues.next(person, now.get(person))
        assert task is not None and task.area is None and task.objects is None and not task.second
        given.append(task.pair_id)
        now[person] = task.pair_id
        assert Queues(store).next(person) == task  # the same after a reload
        judge(store, person, {PAIR: "damaged"}, pair=task.pair_id)
    assert sorted(given) == [f"t{i}" for i in range(5)]
    assert all(queues.next(person, now[person]) is None for person in people)
    store.close()


def test_a_pair_that_was_skipped_goes_to_another_person(tmp_path):
    store = tiles(tmp_path, 2)
    anna, ben = store.person("Anna"), store.person("Ben")
    queues = Queues(store)
    assert queues.next(anna).pair_id == "t0"
    assert queues.next(anna, "t0").pair_id == "t1"  # nothing was said of t0
    assert queues.next(ben).pair_id == "t0"
    judge(store, anna, {PAIR: "intact"}, pair="t1")
    assert queues.next(anna, "t1") is None
    store.close()


def test_an_idle_task_is_free_again_and_a_worked_on_one_is_not(tmp_path):
    store = tiles(tmp_path, 1)
    anna, ben = store.person("Anna"), store.person("Ben")
    assert Queues(store).next(anna).pair_id == "t0"
    assert Queues(store).next(ben) is None
    with store.changing() as db:
        db.execute("UPDATE task SET touched = touched - 3601")
    judge(store, anna, {PAIR: "damaged"}, pair="t0")  # she is at it again
    assert Queues(store).next(ben) is None
    with store.changing() as db:
        db.execute("UPDATE task SET touched = touched - 3601")
    assert Queues(store).next(ben).pair_id == "t0"
    assert Queues(store).next(anna) is None
    store.close()


def big_town(folder) -> Store:
    """900 footprints, 30 x 30, each 10 m apart."""
    outlines = [
        shapely.box(WEST + 10 * j, SOUTH + 10 * i, WEST + 10 * j + 5, SOUTH + 10 * i + 5)
        for i in range(30)
        for j in range(30)
    ]
    file = write_footprints(folder / "footprints.gpkg", outlines)
    return Store.create_or_open(folder / "store", XBD, [placed_pair(file, width=600, height=600)])


def test_a_large_pair_is_given_out_in_areas_that_hold_each_footprint_once(tmp_path):
    store = big_town(tmp_path)
    queues = Queues(store)
    found: list[str] = []
    for i in range(9):
        task = queues.next(store.person(f"person {i}"))
        west, south, east, north = task.area
        assert math.isclose(east - west, 100) and math.isclose(north - south, 100)
        assert len(task.objects) == 100
        found += task.objects
    assert sorted(found) == sorted(f"f{i}" for i in range(900))
    assert queues.next(store.person("late")) is None
    assert queues.next(store.person("person 0")).area[3] == SOUTH + 300  # the first one lies in the north
    store.close()


def test_an_area_with_footprints_left_is_given_back_and_a_judged_one_is_done(tmp_path):
    store = big_town(tmp_path)
    anna, ben = store.person("Anna"), store.person("Ben")
    queues = Queues(store)
    first = queues.next(anna)
    judge(store, anna, dict.fromkeys(first.objects[:60], "intact"))
    second = queues.next(anna, "town")
    assert set(second.objects).isdisjoint(first.objects)
    taken = queues.next(ben)
    assert taken.area == first.area and taken.objects == first.objects[60:]
    judge(store, ben, dict.fromkeys(taken.objects, "minor"))
    queues.next(ben, "town")
    with store.reading() as db:
        states = db.execute("SELECT person, state FROM task ORDER BY fid").fetchall()
    assert states == [(anna, "left"), (anna, "open"), (ben, "done"), (ben, "open")]
    store.close()


def test_the_second_person_does_not_see_the_first_one_before_having_judged(tmp_path):
    store = town(tmp_path, 3)
    anna, ben, cleo = (store.person(name) for name in ("Anna", "Ben", "Cleo"))
    queues = Queues(store, 1.0)
    assert queues.next(anna).objects == ["f0", "f1", "f2"]
    judge(store, anna, {"f0": "major", "f1": "minor", "f2": "intact", PAIR: "damaged"})
    drawn = draw(store, anna, shapely.box(WEST + 20, SOUTH + 20, WEST + 30, SOUTH + 30), "destroyed")
    assert queues.next(anna, "town") is None  # no second opinion of her own labels
    task = queues.next(ben)
    assert task.second and task.objects == ["f0", "f1", "f2"]

    bens = store.labels("town", viewer=ben, ids=["f0", "f1", "f2", PAIR, drawn])
    assert {label.object: (label.level, label.version, label.author, label.comment) for label in bens} == dict.fromkeys(
        ["f0", "f1", "f2", PAIR], (None, own_version(0), "", "")
    )
    assert store.history("town", "f0", ben) == []
    unseen = store.progress("town", ben)
    assert (unseen["verdict"], unseen["levels"], unseen["judged"], unseen["people"]) == (None, {}, 0, {})
    with pytest.raises(LabelError, match="no such object; load the pair again"):
        store.save("town", new_id(), ben, [Edit(object=drawn, base=1, level="minor")])
    changed, _ = store.since("town", 0, ben)
    assert all(label.level is None for label in changed) and drawn not in [label.object for label in changed]
    boxed, _ = store.objects("town", store.pairs["town"].bounds, viewer=ben)
    assert [label.level for label in boxed] == [None] * 3

    judge(store, ben, {"f0": "destroyed"})
    own, other = store.labels("town", viewer=ben, ids=["f0", "f1"])
    assert (own.level, own.version, own.author) == ("destroyed", own_version(1), "Ben")
    assert own.opinions == other.opinions == ()
    counted = store.progress("town", ben)
    assert (counted["levels"], counted["people"]) == ({"destroyed": 1}, {"Ben": 1})
    store.undo("town", ben)
    assert store.labels("town", viewer=ben, ids=["f0"])[0].level is None
    store.redo("town", ben)
    assert levels_of(store)["f0"] == "major"  # the first one's stays until somebody settles it
    assert queues.next(cleo) is None  # two are enough

    own_outline = draw(store, ben, shapely.box(WEST + 20, SOUTH + 20, WEST + 30, SOUTH + 25), "destroyed")
    assert own_outline not in levels_of(store) and own_outline in levels_of(store, viewer=ben)
    judge(store, ben, {"f1": "minor", "f2": "minor"})
    assert queues.next(ben, "town") is None
    after = {label.object: label for label in store.labels("town", viewer=ben)}
    assert after["f0"].level == "major" and after["f0"].opinions == (("Anna", "major"), ("Ben", "destroyed"))
    # What Ben saw of f0 was the own opinion: an edit upon it must not overwrite Anna's level, which he has not seen.
    with pytest.raises(Conflict):
        store.save("town", new_id(), ben, [Edit(object="f0", base=own_version(3), level="minor")])
    assert levels_of(store)["f0"] == "major"
    judge(store, ben, {"f0": "destroyed"})  # now settled: Ben sees both
    assert levels_of(store)["f0"] == "destroyed"
    store.close()


def test_the_share_of_second_opinions(tmp_path):
    store = tiles(tmp_path, 60)
    anna, ben = store.person("Anna"), store.person("Ben")
    queues = Queues(store, 0.3)
    task = queues.next(anna)
    while task is not None:
        judge(store, anna, {PAIR: "damaged"}, pair=task.pair_id)
        task = queues.next(anna, task.pair_id)
    seconds = []
    task = queues.next(ben)
    while task is not None:
        assert task.second
        seconds.append(task.pair_id)
        judge(store, ben, {PAIR: "damaged"}, pair=task.pair_id)
        task = queues.next(ben, task.pair_id)
    assert 8 <= len(seconds) <= 30 and len(set(seconds)) == len(seconds)  # 18 are expected
    assert Queues(store, 0.0).next(ben) is None
    store.close()


def test_only_the_pairs_that_are_served_are_given_out(tmp_path):
    store = tiles(tmp_path, 4)
    anna, ids = store.person("Anna"), list(store.pairs)
    first = Queues(store).next(anna)
    assert first.pair_id == ids[0]
    served = Queues(store, pairs=ids[2:])  # a server that was started anew with fewer pairs
    assert [served.next(anna, after).pair_id for after in (None, ids[2])] == ids[2:]
    assert Queues(store).next(anna).pair_id == ids[0]  # is still there for a server of all pairs
    store.close()
