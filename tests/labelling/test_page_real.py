"""The labelling page on real scenes: labelled in a browser, exported, prepared, trained on, mapped."""

import json
import signal
from pathlib import Path

import geopandas as gpd
import pytest
import rasterio
import xbd_scenes
from playwright.sync_api import Browser, expect

from jaxcd.labelling.store import Store
from jaxcd.mapping.products import rasters
from tests.entries import run
from tests.labelling.label_stores import write_config
from tests.labelling.page_runs import Labeller, Server, kept, levels, serving, start

_KEYS = {"no-damage": "1", "minor-damage": "2", "major-damage": "3", "destroyed": "4", "un-classified": "u"}
_LEVELS = {"1": "intact", "2": "minor", "3": "major", "4": "destroyed", "u": "unknown"}
TILES = ("00000113", "00000141")


@pytest.mark.slow
def test_twenty_buildings_of_santa_rosa_become_a_map(browser: Browser, shared_data, tmp_path):
    source, store = tmp_path / "source", tmp_path / "store"
    for kind in ("images", "labels"):
        (source / kind).mkdir(parents=True)
        for file in (shared_data / "xbd_santa_rosa" / kind).iterdir():
            if any(f"_{tile}_" in file.name for tile in TILES):
                (source / kind / file.name).symlink_to(file)
    assert xbd_scenes.main(["--source", str(source), "--out", str(tmp_path / "scenes")]) == 0
    names = [f"santa-rosa-wildfire_{tile}" for tile in TILES]

    wanted: dict[str, dict[str, str]] = {}
    with serving(["--pairs", tmp_path / "scenes" / "list.csv", "--store", store]) as server:
        ana = Labeller(browser, server.url)
        for name in names:
            ana.page.click(f"#pair-list button:has-text('{name}')")
            ana.wait(f"document.getElementById('said').textContent === '{name} is open'")
            truth = gpd.read_file(tmp_path / "scenes" / name / "buildings.geojson").subtype
            chosen = [object_id for object_id in ana.buildings() if truth[int(object_id[1:])] != "un-classified"]
            # Of both kinds, where there are both.
            chosen.sort(key=lambda object_id: truth[int(object_id[1:])] != "destroyed")
            chosen = chosen[:5] + chosen[-5:]
            for object_id in chosen:
                key = _KEYS[truth[int(object_id[1:])]]
                ana.click(object_id)
                assert ana.selected() == [object_id]
                ana.press(key)
                wanted.setdefault(name, {})[object_id] = _LEVELS[key]
            ana.press("Escape", "Shift+D")  # so that what no footprint covers is ground
            ana.wait_saved()
            ana.reload()
            assert ana.levels() == wanted[name] == levels(store, name) and len(wanted[name]) == 10
        ana.close()
    told = {level for each in wanted.values() for level in each.values()}
    assert {"intact", "destroyed"} <= told

    assert run("jaxcd.label", "--store", store, "--export", "geojson", "--out", tmp_path / "labels.geojson")[0] == 0
    exported = json.loads((tmp_path / "labels.geojson").read_text())["features"]
    assert sorted(one["properties"]["level"] for one in exported if one["properties"].get("level")) == sorted(
        level for each in wanted.values() for level in each.values()
    )
    flags = ("--layout", "labelled", "--source", store, "--out", tmp_path / "data", "--scale", "xbd", "--tile", 128)
    code, said = run("jaxcd.prepare", *flags, "--variance", 1)
    assert code == 0, said
    write_config(tmp_path / "config.py", tmp_path / "data")
    code, said = run("jaxcd.train", "--config", tmp_path / "config.py", "--workdir", tmp_path / "run")
    assert code == 0, said
    pre, post = (tmp_path / "scenes" / names[0] / f"{when}.tif" for when in ("pre", "post"))
    code, said = run(
        "jaxcd.predict", "--run", tmp_path / "run", "--pre", pre, "--post", post, "--out", tmp_path / "map"
    )
    assert code == 0, said
    with rasterio.open(pre) as before, rasterio.open(tmp_path / "map" / rasters.PROBABILITY) as made:
        assert made.crs == before.crs and made.shape == before.shape


@pytest.mark.slow
def test_polygons_on_a_scene_of_tuerkiye_outlive_a_killed_server(browser: Browser, shared_data, tmp_path):
    folder, store = shared_data / "turkey_2023" / "Adiyaman_Merkez_3", tmp_path / "store"
    flags: list[str | Path] = ["--pre", folder / "pre.tif", "--post", folder / "post.tif", "--store", store]
    servers: list[Server] = [start(flags)]
    ana = Labeller(browser, servers[0].url)
    x, y = ana.middle()

    def draw(left: float, top: float, key: str) -> None:
        ana.press(key, "g")
        for corner in ((0, 0), (30, 0), (30, 24), (0, 24), (0, 0)):
            ana.page.mouse.click(x + left + corner[0], y + top + corner[1])
        ana.press("Escape", "Escape")

    try:
        for place in range(3):
            draw(-90 + 50 * place, -60, "4")
        ana.wait_saved()
        acknowledged = kept(store, "scene")
        assert [label.level for label in acknowledged.values()] == ["destroyed"] * 3
        draw(-90, 20, "3")
        servers[0].end(signal.SIGKILL)  # that one may be saved or not: it is not lost
        draw(-40, 20, "3")
        expect(ana.page.locator("#saved")).to_contain_text("not saved, retrying")
        servers.append(start(flags, servers[0].port))
        ana.wait_saved()
        found = kept(store, "scene")
        assert {name: found[name].geometry for name in acknowledged} == {
            name: label.geometry for name, label in acknowledged.items()
        }
        assert sorted(levels(store, "scene").values()) == ["destroyed"] * 3 + ["major"] * 2
        ana.reload()
        assert ana.levels() == levels(store, "scene")
        opened = Store.open(store)
        assert all(len(opened.history("scene", name)) == 1 for name in found)  # drawn with its level, and once
        opened.close()
        ana.close()
    finally:
        for server in servers:
            server.end()
    layers = gpd.list_layers(store / "labels.gpkg").name.to_list()
    assert any("label" in name for name in layers)
