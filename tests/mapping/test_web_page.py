"""The page in a real browser: it draws, swipes, flies, and a click on a building shows the building's numbers."""

import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from playwright.sync_api import Page, sync_playwright

from jaxcd.mapping import scene_map, web_page
from jaxcd.mapping.settings import MapSettings
from tests.mapping.map_runs import config, write_run, write_scenes
from tests.scenes.scene_files import ORIGIN

CLIPS = "['before', 'after'].map((name) => map.getPane(name).style.clip)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A map with two buildings: one on damage, one beside the scenes."""
    folder = tmp_path_factory.mktemp("page")
    run = write_run(folder / "run", config("fc_siam_diff", "small"))
    pre, post = write_scenes(folder, 600, 800)
    west, north = ORIGIN
    houses = [shapely.box(west + x, north - y - 20, west + x + 30, north - y) for x, y in ((100, 80), (5000, 80))]
    outlines = gpd.GeoDataFrame({"name": ["</script><b>x", "far"]}, geometry=houses, crs="EPSG:32637")
    outlines.to_file(folder / "houses.gpkg")
    settings = MapSettings(window=304, threshold=0.4, min_area=60, footprints=folder / "houses.gpkg", cell=100)
    told = scene_map.make(scene_map.load(run, settings), [str(pre)], [str(post)], folder / "town", settings)
    assert told["buildings"]["damaged"] == sum(told["buildings"].values()) == 1
    return folder / "town"


@pytest.fixture(scope="module")
def browser():
    program = shutil.which("chromium")
    assert program, "no chromium; sh tools/setup dev installs it"
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        options += ["--disable-background-networking", "--disable-component-update"]
        running = playwright.chromium.launch(executable_path=program, args=options)
        yield running
        running.close()


@pytest.fixture
def page(browser, folder):
    page: Page = browser.new_page(viewport={"width": 1100, "height": 700})
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((folder / "map.html").as_uri())
    page.wait_for_function("document.querySelectorAll('img.before').length > 0")
    page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", (folder / "map.html").as_uri()))] == []
    page.close()


def test_it_draws_what_was_found(page, folder):
    assert page.title() == "Damage map: town"
    polygons = gpd.read_file(folder / "damage.gpkg", layer="damage")
    assert page.evaluate("polygons.getLayers().length") == len(polygons) > 0
    assert "called damage" in page.inner_text("#numbers")
    assert page.locator("img.before").count() == page.locator("img.after").count() == 1
    drawn = page.evaluate(
        "(() => { const c = document.querySelector('canvas'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; let n = 0; for (let i = 3; i < d.length; i += 4) n += d[i] > 0;"
        "return n; })()"
    )
    assert drawn > 500


def test_the_divider_swipes(page):
    before = page.evaluate(CLIPS)
    box = page.locator("#divider").bounding_box()
    page.mouse.move(box["x"] + 2, 300)
    page.mouse.down()
    page.mouse.move(200, 300, steps=4)
    page.mouse.up()
    after = page.evaluate(CLIPS)
    assert before != after and all("rect(" in clip for clip in after)
    assert page.evaluate("split") == pytest.approx(200 / page.evaluate("map.getSize().x"), abs=0.01)
    page.keyboard.press("ArrowRight")
    assert page.evaluate("split") == pytest.approx(200 / page.evaluate("map.getSize().x") + 0.05, abs=0.01)


def test_a_click_on_a_damaged_building_shows_its_numbers(page, folder):
    (house,) = gpd.read_file(folder / "buildings.gpkg", layer="buildings").itertuples()
    # Ground at 115 m east and 90 m south of the map's corner, as the page counts.
    at = page.evaluate("(() => { map.setView([-90, 115], 2, {animate: false}); "
                       "return map.latLngToContainerPoint([-90, 115]); })()")  # fmt: skip
    page.click("#show-polygons")  # a polygon of damage may lie above it
    page.mouse.click(at["x"] + 30, at["y"] + 8)  # beside the divider
    text = page.locator(".leaflet-popup-content").inner_text()
    assert "building\tdamaged" in text
    assert f"damaged share\t{100 * house.damaged_share:.1f} %" in text
    assert f"mean probability\t{100 * house.mean_probability:.1f} %" in text
    assert "area\t600 m²" in text


def test_the_worst_place_is_flown_to(page, folder):
    cells = gpd.read_file(folder / "damage.gpkg", layer="cells").sort_values("damaged_m2", ascending=False)
    first = page.locator("#worst button").first
    assert first.inner_text().startswith(f"{round(cells.iloc[0].damaged_m2):,} m²")
    first.click()
    page.wait_for_timeout(1500)
    middle = page.evaluate("[map.getCenter().lng, -map.getCenter().lat]")
    cell = cells.iloc[0].geometry.centroid
    assert np.hypot(middle[0] - (cell.x - ORIGIN[0]), middle[1] - (ORIGIN[1] - cell.y)) < 5


def test_layers_and_opacity(page):
    page.evaluate("document.getElementById('opacity').value = 25; byId('opacity').dispatchEvent(new Event('input'))")
    assert page.evaluate("map.getPane('likely').style.opacity") == "0.25"
    page.click("#show-probability")
    assert page.evaluate("map.getPane('likely').style.display") == "none"
    page.click("#show-buildings")
    assert not page.evaluate("map.hasLayer(buildings)")


def test_large_maps_show_worst_places_in_full_within_the_budget(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", config("fc_siam_diff", "small"))
    pre, post = write_scenes(tmp_path, 600, 800)
    settings = MapSettings(window=304, threshold=0.4, min_area=60, cell=100)
    monkeypatch.setattr(web_page, "MEGAPIXELS", 0.1)
    mapper = scene_map.load(run, settings)
    scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", settings)
    rich = (tmp_path / "out" / "map.html").read_text()
    monkeypatch.setattr(web_page, "MEGABYTES", 0.6)
    scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", settings)
    poor = (tmp_path / "out" / "map.html").read_text()
    images = [text.count('"before": "data:image/jpeg') for text in (rich, poor)]
    assert images[0] > images[1] >= 1 and "worst places in full detail" in rich
    assert len(poor) < 0.6e6 + 250e3  # Leaflet and the page's own parts come on top of the images
