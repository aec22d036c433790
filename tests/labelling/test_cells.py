"""Where there are no footprints, cells are judged, scored and sampled; exports and prepare take them."""

import contextlib
import importlib.util
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import INVALID, XBD
from jaxcd.config import DataConfig
from jaxcd.labelling import exports, workspace
from jaxcd.labelling.agreement import agreement
from jaxcd.labelling.exports.for_prepare import source_of
from jaxcd.labelling.learning.maps import Measured
from jaxcd.labelling.queues import Queues
from jaxcd.labelling.settings import LabelSettings
from jaxcd.labelling.store import Store, blind
from jaxcd.simulator import simulate
from tests.entries import run
from tests.labelling.label_stores import judge, levels_of, picture_pair, placed_pair, squares, write_footprints
from tests.labelling.learned import ACROSS, BUILDINGS, DAMAGED, STEP, level, wait_scores, write_town
from tests.labelling.served import CHANGES, CHANGING, change, everything, process, serving
from tests.scenes.scene_files import GSD

SIDE = STEP * GSD
"""Metres: each cell holds one building of the town."""
needs_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn: pip install 'jaxcd[active]'"
)


@contextlib.contextmanager
def town(folder: Path, cells: float = SIDE):
    """Serve the town without its footprints."""
    if not (folder / "pre.tif").exists():
        write_town(folder)
    chosen = LabelSettings(cells=cells)
    named = workspace.named(pre=[str(folder / "pre.tif")], post=[str(folder / "post.tif")], settings=chosen)
    with serving(named, chosen, folder / "store") as made:
        yield made


def say(client, numbers, base: int = 0) -> None:
    """Judge cells by number."""
    edits = [{"object": f"c{number}", "base": base, "level": level(number)} for number in numbers]
    answer = client.post(CHANGES, json=change(*edits), headers=CHANGING)
    assert answer.status_code == 200, answer.text[:200]


@pytest.mark.slow
@needs_sklearn
def test_cells_are_scored_offered_and_sampled(tmp_path):
    with town(tmp_path) as ann:
        assert ann.get("/api/session").json()["unit"] == "cell"
        shown = everything(ann)["features"]
        assert len(shown) == BUILDINGS and {each["properties"]["origin"] for each in shown} == {"cell"}
        first = wait_scores(ann, state="labels")
        assert first["total"] == BUILDINGS and first["reason"].endswith(": 0 so far")
        say(ann, range(40))
        found = wait_scores(ann, labels=40)
        called = {int(key[1:]) for key, value in found["objects"].items() if value >= 0.5}
        assert len(found["objects"]) == BUILDINGS and len(called ^ DAMAGED) <= 3
        offered = ann.get("/api/next?pair=scene&order=uncertain").json()["objects"]
        assert len(offered) == 10 and {int(key[1:]) for key in offered} <= set(range(40, BUILDINGS))

        drawn = ann.post("/api/sample", json={"size": 30, "seed": 1}, headers=CHANGING).json()
        assert (drawn["size"], drawn["buildings"]) == (30, BUILDINGS)
        members = {int(key[1:]) for key in found["objects"].keys() - wait_scores(ann, above=found["number"])["objects"]}
        assert len(members) == 30
        say(ann, {number for number in members if number < 40}, base=1)
        say(ann, {number for number in members if number >= 40})
        told = ann.get("/api/figures").json()
        assert (told["unit"], told["reason"], told["buildings"]) == ("cell", None, BUILDINGS)
        damaged = told["estimates"]["damaged"]
        assert damaged["low"] <= len(DAMAGED) <= damaged["high"] < BUILDINGS
        kept = {"object": "c3", "base": 2 if 3 in members else 1, "deleted": True}
        answer = ann.post(CHANGES, json=change(kept), headers=CHANGING)
        assert answer.status_code == 422 and "a cell keeps its outline" in answer.json()["error"]
        # A fine-tuned network suggests polygons here, and the head goes on to score cells.
        folder = tmp_path / "store" / "tuned" / "1"
        folder.mkdir(parents=True)
        (folder / "found.json").write_text('{"scores": {}, "suggestions": {"scene": []}}')
    with town(tmp_path, cells=0) as ann:  # the store keeps its cells
        assert wait_scores(ann)["source"] == "head" and ann.get("/api/figures").json()["sample"]["judged"] == 30


def test_exports_and_prepare_take_judged_cells(tmp_path):
    with town(tmp_path) as ann:
        say(ann, (2, 3))
        answer = ann.post("/api/sample", json={"size": 5, "seed": 0, "strata": "none"}, headers=CHANGING)
        members = {int(each["object"][1:]) for each in answer.json()["next"]}
        assert not members & {2, 3}
        say(ann, members)
    store = Store.open(tmp_path / "store")
    assert levels_of(store, "scene").keys() == {f"c{number}" for number in {2, 3} | members}
    exports.write(store, "geojson", tmp_path / "labels.geojson")
    found = gpd.read_file(tmp_path / "labels.geojson").set_index("object")
    assert set(found.origin) == {"cell"} and found.level["c2"] == "destroyed"
    square = found.to_crs(store.pairs["scene"].epsg).geometry["c2"]
    assert square.area == pytest.approx(SIDE**2, rel=1e-4)
    store.close()
    for blind_only in (False, True):
        data, _ = source_of(DataConfig(root=str(tmp_path / "store"), layout="labelled", scale="xbd"), blind=blind_only)
        with rasterio.open(f"{data.root}/scene/labels.tif") as file:
            codes = file.read(1)
        said = {2: 4, 3: 0} if not blind_only else {number: 4 if number in DAMAGED else 0 for number in members}
        for number in range(BUILDINGS):
            top, left = (each * STEP for each in divmod(number, ACROSS))
            inside = codes[top + 1 : top + STEP - 1, left + 1 : left + STEP - 1]
            assert set(np.unique(inside)) == {said.get(number, INVALID)}, number  # 0: a cell without damage is ground


def test_pairs_of_one_grid_share_their_cells_and_a_new_pair_is_cut(tmp_path):
    pairs = [placed_pair(name=name, width=width) for name, width in (("one", 400), ("two", 400), ("three", 200))]
    store = Store.create_or_open(tmp_path / "store", XBD, pairs[:2], cells=25.0)
    assert [(each.pair, each.first) for each in blind.units(store)] == [("one", True)] * 16 + [("two", False)] * 16
    store.close()
    store = Store.create_or_open(tmp_path / "store", XBD, pairs)
    assert store.cells == 25 and sum(each.first for each in blind.units(store)) == 24
    judge(store, store.person("Ann"), {"c0": "intact"}, pair="three")
    store.close()


def test_ground_that_no_image_shows_has_no_cells(tmp_path):
    seen = {"town": lambda x, y: x < placed_pair().bounds[0] + 100}
    store = Store.create_or_open(tmp_path / "store", XBD, [placed_pair()], seen, cells=25.0)
    assert len(blind.units(store)) == 8
    store.close()


def test_a_second_opinion_of_cells_does_not_see_the_first(tmp_path):
    store = Store.create_or_open(tmp_path / "store", XBD, [placed_pair()], cells=25.0)
    ann, ben, queues = store.person("Ann"), store.person("Ben"), Queues(store, 1.0)
    assert queues.next(ann) is not None
    judge(store, ann, {"c0": "intact", "c1": "destroyed", "pair": "damaged"})
    queues.next(ann, "town")
    task = queues.next(ben)
    assert task is not None and task.second
    shown, _ = store.objects("town", store.pairs["town"].bounds, viewer=ben)
    assert len(shown) == 16 and {label.level for label in shown} == {None}
    judge(store, ben, {"c0": "intact", "c1": "minor"})
    queues.next(ben, "town")
    (found,) = agreement(store)
    assert (found.objects, found.same, found.differing) == (2, 1, [("town", "c1")])
    assert levels_of(store)["c1"] == "destroyed"  # the first one's stays
    store.close()


def test_what_cannot_be_cut_is_told_in_one_line(tmp_path):
    outlined = placed_pair(write_footprints(tmp_path / "footprints.gpkg", squares(3)), name="outlined")
    for name, pairs, side, told in (
        ("beside", [placed_pair(), outlined], 32.0, "cells are for pairs without footprints, and outlined has some"),
        ("pictures", [picture_pair(pre=__file__, post=__file__)], 32.0, "the images of the pair tile have no place"),
        ("many", [placed_pair(width=4000, height=4000)], 1.0, "about 4,00.,... cells, more than the 100,000"),
    ):
        with pytest.raises(LabelError, match=told):
            Store.create_or_open(tmp_path / name, XBD, pairs, cells=side)
    Store.create_or_open(tmp_path / "store", XBD, [placed_pair()], cells=32.0).close()
    with pytest.raises(LabelError, match="its cells have a side of 32 m; give --cells 32"):
        Store.create_or_open(tmp_path / "store", XBD, [placed_pair()], cells=16.0)
    with pytest.raises(LabelError, match="cells are for pairs without footprints"):
        Store.create_or_open(tmp_path / "store", XBD, [outlined])
    if importlib.util.find_spec("sklearn") is not None:
        with pytest.raises(LabelError, match="its blind sample is of cells, and maps are measured on footprints"):
            Measured(tmp_path / "store", tmp_path)
    store = Store.open(tmp_path / "store")  # nothing of what was refused is in it
    assert list(store.pairs) == ["town"] and len(blind.units(store)) == 14
    store.close()


def test_the_entry_cuts_a_simulated_scene(tmp_path):
    scene = simulate(tmp_path / "scene", seed=1, size=256)
    flags = ("--pre", scene.pre, "--post", scene.post, "--store", tmp_path / "store")
    with process(*flags, "--cells", 32):
        pass
    store = Store.open(tmp_path / "store")
    assert store.cells == 32 and len(blind.units(store)) == 16
    store.close()
    code, said = run("jaxcd.label", *flags, "--cells", -1)
    assert code == 2 and "--cells: expected 0 to 10000, got -1" in said
    code, said = run(
        "jaxcd.label", "--source", tmp_path, "--layout", "xbd", "--store", tmp_path / "other", "--cells", 32
    )
    assert code == 2 and "--cells: goes with scenes" in said and "Traceback" not in said
