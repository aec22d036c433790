"""The labelling page on a telephone: all by fingers."""

from playwright.sync_api import Browser, TimeoutError

from tests.labelling.page_runs import Labeller, kept, levels

PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
_ZOOM = "import('/static/view.js').then(({ main }) => main().getZoom())"


def on_phone(browser: Browser, url: str, name: str) -> Labeller:
    labeller = Labeller(browser, url, name, **PHONE)
    assert labeller.page.evaluate("document.documentElement.scrollWidth") == PHONE["viewport"]["width"]
    return labeller


def pinch(labeller: Labeller, steps: tuple[int, ...]) -> None:
    """Put two fingers around the middle of the map, and move each so many pixels away from it."""
    x, y = labeller.middle()
    labeller.fingers("touchStart", (x - steps[0], y))
    labeller.fingers("touchStart", (x - steps[0], y), (x + steps[0], y))
    for step in steps[1:]:
        labeller.fingers("touchMove", (x - step, y), (x + step, y))
    labeller.page.wait_for_timeout(100)
    labeller.fingers("touchEnd")


def swipe(labeller: Labeller, *places: tuple[float, float]) -> None:
    """Move a finger through places, in pixels from the middle of the map."""
    x, y = labeller.middle()
    labeller.fingers("touchStart", (x + places[0][0], y + places[0][1]))
    for right, down in places[1:]:
        labeller.fingers("touchMove", (x + right, y + down))
    labeller.fingers("touchEnd")


def at_rest(labeller: Labeller, place: tuple[float, float]) -> tuple[float, float]:
    """Where a point of the pair is in the window once the map, which glides on after a swipe, has come to rest."""
    seen = labeller.spot(*place)
    for _ in range(50):
        labeller.page.wait_for_timeout(200)
        before, seen = seen, labeller.spot(*place)
        if seen == before:
            break
    return seen


def tap_until_shown(labeller: Labeller, button: str, shown: str) -> None:
    """Tap a button until something is seen: a browser on a busy machine may take a tap for a long press."""
    for _ in range(3):
        labeller.page.locator(button).tap()
        try:
            labeller.page.locator(shown).wait_for(timeout=8000)
        except TimeoutError:
            continue
        return
    raise AssertionError(f"{shown} is not seen after three taps on {button}")


def test_a_tap_labels_one_finger_moves_the_map_and_two_zoom(browser: Browser, server, store):
    ben = on_phone(browser, f"{server.url}#/phone", "Ben")
    name = ben.buildings()[0]
    ben.page.touchscreen.tap(*ben.spot(*ben.objects()[name]["centre"]))
    ben.wait("import('/static/state.js').then(({ state }) => state.selected.size === 1)")
    ben.page.locator("[data-level=major]").tap()
    ben.wait_saved()
    assert levels(store, "phone") == {name: "major"}

    place = ben.objects()[name]["centre"]
    zoom, before = ben.page.evaluate(_ZOOM), ben.spot(*place)
    pinch(ben, (20, 30, 50, 70))
    ben.wait(f"{_ZOOM}.then((now) => now > {zoom})")
    zoom, before = ben.page.evaluate(_ZOOM), ben.spot(*place)
    swipe(ben, (-100, 40), (-80, 50), (-60, 60), (-40, 70))
    after = at_rest(ben, place)
    moved = after[0] - before[0], after[1] - before[1]
    assert 40 <= moved[0] <= 90 and 15 <= moved[1] <= 60, "the ground goes with the finger"
    assert ben.page.evaluate(_ZOOM) == zoom
    assert ben.page.get_attribute("#divider", "aria-valuenow") == "50"
    swipe(ben, (0, 0), (30, 0), (60, 0))
    assert ben.page.get_attribute("#divider", "aria-valuenow") == "65"  # of 390 pixels
    assert ben.spot(*place) == after
    tap_until_shown(ben, "#show-panel", "#scores")
    box = ben.page.locator("#scores").bounding_box()
    assert box is not None and box["y"] + box["height"] < 800  # what was asked for is in view
    ben.page.locator("#show-panel").tap()
    assert levels(store, "phone") == {name: "major"}  # none of it labelled anything
    ben.close()


def test_polygon_and_brush_by_fingers(browser: Browser, server, store):
    ben = on_phone(browser, f"{server.url}#/phone", "Eve")
    known = set(kept(store, "phone"))
    ben.page.locator("[data-level=destroyed]").tap()  # of what is drawn next
    ben.page.locator("[data-tool=polygon]").tap()
    x, y = ben.middle()
    for right, down in ((-50, -50), (30, -50), (30, 20), (-50, 20), (-50, -50)):
        ben.page.touchscreen.tap(x + right, y + down)
    ben.wait_saved()
    (drawn,) = set(kept(store, "phone")) - known
    assert levels(store, "phone")[drawn] == "destroyed"
    corners = kept(store, "phone")[drawn].geometry.exterior.coords
    assert len(corners) == 5

    ben.page.locator("[data-tool=brush]").tap()
    seen, zoom = len(ben.objects()), ben.page.evaluate(_ZOOM)
    pinch(ben, (20, 30, 50, 70))
    ben.wait(f"{_ZOOM}.then((now) => now > {zoom})")
    assert len(ben.objects()) == seen  # two fingers paint nothing
    swipe(ben, (-40, 40), (-10, 70), (20, 100))
    ben.wait_saved()
    assert len(kept(store, "phone")) == len(known) + 2
    ben.close()
