"""Events left out in turn: groups, the table on known counts, and a whole study as a user runs it."""

import re
from pathlib import Path

import numpy as np
import pytest
from studying import events as study_events

from jaxcd.base.errors import ConfigError
from jaxcd.base.types import Tile
from jaxcd.config import Config
from jaxcd.learn.metrics import BINS, Scores
from jaxcd.runs.evaluation import COUNTS, Counted, encoded
from jaxcd.runs.figures import Metrics
from jaxcd.simulator import cut_tiles, simulate
from tests.entries import run

NONE = Scores(accuracy=0, precision=0, recall=0, f1=0, iou=0)


def tile(place: str, found: int, missed: int, false: int) -> Counted:
    """A tile of 1000 pixels; what is called damage has a probability of 0.75; |pre - post| finds what is missed."""
    bins, difference = np.zeros((2, 2, BINS), np.int32)
    bins[1, 768], bins[1, 0], bins[0, 768] = found, missed, false
    bins[0, 0] = 1000 - bins.sum()
    difference[1, 768], difference[1, 0], difference[0, 0] = missed, found, 1000 - found - missed
    return Counted(Tile(place, "post", 32, 32), bins, difference, np.zeros(5))


def written(folder: Path, *tiles: Counted) -> None:
    folder.mkdir(parents=True)
    (folder / COUNTS).write_bytes(encoded([tiles]))
    Metrics(positive_unlabelled=False, half=NONE, threshold=0.5, best=NONE).write(folder)


def test_chosen_events_are_groups_of_their_own_and_the_rest_is_one():
    known = ["a b", "c", "d"]
    assert study_events._groups(known, [], "data") == {"a_b": ("a b",), "c": ("c",), "d": ("d",)}
    assert study_events._groups(known, ["c"], "data") == {"c": ("c",), "rest": ("a b", "d")}
    with pytest.raises(ConfigError, match=r"^--events: no place belongs to x; known are a b, c, d"):
        study_events._groups(known, ["x"], "data")
    with pytest.raises(ConfigError, match=r"data has 1 known events \(c\), and two groups are needed"):
        study_events._groups(["c"], [], "data")


def test_intervals_are_of_resampled_tiles():
    bins = np.stack([tile("a", 50, 50, 0).bins, tile("b", 100, 0, 0).bins]).astype(np.int64)
    value, reach = study_events.interval([bins], lambda counts, _: counts.at(0.5).recall)
    assert value == 0.75 and reach == (0.5, 1.0)
    value, reach = study_events.interval([bins, bins], lambda counts, seed: counts.at(0.5).recall * seed)
    assert value == 0.375 and reach == (0.25, 0.5)
    assert study_events.interval([bins[:1]], lambda counts, _: counts.at(0.5).recall) == (0.5, None)


def test_the_table_tells_seen_from_unseen_and_from_the_baseline(tmp_path):
    settings = {name: Config() for name in ("fire", "rest")}
    settings["fire"].data.test_events, settings["rest"].data.test_events = ("fire",), ("calm", "storm")
    written(tmp_path / "results" / "fire-0", tile("f0", 50, 50, 0), tile("f1", 50, 50, 0))
    written(tmp_path / "seen" / "fire-0", tile("s0", 100, 0, 0))
    written(tmp_path / "results" / "rest-0", tile("s0", 30, 10, 30), tile("c0", 0, 0, 40))
    written(tmp_path / "seen" / "rest-0", tile("f0", 20, 20, 0))
    events = {"f0": "fire", "f1": "fire", "s0": "storm", "c0": "calm"}
    failures: dict[str, str] = {}
    study = study_events.LeaveOneOut(settings=settings, events=events)
    assert study.report(tmp_path, settings, failures) == "study.md" and not failures
    rows = {
        cells[0]: cells[1:]
        for line in (tmp_path / "study.md").read_text().splitlines()
        if line.startswith("|") and (cells := [cell.strip() for cell in line.strip("|").split("|")])
    }
    f1 = "66.7 (66.7 to 66.7)"
    assert rows["fire"][:5] == ["1", "2", "200", "100.0", f1]
    assert rows["fire"][6] == f1 and rows["fire"][7] == "100.0"  # |pre - post| finds the other half
    assert rows["rest"][:4] == ["1", "2", "40", "66.7"] and rows["rest"][4].startswith("42.9 (0.0 to 60.0)")
    assert rows["storm (rest)"][1:5] == ["1", "40", "66.7", "60.0"]
    assert rows["calm (rest)"][:3] == ["1", "1", "0"] and rows["calm (rest)"][4:7] == ["–", "–", "–"]
    (tmp_path / "results" / "fire-0" / COUNTS).write_bytes(b"no")
    study.report(tmp_path, settings, failures)
    assert "damaged result" in failures["fire-0"]
    assert "| fire | 0 |" in (tmp_path / "study.md").read_text()


def test_flags_that_do_not_go_together_are_refused(tmp_path):
    flags = ["--leave_one_out", "event", "--data", tmp_path, "--out", tmp_path / "out"]
    for further, said in (
        ([], "error: --layout: is needed with --leave_one_out"),
        (["--layout", "xbd"], "error: --config: is needed with --leave_one_out"),
        (["--layout", "xbd", "--config", "x", "--networks", "fc_ef"], "error: --networks: does not go with"),
    ):
        code, output = run("study", *flags, *further)
        assert code == 2 and said in output, output
    code, output = run("study", "--data", tmp_path, "--layout", "xbd", "--events", "a", "--out", tmp_path / "out")
    assert code == 2 and "error: --events: goes with --leave_one_out" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_study_leaves_out_each_of_two_towns_and_goes_on_to_a_second_seed(project, tmp_path):
    for name, seed in (("north", 4), ("south", 5)):
        cut_tiles(simulate(tmp_path / f"scene_{name}", seed=seed, size=512), tmp_path / name, tile=128)
    config = tmp_path / "config.py"
    config.write_text(project.read_text().replace("crop=64", "crop=64, block_size=50"))  # each town is 150 m wide
    roots = f"{tmp_path / 'north'},{tmp_path / 'south'}"
    flags = ["--leave_one_out", "event", "--data", roots, "--layout", "folders", "--config", config, "--epochs", "1"]
    code, output = run("study", *flags, "--out", tmp_path / "out", "--seeds", "1")
    assert code == 0 and "study.md" in output, output
    text = (tmp_path / "out" / "study.md").read_text()
    for town in ("north", "south"):
        assert re.search(rf"^\| {town} \| 1 \| 16 \| [\d,]+ \|", text, re.MULTILINE), text
        test = (tmp_path / "out" / "runs" / f"{town}-0" / "splits.json").read_text()
        assert test.count(f"{town}/") == 16
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "results").glob("*/metrics.json")}
    code, output = run("study", *flags, "--out", tmp_path / "out", "--seeds", "2")
    assert code == 0 and "| north | 2 | 16 |" in (tmp_path / "out" / "study.md").read_text(), output
    assert all(path.stat().st_mtime_ns == when for path, when in before.items()) and len(before) == 2
