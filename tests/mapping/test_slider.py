"""The slider of the page's threshold in a real browser: what it shows is what `predict --threshold` gives."""

import dataclasses
import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely

from jaxcd.mapping import scene_map
from jaxcd.mapping.predict.network import STEPS
from jaxcd.mapping.products.thresholds import STOPS, Ranked
from jaxcd.mapping.settings import MapSettings
from tests.mapping.map_runs import config, graded_run, write_run, write_scenes
from tests.mapping.pages import data_of, opened
from tests.scenes.scene_files import ORIGIN

SETTINGS = MapSettings(window=304, threshold=0.47, min_area=3.0, cell=60, building_shares=(0.2, 0.5), simplify=1.0)
OTHERS = (0.3, 0.6)
MEASURED = {
    "reason": None,
    "sample": {"size": 40, "judged": 40},
    "estimates": {
        "damaged": {"value": 21.0, "low": 15.0, "high": 30.0},
        "precision": {"value": 0.8125, "low": 0.6, "high": 0.95},
        "recall": None,
        "f1": None,
    },
    "buildings": 80,
    "called": 19,
}
"""What a blind sample says of a map."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Scenes with an empty corner, and footprints with true classes."""
    folder = tmp_path_factory.mktemp("slider")
    write_scenes(folder, 600, 800)
    west, north = ORIGIN
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (80, 2)) * (410, 300) - (5, 5)
    sides = rng.uniform(3, 18, (80, 2))
    houses = [
        shapely.affinity.rotate(shapely.box(west + x, north - y - h, west + x + w, north - y), 20)
        for (x, y), (w, h) in zip(corners, sides, strict=True)
    ]
    frame = gpd.GeoDataFrame({"truth": np.where(np.arange(80) % 3, "no", "yes")}, geometry=houses, crs="EPSG:32637")
    frame.loc[5, "truth"] = None
    frame.to_file(folder / "houses.gpkg")
    return folder


def settings_of(folder: Path, **changes: object) -> MapSettings:
    labels = {"label_attribute": "truth", "label_values": ("yes",)}
    return dataclasses.replace(SETTINGS, footprints=folder / "houses.gpkg", **labels, **changes)  # type: ignore[arg-type]


def scenes(folder: Path) -> tuple[list[str], list[str]]:
    return [str(folder / "pre.tif")], [str(folder / "post.tif")]


def shown(page) -> dict:
    """The figures that the page shows, as a reader sees them."""
    counts = dict(label.inner_text().split("\n") for label in page.locator("#classes label").all())
    places = [one.inner_text().split("\n") for one in page.locator("#worst button").all()]
    scores = [line.split("\t") for line in page.inner_text("#agreement").split("\n")]
    return {"numbers": page.inner_text("#numbers"), "counts": counts, "places": places, "scores": scores}


def drag(page, threshold: float) -> None:
    stop = page.evaluate(f"at.stops.indexOf({threshold})")
    assert stop >= 0
    page.evaluate(f"byId('stop').value = {stop}; byId('stop').dispatchEvent(new Event('input'))")
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.slow
@pytest.mark.parametrize("graded", [False, True])
def test_every_figure_equals_predicts_at_that_threshold(browser, folder, tmp_path, graded):
    run = graded_run(tmp_path / "run") if graded else write_run(tmp_path / "run", config("fc_siam_diff", "small"))
    mapper = scene_map.load(run, SETTINGS)
    scene_map.make(mapper, *scenes(folder), tmp_path / "out", settings_of(folder))
    mine: dict[float, dict] = {}
    with opened(browser, tmp_path / "out" / "map.html") as page:
        at = page.evaluate("at")
        for threshold in OTHERS:
            drag(page, threshold)
            mine[threshold] = shown(page) | {
                "polygons": page.evaluate("at.polygons[stop]"),
                "damaged": page.evaluate("at.damaged[stop]"),
                "classes": page.evaluate("at.counts[stop]"),
                # The patches that the page draws, counted on its canvas.
                "drawn": page.evaluate(
                    "layersOf[0].patches.pixels.filter((n) => n * layersOf[0].pixel >= at.min_area - 1e-6).length"
                ),
                "hash": page.evaluate("location.hash"),
                "agreement": page.evaluate("at.agreement[stop]"),
            }
    assert len({str(found["numbers"]) for found in mine.values()}) == len(OTHERS)
    for threshold, found in mine.items():
        shutil.copytree(tmp_path / "out", tmp_path / f"at_{threshold}")
        told = scene_map.make(
            mapper, *scenes(folder), tmp_path / f"at_{threshold}", settings_of(folder, threshold=threshold)
        )
        assert told.blocks_computed == 0
        assert found["damaged"] * at["pixel"] == pytest.approx(told.area.damaged_m2, abs=1e-6) != 0
        assert found["polygons"] == found["drawn"] == told.polygons > 0
        assert dict(zip(at["classes"], found["classes"], strict=True)) == told.buildings
        assert found["agreement"] == json.loads(json.dumps(told.agreement))
        with opened(browser, tmp_path / f"at_{threshold}" / "map.html") as page:
            there = shown(page)
        assert {name: found[name] for name in there} == there
        assert found["hash"] == f"#threshold={threshold}"
        cells = gpd.read_file(tmp_path / f"at_{threshold}" / "damage.gpkg", layer="cells")
        worst = cells.sort_values("damaged_m2", ascending=False, kind="stable").head(len(found["places"]))
        assert [area for area, _ in found["places"]] == [f"{round(area):,} m²" for area in worst.damaged_m2]


@pytest.fixture(scope="module")
def town(folder, tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("town")
    mapper = scene_map.load(write_run(base / "run", config("fc_siam_diff", "small")), SETTINGS)
    scene_map.make(mapper, *scenes(folder), base / "town", settings_of(folder), measure=lambda *_: MEASURED)
    return base / "town"


PAINTED = (
    "((name) => { const c = layersOf[0][name]; const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
    "let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] >= %d; return n; })('%s')"
)


def test_pixels_polygons_and_buildings_follow_at_once(browser, town):
    with opened(browser, town / "map.html") as page:
        first = page.evaluate(PAINTED % (90, "likely")), page.evaluate(PAINTED % (1, "decided"))
        colours = page.evaluate("houses.map((house) => house.options.color)")
        assert first[1] == 0 and page.evaluate("map.hasLayer(polygons)")
        blind = page.inner_text("#blind")
        assert "estimated from the blind sample: 21 (95 % interval 15 to 30) of 80." in blind
        assert "At this map's threshold, 0.47" in blind and "Precision: 81.2 % (95 % interval 60.0 to 95.0 %)." in blind
        assert "Called damaged by this map: 19 of 80." in blind and page.inner_text("#blind-stale") == ""
        drag(page, 0.3)
        assert page.inner_text("#blind-stale") == "The slider is at 0.3: these figures do not follow it."
        assert page.evaluate("getComputedStyle(byId('blind-map')).opacity") == "0.6"
        damaged = page.evaluate("at.damaged[stop]")
        assert page.evaluate(PAINTED % (90, "likely")) == damaged > first[0]
        assert 0 < page.evaluate(PAINTED % (1, "decided")) <= damaged
        assert not page.evaluate("map.hasLayer(polygons)")
        assert page.evaluate("houses.map((house) => house.options.color)") != colours
        assert "predict --threshold 0.3" in page.inner_text("#stop-note")
        named = page.evaluate("houses.map((h) => [h.options.now, shareAt(h.options.told)])")
        assert all(share.endswith(" %") for name, share in named if name == "damaged")
        # A click on a patch tells of it.
        spot = page.evaluate(
            "(() => { const l = layersOf[0]; const big = l.patches.pixels.indexOf(Math.max(...l.patches.pixels));"
            "const i = l.patches.labels.indexOf(big); return [i % l.width + 0.5, Math.floor(i / l.width) + 0.5]; })()"
        )
        page.click("#show-buildings")
        page.evaluate(f"() => {{ map.setView([{-spot[1] / 2}, {spot[0] / 2}], 3, {{animate: false}}); swipe(0); }}")
        where = page.evaluate(f"map.latLngToContainerPoint([{-spot[1] / 2}, {spot[0] / 2}])")
        page.mouse.click(where["x"], where["y"])
        assert page.inner_text(".leaflet-popup-content").startswith("damage\tat 0.3")
        page.click("#own")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        assert page.evaluate("map.hasLayer(polygons)") and page.evaluate(PAINTED % (1, "decided")) == 0
        assert page.inner_text("#blind") == blind
        assert page.evaluate("houses.map((house) => house.options.color)") == colours


def test_the_link_keeps_the_threshold(browser, town):
    with opened(browser, town / "map.html") as page:
        width = page.evaluate("byId('stop').offsetWidth")
        drag(page, 0.6)
        assert page.evaluate("byId('stop').offsetWidth") == width  # the knob stays under the pointer
        link, numbers = page.url, page.inner_text("#numbers")
        page.keyboard.press("Home")  # the slider has no focus: nothing moves
        assert page.url == link and link.endswith("#threshold=0.6")
        page.goto("about:blank")
        page.goto(link)
        page.evaluate("() => ready")
        assert page.inner_text("#numbers") == numbers and page.inner_text("#stop-told").startswith("0.6 ·")
        page.focus("#stop")
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("#stop-told").startswith("0.58 ·")
        page.evaluate("location.hash = '#threshold=0.001'")
        page.wait_for_function("stop === 0")
        page.evaluate("location.hash = '#threshold=never'")
        page.wait_for_function("stop === at.own")


def test_a_maps_own_threshold_takes_the_place_of_an_equal_one():
    ranked = Ranked.of("", 1, STEPS, 0.3)
    assert ranked.stops == STOPS and ranked.stops[ranked.own] == 0.3
    near = 0.3 - 0.1 / STEPS
    assert len(Ranked.of("", 1, STEPS, near).stops) == len(STOPS)
    other = Ranked.of("", 1, STEPS, 0.31)
    assert len(other.stops) == len(STOPS) + 1 <= 63 and other.stops[other.own] == 0.31
    for stop, threshold in enumerate(other.stops):
        first = int(np.ceil(threshold * STEPS))
        assert (other.table[[first - 1, first]] > stop).tolist() == [False, True]
    assert other.table[STEPS + 1] == 255


@pytest.mark.slow
def test_a_coarse_page_says_so_and_counts_exactly(browser, folder, town, tmp_path, monkeypatch):
    from jaxcd.mapping.page import web_page

    fine = data_of(town / "map.html")
    shutil.copytree(town, tmp_path / "town")
    monkeypatch.setattr(web_page, "MEGAPIXELS", 0.1)
    mapper = scene_map.load(town.parent / "run", SETTINGS)
    scene_map.make(mapper, *scenes(folder), tmp_path / "town", settings_of(folder))
    coarse = data_of(tmp_path / "town" / "map.html")
    for name in ("damaged", "polygons", "counts", "worst"):
        assert fine["at"][name] == coarse["at"][name]
    with opened(browser, tmp_path / "town" / "map.html") as page:
        assert page.locator("canvas.likely").count() == len(coarse["images"]) > 1
        drag(page, 0.3)
        assert "Outlines are drawn in pixels of 1.5 m" in page.inner_text("#stop-note")
