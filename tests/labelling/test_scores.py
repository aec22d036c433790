"""Scores while people label, and the blind sample, as the page asks for them."""

import importlib.util

import pytest

from jaxcd.runs import run_folder
from tests.labelling.learned import BUILDINGS, DAMAGED, judge, level, town, wait_scores, write_town
from tests.labelling.served import CHANGES, CHANGING, Person, change, client, edit, process
from tests.mapping.map_runs import config as network
from tests.mapping.map_runs import write_run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn: pip install 'jaxcd[active]'"
)


def test_scores_come_after_ten_labels_and_tell_damage(tmp_path):
    with town(tmp_path) as ann:
        none = wait_scores(ann, state="labels")
        assert none["objects"] == {} and none["done"] == none["total"] == BUILDINGS
        assert none["reason"] == "scores come after 10 labels, damaged and intact ones among them: 0 so far"
        judge(ann, {number: level(number) for number in range(9)})
        assert wait_scores(ann, state="labels", labels=9)["reason"].endswith(": 9 so far")
        judge(ann, {number: "unknown" for number in (30, 31)})  # teach nothing
        judge(ann, {number: level(number) for number in range(9, 12)})
        found = wait_scores(ann, labels=12)
        assert (found["source"], found["reason"]) == ("head", None)
        scores = found["objects"]
        assert len(scores) == BUILDINGS and all(0 <= value <= 1 for value in scores.values())
        called = {int(key[1:]) for key, value in scores.items() if value >= 0.5}
        assert len(called ^ DAMAGED) <= 3
        again = ann.get(f"/api/scores?pair=scene&since={found['number']}").json()
        assert again["objects"] is None and again["number"] == found["number"]
        assert ann.get("/api/scores?pair=elsewhere").status_code == 404
        judge(ann, {40: level(40)})
        assert wait_scores(ann, labels=13)["number"] > found["number"]
    with town(tmp_path) as ann:  # features are kept, numbers go on
        assert wait_scores(ann)["number"] > found["number"]


@pytest.mark.slow
def test_the_encoder_of_a_run_scores_and_has_no_figures_where_it_has_learned(tmp_path):
    write_town(tmp_path)
    run = write_run(tmp_path / "run", network("fc_siam_diff", "small", scale="xbd"))
    flags = (
        "--pre",
        tmp_path / "pre.tif",
        "--post",
        tmp_path / "post.tif",
        "--footprints",
        tmp_path / "footprints.gpkg",
    )
    with process(*flags, "--store", tmp_path / "store", "--run", run) as (_, port):
        ann = Person(port, "Ann")
        body = change(*(edit(number, 0, level(number)) for number in range(40)))
        assert ann.ask(CHANGES, body)[0] == 200
        found = wait_scores(ann)
        assert found["encoder"] == "the encoder of run" and found["labels"] == 40
        called = {int(key[1:]) for key, value in found["objects"].items() if value >= 0.5}
        assert len(called ^ DAMAGED) <= 10  # of random weights: not as good as pretrained ones
        drawn = ann.ask("/api/sample", {"size": 4, "seed": 0, "strata": "none"})[1]
        numbers = [int(each["object"][1:]) for each in drawn["next"]]
        body = change(*(edit(number, int(number < 40), level(number)) for number in numbers))
        assert ann.ask(CHANGES, body)[0] == 200
        assert ann.ask("/api/figures")[1]["estimates"]["recall"] is not None
        run_folder.record_splits(run, {"train": ["scene"], "validation": [], "test": []}, labels="x")
        told = ann.ask("/api/figures")[1]
        assert told["reason"] == "run: was trained on scene: its figures here would mean nothing"
        assert told["estimates"]["recall"] is None and told["estimates"]["damaged"] is not None


@pytest.mark.slow
def test_the_next_to_judge(tmp_path):
    with town(tmp_path) as ann:
        judge(ann, {number: level(number) for number in range(12)})
        scores = wait_scores(ann, labels=12)["objects"]
        order = ann.get("/api/next?pair=scene&order=uncertain&count=20").json()["objects"]
        apart = [abs(scores[key] - 0.5) for key in order]
        assert len(order) == 20 and apart == pytest.approx(sorted(apart), abs=0.0011)
        assert not {f"f{number}" for number in range(12)} & set(order)
        for other in ("diverse", "random"):
            found = ann.get(f"/api/next?pair=scene&order={other}").json()["objects"]
            assert len(set(found)) == 10 and not {f"f{number}" for number in range(12)} & set(found)
        assert ann.get("/api/next?pair=scene&order=best").status_code == 422


def test_the_sample_is_drawn_held_back_and_judged_in_its_order(tmp_path):
    with town(tmp_path) as ann:
        assert ann.get("/api/sample").json() == {"size": 0, "held": {}}
        judge(ann, {number: level(number) for number in range(60)})
        before = wait_scores(ann, labels=60)
        said = ann.get("/api/sample/size?width=0.3").json()
        assert said["labelled"] == 60 and said["again"] == round(0.6 * said["size"])
        assert said["scored"] and said["interval"] == "precision" and said["warning"] is None
        from jaxcd.assessment.estimates import hypergeometric

        low, high = hypergeometric(round(said["expected"] * said["size"]), said["size"], BUILDINGS)
        assert said["about"] == (high - low) / 2 > 5 and abs(said["expected"] - len(DAMAGED) / BUILDINGS) < 0.05
        few = ann.get("/api/sample/size?size=85").json()  # about 9 of 60 labels would be left
        assert few["size"] == 85 and few["warning"].startswith("About 9 of your 60 labels would be left to learn from.")
        assert few["about"] < said["about"]
        most = ann.get("/api/sample/size?size=95").json()["warning"]
        assert "only 5 buildings would lie outside of the sample" in most
        assert ann.get("/api/sample/size?width=0.3&size=5").status_code == 422
        drawn = ann.post("/api/sample", json={"size": 30, "seed": 3}, headers=CHANGING).json()
        assert (drawn["size"], drawn["judged"], drawn["random_so_far"], drawn["seed"]) == (30, 0, True, 3)
        assert len(drawn["next"]) == 10 and drawn["buildings"] == BUILDINGS
        assert sum(each["members"] for each in drawn["strata"]) == 30
        after = wait_scores(ann, above=before["number"])
        assert ann.get("/api/figures").json()["labels"] == after["labels"]
        members = set(before["objects"]) - set(after["objects"])
        assert drawn["held"] == {"scene": sorted(members)} and after["sample"] == 1
        assert len(members) == 30 and {each["object"] for each in drawn["next"]} < members
        judged_before = sum(int(key[1:]) < 60 for key in members)
        assert judged_before > 0 and after["labels"] == 60 - judged_before
        everything = ann.get("/api/next?pair=scene&order=random&count=100").json()["objects"]
        assert not set(everything) & members and len(everything) == BUILDINGS - 60 - (30 - judged_before)
        # Nobody has judged a member since: another draw takes its place, or it is taken away.
        assert ann.post("/api/sample", json={"size": 20, "seed": 4}, headers=CHANGING).json()["size"] == 20
        assert ann.delete("/api/sample", headers=CHANGING).json() == {"size": 0, "held": {}}
        drawn = ann.post("/api/sample", json={"size": 30, "seed": 3}, headers=CHANGING).json()
        first, second = (int(each["object"][1:]) for each in drawn["next"][:2])
        judge(ann, {first: level(first)}, base=int(first < 60))
        state = ann.get("/api/sample").json()
        assert (state["judged"], state["random_so_far"]) == (1, True)
        assert state["next"][0]["object"] == f"f{second}"
        for answer in (
            ann.post("/api/sample", json={"size": 20}, headers=CHANGING),
            ann.delete("/api/sample", headers=CHANGING),
        ):
            assert answer.status_code == 409
            assert answer.json()["error"] == "the blind sample stays: people have judged 1 of its members"
    with town(tmp_path) as ann:
        assert ann.get("/api/sample").json() == state


@pytest.mark.slow
def test_what_cannot_be_drawn_or_scored_is_told_in_one_line(tmp_path):
    with town(tmp_path) as ann:
        judge(ann, {number: "intact" for number in range(60)})
        reason = wait_scores(ann, state="labels", labels=60)["reason"]
        told = "scores need labels of both damaged and intact buildings, there are 60, all intact: label more"
        assert reason == told
        for body, said in (
            ({"size": 101}, "blind sample: expected 1 to 100 members, as many as the scene has, got 101"),
            ({"width": 0.1, "size": 5}, "Value error, give the width of the intervals, or the size of the sample"),
        ):
            answer = ann.post("/api/sample", json=body, headers=CHANGING)
            assert (answer.status_code, answer.json()["error"]) == (422, said)
        wide = ann.get("/api/sample/size?width=0.1").json()["size"]
        assert ann.post("/api/sample", json={"width": 0.1}, headers=CHANGING).json()["size"] == wide
    with client(tmp_path / "none", scale="binary") as ann:
        assert wait_scores(ann, state="labels")["reason"].startswith("the scale binary has no level for intact")
