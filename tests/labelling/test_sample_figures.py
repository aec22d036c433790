"""Figures of a judged blind sample: intervals, calibration, and what takes them away."""

import importlib.util

import pytest

from jaxcd.base.errors import ConfigError
from jaxcd.base.scales import EMS98
from jaxcd.config import DataConfig
from jaxcd.config import files as config_files
from jaxcd.labelling.learning import leaks
from jaxcd.runs import run_folder
from jaxcd.store import manifest
from tests.labelling.label_stores import town as small_town
from tests.labelling.learned import BUILDINGS, DAMAGED, judge, level, town, wait_scores
from tests.labelling.served import CHANGING
from tests.labelling.test_blind_sample import sampled
from tests.mapping.map_runs import config

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="needs scikit-learn: pip install 'jaxcd[active]'"
)
SHARES = ("precision", "recall", "f1", "damaged")


@pytest.mark.slow
def test_a_judged_sample_gives_intervals_and_flipping_it_changes_no_score(tmp_path):
    with town(tmp_path) as ann:
        judge(ann, {number: level(number) for number in range(0, BUILDINGS, 3)})
        first = wait_scores(ann)
        none = ann.get("/api/figures").json()
        assert none["sample"] is None and none["estimates"] == dict.fromkeys(SHARES)
        assert none["reason"].startswith("no blind sample: ") and none["buildings"] == BUILDINGS
        assert abs(none["called"] - len(DAMAGED)) <= 3
        ann.post("/api/sample", json={"size": 40, "seed": 1}, headers=CHANGING)
        drawn = wait_scores(ann, above=first["number"])
        members = {int(key[1:]) for key in first["objects"].keys() - drawn["objects"].keys()}
        assert ann.get("/api/figures").json()["reason"].startswith("none of the 40 members of the blind sample")

        order = []
        while len(order) < 20:  # half of it, in its order
            order += [int(each["object"][1:]) for each in ann.get("/api/sample").json()["next"]]
            judge(ann, {n: level(n) for n in order[-10:] if n % 3 == 0}, base=1)
            judge(ann, {n: level(n) for n in order[-10:] if n % 3})
        half = ann.get("/api/figures").json()
        assert half["sample"]["judged"] == 20 and half["sample"]["random_so_far"] and half["reason"] is None
        assert half["notes"] == []
        assert half["estimates"]["damaged"]["low"] <= len(DAMAGED) <= half["estimates"]["damaged"]["high"]
        last = sorted(members - set(order))[-1]
        left = [each for each in ann.get("/api/sample").json()["next"] if each["object"] != f"f{last}"]
        skipped = int(left[-1]["object"][1:])
        judge(ann, {skipped: level(skipped)}, base=int(skipped % 3 == 0))  # not in its order
        bare = ann.get("/api/figures").json()
        assert bare["reason"].startswith("no intervals: the judged members are no random part of the sample")
        assert bare["estimates"]["damaged"]["low"] is None and bare["sample"]["random_so_far"] is False

        rest = members - set(order) - {skipped}
        judge(ann, {n: level(n) for n in rest if n % 3 == 0}, base=1)
        judge(ann, {n: level(n) for n in rest if n % 3})
        found = ann.get("/api/figures").json()
        assert found["reason"] is None and found["notes"] == [] and found["source"] == "head"
        damaged = found["estimates"]["damaged"]
        assert damaged["low"] <= len(DAMAGED) <= damaged["high"] and 0 < damaged["high"] - damaged["low"] < 30
        assert found["estimates"]["precision"]["value"] > 0.8 and found["estimates"]["recall"]["value"] > 0.8
        calibration = found["calibration"]
        assert sum(each["share"] for each in calibration["bins"]) == pytest.approx(1, abs=0.001)
        assert 0 <= calibration["error_after"] < 0.3 and calibration["temperature"] >= 0.5
        assert wait_scores(ann)["objects"] == drawn["objects"]

        flipped = {n: "intact" if n in DAMAGED else "destroyed" for n in members}
        number = wait_scores(ann)["number"]
        judge(ann, {n: each for n, each in flipped.items() if n % 3 == 0}, base=2)
        judge(ann, {n: each for n, each in flipped.items() if n % 3}, base=1)
        after = wait_scores(ann, above=number)
        assert after["objects"] == drawn["objects"] and after["labels"] == drawn["labels"]
        wrong = ann.get("/api/figures").json()
        assert wrong["calibration"]["temperature"] == calibration["temperature"]
        assert wrong["called"] == found["called"] and wrong["estimates"]["precision"]["value"] < 0.2
        # Scores of a network take the place of the head's, and those that it lacks count as not called.
        ann.app._app.state.served.scorer.show_network({"scene": {f"f{n}": 0.9 for n in DAMAGED}})
        network = ann.get("/api/figures").json()
        assert network["source"] == "network" and network["called"] == len(DAMAGED)
        assert network["calibration"]["temperature"] is None
        assert len(ann.get("/api/scores?pair=scene").json()["objects"]) == len(DAMAGED - members)
        assert ann.get("/api/figures?source=head").json()["called"] == found["called"]


def learned(folder, ids: list[str], *, source: str = "elsewhere", bounds=None, **more) -> None:
    """Write what a run on a dataset leaves: its configuration, its places, and the dataset's."""
    data = folder / "data"
    data.mkdir(parents=True)
    sample = {"block": None, "height": 8, "width": 8, "pre": (), "post": (), "bounds": bounds}
    samples = tuple(manifest.Sample(id=key, **sample) for key in ids)
    settings = manifest.BuildSettings.of(DataConfig(root=str(folder), layout="simulated"))
    manifest.write(data, manifest.dataclasses.replace(settings, source=source), samples)
    wanted = config("fc_siam_diff", "small", scale="xbd")
    wanted.data = DataConfig(root=str(data), layout="prepared", scale="xbd")
    for name, value in more.items():
        setattr(wanted.init, name, value)
    config_files.write(wanted, folder / "config.json")
    run_folder.record_splits(folder, {"train": ids, "validation": [], "test": []}, labels="x")


def test_a_run_that_learned_from_this_ground_is_told(tmp_path):
    store = small_town(tmp_path)
    west, south, east, north = 38.2, 37.7, 38.3, 37.8
    learned(tmp_path / "far", ["a", "b"], bounds=(0.0, 0.0, 1.0, 1.0))
    assert leaks.seen_by(tmp_path / "far", store) is None
    learned(tmp_path / "near", ["a"], bounds=(west, south, east, north))
    assert leaks.seen_by(tmp_path / "near", store).endswith(
        "was trained on this ground: its figures here would mean nothing"
    )
    learned(tmp_path / "same", ["town"])
    assert "was trained on this ground" in leaks.seen_by(tmp_path / "same", store)
    learned(tmp_path / "later", ["c"], encoder_from=str(tmp_path / "near"))
    assert f"its weights began with {tmp_path / 'near'}, which was trained" in leaks.seen_by(tmp_path / "later", store)
    learned(
        tmp_path / "own", ["town_1"], source=str(tmp_path / "store" / "prepared"), bounds=(west, south, east, north)
    )
    assert leaks.seen_by(tmp_path / "own", store) is None  # there is no sample
    sampled(store)
    assert "before the blind sample was drawn" in leaks.seen_by(tmp_path / "own", store)
    source = tmp_path / "store" / "prepared_sample_1"
    learned(tmp_path / "held", ["town_1"], source=str(source), bounds=(west, south, east, north))
    assert leaks.seen_by(tmp_path / "held", store) is None
    store.close()


def test_a_run_of_another_scale_is_refused(tmp_path):
    store = small_town(tmp_path)
    for scale in ("binary", "buildings", "xbd"):
        folder = tmp_path / scale
        folder.mkdir()
        config_files.write(config("fc_siam_diff", "small", scale=scale), folder / "config.json")
        leaks.check_scale(folder, store)
    (tmp_path / "other").mkdir()
    config_files.write(config("fc_siam_diff", "small", scale=EMS98.name), tmp_path / "other" / "config.json")
    with pytest.raises(ConfigError, match="maps the scale ems98, and labels are of the scale xbd"):
        leaks.check_scale(tmp_path / "other", store)
    store.close()
