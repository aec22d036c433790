"""predict and evaluate say what a store's blind sample says of their maps, and when there is none."""

import json
from pathlib import Path

import geopandas as gpd
import pytest

from jaxcd.base.scales import XBD
from jaxcd.labelling import workspace
from jaxcd.labelling.settings import LabelSettings
from jaxcd.labelling.store import Store, blind
from jaxcd.simulator import cut_tiles, simulate
from tests.entries import run
from tests.labelling.label_stores import judge
from tests.labelling.learned import DAMAGED, level, write_town
from tests.labelling.test_blind_sample import sampled
from tests.mapping.map_runs import config, write_run

pytest.importorskip("statsmodels", reason="needs statsmodels: pip install 'jaxcd[active]'")
SIZE = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A town's scenes, a store without labels, and a run of random weights."""
    folder = tmp_path_factory.mktemp("town")
    write_town(folder)
    new_store(folder, folder / "store").close()
    write_run(folder / "run", config("fc_siam_diff", "small"))
    return folder


def new_store(scenes: Path, folder: Path) -> Store:
    """Make a store of the town's scenes."""
    settings = LabelSettings(footprints=scenes / "footprints.gpkg")
    named = workspace.named(pre=[str(scenes / "pre.tif")], post=[str(scenes / "post.tif")], settings=settings)
    opened = workspace.open_all(named, settings, folder)
    return Store.create_or_open(folder, XBD, [each.pair for each in opened])


def judge_sample(store: Store) -> list[int]:
    """Draw a blind sample and judge all of it; returns the numbers of its buildings."""
    members = [int(key.split("f")[1]) for key in sampled(store, size=SIZE)]
    judge(store, store.person("Ann"), {f"f{number}": level(number) for number in members}, pair="scene")
    return members


def mapped(folder, *more: object) -> tuple[str, dict]:
    where = ("--run", folder / "run", "--out", folder / "map", "--footprints", folder / "footprints.gpkg")
    scenes = ("--pre", folder / "pre.tif", "--post", folder / "post.tif")
    code, said = run("jaxcd.predict", *where, *scenes, "--threshold", 0.5, *more)
    assert code == 0, said
    return said, json.loads((folder / "map" / "summary.json").read_text())


@pytest.mark.slow
def test_a_map_is_measured(made):
    said, found = mapped(made)
    assert found["blind_sample"] is None and "Not measured on a blind sample" not in said
    for file in ("map.html", "summary.md"):
        assert "Not measured on a blind sample (--labels)" in (made / "map" / file).read_text()
    said, found = mapped(made, "--labels", made / "store")
    assert found["blind_sample"]["reason"].startswith("no blind sample: ") and "no blind sample" in said

    store = Store.open(made / "store")
    members = judge_sample(store)
    assert len(blind.answers(store)) == SIZE
    store.close()
    said, found = mapped(made, "--labels", made / "store")
    told = found["blind_sample"]
    assert told["reason"] is None and told["sample"]["judged"] == SIZE and told["buildings"] == 100
    damaged = told["estimates"]["damaged"]
    assert damaged["value"] == pytest.approx(100 * sum(n in DAMAGED for n in members) / SIZE, abs=0.01)
    assert damaged["low"] <= len(DAMAGED) <= damaged["high"]
    # Precision and recall by hand, from the map's own layer of buildings.
    layer = gpd.read_file(made / "map" / "buildings.gpkg")
    called = {n for n in members if layer.damage_class[n] == "damaged"}
    assert told["called"] == (layer.damage_class == "damaged").sum()
    hits = len(called & DAMAGED)
    for name, whole in (("precision", len(called)), ("recall", len(DAMAGED & set(members)))):
        one = told["estimates"][name]
        assert (one is None) if not whole else one["value"] == pytest.approx(hits / whole, abs=1e-4)
    line = (
        f"Damaged buildings, estimated from the blind sample: {damaged['value']:,.0f} "
        f"(95 % interval {damaged['low']:,.0f} to {damaged['high']:,.0f})"
    )
    assert line in said
    for file in ("map.html", "summary.md"):
        assert line in (made / "map" / file).read_text()

    listed = made / "list.csv"
    listed.write_text("name,pre,post,footprints\none,pre.tif,post.tif,footprints.gpkg\n")
    code, said = run(
        "jaxcd.predict", "--run", made / "run", "--pairs", listed, "--out", made / "maps", "--threshold", 0.5,
        "--labels", made / "store",
    )  # fmt: skip
    assert code == 0, said
    whole = json.loads((made / "maps" / "summary.json").read_text())
    assert (
        whole["blind_sample"]["estimates"] == told["estimates"] and line in (made / "maps" / "summary.md").read_text()
    )


@pytest.mark.slow
def test_an_evaluation_measures_the_maps_of_all_pairs(made, tmp_path):
    store = new_store(made, tmp_path / "store")
    judge_sample(store)
    store.close()
    cut_tiles(simulate(tmp_path / "other", seed=1, size=256), tmp_path / "tiles", tile=128)
    code, said = run(
        "jaxcd.evaluate", "--run", made / "run", "--data", tmp_path / "tiles", "--layout", "folders",
        "--cache", tmp_path / "cache", "--labels", tmp_path / "store", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, said
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["blind_sample"]
    assert found["reason"] is None and found["sample"]["judged"] == SIZE
    damaged = found["estimates"]["damaged"]
    assert damaged["low"] <= len(DAMAGED) <= damaged["high"]
    assert f"Damaged buildings, estimated from the blind sample: {damaged['value']:,.0f} (95 % interval" in said
    told = mapped(made, "--labels", tmp_path / "store")[1]["blind_sample"]  # predict says the same of the same map
    assert {key: found[key] for key in ("estimates", "called")} == {key: told[key] for key in ("estimates", "called")}


def test_what_does_not_go_together_is_one_line(made, tmp_path):
    where = ("--run", made / "run", "--out", tmp_path / "out", "--pre", made / "pre.tif", "--post", made / "post.tif")
    code, said = run("jaxcd.predict", *where, "--labels", tmp_path / "none")
    assert code == 2 and "no such store of labels" in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()
