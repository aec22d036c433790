"""Nothing is learned from the blind sample: all of its labels may be flipped, and nothing else changes."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio

from jaxcd.assessment.sample import draw
from jaxcd.base.scales import INVALID, XBD
from jaxcd.config import DataConfig
from jaxcd.labelling import exports
from jaxcd.labelling.exports.for_prepare import source_of
from jaxcd.labelling.learning.tuning_steps import snapshot
from jaxcd.labelling.queues import Queues
from jaxcd.labelling.store import Store, blind
from jaxcd.simulator import simulate
from tests.labelling.label_stores import EPSG, judge, placed_pair, squares, town, write_footprints
from tests.labelling.test_prepare_labels import open_store

pytest.importorskip("statsmodels", reason="needs statsmodels: pip install 'jaxcd[active]'")
BUILDINGS, SIZE = 20, 6


def sampled(store: Store, seed: int = 0, size: int = SIZE) -> list[str]:
    """Draw a sample of a store; returns the ids of its members in their order."""
    ids = {each.id: each.fid for each in blind.units(store) if each.first}
    plan = draw(list(ids), ["all"] * len(ids), size, seed=seed)
    members = {key: ids[key] for key in plan.members}
    blind.keep(store, plan.record(), members, store.person("Ann"), "2026-01-01T00:00:00Z")
    return list(members)


def level(number: int) -> str:
    return ("intact", "minor", "major", "destroyed")[number % 4]


def test_only_what_is_judged_after_the_draw_is_an_answer(tmp_path):
    store = town(tmp_path)
    ann, ben = store.person("Ann"), store.person("Ben")
    judge(store, ann, {f"f{number}": level(number) for number in range(BUILDINGS)})
    members = sampled(store)
    assert blind.members(store) == members and blind.answers(store) == {}
    first, second = (key.split("/")[1] for key in members[:2])
    judge(store, ben, {first: level(int(first[1:]))})  # the same level again is an answer, too
    (given,) = blind.answers(store).values()
    assert (given.level, given.author) == (level(int(first[1:])), "Ben")
    with pytest.raises(blind.SampleStands, match="people have judged 1 of its members"):
        sampled(store, 1)
    with pytest.raises(blind.SampleStands):
        blind.remove(store)
    store.undo("town", ben)
    assert blind.answers(store) == {}  # the earlier label is back, which is no answer
    store.redo("town", ben)
    assert [given.author for given in blind.answers(store).values()] == ["Ben"]
    store.undo("town", ben)
    judge(store, ben, {second: None})  # taken away: no answer
    assert blind.answers(store) == {}
    store.close()
    again = Store.open(tmp_path / "store")
    assert blind.members(again) == members and blind.plan(again)[1]["seed"] == 0
    again.close()


def test_a_building_of_two_pairs_counts_once_and_is_held_in_both(tmp_path):
    file = write_footprints(tmp_path / "footprints.gpkg", squares(BUILDINGS))
    pairs = [placed_pair(file, name="one"), placed_pair(file, name="two", width=200)]  # two: the first 11
    store = Store.create_or_open(tmp_path / "store", XBD, pairs)
    everything = blind.units(store)
    assert len(everything) == 31 and [each.pair for each in everything if each.first] == ["one"] * 20
    sampled(store, size=20)
    assert len(blind.held(store)) == 31
    store.close()


def test_stores_of_earlier_versions_get_the_tables(tmp_path):
    store = town(tmp_path)
    with store.changing() as db:
        db.execute("DROP TABLE sample")
        db.execute("DROP TABLE sample_member")
    store.close()
    store = town(tmp_path)
    assert len(sampled(store)) == SIZE
    store.close()


def test_no_task_holds_members(tmp_path):
    store = town(tmp_path)
    members = {key.split("/")[1] for key in sampled(store)}
    ann, queues = store.person("Ann"), Queues(store)
    task = queues.next(ann)
    assert task is not None and task.objects is not None
    assert set(task.objects) == {f"f{number}" for number in range(BUILDINGS)} - members
    judge(store, ann, {name: "intact" for name in task.objects})
    assert queues.next(ann, "town") is None and queues.next(store.person("Ben")) is None  # the task is done
    store.close()


def prepared(tmp_path, flipped: bool, blind_only: bool = False) -> bytes:
    """Judge all, members too, and lay out a source; returns the pixels of its labels."""
    folder = tmp_path / f"flipped {flipped}"
    folder.mkdir()
    images = []
    pair = placed_pair(write_footprints(folder / "footprints.gpkg", squares(BUILDINGS)))
    for name in ("pre", "post"):
        with rasterio.open(
            folder / f"{name}.tif", "w", driver="GTiff", width=400, height=100, count=3, dtype="uint8",
            crs=EPSG, transform=pair.transform,
        ) as file:  # fmt: skip
            file.write(np.full((3, 100, 400), 99, np.uint8))
        images.append((str(folder / f"{name}.tif"),))
    placed = type(pair)(**{**vars(pair), "pre": images[0], "post": images[1]})
    store = Store.create_or_open(folder / "store", XBD, [placed])
    members = {key.split("/")[1] for key in sampled(store)}
    codes = {f"f{number}": number % 4 for number in range(BUILDINGS)}
    if flipped:
        codes |= {key: 3 - codes[key] for key in members}
    judge(store, store.person("Ann"), {key: level(code) for key, code in codes.items()})
    store.close()
    data, _ = source_of(DataConfig(root=str(folder / "store"), layout="labelled", scale="xbd"), blind=blind_only)
    assert data.root.endswith("_sample_1")
    with rasterio.open(f"{data.root}/town/labels.tif") as file:
        found = file.read(1)
        for number in range(BUILDINGS):
            row, column = file.index(pair.bounds[0] + 10 * number + 2.5, pair.bounds[1] + 4.5)
            member = f"f{number}" in members
            expected = codes[f"f{number}"] + 1 if member == blind_only else INVALID
            assert found[row, column] == expected, (number, member)
    return found.tobytes()


def test_flipping_all_members_changes_no_training_label(tmp_path):
    assert prepared(tmp_path, False) == prepared(tmp_path, True)


def test_the_blind_split_holds_the_members_alone(tmp_path):
    prepared(tmp_path, False, blind_only=True)


def test_tables_name_the_members_and_what_networks_learn_from_leaves_them_out(tmp_path):
    store = town(tmp_path)
    pair = store.pairs["town"]
    judge(store, store.person("Ann"), {f"f{number}": level(number) for number in range(BUILDINGS)})
    exports.write(store, "geojson", tmp_path / "none.geojson")
    assert not gpd.read_file(tmp_path / "none.geojson").blind_sample.any()
    members = {key.split("/")[1] for key in sampled(store)}
    for form in ("geojson", "gpkg"):
        exports.write(store, form, tmp_path / f"labels.{form}")
        frame = gpd.read_file(tmp_path / f"labels.{form}", layer="labels")
        assert frame.blind_sample.dtype == bool and len(frame) == BUILDINGS
        assert set(frame.object[frame.blind_sample]) == members
    exports.write(store, "coco", tmp_path / "labels.json")
    found = {each["object"] for each in json.loads((tmp_path / "labels.json").read_text())["annotations"]}
    assert found == {f"f{number}" for number in range(BUILDINGS)} - members
    exports.write(store, "masks", tmp_path / "masks")
    exports.write(store, "masks", tmp_path / "masks.zip")
    for path in (tmp_path / "masks" / "town.tif", f"zip://{tmp_path / 'masks.zip'}!town.tif"):
        with rasterio.open(path) as file:
            codes = file.read(1)
            for number in range(BUILDINGS):
                row, column = file.index(pair.bounds[0] + 10 * number + 2.5, pair.bounds[1] + 4.5)
                assert codes[row, column] == (INVALID if f"f{number}" in members else number % 4 + 1)
    store.close()


def test_flipping_all_members_changes_nothing_that_a_fine_tuning_trains_on(tmp_path):
    scene = simulate(tmp_path / "scene", seed=1, size=512)
    store = open_store(tmp_path / "store", scene)
    names = [each.object for each in blind.units(store)]
    members = {key.split("/")[1] for key in sampled(store, size=len(names) // 2)}
    ann = store.person("Ann")
    judge(store, ann, {name: ("intact", "destroyed")[i % 2] for i, name in enumerate(names)})

    def trained_on(folder: str) -> dict[str, bytes]:
        """Copy the labels, lay them out as a fine-tuning does, and return all files."""
        (tmp_path / folder).mkdir()
        snapshot(tmp_path / "store", tmp_path / folder)
        data, _ = source_of(DataConfig(root=str(tmp_path / folder), layout="labelled", scale="xbd"))
        root = Path(data.root)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    before = trained_on("before")
    assert any(name.endswith("labels.tif") for name in before)
    judge(store, ann, {name: ("destroyed", "intact")[i % 2] for i, name in enumerate(names) if name in members})
    assert trained_on("after") == before
    other = next(name for name in names if name not in members)
    judge(store, ann, {other: "minor"})
    assert trained_on("other") != before  # any other label counts
    store.close()
