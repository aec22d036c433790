"""The labelling page in a real browser, with the real server: what one person does on it is in the store."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from jaxcd.labelling.store import Store
from tests.labelling.page_runs import Labeller, kept, levels


def test_buildings_are_labelled_by_clicks_and_keys(browser: Browser, server, store):
    ana = Labeller(browser, f"{server.url}#/clicks")
    first, second, third = ana.buildings()[:3]
    for name, key in ((first, "1"), (second, "4"), (third, "u")):
        ana.click(name)
        assert ana.selected() == [name]
        ana.press(key)
    ana.wait_saved()
    wanted = {first: "intact", second: "destroyed", third: "unknown"}
    assert levels(store, "clicks") == wanted
    assert {label.author for label in kept(store, "clicks").values()} == {"Ana"}

    ana.reload()
    assert ana.levels() == wanted
    expect(ana.page.locator("#progress-told")).to_contain_text("3 of ")
    for _ in range(2):  # undo outlives the page
        ana.press("z")
        ana.wait_shown(third, None)
        assert levels(store, "clicks") == {first: "intact", second: "destroyed"}
        ana.press("y")
        ana.wait_shown(third, "unknown")
        assert levels(store, "clicks") == wanted

    ana.press("x")  # redo selects what it changed
    ana.wait_saved()
    assert levels(store, "clicks") == {first: "intact", second: "destroyed"}
    ana.close()


def test_many_buildings_at_once_a_verdict_and_a_comment(browser: Browser, server, store):
    ana = Labeller(browser, f"{server.url}#/many")
    everything = ana.objects()
    west, south, east, north = ana.bounds()
    middle, half = ((west + east) / 2, (south + north) / 2), ((east - west) / 4, (north - south) / 4)
    box = [ana.spot(middle[0] + a * half[0], middle[1] + b * half[1]) for a, b in ((-1, 1), (1, -1))]
    inside = {
        name for name, one in everything.items()
        if all(abs(one["centre"][i] - middle[i]) < half[i] for i in range(2))
    }  # fmt: skip
    ana.press("r")
    ana.drag(*box)
    assert set(ana.selected()) == inside and 5 < len(inside) < len(everything)
    ana.press("4")
    ana.wait_saved()
    assert levels(store, "many") == dict.fromkeys(inside, "destroyed")

    left, top, right, bottom = *box[0], *box[1]
    ana.press("l")
    ana.drag((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
    assert set(ana.selected()) == inside
    ana.press("2")
    ana.wait_saved()
    assert set(levels(store, "many").values()) == {"minor"}
    ana.press("z")  # one change, one undo
    ana.wait_shown(next(iter(inside)), "destroyed")
    assert levels(store, "many") == dict.fromkeys(inside, "destroyed")

    ana.press("Escape", "Shift+D")
    expect(ana.page.locator("[data-verdict=damaged]")).to_have_attribute("aria-pressed", "true")
    ana.wait_saved()
    name = next(name for name in ana.buildings() if name in inside)
    ana.click(name)
    ana.press("m")
    ana.page.keyboard.type("roof <gone>")
    ana.page.click("#save-comment")
    ana.wait_saved()
    label = kept(store, "many")[name]
    assert (label.level, label.comment) == ("destroyed", "roof <gone>")
    ana.press("Escape")
    ana.page.mouse.move(*ana.spot(*everything[name]["centre"]))
    expect(ana.page.locator("#hover")).to_contain_text("destroyed")
    expect(ana.page.locator("#hover")).to_contain_text("roof <gone>")

    with ana.page.expect_download() as downloading:
        ana.page.click("a[href='/api/export/geojson']")
    found = json.loads(Path(downloading.value.path()).read_text())["features"]
    assert sum(
        one["properties"].get("level") == "destroyed" and one["properties"]["pair"] == "many" for one in found
    ) == len(inside)
    ana.close()
    opened = Store.open(store)
    assert opened.progress("many")["verdict"] == "damaged"
    opened.close()


def test_brush_shape_and_delete(browser: Browser, server, store):
    ana = Labeller(browser, f"{server.url}#/watched")
    ana.press(".")  # the pointer works on the second pair, too
    ana.wait("document.getElementById('said').textContent === 'drawn is open'")
    assert ana.page.locator("#stage .ink").count() == 2  # one a map
    ana.press("4", "h")  # what is drawn next is destroyed
    x, y = ana.middle()
    ana.drag((x - 60, y - 60), (x + 60, y - 60), (x + 60, y + 60), (x - 60, y + 60), (x - 60, y - 60))  # around
    ana.wait_saved()
    ((name, label),) = kept(store, "drawn").items()
    assert label.level == "destroyed" and label.geometry.is_valid
    (part,) = getattr(label.geometry, "geoms", [label.geometry])
    assert len(part.interiors) == 1  # nobody painted the middle
    pixel = ana.page.evaluate(
        "async () => { const map = (await import('/static/view.js')).main(); return map.distance("
        "map.containerPointToLatLng([0, 100]), map.containerPointToLatLng([100, 100])) / 100; }"
    )
    painted = 144**2 - 96**2 - (4 - 3.14) * 12**2  # pixels of a ring 24 wide with round corners
    assert part.area == pytest.approx(painted * pixel**2, rel=0.03)

    ana.press("e")
    handle = ana.page.locator("#map .marker-icon:not(.marker-icon-middle)").first.bounding_box()
    assert handle is not None
    grip = (handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    ana.drag(grip, (grip[0] - 25, grip[1] - 25))
    ana.press("Enter")
    ana.wait_saved()
    assert (
        not kept(store, "drawn")[name].geometry.equals(label.geometry)
        and kept(store, "drawn")[name].level == "destroyed"
    )
    ana.press("Delete")
    ana.wait_saved()
    assert kept(store, "drawn") == {} and ana.objects() == {}
    ana.press("z")
    ana.wait_shown(name, "destroyed")
    ana.close()


def test_existing_labels_are_imported_to_correct_them(browser: Browser, server, store, tmp_path):
    ana = Labeller(browser, f"{server.url}#/imported")
    west, south, east, north = ana.bounds()
    across, up = east - west, north - south
    ring = [
        (west + a * across, south + b * up) for a, b in ((0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6), (0.4, 0.4))
    ]
    shape = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "geometry": shape, "properties": {"state": "gone"}}
    file = tmp_path / "known.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    ana.page.click("#show-import")
    ana.page.set_input_files("#import-file", file)
    ana.page.fill("#import-attribute", "status")
    ana.page.click("#import-form [type=submit]")
    expect(ana.page.locator("#import-problem")).to_contain_text("status")
    ana.page.fill("#import-attribute", "state")
    ana.page.fill("#import-values", "gone=destroyed")
    ana.page.click("#import-form [type=submit]")
    expect(ana.page.locator("#import-told")).to_contain_text("labels saved: 1")
    ana.page.click("#import [data-close]")
    ((name, one),) = ana.objects().items()
    assert (one["origin"], one["level"]) == ("imported", "destroyed")
    ana.click(name)
    ana.press("2")
    ana.wait_saved()
    assert levels(store, "imported") == {name: "minor"}
    ana.said = [text for text in ana.said if "422" not in text]
    ana.close()


def test_the_first_labels_are_spread_over_the_scene(browser: Browser, server, store):
    ana = Labeller(browser, f"{server.url}#/spread")
    west, south, east, north = ana.bounds()
    quarters = {
        name: (one["centre"][0] > (west + east) / 2, one["centre"][1] > (south + north) / 2)
        for name, one in ana.objects().items()
    }
    shown = []
    for _ in range(4):
        ana.press("n")
        ana.wait(
            f"import('/static/state.js').then(({{ state }}) => !{json.dumps(shown)}.includes([...state.selected][0]))"
        )
        shown += ana.selected()
    assert {quarters[name] for name in shown} == set(quarters.values()) and len(set(quarters.values())) == 4
    ana.press("p")
    ana.wait(f"import('/static/state.js').then(({{ state }}) => state.selected.has('{shown[-2]}'))")
    ana.close()


def test_the_list_of_pairs_changes_only_where_labels_do(browser: Browser, server, store):
    ana = Labeller(browser, f"{server.url}#/listed")
    ana.page.evaluate("for (const one of document.querySelectorAll('#pair-list li')) one.seen = true")
    ana.click(ana.buildings()[0])
    ana.press("1")
    expect(ana.page.locator("#pair-list li", has_text="listed").locator(".value")).to_contain_text("1 /")
    assert ana.page.evaluate("[...document.querySelectorAll('#pair-list li')].every((one) => one.seen)")
    ana.press(".")
    ana.wait("document.querySelectorAll('#pair-list [aria-current]').length === 1")
    assert "listed" not in ana.page.inner_text("#pair-list [aria-current]")
    ana.close()


def test_more_edits_than_a_request_takes_go_in_parts(browser: Browser, server, store):
    ana = Labeller(browser, f"{server.url}#/listed")
    sent: list[int] = []

    def answer(route):
        sent.append(len(route.request.post_data_json["edits"]))
        route.fulfill(json={"labels": [], "seq": 0})

    ana.page.route(re.compile("/changes$"), answer)
    ana.page.evaluate(
        "import('/static/objects.js').then(({ edit }) => { edit([...Array(12001)].map((_, i) => `f${i}`), "
        "{ level: 'minor' }); })"
    )
    ana.wait_saved()
    assert sent == [5000, 5000, 2001]
    ana.close()


def test_a_keyboard_does_for_all_of_it(browser: Browser, server, store):
    ana = Labeller(browser, f"{server.url}#/keyboard")
    focused = "document.activeElement.id"
    assert ana.page.evaluate(focused) == "map"
    seen = []
    for key in "412":
        ana.press("n")
        (name,) = ana.selected()
        seen.append(name)
        ana.press(key)
        assert name in ana.page.inner_text("#said")
    ana.wait_saved()
    wanted = dict(zip(seen, ("destroyed", "intact", "minor"), strict=True))
    assert levels(store, "keyboard") == wanted
    ana.press("Escape", "Enter")  # the map's middle is where the last one is
    assert ana.selected() == seen[-1:]

    ana.press("Escape", "g", "Enter", "ArrowRight", "Enter", "ArrowDown", "Enter", "Shift+Enter")
    ana.press("c")
    ana.wait_saved()
    (drawn,) = set(levels(store, "keyboard")) - set(seen)
    assert levels(store, "keyboard")[drawn] == "cloud" and kept(store, "keyboard")[drawn].geometry.area > 0

    ana.press("Escape", "Escape", "?")
    expect(ana.page.locator("#keys")).to_be_visible()
    listed = ana.page.locator("#keys kbd").all_inner_texts()
    assert {"1", "4", "U", "C", "N", "P", "Z", "Shift D"} <= set(listed)
    ana.press("Escape")
    # From the page's start: the skip links come first, and all that can be pressed has a name.
    ana.page.evaluate("document.body.tabIndex = -1; document.body.focus()")
    ana.press("Tab")
    assert ana.page.evaluate("document.activeElement.textContent") == "Skip to the map"
    nameless = ana.page.evaluate(
        "[...document.querySelectorAll('button, input, textarea, [tabindex=\"0\"]')].filter((one) => "
        "!(one.textContent.trim() || one.ariaLabel || one.labels?.length || one.title)).length"
    )
    assert nameless == 0
    assert len(levels(store, "keyboard")) == 4
    ana.close()


def test_views_blink_and_swipe(browser: Browser, server, store):
    ana = Labeller(browser, f"{server.url}#/views")
    together = (
        "async () => { const [a, b] = (await import('/static/view.js')).maps.map((map) => [map.getCenter().lat, "
        "map.getCenter().lng, map.getZoom()]); return a.every((one, i) => Math.abs(one - b[i]) < 1e-5); }"
    )
    box = ana.page.locator("#aside").bounding_box()
    assert box is not None
    x, y = box["x"] + 200, box["y"] + 300
    ana.page.mouse.move(x, y)
    ana.page.mouse.wheel(0, -300)
    ana.page.wait_for_timeout(300)
    ana.drag((x, y), (x + 70, y + 50))
    assert ana.page.evaluate(together)
    shown = "['pre', 'post'].map((pane) => document.querySelector(`#map .leaflet-${pane}-pane`).style.display)"
    ana.press("t")
    assert ana.page.evaluate(shown) == ["none", ""]
    ana.press("Space")
    assert ana.page.evaluate(shown) == ["", "none"]
    ana.press("w")
    assert ana.page.evaluate(shown) == ["", ""]
    clip = "document.querySelector('#map .leaflet-pre-pane').style.clip"
    before = ana.page.evaluate(clip)
    ana.page.focus("#divider")
    ana.press("ArrowRight")
    assert ana.page.evaluate(clip) != before and before.startswith("rect(")
    ana.page.evaluate("low.value = 60; low.dispatchEvent(new Event('input'))")
    ana.wait("[...document.querySelectorAll('#map img')].some((one) => one.src.includes('low=60'))")
    ana.close()
