"""Undo and redo: each takes back or does again what its author did last, and nothing of others."""

import pytest
import shapely

from jaxcd.base.errors import LabelError
from jaxcd.labelling.store import Conflict, Edit
from tests.labelling.label_stores import (
    SOUTH,
    WEST,
    draw,
    judge,
    levels_of,
    new_id,
    squares,
    town,
)


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
