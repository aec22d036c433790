"""The page in a real browser: it draws, swipes, flies, and a click on a building shows the building's numbers."""

import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from playwright.sync_api import Page

from jaxcd.mapping import scene_map
from jaxcd.mapping.page import web_page
from jaxcd.mapping.settings import MapSettings
from tests.mapping.map_runs import config, write_run, write_scenes
from tests.mapping.pages import data_of, opened
from tests.scenes.scene_files import ORIGIN

CLIPS = "['before', 'after'].map((name) => map.getPane(name).style.clip)"


NAME = "</script><!--<b>x"
HOUSES = {
    NAME: (100, 80, 30, 20),
    "far": (5000, 80, 30, 20),
    "tiny": (300, 200, 3, 3),
    "beyond the edge": (390, 80, 30, 20),
    None: (70, 30, 8, 8),
} | {
    f"no. {x} {y}": (x, y, 8, 8)
    for x, y in [(280, 30), (10, 110), (100, 190), (160, 230), (220, 70), (190, 110), (130, 70), (250, 150), (10, 190)]
}
"""Left, top, width and height in metres from the map's corner."""


@pytest.fixture(scope="module")
def mapper(tmp_path_factory) -> scene_map.Mapper:
    run = write_run(tmp_path_factory.mktemp("run") / "run", config("fc_siam_diff", "small"))
    return scene_map.load(run, MapSettings(window=304))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mapper) -> Path:
    """A map with buildings on damage, beside the scenes, over the edge, and one that crosses itself."""
    folder = tmp_path_factory.mktemp("page")
    pre, post = write_scenes(folder, 600, 800)
    pre = pre.rename(folder / "2022-11-03_pre.tif")
    west, north = ORIGIN
    houses = [shapely.box(west + x, north - y - h, west + x + w, north - y) for x, y, w, h in HOUSES.values()]
    crossed = np.array([(0, 0), (9, 9), (9, 0), (0, 9)]) + (west, north - 9)
    houses.append(shapely.Polygon(crossed))
    frame = gpd.GeoDataFrame({"name": [*HOUSES, "crossed"]}, geometry=houses, crs="EPSG:32637")
    frame["osm_id"], frame["truth"] = np.arange(len(frame)), np.where(np.arange(len(frame)) % 2, "yes", "no")
    frame.to_file(folder / "houses.gpkg")
    settings = MapSettings(
        window=304, threshold=0.4, min_area=60, footprints=folder / "houses.gpkg", cell=100,
        building_shares=(0.37, 0.5), buffer=0, label_attribute="truth", label_values=("yes",),
    )  # fmt: skip
    map_summary = scene_map.make(mapper, [str(pre)], [str(post)], folder / "town", settings)
    counts = map_summary.buildings
    assert all(counts.values()) and sum(counts.values()) == len(frame) - 1, counts
    return folder / "town"


@pytest.fixture
def page(browser, folder):
    with opened(browser, folder / "map.html") as page:
        yield page


def houses_of(folder: Path) -> gpd.GeoDataFrame:
    """The buildings of a map, the worst first."""
    houses = gpd.read_file(folder / "buildings.gpkg", layer="buildings")
    return houses.sort_values(["damaged_share", "mean_probability"], ascending=False)


def canvas_at(page: Page, x: float, y: float) -> dict:
    """Where in the window a point of the map is, after it was brought to the middle."""
    page.evaluate(f"() => {{ map.setView([{-y}, {x}], 2, {{animate: false}}); }}")  # the map itself is long to send
    return page.evaluate(f"map.latLngToContainerPoint([{-y}, {x}])")


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
    (house,) = (house for house in houses_of(folder).itertuples() if house.name == NAME)
    # Ground at 115 m east and 90 m south of the map's corner, as the page counts.
    at = page.evaluate("(() => { map.setView([-90, 115], 2, {animate: false}); "
                       "return map.latLngToContainerPoint([-90, 115]); })()")  # fmt: skip
    page.click("#show-polygons")  # a polygon of damage may lie above it
    page.mouse.click(at["x"] + 30, at["y"] + 8)  # beside the divider
    text = page.locator(".leaflet-popup-content").inner_text()
    assert "building\tdamaged" in text
    assert f"name\t{NAME}" in text
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


def test_it_tells_dates_notes_threshold_and_agreement(page, folder):
    map_summary = json.loads((folder / "summary.json").read_text())
    assert page.inner_text("#dates").split("\n") == ["before", "2022-11-03", "after", "date unknown"]
    assert (folder / "summary.md").read_text().count("| date unknown |") == 1
    chips = [page.inner_text(f"#chip-{when}") for when in ("before", "after")]
    assert chips == ["before · 2022-11-03", "after · date unknown"]
    assert [note.inner_text() for note in page.locator("#notes li").all()] == map_summary["notes"] != []
    assert page.inner_text("#threshold") == "from probability 0.40 (--threshold)"
    counts = dict(label.inner_text().split("\n") for label in page.locator("#classes label").all())
    assert counts == {name: str(count) for name, count in map_summary["buildings"].items()}
    scores = map_summary["agreement"]["damaged"]
    wanted = "\t".join(["damaged", *(f"{scores[name]:.3f}" for name in ("precision", "recall", "f1"))])
    assert wanted in page.inner_text("#agreement").split("\n")
    assert f"{folder.parent / '2022-11-03_pre.tif'}" in page.locator("#about").text_content()


def test_a_class_of_buildings_is_hidden_and_shown(page, folder):
    group, box = "classes['damaged']", page.locator("[id='class-damaged']")
    there = "(() => [map.hasLayer(classes['damaged']), map.hasLayer(classes['intact'])])()"
    assert page.evaluate(f"{group}.getLayers().length") == (houses_of(folder).damage_class == "damaged").sum() > 1
    box.click()
    assert page.evaluate(there) == [False, True]
    at = canvas_at(page, 115, 90)
    page.click("#show-polygons")
    page.mouse.click(at["x"] + 30, at["y"] + 8)
    assert page.locator(".leaflet-popup").count() == 0
    box.click()
    assert page.evaluate(there) == [True, True]
    page.mouse.click(at["x"] + 30, at["y"] + 8)
    assert "building\tdamaged" in page.inner_text(".leaflet-popup-content")
    page.click("#show-buildings")
    assert page.evaluate(there) == [False, False] and page.evaluate("byId('classes').disabled")


def test_buildings_stay_above_damage_that_is_shown_again(page, folder):
    (house,) = (house for house in houses_of(folder).itertuples() if house.name == NAME)
    damage = gpd.read_file(folder / "damage.gpkg", layer="damage").union_all()
    spot = max(shapely.get_parts(damage & house.geometry), key=shapely.area).buffer(-0.5).representative_point()
    spot = canvas_at(page, spot.x - ORIGIN[0], ORIGIN[1] - spot.y)
    page.evaluate("swipe(0)")
    for what, others in (("building", "#show-polygons"), ("damage", "#show-buildings")):
        page.click(others)
        if what == "building":
            page.click(others)
        page.mouse.click(spot["x"], spot["y"])
        assert page.inner_text(".leaflet-popup-content").startswith(f"{what}\t")


def test_the_list_of_buildings_flies_and_tells(page, folder):
    houses = houses_of(folder)
    listed = houses[houses.damage_class.isin(["damaged", "possibly"])]
    buttons = page.locator("#houses button")
    assert buttons.count() == len(listed) > 3
    shares = [float(button.inner_text().split("\n")[1].removesuffix(" % damaged")) for button in buttons.all()]
    assert shares == pytest.approx(100 * listed.damaged_share, abs=0.06) and shares == sorted(shares, reverse=True)
    (place,) = np.flatnonzero(listed.name.isna())
    page.click("[id='class-damaged']"), page.click("[id='class-possibly']")
    button = buttons.nth(int(place))
    button.click()
    page.wait_for_selector(".leaflet-popup-content")
    text = page.inner_text(".leaflet-popup-content")
    house = listed.iloc[place]
    assert f"osm_id\t{house.osm_id}" in text and f"damaged share\t{100 * house.damaged_share:.1f} %" in text
    assert button.get_attribute("aria-current") == "true"
    assert page.evaluate(f"map.hasLayer(classes['{house.damage_class}'])")  # hidden, it could not be looked at
    x, y = house.geometry.centroid.x - ORIGIN[0], ORIGIN[1] - house.geometry.centroid.y
    assert page.evaluate(f"mark.getBounds().contains([{-y}, {x}])") and page.evaluate("map.hasLayer(mark)")
    left = page.evaluate("map.latLngToContainerPoint(mark.getBounds().getNorthWest()).x")
    line = page.locator("#divider").bounding_box()
    assert 0 < line["x"] + line["width"] < left  # beside what was flown to
    box = page.locator(".leaflet-popup-content-wrapper").bounding_box()
    page.evaluate(f"swipe({box['x'] + 20} / map.getSize().x)")
    above = f"document.elementFromPoint({box['x'] + 20}, {box['y'] + 20}).closest('.leaflet-popup') !== null"
    assert page.evaluate(above), "the divider lies above the pop-up"


def test_keys_move_the_divider(page):
    page.focus("#divider")
    found = []
    for key in ("ArrowLeft", "PageUp", "PageDown", "Home", "ArrowRight", "End"):
        page.keyboard.press(key)
        found.append(page.locator("#divider").get_attribute("aria-valuenow"))
    assert found == ["45", "65", "45", "0", "5", "100"]
    assert page.locator("#divider").get_attribute("aria-valuetext") == "100 % before, 0 % after"
    assert page.evaluate("map.getCenter().lat") == pytest.approx(-150, abs=1)  # the keys move no map


def test_a_phone_shows_all_of_it_and_touch_moves_the_divider(browser, folder):
    phone = {
        "viewport": {"width": 390, "height": 800},
        "has_touch": True,
        "is_mobile": True,
        "reduced_motion": "reduce",
    }
    with opened(browser, folder / "map.html", **phone) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("byId('panel').scrollWidth <= byId('panel').clientWidth")
        map_box, panel = (page.locator(name).bounding_box() for name in ("#map", "#panel"))
        assert map_box["y"] + map_box["height"] <= panel["y"] and map_box["height"] > 350 < panel["height"] + 1
        page.evaluate("() => { window.moves = 0; map.on('move', () => { window.moves += 1; }); }")
        page.locator("#houses button").first.tap()
        page.wait_for_selector(".leaflet-popup-content")
        assert page.evaluate("window.moves") < 4  # a flight has dozens, and here no motion is wanted
        popup = page.locator(".leaflet-popup-content-wrapper").bounding_box()
        assert popup["x"] >= 0 and popup["x"] + popup["width"] <= 390 and popup["y"] >= 0
        grip = page.locator("#grip").bounding_box()
        at = {"x": grip["x"] + 17, "y": grip["y"] + 17}
        touch = page.context.new_cdp_session(page)
        for kind, points in (
            ("touchStart", [at]),
            ("touchMove", [at | {"x": 150}]),
            ("touchMove", [at | {"x": 100}]),
            ("touchEnd", []),
        ):
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_function("Math.abs(split - 100 / 390) < 0.01")


def test_large_maps_show_worst_places_in_full_within_the_budget(browser, mapper, folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "out")  # nothing is predicted again
    pre, post = folder.parent / "2022-11-03_pre.tif", folder.parent / "post.tif"
    settings = MapSettings(window=304, threshold=0.4, min_area=60, cell=100)
    monkeypatch.setattr(web_page, "MEGAPIXELS", 0.1)
    scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", settings)
    path = tmp_path / "out" / "map.html"
    rich, worst = data_of(path), len(data_of(path)["worst"])
    with opened(browser, path) as page:
        assert page.locator("img.before").count() == 1 + worst
        assert f"in full detail: all {worst} worst places" in page.inner_text("#shown")
        assert not page.locator("#with-buildings").is_visible() and not page.locator("#with-houses").is_visible()
    monkeypatch.setattr(web_page, "MEGABYTES", 0.6)
    scene_map.make(mapper, [str(pre)], [str(post)], tmp_path / "out", settings)
    poor = data_of(path)
    images = [len(data["images"]) for data in (rich, poor)]
    assert images[0] > images[1] > 1
    assert f"in full detail: {images[1] - 1} of the {worst} worst places" in poor["shown"][0]
    assert sum(place["full"] for place in poor["worst"]) == images[1] - 1
    assert path.stat().st_size < 0.6e6 + 250e3  # Leaflet and the page's own parts come on top of the images
