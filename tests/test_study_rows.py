"""Tables of rows: what a file may say, the report on known numbers, and a whole one as a user runs it."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from studying import rows as study_rows
from studying import unseen as study_unseen
from studying.results import Result

from jaxcd.base.errors import ConfigError
from jaxcd.config import Config
from jaxcd.learn.metrics import Scores
from jaxcd.runs.events import EventScores
from jaxcd.runs.figures import Metrics
from tests.entries import run

ROOT = Path(__file__).resolve().parents[1]
AIRCHANGE = ROOT / "configs" / "airchange.py"


def study(*arguments: object) -> tuple[int, str]:
    command = [sys.executable, str(ROOT / "tools/study.py"), *map(str, arguments)]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    return process.returncode, process.stdout


def result(f1: float) -> Result:
    scores = Scores(accuracy=0.9, precision=0.5, recall=0.25, f1=f1, iou=0.2)
    return Result(scores=scores, best_f1=f1 + 0.1, rate=2.0, tiles=("t",), counts=np.zeros((1, 3), np.int64))


def test_airchange_has_a_run_for_each_network_of_each_set_and_seed(tmp_path):
    rows = study_rows.RowStudy.read(AIRCHANGE)
    assert len(rows.settings) == 8 and len(rows.published) == 6
    assert rows.published["szada_fc_siam_diff"] == 0.5266 and rows.published["tiszadob_fc_ef"] == 0.934
    jobs = list(rows.jobs(tmp_path, 3))
    assert len({job.name for job in jobs}) == 24 and len({job.config.seed for job in jobs}) == 3
    for job in jobs:
        config, (images, _, network) = job.config, job.name.rpartition("-")[0].partition("_")
        assert (config.data.layout, config.data.split) == (f"airchange_{images}", "published")
        assert config.model.name == network and config.model.size == "medium"
        assert (config.init.pretrained == "imagenet") == (network == "siam_lite0")
        # The last step is the best one: nothing is chosen by scores.
        assert config.train.validate_every == config.train.steps


def test_the_table_has_means_deviations_and_what_was_published(tmp_path, monkeypatch):
    done = {"a-0": result(0.3), "a-1": result(0.4), "b-0": result(0.5)}
    monkeypatch.setattr(study_rows, "read_results", lambda out, names, failures: [done.get(name) for name in names])
    monkeypatch.setattr(study_rows, "seeds_done", lambda out: 2)
    recorded = {name: Config() for name in "abc"}
    rows = study_rows.RowStudy(settings=recorded, published={"a": 0.40, "c": 0.2})
    assert rows.report(tmp_path, recorded, {"c-0": "out of memory"}) == "study.md, study.csv"
    text = (tmp_path / "study.md").read_text()
    assert (
        "| a | 2 | 90.0 ± 0.0 | 50.0 ± 0.0 | 25.0 ± 0.0 | 35.0 ± 7.1 | 20.0 ± 0.0 | 45.0 ± 7.1 | 2.0 | 40.0 | -5.0 |"
        in text
    )
    assert "| b | 1 | 90.0 | 50.0 | 25.0 | 50.0 | 20.0 | 60.0 | 2.0 | – | – |" in text
    assert "| c | 0 | – | – | – | – | – | – | – | 20.0 | – |" in text and "- c-0: out of memory" in text
    with (tmp_path / "study.csv").open(newline="") as file:
        assert [(row["row"], row["seed"], row["f1"]) for row in csv.DictReader(file)] == [
            ("a", "0", "0.300000"),
            ("a", "1", "0.400000"),
            ("b", "0", "0.500000"),
        ]


def found(folder: Path, name: str, **events: EventScores) -> None:
    """Write the metrics of an evaluation."""
    (folder / name).mkdir(parents=True)
    scores = Scores(accuracy=0, precision=0, recall=0, f1=0, iou=0)
    Metrics(positive_unlabelled=False, half=scores, threshold=0.5, best=scores, events=events).write(folder / name)


def event(damaged: int, precision: float | None, flagged: float = 0.0, f1: float = 0.0) -> EventScores:
    return EventScores(1, 9999, damaged, f1, flagged, 0.0, 0.0, 0.5, precision)


def test_scores_on_other_data_are_told_by_event(tmp_path):
    assert study_unseen.folder_of("../shared/data/xbd_mixed") == "unseen-shared_data_xbd_mixed"
    there = tmp_path / study_unseen.folder_of("d/e")
    found(there, "a-0", fire=event(1000, 0.5, 0.02), calm=event(0, None, 0.001), wind=event(999, 0.9))
    found(there, "a-1", fire=event(1000, 0.3, 0.04), calm=event(0, None, 0.003), wind=event(999, 0.7))
    found(there, "b-0", fire=event(1000, 0.25), flood=event(5000, 0.75, 0.5))
    found(tmp_path / "results", "a-0", wind=event(10, 0.5, f1=0.8))
    failures: dict[str, str] = {}
    lines = study_unseen.by_event(tmp_path, "d/e", {"a": ["a-0", "a-1"], "b": ["b-0", "b-1"], "c": ["c-0"]}, failures)
    tables = "\n".join(lines).split("## ")
    assert "| row | seeds | mean | fire | flood | wind |" in tables[1]
    assert "| a | 2 | 40.0 ± 14.1 | 40.0 ± 14.1 | – | 80.0 ± 14.1 |" in tables[1]
    assert "| b | 1 | 50.0 | 25.0 | 75.0 | – |" in tables[1] and "| c | 0 | – | – | – | – |" in tables[1]
    assert "| a | 2 | 0.20 ± 0.14 | 3.00 ± 1.41 | – | 0.00 ± 0.00 |" in tables[2]
    assert "| row | seeds | wind |" in tables[3] and "| a | 1 | 80.0 |" in tables[3]
    (there / "b-0" / "metrics.json").write_text("{")
    study_unseen.by_event(tmp_path, "d/e", {"b": ["b-0"]}, failures)
    assert "damaged" in failures["b-0"]


def test_other_data_are_evaluated_after_each_row_and_must_be_there(tmp_path):
    rows = study_rows.RowStudy.read(AIRCHANGE, str(tmp_path))
    (also,) = {tuple(job.also.items()) for job in rows.jobs(tmp_path, 1)}
    assert also == ((study_unseen.folder_of(str(tmp_path)), ("--data", str(tmp_path), "--split", "all")),)
    code, said = run("study", "--rows", AIRCHANGE, "--unseen", tmp_path / "no", "--out", tmp_path / "out")
    assert code == 2 and f"--unseen: {tmp_path / 'no'}: no such folder" in said and not (tmp_path / "out").exists()
    code, said = run(
        "study", "--data", tmp_path, "--layout", "folders", "--unseen", tmp_path, "--out", tmp_path / "out"
    )
    assert code == 2 and "--unseen: goes with --rows" in said


_GOOD = "def get_rows():\n    good = Config(data=DataConfig(root='d'), train=TrainConfig(steps=1))\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no attribute 'get_rows'"),
        ("def get_rows():\n    return {'A B': (Config(), None)}\n", "row 'A B': expected a name of a-z"),
        ("def get_rows():\n    return {'a': (1, None)}\n", "row 'a': expected a name .*and a Config"),
        ("def get_rows():\n    return {'a': Config()}\n", "rows.py: cannot unpack"),
        ("def get_rows():\n    return {'a': (Config(), None)}\n", r"row a: config\.data\.root"),
        ("def get_rows():\n    return {}\n", r"rows\.py: gives no rows"),
        (f"{_GOOD}    return {{'a': (good, 51.4)}}\n", r"row a: published F1: expected 0 to 1, got 51\.4"),
        (f"{_GOOD}    return {{'a': (good, '51.4')}}\n", r"row a: published F1: expected 0 to 1, got '51\.4'"),
        (
            f"{_GOOD}    good.task = 'contrastive'\n    return {{'a': (good, None)}}\n",
            r"row a: config\.task: a network of task contrastive maps no damage",
        ),
    ],
)
def test_a_file_that_gives_no_rows_is_refused_in_words(tmp_path, text, message):
    (tmp_path / "rows.py").write_text("from jaxcd.config import Config, DataConfig, TrainConfig\n\n\n" + text)
    with pytest.raises(ConfigError, match=message):
        study_rows.RowStudy.read(tmp_path / "rows.py")
    with pytest.raises(ConfigError, match=r"absent\.py: no such Python file"):
        study_rows.RowStudy.read(tmp_path / "absent.py")


def test_rows_and_data_exclude_each_other(tmp_path):
    code, said = run("study", "--rows", AIRCHANGE, "--data", tmp_path, "--out", tmp_path / "out")
    assert code == 2 and "not allowed with" in said
    code, said = run("study", "--data", tmp_path, "--out", tmp_path / "out")
    assert code == 2 and "--layout: say how --data is laid out" in said


@pytest.mark.parametrize("name", ["layout", "networks", "epochs", "config", "pretrain_config", "pretrain_epochs"])
def test_flags_that_go_with_data_are_refused_beside_rows(tmp_path, name):
    value = {"layout": "folders", "networks": "fc_ef"}.get(name, "0")
    code, said = run("study", "--rows", AIRCHANGE, f"--{name}", value, "--out", tmp_path / "out")
    assert code == 2 and f"error: --{name}: goes with --data; a row's configuration says it" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("there", ["study.json", "rows.json"])
def test_one_kind_of_study_does_not_go_into_the_folder_of_the_other(tmp_path, monkeypatch, there):
    monkeypatch.setattr("study.run_all", lambda *_: None)
    rows, pretraining = ("--rows", AIRCHANGE), ("--data", tmp_path, "--layout", "folders")
    own, other = (pretraining, rows) if there == "study.json" else (rows, pretraining)
    code, said = run("study", *own, "--out", tmp_path / "out")
    assert code == 0 and (tmp_path / "out" / there).is_file(), said
    before = (tmp_path / "out" / "study.md").read_text()
    code, said = run("study", *other, "--out", tmp_path / "out")
    wanted = {"study.json": "rows.json", "rows.json": "study.json"}[there]
    assert code == 2 and f"holds files but no study with {wanted}; give a new folder" in said
    assert (tmp_path / "out" / "study.md").read_text() == before


@pytest.mark.slow
def test_a_table_is_made_gone_on_with_and_survives_a_failed_row(project, tmp_path):
    file = tmp_path / "rows.py"
    text = project.read_text()
    file.write_text(
        text + "\n\ndef get_rows():\n    bad = get_config()\n    bad.data.crop = 60\n"
        "    return {'good': (get_config(), 0.5), 'bad': (bad, None)}\n"
    )
    out = tmp_path / "study"
    code, said = study("--rows", file, "--out", out, "--seeds", 1)
    assert code == 1 and "Traceback" not in said and "FAILED bad-0: config.data.crop" in said, said
    assert "| good | 1 |" in (out / "study.md").read_text() and "| bad | 0 |" in (out / "study.md").read_text()
    log = (out / "logs" / "good-0.log").read_text()
    code, said = study("--rows", file, "--out", out, "--seeds", 2)
    assert (out / "logs" / "good-0.log").read_text() == log  # not run again
    assert "| good | 2 |" in (out / "study.md").read_text()
    unseen = project.parent / "tiles"
    code, said = study("--rows", file, "--out", out, "--seeds", 2, "--unseen", unseen)
    report = (out / "study.md").read_text()
    assert f"## Average precision on {unseen}" in report and "| good | 2 |" in report.split("## Average")[1], said
    file.write_text(text + "\n\ndef get_rows():\n    c = get_config()\n    c.seed = 7\n    return {'good': (c, 0.5)}\n")
    code, said = study("--rows", file, "--out", out)
    assert code == 2 and "good: config.seed is" in said
