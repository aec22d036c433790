"""The labelling page: several people, conflicts, second opinions, lost connections, watching."""

import signal

import pytest
from playwright.sync_api import Browser, expect

from jaxcd.labelling.store import Store
from tests.labelling import label_stores
from tests.labelling.page_runs import Labeller, kept, levels, polygon, serving, start


@pytest.mark.slow
def test_what_was_drawn_outlives_a_killed_server(browser: Browser, bare, running, tmp_path):
    store = tmp_path / "store"
    server = running(start(bare))
    ana = Labeller(browser, server.url)
    polygon(ana, -100, -100)
    ana.press("4")
    ana.wait_saved()
    first = levels(store, "scene")
    assert list(first.values()) == ["destroyed"]

    server.end(signal.SIGKILL)
    polygon(ana, 20, -100)
    ana.press("3")
    expect(ana.page.locator("#saved")).to_contain_text("not saved, retrying")
    assert levels(store, "scene") == first and len(ana.objects()) == 2
    server = running(start(bare, server.port))
    ana.wait_saved()
    assert sorted(levels(store, "scene").values()) == ["destroyed", "major"]

    # What waits is kept by the browser, also while the page is gone.
    server.end(signal.SIGKILL)
    polygon(ana, -100, 20)
    ana.press("2")
    ana.page.wait_for_selector("#saved[data-state=lost]")
    ana.page.goto("about:blank")
    server = running(start(bare, server.port))
    ana.page.goto(server.url)
    ana.wait_for_map()
    ana.wait_saved()
    assert sorted(levels(store, "scene").values()) == ["destroyed", "major", "minor"]
    ana.reload()
    assert ana.levels() == levels(store, "scene")
    opened = Store.open(store)
    assert {len(opened.history("scene", name)) for name in levels(store, "scene")} == {
        2
    }  # drawn, then judged: nothing twice
    opened.close()
    ana.close()


def test_an_answer_that_got_lost_saves_nothing_twice(browser: Browser, server, store):
    ana = Labeller(browser, f"{server.url}#/lost")
    name = ana.buildings()[0]
    lost: list[int] = []

    def lose(route):
        if route.request.method == "POST" and not lost:
            lost.append(route.fetch().status)  # the server has saved it
            route.abort("connectionreset")
        else:
            route.continue_()

    ana.page.route("**/changes", lose)
    ana.click(name)
    ana.press("3")
    ana.page.wait_for_selector("#saved[data-state=lost]")
    ana.wait_saved()
    assert lost == [200] and kept(store, "lost")[name].version == 1
    ana.close()


def test_two_people_at_one_building_see_the_conflict(browser: Browser, server, store):
    ana, ben = Labeller(browser, f"{server.url}#/conflict", "Ana"), Labeller(browser, f"{server.url}#/conflict", "Ben")
    ben.page.route("**/changes?since=*", lambda route: route.abort())  # he hears of nothing
    first, second, third = ana.buildings()[:3]
    for name in (first, second):
        ana.click(name)
        ana.press("1")
    ana.wait_saved()
    for name, key, choice, level in (
        (first, "4", "#all-mine", "destroyed"),
        (second, "3", "#all-theirs", "intact"),
    ):
        ben.click(name)
        ben.press(key)
        expect(ben.page.locator("#conflict")).to_be_visible()
        assert levels(store, "conflict")[name] == "intact"
        row = ben.page.inner_text("#conflict-rows")
        assert "intact (Ana)" in row and {"4": "destroyed", "3": "major"}[key] in row
        ben.page.click(choice)
        ben.page.click("#settle")
        ben.wait_saved()
        ben.wait_shown(name, level)
        assert levels(store, "conflict")[name] == level
    assert (kept(store, "conflict")[first].author, kept(store, "conflict")[first].version) == ("Ben", 2)
    assert (kept(store, "conflict")[second].author, kept(store, "conflict")[second].version) == ("Ana", 1)
    ana.wait_shown(first, "destroyed")  # she hears of it by herself
    ana.click(third)
    ana.press("m")  # her comment is begun before his label comes
    ben.click(third)
    ben.press("2")
    ana.wait_shown(third, "minor")
    ana.page.keyboard.type("cracks")
    ana.page.click("#save-comment")
    expect(ana.page.locator("#conflict")).to_be_visible()
    ana.page.click("#all-mine")
    ana.page.click("#settle")
    ana.wait_saved()
    assert (kept(store, "conflict")[third].level, kept(store, "conflict")[third].comment) == ("minor", "cracks")
    opened = Store.open(store)
    steps = opened.history("conflict", first)
    assert [step.changes["level"] for step in steps] == [(None, "intact"), ("intact", "destroyed")]
    opened.close()
    ana.close()
    ben.said = [text for text in ben.said if "ERR_FAILED" not in text]
    ben.close()


def test_a_second_opinion_is_given_without_a_look_at_the_first(browser: Browser, bare, running):
    server = running(start([*bare, "--second_opinions", "1"]))
    count = "import('/static/objects.js').then(({{ objects }}) => objects.size === {})"

    def judge(labeller: Labeller, key: str, verdict: str) -> None:
        polygon(labeller, -20, -20)
        labeller.press(key)
        labeller.wait_saved()
        labeller.press(f"Shift+{verdict}")
        labeller.wait_saved()

    def next_task(labeller: Labeller) -> None:
        with labeller.page.expect_response("**/api/next"):
            labeller.press("q")

    ana = Labeller(browser, server.url)
    next_task(ana)
    judge(ana, "4", "D")
    (hers,) = ana.objects()
    ben = Labeller(browser, server.url, "Ben")
    assert ben.levels() == {hers: "destroyed"}  # nobody has asked him yet
    next_task(ana)
    next_task(ben)  # the pair that he has open: what he saw of it goes
    ben.wait(count.format(0))
    judge(ben, "2", "I")
    assert list(ben.levels().values()) == ["minor"]
    next_task(ben)  # done: both are shown
    ben.wait(count.format(2))
    assert sorted(ben.levels().values()) == ["destroyed", "minor"]
    ben.page.locator("#show-agreement").click()
    told = ben.page.locator("#agreement-told")
    expect(told.locator("tbody tr")).to_contain_text("Ana, Ben")
    expect(told.locator("tbody td").nth(4)).to_have_text("1")  # pairs that both judged
    expect(told.locator("li")).to_have_text(["scene, the whole pair"])
    ana.close()
    ben.close()


def test_read_only_is_for_watching(browser: Browser, scene, tmp_path):
    folder = tmp_path / "store"
    flags = ["--pre", scene.pre, "--post", scene.post, "--footprints", scene.footprints, "--store", folder]
    with serving([*flags, "--read_only"], end_by=signal.SIGKILL) as watched:
        guest = Labeller(browser, watched.url, None)
        assert not guest.page.locator("#ask-who").is_visible() and guest.page.locator("#read-only").is_visible()
        name, other, third = guest.buildings()[:3]
        store = Store.open(folder)  # of somebody who labels by another process
        ana = store.person("Ana")
        label_stores.judge(store, ana, {name: "destroyed"}, pair="scene")
        guest.wait_shown(name, "destroyed")  # what others do comes by itself
        guest.click(name)
        expect(guest.page.locator("#selected-told")).to_contain_text("destroyed")
        guest.click(other)
        guest.press("1", "Delete", "Shift+D", "g")
        assert guest.page.locator("#levels").is_hidden() and guest.page.locator("#undo").is_hidden()
        label_stores.judge(store, ana, {third: "minor"}, pair="scene")
        guest.wait_shown(third, "minor")
        guest.close()
        store.close()
    assert levels(folder, "scene") == {name: "destroyed", third: "minor"} and "pair" not in kept(folder, "scene")
