"""Tuning as a user does it: real trials, killed, gone on with, shared by processes."""

import csv
import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxcd import tune
from jaxcd.base.errors import ConfigError, RunError
from jaxcd.base.processes import Children
from jaxcd.config import Config, DataConfig, LossConfig, TrainConfig
from jaxcd.tuning import trials
from jaxcd.tuning.space import Space, configured
from jaxcd.tuning.trials import Tuning
from tests.entries import read_config, run, score_as, start

POINT = {"loss": "bce", "batch": 4, "learning_rate": 3e-3, "weight_decay": 1e-3, "dropout": 0.1, "size": "small"}
ALL = Space(sizes=("small", "medium", "large"))
SMALL = Space(sizes=("small",), batches=(4,))


def base(project: Path, **train) -> Config:
    config = read_config(project)
    for name, value in train.items():
        setattr(config.train, name, value)
    return config


def rows(folder: Path) -> list[dict]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_point_becomes_the_configuration_it_stands_for():
    loss = LossConfig(dice=1, positive_weight=3.0)
    config = Config(data=DataConfig(root="x"), loss=loss, train=TrainConfig(epochs=9))
    made = configured(config, POINT | {"loss": "iou", "batch": 16})
    assert (made.loss.bce, made.loss.dice, made.loss.iou, made.loss.positive_weight) == (0, 0, 1, 3.0)
    assert (made.train.batch, made.train.epochs, made.model.size) == (16, 9, "small")
    assert (made.optim.learning_rate, made.optim.weight_decay, made.model.dropout) == (3e-3, 1e-3, 0.1)
    assert config.loss.dice == 1 and config.train.batch == 8  # the base is left alone


def test_points_lie_in_the_papers_space():
    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [ALL.suggest(study.ask()) for _ in range(300)]
    assert {point["loss"] for point in points} == set(LossConfig().weights()) >= {"bce", "dice", "iou"}
    assert {point["batch"] for point in points} == {4, 8, 16, 32}
    assert {point["size"] for point in points} == {"small", "medium", "large"}
    for name, low, high in (("learning_rate", 1e-5, 1e-2), ("weight_decay", 1e-5, 1e-1)):
        values = np.log10([point[name] for point in points])
        assert np.log10(low) <= values.min() and values.max() <= np.log10(high)
        assert np.median(values) == pytest.approx((np.log10(low) + np.log10(high)) / 2, abs=0.4)  # log-uniform
    assert 0 <= min(p["dropout"] for p in points) < 0.05 and 0.45 < max(p["dropout"] for p in points) <= 0.5


def test_a_size_that_cannot_take_the_crops_is_named_before_anything_runs():
    config = Config(data=DataConfig(root="x", crop=40), train=TrainConfig(epochs=1))
    with pytest.raises(ConfigError, match="config.data.crop: the medium network takes multiples of 16 pixels, got 40"):
        ALL.check(config)
    SMALL.check(config)
    config.train.accumulation = 8
    with pytest.raises(ConfigError, match="config.train.accumulation: expected a divisor of batch = 4"):
        SMALL.check(config)
    config.task = "contrastive"
    with pytest.raises(ConfigError, match=r"^config\.task: a network of task contrastive maps no damage"):
        SMALL.check(config)


def _started(folder: Path) -> bool:
    return any((trial / "run" / "log.jsonl").exists() for trial in folder.glob("trials/*"))


@pytest.mark.slow
def test_killed_and_gone_on_with_by_two_processes_it_makes_the_trials_asked_for(project, tmp_path):
    folder = tmp_path / "tuned"
    narrow = "--sizes=small", "--batches=4,8", "--config.train.steps=0", "--config.train.epochs=3"
    narrow += ("--config.train.validate_every=0",)
    arguments = "--config", project, *narrow, "--trials", 4, "--workdir", folder
    process = start("jaxcd.tune", *arguments)
    while process.poll() is None and not _started(folder):
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert json.loads((folder / "settings.json").read_text())["space"] == {"sizes": ["small"], "batches": [4, 8]}
    first = (folder / "trials" / "0000" / "config.py").read_text()

    pair = [start("jaxcd.tune", *arguments) for _ in range(2)]
    outputs = [process.communicate(timeout=600)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    done = [row for row in rows(folder) if row["state"] in ("complete", "pruned")]
    assert len(done) == 4 and [row["state"] for row in rows(folder)].count("fail") == 1
    # The point of the killed trial was tried again where it was left.
    assert (folder / "trials" / "0000" / "config.py").read_text() == first
    assert [row["folder"] for row in rows(folder)].count("0000") == 2
    best = max(float(row["score"]) for row in done if row["state"] == "complete")
    # Whoever ends last tells the best of all; the other one may end while that one's last trial is under way.
    announced = [f"best of 4 trials: iou {best:.4f}; its config is" in output for output in outputs]
    assert any(announced)
    assert all(
        whole or "1 more under way in other processes" in output
        for whole, output in zip(announced, outputs, strict=True)
    )
    for picture in ("history.png", "importance.png"):
        assert np.asarray(Image.open(folder / picture)).std() > 10
    assert not list(folder.glob("trials/*/run/checkpoints"))

    code, output = run("jaxcd.train", "--config", folder / "best.py", "--workdir", tmp_path / "again")
    assert code == 0, output
    entries = [json.loads(line) for line in (tmp_path / "again" / "log.jsonl").read_text().splitlines()]
    again = max(entry["iou"] for entry in entries if entry["kind"] == "validation")
    assert again == pytest.approx(best, rel=1e-5)

    code, output = run("jaxcd.tune", *arguments)
    assert code == 0 and len(rows(folder)) == 5
    code, output = run("jaxcd.tune", *arguments, "--config.data.crop=32")
    assert code == 2 and "holds a tuning of other settings: config.data.crop is 64 there and 32 here" in output
    code, output = run("jaxcd.tune", *arguments[:2], "--sizes=small", *narrow[2:], "--workdir", folder)
    assert code == 2 and "space.batches is [4, 8] there and [4, 8, 16, 32] here" in output


@pytest.mark.slow
def test_a_signal_saves_the_trial_and_ends(project, tmp_path):
    folder = tmp_path / "tuned"
    length = "--config.train.steps=400", "--config.train.validate_every=200"
    process = start(
        "jaxcd.tune", "--config", project, "--sizes=small", "--batches=4", *length, "--trials=2", "--workdir", folder
    )
    log = folder / "trials" / "0000" / "run" / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text()):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "the same command goes on from here" in output, output
    assert len(os.listdir(folder / "trials" / "0000" / "run" / "checkpoints")) == 1
    assert not (folder / "trials" / "0001").exists()


@pytest.mark.slow
def test_trials_that_all_fail_end_it_with_the_reason(tmp_path, capsys):
    config = tmp_path / "config.py"
    config.write_text(
        "from jaxcd.config import Config, DataConfig, TrainConfig\n\n\n"
        "def get_config():\n    return Config(data=DataConfig(root='/no/tiles'), train=TrainConfig(steps=1))\n"
    )
    arguments = ["--config", str(config), "--batches=8", "--trials=2", "--workdir", str(tmp_path / "tuned")]
    assert tune.main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "3 trials failed and none has completed; the last: /no/tiles" in error and "output.log" in error
    assert [row["state"] for row in rows(tmp_path / "tuned")] == ["fail"] * 3


@pytest.mark.slow
def test_a_hopeless_trial_is_pruned_and_a_failing_point_counts_once_another_has_completed(
    project, tmp_path, monkeypatch
):
    monkeypatch.setattr(trials, "_STARTUP_TRIALS", 1)
    monkeypatch.setattr(trials, "_STARTUP_VALIDATIONS", 1)
    tuning = Tuning(tmp_path / "tuned", base(project, steps=8, validate_every=2, checkpoint_every=0), SMALL, "tpe")
    for rate in (3e-3, 1e-5):
        tuning.study.enqueue_trial(POINT | {"learning_rate": rate})
    with Children() as children:
        good = tuning.run_next(3, children)
        tuning.base.train.steps = 10_000  # it can't end by itself before it is looked at
        bad = tuning.run_next(3, children)
        # Someone's file in the way of the next trial's run.
        (tmp_path / "tuned" / "trials" / "0002" / "run").mkdir(parents=True)
        (tmp_path / "tuned" / "trials" / "0002" / "run" / "thesis.tex").write_text("x")
        failed = tuning.run_next(3, children)
        assert tuning.run_next(3, children) is None
    assert good is not None and good.state.name == "COMPLETE" and len(good.intermediate_values) == 4
    assert good.value == max(good.intermediate_values.values())
    assert bad is not None and bad.state.name == "PRUNED" and 2 <= len(bad.intermediate_values) < 1000
    assert failed is not None and failed.state.name == "PRUNED" and failed.value is None
    assert "holds files but no run" in failed.user_attrs["failure"]
    assert len(tuning.done()) == 3


@pytest.mark.slow
def test_a_trial_that_patience_ended_is_complete(project, tmp_path, monkeypatch):
    score_as(monkeypatch, {2: 0.5, 4: 0.4, 6: 0.4})

    class Here(Children):
        """Runs trials in this process."""

        def run(self, arguments, log, *, meanwhile):  # type: ignore[override]
            code, output = run(*arguments)
            log.write_text(output)
            meanwhile()
            return code

    settings = base(project, steps=12, validate_every=2, checkpoint_every=0, patience=1)
    tuning = Tuning(tmp_path / "tuned", settings, SMALL, "tpe")
    tuning.study.enqueue_trial(POINT)
    with Here() as children:
        trial = tuning.run_next(1, children)
    assert trial is not None and trial.state.name == "COMPLETE" and sorted(trial.intermediate_values) == [0, 1]
    assert trial.value == max(trial.intermediate_values.values())
    output = (tmp_path / "tuned" / "trials" / "0000" / "output.log").read_text()
    assert "ended early at step 4 of 12: no validation after step 2" in output


def test_equal_scores_have_no_importance_and_end_nothing(tmp_path):
    import optuna

    from jaxcd.tuning import report

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(5):
        trial = study.ask()
        ALL.suggest(trial)
        study.tell(trial, 0.0)
    best = report.write(tmp_path, Config(data=DataConfig(root="x"), train=TrainConfig(epochs=1)), study)
    assert best is not None and best.value == 0.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.py", "history.png", "trials.csv"]


def test_trials_that_cannot_be_compared_are_refused():
    config = Config(data=DataConfig(root="x"), train=TrainConfig(steps=10))
    with pytest.raises(ConfigError, match="compared by epochs, got steps=10 and validate_every=0"):
        ALL.check(config)
    dataclasses.replace(ALL, batches=(4,)).check(config)
    config.train.steps, config.train.epochs = 0, 2
    ALL.check(config)
    config.train.devices = 8
    with pytest.raises(ConfigError, match="8 can't share batches of 4 evenly"):
        ALL.check(config)
    config.train.devices, config.init.encoder_from = 0, "runs/x"
    with pytest.raises(ConfigError, match="that encoder has one size"):
        ALL.check(config)


def test_bad_arguments_and_folders_are_named(project, tmp_path, capsys):
    for flags, message in (
        (["--trials=0"], "--trials: expected at least 1, got 0"),
        (["--trials=many"], "error: argument --trials: invalid int value: 'many'"),
        (["--sizes="], "--sizes: expected some of small, medium, large, got ''"),
        (["--sampler=grid"], "--sampler: expected one of tpe, random, got 'grid'"),
        (["--sizes=tiny"], "--sizes: expected some of small, medium, large, got 'tiny'"),
        (["--batches=5"], "--batches: expected some of 4, 8, 16, 32, got '5'"),
    ):
        assert tune.main(["--config", str(project), *flags, "--workdir", str(tmp_path / "t")]) == 2
        assert message in capsys.readouterr().err.strip().splitlines()[-1]
        assert not (tmp_path / "t").exists()
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="holds files but no tuning"):
        Tuning(tmp_path, base(project), SMALL, "tpe")
    with pytest.raises(RunError, match="is a file"):
        Tuning(tmp_path / "thesis.tex", base(project), SMALL, "tpe")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name[0] != ".") == ["thesis.tex"]


def test_without_optuna_it_says_what_to_install(project, tmp_path, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    assert tune.main(["--config", str(project), "--batches=4", "--workdir", str(tmp_path / "t")]) == 2
    assert "pip install 'jaxcd[tune]'" in capsys.readouterr().err
