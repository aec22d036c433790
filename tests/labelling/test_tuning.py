"""Fine-tuning on the labels of a store: its folders and states, its tiles, what its maps say, its routes."""

import json
import signal
import subprocess
import sys
import time
from itertools import islice

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.crs import CRS

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import BUILDINGS, INVALID, XBD
from jaxcd.feed.loader import train_batches
from jaxcd.feed.splits import split_places
from jaxcd.labelling.learning import tuned_maps, tuning
from jaxcd.labelling.learning.recipe import base
from jaxcd.labelling.learning.suggested import open_suggestions, reject
from jaxcd.labelling.learning.tuning import STOPPED, TRAINING, Progress, TuneSettings
from jaxcd.labelling.learning.tuning_steps import _folder, divided, plan, snapshot
from jaxcd.labelling.store import Edit, Store
from jaxcd.mapping.products import outlines
from jaxcd.mapping.products.layers import write_layers
from jaxcd.mapping.products.rasters import PROBABILITY
from jaxcd.scenes.raster import write_geotiff
from jaxcd.scenes.windows import Grid
from jaxcd.simulator import cut_tiles, simulate
from jaxcd.store.dataset import TileDataset
from tests.entries import _CONFIG, run, start
from tests.labelling.label_stores import EPSG, draw, judge, picture_pair, placed_pair, squares, town
from tests.labelling.served import CHANGING, client
from tests.labelling.test_prepare_labels import label, open_store, prepare

SETTINGS = TuneSettings(steps=8, batch=2)


def dead() -> int:
    """Number of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_a_fine_tuning_that_was_interrupted_goes_on_in_its_folder(tmp_path):
    store = town(tmp_path)
    folder = tmp_path / "store"
    assert tuning.progress_of(folder) == Progress("idle") and tuning.unfinished(folder) is None
    (folder / "tuned").mkdir()
    first = plan(folder, None, "", SETTINGS)
    one = _folder(folder, first)
    assert one == folder / "tuned" / "1" and tuning.read_plan(one) == first

    tuning.write_progress(one, Progress(TRAINING, 1, step=3, steps=8, seconds_left=9))
    assert tuning.progress_of(folder) == Progress(TRAINING, 1, 3, 8, 9)  # this process lives
    state = json.loads((one / "state.json").read_text())
    (one / "state.json").write_text(json.dumps({**state, "pid": dead()}))
    assert tuning.progress_of(folder)[:4] == (STOPPED, 1, 3, 8)
    assert tuning.unfinished(folder) == first

    judge(store, store.person("Anna"), {"f0": "intact"})
    second = plan(folder, None, "", SETTINGS)
    assert second != first and _folder(folder, second) == one  # it keeps the labels that it began with
    (one / "cancelled").touch()
    assert tuning.unfinished(folder) is None
    assert _folder(folder, second) == folder / "tuned" / "2"
    assert _folder(folder, second._replace(settings=TuneSettings(steps=9))) == folder / "tuned" / "3"
    (folder / "tuned" / "3" / "found.json").write_text('{"scores": {"town": {"f1": 0.5}}, "suggestions": {}}')
    assert _folder(folder, second) == folder / "tuned" / "4"
    assert tuning.network_scores(folder) == {"town": {"f1": 0.5}}  # of the newest that has finished
    store.close()


def test_the_copy_of_the_labels_keeps_what_was_known_at_its_time(tmp_path):
    store = town(tmp_path)
    anna = store.person("Anna")
    judge(store, anna, {"f0": "intact", "f1": "destroyed"})
    (tmp_path / "copy").mkdir()
    snapshot(tmp_path / "store", tmp_path / "copy")
    judge(store, anna, {"f0": "minor"})
    snapshot(tmp_path / "store", tmp_path / "copy")  # goes on with the first copy
    store.close()
    copy = Store.open(tmp_path / "copy")
    assert {label.object: label.level for label in copy.labels("town", viewer=None)} == {
        "f0": "intact", "f1": "destroyed"
    }  # fmt: skip
    assert len(copy.history("town", "f0")) == 1
    copy.close()


def test_known_tiles_are_shared_out_so_that_each_split_has_damage(tmp_path):
    scene = simulate(tmp_path / "scene", seed=1, size=512)
    store = open_store(tmp_path / "store", scene)
    west, _, _, north = store.pairs["town"].bounds
    half = shapely.box(west, north - 256, west + 128, north)
    labels, _ = store.objects("town", store.pairs["town"].bounds, viewer=None)
    near = [each for each in labels if each.geometry is not None and half.contains(each.geometry)]
    judge(store, store.person("Anna"), {each.object: "intact" if i % 8 else "destroyed" for i, each in enumerate(near)})
    config = base(None, XBD)
    store.close()
    for tile in (64, 256):
        assert prepare(tmp_path / "store", tmp_path / f"tiles{tile}", "--tile", tile, "--variance", 0)[0] == 0
    wanted = plan(tmp_path / "store", None, "", SETTINGS)
    assert divided(config, wanted, tmp_path / "tiles256", 256) is None  # two tiles hold all
    made = divided(config, wanted, tmp_path / "tiles64", 64)
    assert made is not None and made.data.crop == 64 and made.train.steps == 8 and made.init.pretrained == "imagenet"
    dataset = TileDataset.open(tmp_path / "tiles64")
    samples = dataset.samples
    splits = split_places(samples, made.data)
    used = {*splits.train, *splits.validation, *splits.test}
    for row in range(len(samples)):
        assert (dataset.codes(row, dataset.read(row).label[0]) != INVALID).any()
    for part in (splits.train, splits.validation, splits.test):
        assert sum(dataset.samples[row].damaged for row in part) > 0
    assert len(used) == len(samples) < (512 // 64) ** 2  # nothing is known of the others
    with_damage = sum(samples[row].damaged > 0 for row in splits.train) / len(splits.train)
    reading = train_batches(dataset, splits.train, made, stride=8)
    crops = np.concatenate([batch.labels * batch.valid for batch in islice(reading, 100)])
    reading.close()
    damaged = (crops >= XBD.damaged).any(axis=(1, 2))
    intact = ((crops > 0) & (crops < XBD.damaged)).any(axis=(1, 2))
    assert with_damage < 0.4 and damaged.mean() > 0.48 and (damaged | intact).mean() > 0.7


def write_map(folder, pair, probabilities, threshold):
    """A map of a pair: probabilities, and the outlines of what is called damage."""
    folder.mkdir(parents=True)
    crs = CRS.from_epsg(EPSG)
    grid = Grid(crs=crs, transform=pair.transform, height=pair.height, width=pair.width)
    for name, values, scale in ((PROBABILITY, np.rint(probabilities * 250), 1 / 250),
                                ("damage.tif", probabilities >= threshold, 1.0)):  # fmt: skip
        write_geotiff(folder / name, values.astype(np.uint8), transform=pair.transform, crs=crs, nodata=255)
        with rasterio.open(folder / name, "r+") as file:
            file.scales = (scale,)
    damage = outlines.damage_polygons(folder, grid, min_area=1.0, simplify=0.0)
    write_layers(folder / "damage.gpkg", {"damage": damage})
    (folder / "summary.json").write_text(json.dumps({"network": {"threshold": threshold}}))


def test_the_network_scores_footprints_and_half_is_the_maps_threshold(tmp_path):
    store = town(tmp_path, buildings=3)
    pair = store.pairs["town"]
    probabilities = np.full((pair.height, pair.width), 0.1)
    probabilities[:, :20], probabilities[:, 20:35] = 0.2, 0.8  # f0 lies under 0.2, f1 under 0.8, f2 under 0.1
    write_map(tmp_path / "map", pair, probabilities, 0.2)
    (tmp_path / "store" / "tuned" / "1").mkdir(parents=True)
    tuned_maps.write_found(tmp_path / "store" / "tuned" / "1" / "found.json", store, {"town": tmp_path / "map"}, 1)
    odds = {"f0": 0.25 / 0.25, "f1": 4 / 0.25, "f2": (1 / 9) / 0.25}
    found = tuning.network_scores(tmp_path / "store")
    assert found == {"town": {key: pytest.approx(odd / (1 + odd), abs=2e-4) for key, odd in odds.items()}}
    assert tuning.suggestions(tmp_path / "store", "town") == []
    store.close()


def test_polygons_are_suggested_until_somebody_decides(tmp_path):
    store = Store.create_or_open(tmp_path / "store", XBD, [placed_pair()])
    pair = store.pairs["town"]
    places = squares(3)
    probabilities = np.zeros((pair.height, pair.width))
    for i, square in enumerate(places):
        (left, bottom), (right, top) = (~pair.transform @ corner for corner in (square.bounds[:2], square.bounds[2:]))
        probabilities[round(top) : round(bottom), round(left) : round(right)] = 0.6 + 0.1 * i
    write_map(tmp_path / "map", pair, probabilities, 0.5)
    (tmp_path / "store" / "tuned" / "1").mkdir(parents=True)
    tuned_maps.write_found(tmp_path / "store" / "tuned" / "1" / "found.json", store, {"town": tmp_path / "map"}, 1)
    found = open_suggestions(store, "town", None)
    assert sorted((one["level"], one["probability"]) for one in found) == [
        ("major", 0.6),
        ("major", 0.7),
        ("major", 0.8),
    ]
    by = {one["probability"]: one for one in found}
    for i, square in enumerate(places):
        outline = shapely.from_wkb(by[round(0.6 + 0.1 * i, 1)]["outline"])
        assert outline.symmetric_difference(square).area < 1e-6
    anna = store.person("Anna")
    first, second, third = (by[value] for value in (0.6, 0.7, 0.8))
    accepted = Edit(object=first["id"], base=0, level="destroyed", geometry=shapely.from_wkb(first["outline"]))
    store.save("town", "change-1", anna, [accepted])
    assert reject(store, "town", [second["id"]], rejected=True) == [second["id"]]
    assert [one["id"] for one in open_suggestions(store, "town", None)] == [third["id"]]
    reject(store, "town", [second["id"]], rejected=False)
    assert {one["id"] for one in open_suggestions(store, "town", None)} == {second["id"], third["id"]}
    draw(store, anna, places[2].buffer(1), "minor")  # somebody drew over it
    assert [one["id"] for one in open_suggestions(store, "town", None)] == [second["id"]]
    store.close()
    assert tuned_maps.level_of("damaged", BUILDINGS) == "damaged" and tuned_maps.level_of("minor", XBD) == "minor"


def test_what_cannot_be_tuned_is_told_in_one_line(tmp_path):
    Store.create_or_open(tmp_path / "pictures", XBD, [picture_pair(pre=__file__, post=__file__)]).close()
    with pytest.raises(LabelError, match="pictures without a place"):
        plan(tmp_path / "pictures", None, "", SETTINGS)
    town(tmp_path).close()
    store = ("--store", tmp_path / "store", "--fine_tune")
    for flags, said in (
        ((*store, "--pre", "a.tif", "--post", "b.tif"), "takes labels and scenes of --store; leave out the scenes"),
        ((*store, "--run", tmp_path / "no"), "not a run (it has no config.json)"),
        ((*store, "--steps", "0"), "--steps: expected at least 1, got 0"),
        (("--store", tmp_path / "none", "--fine_tune"), "no such store of labels"),
    ):
        code, output = run("jaxcd.label", *flags)
        assert code == 2 and said in output and "Traceback" not in output, output
    assert not (tmp_path / "store" / "tuned").exists()


def test_routes_of_a_server_that_tunes_nothing_yet(tmp_path):
    with client(tmp_path) as ann:
        idle = ann.get("/api/fine_tune").json()
        assert (idle["state"], idle["number"], idle["steps"]) == ("idle", 0, 0)
        assert ann.delete("/api/fine_tune", headers=CHANGING).json()["state"] == "idle"
        assert ann.get("/api/suggestions?pair=scene").json() == {"type": "FeatureCollection", "features": []}
        assert ann.get("/api/suggestions?pair=other").status_code == 404
        answer = ann.post("/api/fine_tune", json={"steps": 0}, headers=CHANGING)
        assert answer.status_code == 422 and "steps" in answer.json()["error"]
        assert ann.post("/api/fine_tune", json={"epochs": 3}, headers=CHANGING).status_code == 422
        gone = {"pair": "scene", "ids": ["d-00000000-0000-0000-0000-000000000001"]}
        assert ann.post("/api/suggestions", json=gone, headers=CHANGING).json() == {"rejected": 1}
    with client(tmp_path, name=None) as nobody:
        assert nobody.post("/api/fine_tune", json={}, headers=CHANGING).status_code == 403


@pytest.mark.slow
def test_killed_in_its_training_it_goes_on_and_its_map_comes_back(tmp_path):
    scene = simulate(tmp_path / "scene", seed=1, size=512)
    cut_tiles(scene, tmp_path / "tiles", tile=128)
    (tmp_path / "config.py").write_text(_CONFIG.format(root=str(tmp_path / "tiles"), cache=str(tmp_path / "cache")))
    code, said = run("jaxcd.train", "--config", tmp_path / "config.py", "--workdir", tmp_path / "run")
    assert code == 0, said
    store = open_store(tmp_path / "store", scene)
    label(store)
    flags = ("--store", tmp_path / "store", "--fine_tune", "--run", tmp_path / "run", "--steps", 12, "--batch", 4)
    first = start("jaxcd.label", *flags)
    try:
        wait_for(lambda: tuning.progress_of(tmp_path / "store").step >= 3, first)
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    wait_for(lambda: tuning.progress_of(tmp_path / "store").state == STOPPED)
    (logged,) = (tmp_path / "store" / "tuned").glob("*/run/config.json")
    assert json.loads(logged.read_text())["init"]["network_from"] == str(tmp_path / "run")
    code, said = run("jaxcd.label", *flags)
    assert code == 0, said
    assert tuning.last(tmp_path / "store") == tmp_path / "store" / "tuned" / "1"  # the same one
    assert "going on from step" in (tmp_path / "store" / "tuned" / "1" / "output.log").read_text()
    assert tuning.progress_of(tmp_path / "store")[:4] == ("done", 1, 12, 12)
    found = tuning.network_scores(tmp_path / "store")
    assert found is not None
    known = {each.object for each in store.objects("town", store.pairs["town"].bounds, viewer=None)[0]}
    assert found["town"].keys() <= known and len(found["town"]) > 0.8 * len(known)
    values = np.array(list(found["town"].values()))
    assert ((values >= 0) & (values <= 1)).all() and values.std() > 0
    store.close()


def wait_for(what, process=None, seconds=540):
    ends = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < ends and (process is None or process.poll() is None)
        time.sleep(0.2)
