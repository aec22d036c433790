"""The labelling page while the server learns: scores, the next to judge, the blind sample, fine-tuning, suggestions."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import shapely
from playwright.sync_api import Browser, expect

from jaxcd.labelling.learning import tuned_maps, tuning
from jaxcd.labelling.learning.tuning import DONE, Progress, TuneSettings
from jaxcd.labelling.learning.tuning_steps import plan
from jaxcd.labelling.store import Store, blind
from jaxcd.simulator import cut_tiles, simulate
from tests.entries import _CONFIG, run
from tests.labelling.learned import BUILDINGS, DAMAGED, STEP, level, write_town
from tests.labelling.page_runs import Labeller, kept, levels, serving
from tests.labelling.test_tuning import write_map
from tests.scenes.scene_files import GSD

KEYS = {"intact": "1", "destroyed": "4"}
LONG = 120_000  # milliseconds: features of a first start on a busy machine


def judge(person: Labeller, names: list[str]) -> None:
    """Give buildings their true levels, in one change of each level."""
    person.page.evaluate(
        "async (levels) => { const { edit } = await import('/static/objects.js'); "
        "for (const [level, ids] of Object.entries(levels)) edit(ids, { level }); }",
        {each: [name for name in names if level(int(name[1:])) == each] for each in KEYS},
    )
    person.wait_saved()


def score_of(person: Labeller, name: str) -> float | None:
    return person.page.evaluate(
        "async (id) => { const { objects } = await import('/static/objects.js'); "
        "return (await import('/static/scores.js')).scoreOf(objects.get(id)); }",
        name,
    )


def learn(ana: Labeller, store, names: list[str]) -> None:
    """Label twelve buildings; see scores, colours on and off, and take the level that is suggested for the next one."""
    expect(ana.page.locator("#scores-told")).to_contain_text(
        "Scores come after 10 labels, damaged and intact ones among them: 0 so far.", timeout=LONG
    )
    judge(ana, names)
    expect(ana.page.locator("#scores-told")).to_have_text("Learned from 12 labels.", timeout=LONG)
    others = sorted(ana.objects().keys() - set(names))
    found = {name: score_of(ana, name) for name in others[:20]}
    right = sum((value > 0.5) == (int(name[1:]) in DAMAGED) for name, value in found.items() if value is not None)
    assert right >= 18
    ana.press("v")
    assert score_of(ana, others[0]) is None
    ana.press("v")
    assert score_of(ana, others[0]) == found[others[0]]
    ana.page.select_option("#order", "random")
    ana.page.locator("#map").focus()
    ana.press("j")
    ana.wait("document.querySelector('#take-it').hidden === false")
    (offered,) = ana.selected()
    found[offered] = score_of(ana, offered)
    assert offered in others and "damaged)" in ana.page.locator("#take-it").inner_text()
    score = found[offered]
    assert score is not None
    wanted = "destroyed" if score >= 0.5 else "intact"
    expect(ana.page.locator("#selected-told")).to_contain_text(f"{100 * score:.0f} % damaged, by score")
    ana.press("Enter")
    ana.wait_saved()
    assert levels(store, "scene")[offered] == wanted
    ana.wait(f"document.querySelector('#take-it').hidden === false && {offered!r}")


def draw_before_scores(ana: Labeller) -> None:
    """Draw a sample where there are no scores, see that nothing claims any, and discard it."""
    expect(ana.page.locator("#scores-told")).to_contain_text("0 so far.", timeout=LONG)
    ana.page.click("#draw-sample")
    expect(ana.page.locator("#sample-width-of")).to_have_text("Width of the interval of the share of damaged buildings")
    expect(ana.page.locator("#sample-strata")).to_be_hidden()
    ana.page.fill("#sample-count", "5")
    expect(ana.page.locator("#sample-size")).to_contain_text("5 of 100 buildings to judge. If 20 % are damaged, their")
    ana.page.click("#draw-it")
    expect(ana.page.locator("#scores-told")).to_contain_text("0 so far outside of the blind sample.")
    ana.page.click("#show-figures")
    expect(ana.page.locator("#figures-told")).to_contain_text("0 of 5 sample buildings are judged. The scene has 100.")
    expect(ana.page.locator("#figures-told")).not_to_contain_text(re.compile("cores (are|were)"))
    ana.press("Escape")
    ana.page.click("#drop-sample")
    expect(ana.page.locator("#sample-told")).to_contain_text("None yet")


def go_on_as_one_came(ana: Labeller) -> None:
    """Label two buildings: a mouse leaves Enter to the suggestion, and a level goes on as the last key led there."""
    (before,) = ana.selected()
    ana.page.click("#next-suggested")
    ana.wait(f"!document.querySelector('#selected-title').textContent.endsWith(' {before}')")
    (offered,) = ana.selected()
    ana.page.click("#go-on")
    x, y = ana.spot(*ana.objects()[offered]["centre"])
    ana.page.mouse.move(x + 1, y)
    expect(ana.page.locator("#hover")).to_contain_text("not judged")
    ana.press("1")
    assert ana.page.locator("#hover").inner_text().startswith("intact") or ana.page.locator("#hover").is_hidden()
    ana.wait(f"document.querySelector('#take-it').hidden === false && {offered!r}")  # another one is offered
    (following,) = ana.selected()
    assert following != offered
    ana.press("Enter")  # takes what is suggested: no button has the focus
    ana.wait_saved()
    assert following in ana.levels()
    ana.wait(f"!document.querySelector('#selected-title').textContent.endsWith(' {following}')")
    ana.press("z", "z")
    for name in (offered, following):
        ana.wait_shown(name, None)
    ana.page.click("#go-on")
    ana.press("Escape")
    assert ana.selected() == []
    ana.page.click("summary:has-text('Accept many')")
    assert ana.page.evaluate("panel.scrollWidth <= panel.clientWidth")


def leave_and_undo(ana: Labeller, members: list[str], size: int) -> None:
    """Leave the sample after its first answer, come back, undo, and judge the first member again."""
    told, first, second = ana.page.locator("#blind-told"), *members[:2]
    ana.press("Escape")
    expect(told).to_have_text(f"Blind sample, 1 of {size} judged; nothing is selected. Scores are hidden.")
    ana.press("n")
    expect(told).to_have_text(f"Blind sample, 2 of {size}: scores are hidden.")
    assert ana.selected() == [second]
    ana.press("Escape")
    ana.page.click("#back-blind")
    ana.wait(f"document.querySelector('#selected-title').textContent.endsWith(' {second}')")
    ana.press("z")
    ana.wait(f"document.querySelector('#selected-title').textContent.endsWith(' {first}')")
    expect(told).to_have_text(f"Blind sample, 1 of {size}: scores are hidden.")
    expect(ana.page.locator("#sample-told")).to_contain_text(f"0 of {size} ")
    x, y = ana.middle()
    assert ana.spot(*ana.objects()[first]["centre"]) == pytest.approx((x, y), abs=4)
    ana.press(KEYS[level(int(first[1:]))])
    ana.wait(f"document.querySelector('#selected-title').textContent.endsWith(' {second}')")


def judge_the_sample(ana: Labeller, store, most: int | None = None) -> int:
    """Draw a blind sample and judge it, without seeing a score; returns how many were judged."""
    ana.page.click("#draw-sample")
    expect(ana.page.locator("#sample-damaged")).to_have_text(" (major or destroyed)")
    ana.page.select_option("#sample-width", "0.3")
    expect(ana.page.locator("#sample-size")).to_contain_text("you judge these again")
    expect(ana.page.locator("#sample-width-of")).to_have_text("Width of precision's interval")
    ana.page.click("#draw-it")
    expect(ana.page.locator("#sample-told")).to_contain_text("0 of")
    size = int(re.findall(r"\d+", ana.page.locator("#sample-told").inner_text())[1])
    ana.page.click("#judge-sample")
    opened = Store.open(store)
    members = [key.split("/")[1] for key in blind.members(opened)]
    opened.close()
    assert len(members) == size
    assert [score_of(ana, name) for name in members] == [None] * size
    count = min(size, most or size)
    for number, member in enumerate(members[:count], start=1):
        ana.wait(f"document.querySelector('#selected-title').textContent.endsWith(' {member}')")
        if number == 1:
            expect(ana.page.locator("#blind-told")).to_contain_text(f"1 of {size}: scores are hidden")
            expect(ana.page.locator("#score-tools")).to_be_hidden()
            assert {score_of(ana, name) for name in ana.objects()} == {None}
            expect(ana.page.locator("#selected-told")).to_have_text("Of the blind sample: which level is it?")
        ana.press(KEYS[level(int(member[1:]))])
        if number == 1:
            leave_and_undo(ana, members, size)
    ana.wait_saved()
    if count < size:
        ana.page.click("#stop-blind")
    expect(ana.page.locator("#blind")).to_be_hidden()
    expect(ana.page.locator("#sample-told")).to_contain_text(f"{count} of {size} ")
    opened = Store.open(store)
    answers = blind.answers(opened)
    opened.close()
    assert {key.split("/")[1]: answer.level for key, answer in answers.items()} == {
        member: level(int(member[1:])) for member in members[:count]
    }
    return count


def warned_before_scores_vanish(ana: Labeller) -> None:
    """See what the dialog says of a sample that leaves too few labels; draw nothing."""
    ana.page.click("#draw-sample")
    ana.page.fill("#sample-count", "90")
    expect(ana.page.locator("#sample-warning")).to_contain_text(
        "About 1 of your 13 labels would be left to learn from."
    )
    expect(ana.page.locator("#draw-it")).to_have_text("Draw all the same")
    ana.page.fill("#sample-count", "")
    expect(ana.page.locator("#draw-it")).to_have_text(re.compile("^Draw"))
    ana.page.click("#draw [data-close]")


def walk_around_the_sample(ana: Labeller, store) -> None:
    """See that N leads to all buildings but members of the blind sample."""
    opened = Store.open(store)
    members = {key.split("/")[1] for key in blind.members(opened)}
    opened.close()
    left = ana.objects().keys() - ana.levels().keys() - members
    ana.page.locator("#map").focus()
    seen = set()
    for _ in range(2 * len(left)):
        ana.press("n")
        seen |= set(ana.selected())
    assert seen == left
    judge(ana, sorted(left))
    ana.press("n")
    expect(ana.page.locator("#toasts")).to_contain_text("All buildings here are judged, but for the blind sample.")


def figures(ana: Labeller) -> dict[str, tuple[float, float, float]]:
    """Read estimate, low and high of the figures that the page shows."""
    ana.page.click("#show-figures")
    rows = ana.page.locator("#figures-told tbody tr")
    expect(rows).to_have_count(4)
    read = [[float(number) for number in re.findall(r"[\d.]+", " ".join(row.split("\t")[1:]))]
            for row in rows.all_inner_texts()]  # fmt: skip
    names = ("damaged", "precision", "recall", "f1")
    found = {name: (value, low, high) for name, (value, low, high) in zip(names, read, strict=True)}
    ana.press("Escape")
    return found


@pytest.mark.slow
def test_scores_come_while_labelling_and_a_blind_sample_says_how_good_they_are(browser: Browser, tmp_path):
    write_town(tmp_path)
    store = tmp_path / "store"
    flags = ["--pre", tmp_path / "pre.tif", "--post", tmp_path / "post.tif", "--store", store]
    with serving([*flags, "--footprints", tmp_path / "footprints.gpkg"]) as server:
        ana = Labeller(browser, server.url)
        expect(ana.page.locator("#title")).to_have_text(tmp_path.name)  # the folder of both scenes
        draw_before_scores(ana)
        learn(ana, store, [f"f{number}" for number in range(12)])
        go_on_as_one_came(ana)
        ana.page.click("#show-figures")
        expect(ana.page.locator("#figures-told")).to_contain_text("No blind sample")
        expect(ana.page.locator("#figures-told")).to_contain_text(re.compile(r"learned from 1\d labels\."))
        ana.press("Escape")
        warned_before_scores_vanish(ana)
        judge_the_sample(ana, store, most=6)
        walk_around_the_sample(ana, store)
        ana.page.click("#show-figures")
        expect(ana.page.locator("#figures-told")).to_contain_text(re.compile(r"6 of \d+ sample buildings are judged\."))
        expect(ana.page.locator("#figures-told")).to_contain_text("Damaged means major or destroyed.")
        expect(ana.page.locator("#figures-told tbody tr")).to_have_count(4)
        with ana.page.expect_download() as downloading:
            ana.page.click("#save-figures")
        saved = json.loads(Path(downloading.value.path()).read_text())
        assert saved["sample"]["judged"] == 6 and downloading.value.suggested_filename == "figures.json"
        ana.press("Escape", "0")
        assert ana.page.evaluate(
            "import('/static/view.js').then(({ main, boxOf }) => import('/static/state.js').then(({ state }) => "
            "main().getBounds().contains(boxOf(state.pair.bounds))))"
        )
        expect(ana.page.locator("#tune-told")).to_contain_text("Trains the network on these labels")
        ana.close()


@pytest.mark.slow
def test_without_footprints_cells_are_scored(browser: Browser, tmp_path):
    write_town(tmp_path)
    store = tmp_path / "store"
    flags = ["--pre", tmp_path / "pre.tif", "--post", tmp_path / "post.tif", "--store", store]
    with serving([*flags, "--cells", STEP * GSD]) as server:
        ana = Labeller(browser, server.url)
        assert len(ana.objects()) == BUILDINGS
        ana.press("n")
        (first,) = ana.selected()
        expect(ana.page.locator("#selected-title")).to_have_text(f"cell {first}")
        ana.press("Delete")
        expect(ana.page.locator("#toasts")).to_contain_text("Cells stay")
        learn(ana, store, [f"c{number}" for number in range(12)])
        expect(ana.page.locator("#sample-told")).to_contain_text("None yet: cells drawn at random")
        expect(ana.page.locator("#progress-told")).to_have_text("cells and polygons judged: 13")
        judge_the_sample(ana, store, most=3)
        ana.page.click("#show-figures")
        expect(ana.page.locator("#figures-told")).to_contain_text("damaged cells in the scene")
        ana.press("Escape")
        ana.close()


@pytest.mark.slow
def test_suggested_polygons_are_accepted_edited_and_rejected(browser: Browser, tmp_path):
    scene = simulate(tmp_path / "scene", seed=3, size=400)
    store = tmp_path / "store"
    flags = ["--pre", scene.pre, "--post", scene.post, "--store", store]
    with serving(flags):
        pass
    opened = Store.open(store)
    pair = opened.pairs["scene"]
    probabilities = np.zeros((pair.height, pair.width))
    for i in range(4):
        probabilities[60 + 70 * i : 90 + 70 * i, 100:140] = 0.6 + 0.1 * i
    write_map(tmp_path / "map", pair, probabilities, 0.5)
    folder = store / "tuned" / "1"
    folder.mkdir(parents=True)
    tuning.write_plan(folder, plan(store, None, "", TuneSettings()))
    tuned_maps.write_found(folder / tuning.FOUND, opened, {"scene": tmp_path / "map"}, 1)
    tuning.write_progress(folder, Progress(DONE, 1, 200, 200))
    opened.close()
    ids = [one["id"] for one in tuning.suggestions(store, "scene")]
    with serving(flags) as server:
        ana = Labeller(browser, server.url)
        told, one = ana.page.locator("#suggestions-told"), ana.page.locator("#suggestion-told")
        expect(told).to_have_text("4 polygons suggested")
        ana.press("j")
        expect(one).to_contain_text("This one: major, ")
        ana.press("Enter")
        ana.wait_saved()
        assert kept(store, "scene")[ids[0]].level == "major"
        outline = kept(store, "scene")[ids[0]].geometry
        wanted = shapely.from_wkb(tuning.suggestions(store, "scene")[0]["outline"])
        assert outline is not None and outline.symmetric_difference(wanted).area < 0.01 * wanted.area
        expect(told).to_have_text("3 polygons suggested")
        ana.press("Delete")  # the next one is chosen
        expect(told).to_have_text("2 polygons suggested")
        ana.page.click("#suggestion-change")
        expect(ana.page.locator("#tools [data-tool=shape]")).to_have_attribute("aria-pressed", "true")
        ana.page.locator("#map").focus()
        ana.press("Enter")
        ana.wait_saved()
        assert kept(store, "scene").keys() == {ids[0], ids[2]}
        ana.reload()
        expect(told).to_have_text("1 polygons suggested")
        ana.close()


@pytest.mark.slow
def test_the_whole_loop_label_sample_fine_tune_correct_and_read(browser: Browser, tmp_path):
    write_town(tmp_path)
    cut_tiles(simulate(tmp_path / "other", seed=1, size=512), tmp_path / "tiles", tile=128)
    (tmp_path / "config.py").write_text(_CONFIG.format(root=str(tmp_path / "tiles"), cache=str(tmp_path / "cache")))
    code, said = run("jaxcd.train", "--config", tmp_path / "config.py", "--workdir", tmp_path / "run")
    assert code == 0, said
    store = tmp_path / "store"
    flags = [
        "--pre",
        tmp_path / "pre.tif",
        "--post",
        tmp_path / "post.tif",
        "--store",
        store,
        "--run",
        tmp_path / "run",
    ]
    with serving([*flags, "--footprints", tmp_path / "footprints.gpkg"]) as server:
        ana = Labeller(browser, server.url)
        ana.page.set_default_timeout(LONG)
        expect(ana.page.locator("#scores-told")).to_contain_text(
            "Scores come after 10 labels, damaged and intact ones among them: 0 so far.", timeout=LONG
        )
        judge(ana, [f"f{number}" for number in range(0, BUILDINGS, 2)])
        expect(ana.page.locator("#scores-told")).to_contain_text("Learned from 50 labels", timeout=LONG)
        judge_the_sample(ana, store)
        ana.page.fill("#tune-steps", "8")
        ana.page.click("#tune")
        told = ana.page.locator("#tune-told")
        expect(told).to_contain_text("Preparing")
        expect(told).to_contain_text("Training: step", timeout=5 * LONG)
        ana.page.click("#tune-cancel")
        expect(told).to_contain_text("Stopped at step", timeout=5 * LONG)
        ana.page.click("#tune")
        expect(told).to_have_text("Map 1 is there.", timeout=8 * LONG)
        expect(ana.page.locator("#scores-told")).to_have_text("From the fine-tuned network.", timeout=LONG)
        ana.press("Escape", "n")
        (unjudged,) = ana.selected()  # the map is corrected
        ana.press(KEYS[level(int(unjudged[1:]))])
        ana.wait_saved()
        assert levels(store, "scene")[unjudged] == level(int(unjudged[1:]))
        found = figures(ana)
        assert found["damaged"][1] <= len(DAMAGED) <= found["damaged"][2]
        ana.close()
