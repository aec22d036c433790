"""The labelling page on real scenes: labelled in a browser, exported, prepared, trained on, mapped."""

import json
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import pytest
import rasterio
import xbd_scenes
from playwright.sync_api import Browser, expect

from jaxcd.labelling.store import Store, blind
from jaxcd.mapping.products import rasters
from tests.entries import run
from tests.labelling.label_stores import write_config
from tests.labelling.page_runs import Labeller, Server, kept, levels, serving, start

_KEYS = {"no-damage": "1", "minor-damage": "2", "major-damage": "3", "destroyed": "4", "un-classified": "u"}
_LEVELS = {"1": "intact", "2": "minor", "3": "major", "4": "destroyed", "u": "unknown"}
TILES = ("00000113", "00000141")
LONG = 120_000  # milliseconds: features and programs on a busy machine


def write_scenes(shared_data: Path, folder: Path, tiles: Sequence[str]) -> list[str]:
    """Write tiles of Santa Rosa as scenes into the folder `scenes`; returns their names."""
    source = folder / "source"
    for kind in ("images", "labels"):
        (source / kind).mkdir(parents=True)
        for file in (shared_data / "xbd_santa_rosa" / kind).iterdir():
            if any(f"_{tile}_" in file.name for tile in tiles):
                (source / kind / file.name).symlink_to(file)
    assert xbd_scenes.main(["--source", str(source), "--out", str(folder / "scenes")]) == 0
    return [f"santa-rosa-wildfire_{tile}" for tile in tiles]


@pytest.mark.slow
def test_twenty_buildings_of_santa_rosa_become_a_map(browser: Browser, shared_data, tmp_path):
    store = tmp_path / "store"
    names = write_scenes(shared_data, tmp_path, TILES)

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
def test_the_whole_loop_on_santa_rosa_counts_its_damaged_buildings(browser: Browser, shared_data, tmp_path):
    """Labels, scores, a blind sample, fine-tuning, its map corrected, and the figures: 35 of 182 are damaged."""
    store = tmp_path / "store"
    (name,) = write_scenes(shared_data, tmp_path, TILES[1:])
    scene = tmp_path / "scenes" / name
    truth = [_KEYS[each] for each in gpd.read_file(scene / "buildings.geojson").subtype]
    flags = ["--pre", scene / "pre.tif", "--post", scene / "post.tif", "--footprints", scene / "buildings.geojson"]
    with serving([*flags, "--store", store]) as server:
        ana = Labeller(browser, server.url)
        ana.page.set_default_timeout(LONG)
        expect(ana.page.locator("#scores-told")).to_contain_text("Scores come after 10 labels", timeout=LONG)
        buildings = sorted(ana.objects(), key=lambda key: int(key[1:]))
        chosen = buildings[::5]
        by_level = {_LEVELS[key]: [each for each in chosen if truth[int(each[1:])] == key] for key in "1234"}
        assert len(by_level["intact"]) > 20 and len(by_level["destroyed"]) > 4
        ana.page.evaluate(
            "async (levels) => { const { edit } = await import('/static/objects.js'); "
            "for (const [level, ids] of Object.entries(levels)) if (ids.length) edit(ids, { level }); }",
            by_level,
        )
        ana.wait_saved()
        expect(ana.page.locator("#scores-told")).to_have_text(f"Learned from {len(chosen)} labels.", timeout=LONG)
        scores = ana.page.evaluate("fetch('/api/scores?pair=scene').then((answer) => answer.json())")["objects"]
        others = [each for each in buildings if each not in chosen and each in scores]
        right = sum((scores[each] >= 0.5) == (truth[int(each[1:])] in "34") for each in others)
        assert right / len(others) > 0.9

        ana.page.click("#draw-sample")
        ana.page.select_option("#sample-width", "0.3")
        expect(ana.page.locator("#sample-size")).to_contain_text("you judge these again")
        ana.page.click("#draw [type=submit]")
        expect(ana.page.locator("#sample-told")).to_contain_text("0 of")
        ana.page.click("#judge-sample")
        opened = Store.open(store)
        members = [key.split("/")[1] for key in blind.members(opened)]
        opened.close()
        for member in members:
            ana.wait(f"document.querySelector('#selected-title').textContent.endsWith(' {member}')")
            ana.press(truth[int(member[1:])])
        ana.wait_saved()
        expect(ana.page.locator("#sample-told")).to_contain_text(f"{len(members)} of {len(members)} ")

        ana.page.fill("#tune-steps", "12")
        ana.page.click("#tune")
        expect(ana.page.locator("#tune-told")).to_have_text("Map 1 is there.", timeout=8 * LONG)
        expect(ana.page.locator("#scores-told")).to_have_text("From the fine-tuned network.", timeout=LONG)
        ana.press("Escape", "n")
        (unjudged,) = ana.selected()
        assert unjudged not in members
        ana.press(truth[int(unjudged[1:])])
        ana.wait_saved()
        assert levels(store, "scene")[unjudged] == _LEVELS[truth[int(unjudged[1:])]]
        ana.page.click("#show-figures")
        rows = ana.page.locator("#figures-told tbody tr")
        expect(rows).to_have_count(4)
        estimate, low, high = (float(each) for each in re.findall(r"[\d.]+", rows.first.inner_text().split("\t", 1)[1]))
        damaged = sum(key in "34" for key in truth)
        # 1 of 20 intervals may miss the truth; none misses it by its own width.
        assert low - (high - low) < damaged < high + (high - low) and low <= estimate <= high < len(truth) / 2
        ana.press("Escape")
        ana.close()


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
