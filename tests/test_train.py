import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxcd import train
from jaxcd.runs import inference, run_folder
from jaxcd.runs.logs import read_log
from tests.entries import run, run_process, score_as, signal_at, start, tree, weights


def _logged(folder: Path) -> int:
    return max((entry["step"] for entry in read_log(folder)), default=0)


def _checkpointed(folder: Path) -> int:
    there = folder / "checkpoints"
    return max((int(p.name) for p in there.iterdir() if p.name.isdigit()), default=0) if there.is_dir() else 0


def _kill(project: Path, folder: Path, after: int, *flags: str) -> None:
    """Start training as a process, and kill it when it is `after` steps in and has a checkpoint."""
    process = start("jaxcd.train", "--config", project, *flags, "--workdir", folder)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if _logged(folder) >= after and _checkpointed(folder):
            break
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[0]
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def _stopped(project: Path, folder: Path, step: int, number: int, *flags: str) -> str:
    """Train until a signal ends it after a step; returns what was printed."""
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, step, number)
        code, output = run("jaxcd.train", "--config", project, *flags, "--workdir", folder)
    assert code == 128 + number, output
    assert f"stopped at step {step}, all saved; the same command goes on from there" in output
    assert str(step) in os.listdir(folder / "checkpoints")
    return output


def test_killed_and_stopped_run_ends_bit_for_bit_as_one_never_interrupted(project, finished, tmp_path):
    """A real process is killed; after it, signals come where nobody needs to hit the moment."""
    folder = tmp_path / "interrupted"
    _kill(project, folder, 3)
    first = _checkpointed(folder) + 1  # the kill may have come late
    output = _stopped(project, folder, first, signal.SIGTERM)
    assert f"going on from step {first - 1} of 12" in output
    output = _stopped(project, folder, first + 1, signal.SIGINT)
    assert f"going on from step {first} of 12" in output
    code, output = run("jaxcd.train", "--config", project, "--workdir", folder)
    assert code == 0 and f"going on from step {first + 1} of 12" in output and "finished 12 steps" in output, output

    ours, never = weights(folder, 12), weights(finished.folder, 12)
    assert len(ours) == len(never) > 30
    for a, b in zip(ours, never, strict=True):
        np.testing.assert_array_equal(a, b)
    # The logs tell one story: each step once, in order, with the same losses.
    entries = [[(e["step"], e["kind"], e["loss"]) for e in read_log(f)] for f in (folder, finished.folder)]
    assert entries[0] == entries[1]
    assert [step for step, kind, _ in entries[0] if kind == "train"] == list(range(1, 13))
    # So does TensorBoard, of what four starts wrote.
    shown = [(e.step, e.value) for e in _events(folder).Scalars("train/loss")]
    assert [step for step, _ in shown] == list(range(1, 13))
    assert [value for _, value in shown] == pytest.approx([loss for _, kind, loss in entries[0] if kind == "train"])


EMA = "--config.optim.ema=0.8", "--config.optim.schedule=onecycle"


@pytest.fixture(scope="module")
def averaged(project, tmp_path_factory) -> Path:
    """A run with moving averages that was never interrupted."""
    folder = tmp_path_factory.mktemp("averaged") / "run"
    code, output = run("jaxcd.train", "--config", project, *EMA, "--workdir", folder)
    assert code == 0, output
    return folder


@pytest.mark.slow
def test_a_killed_run_with_averages_ends_bit_for_bit_as_one_never_interrupted(project, averaged, tmp_path):
    _kill(project, tmp_path / "r", 3, *EMA)
    code, output = run("jaxcd.train", "--config", project, *EMA, "--workdir", tmp_path / "r")
    assert code == 0 and "going on from step" in output, output
    ours, never = weights(tmp_path / "r", 12), weights(averaged, 12)
    assert len(ours) == len(never) and tree(averaged, 12, "averaged").keys() == {"params", "stats"}
    for a, b in zip(ours, never, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_averages_are_what_is_validated_kept_as_best_and_evaluated(averaged, tmp_path):
    validations = {e["step"]: e for e in read_log(averaged) if e["kind"] == "validation"}
    best = max(validations, key=lambda step: validations[step]["iou"])
    trained = inference.load(run_folder.read_config(averaged), averaged)
    saved, raw = tree(averaged, best, "averaged"), weights(averaged, best)
    ours = [np.asarray(leaf) for part in (trained.params, trained.stats) for leaf in jax.tree.leaves(part)]
    assert trained.step == best
    for a, b in zip(ours, [*saved["params"], *saved["stats"]], strict=True):
        np.testing.assert_array_equal(a, b)
    assert sum(not np.array_equal(a, b) for a, b in zip(ours, raw, strict=False)) > 20
    code, output = run("jaxcd.evaluate", "--run", averaged, "--split", "validation", "--out", tmp_path / "o")
    assert code == 0, output
    scores = json.loads((tmp_path / "o" / "metrics.json").read_text())["0.5"]
    for name in ("precision", "recall", "f1", "iou"):
        assert scores[name] == pytest.approx(validations[best][name], rel=1e-9)


@pytest.mark.slow
def test_patience_ends_a_run_at_its_validation_and_the_count_survives_interruptions(project, tmp_path, monkeypatch):
    # Better at 2 and 6; 8 is no better than 6; the second one in a row is 10.
    score_as(monkeypatch, {2: 0.5, 4: 0.4, 6: 0.6, 8: 0.6, 10: 0.1, 12: 0.9})
    flags = "--config.train.patience=2", "--config.train.validate_every=2"
    why = (
        "ended early at step 10 of 12: no validation after step 6 was better than its score of 0.6000 "
        "(config.train.patience=2)"
    )
    code, output = run("jaxcd.train", "--config", project, *flags, "--workdir", tmp_path / "never")
    assert code == 0 and output.count(why) == 1 and "evaluate with: python -m jaxcd.evaluate" in output, output
    for step in (8, 9):  # at 8 before its validation
        _stopped(project, tmp_path / "r", step, signal.SIGTERM, *flags)
    for again in (False, True):
        code, output = run("jaxcd.train", "--config", project, *flags, "--workdir", tmp_path / "r")
        assert code == 0 and why in output and ("going on from step 9 of 12" in output) != again, output
    logs = [[(e["step"], e["kind"], e.get("text")) for e in read_log(tmp_path / f)] for f in ("r", "never")]
    assert logs[0] == logs[1] and logs[0][-1] == (10, "note", why)
    for folder in ("r", "never"):  # of equal scores the later checkpoint is the best
        assert set(os.listdir(tmp_path / folder / "checkpoints")) == {"8", "10"}
    for a, b in zip(weights(tmp_path / "r", 10), weights(tmp_path / "never", 10), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 12))
def test_stopped_after_any_step_it_ends_bit_for_bit_the_same(project, finished, tmp_path, step):
    _stopped(project, tmp_path / "r", step, signal.SIGTERM)
    code, output = run("jaxcd.train", "--config", project, "--workdir", tmp_path / "r")
    assert code == 0 and f"going on from step {step} of 12" in output, output
    for a, b in zip(weights(tmp_path / "r", 12), weights(finished.folder, 12), strict=True):
        np.testing.assert_array_equal(a, b)


def test_run_leaves_what_it_promises(finished):
    folder, output = finished
    assert "device: " in output and "11 places, 7 with damage" in output
    assert (folder / "curves.png").stat().st_size > 10_000
    assert sorted(p.name for p in (folder / "panels").iterdir()) == ["step_0000006.png", "step_0000012.png"]
    validations = [entry for entry in read_log(folder) if entry["kind"] == "validation"]
    assert [entry["step"] for entry in validations] == [6, 12]
    best = max(validations, key=lambda entry: entry["iou"])["step"]
    assert set(os.listdir(folder / "checkpoints")) == {str(best), "12"}
    parts = json.loads((folder / "splits.json").read_text())
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [11, 3, 2]


def _events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder / "tensorboard")).Reload()


def test_tensorboard_reads_the_events(finished):
    events = _events(finished.folder)
    logged = {e["step"]: e["loss"] for e in read_log(finished.folder) if e["kind"] == "train"}
    assert {e.step: e.value for e in events.Scalars("train/loss")} == pytest.approx(logged, rel=1e-6)
    assert [e.step for e in events.Scalars("validation/iou")] == [6, 12]


def test_finished_run_is_not_run_again(project, finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "run")
    code, output = run("jaxcd.train", "--config", project, "--workdir", tmp_path / "run")
    assert code == 0 and "going on from step 12 of 12" in output and "First use" not in output
    for a, b in zip(weights(tmp_path / "run", 12), weights(finished.folder, 12), strict=True):
        np.testing.assert_array_equal(a, b)


def _main(capsys, *arguments: object) -> str:
    """Call the entry in this process; returns the one line of its error."""
    assert train.main([*map(str, arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


@pytest.mark.slow
def test_loader_processes_give_the_run_of_threads(project, finished, tmp_path):
    code, output = run_process(
        "jaxcd.train",
        "--config",
        project,
        "--config.data.workers=2",
        "--config.train.steps=12",
        "--workdir",
        tmp_path / "w",
    )
    assert code == 0, output
    for a, b in zip(weights(tmp_path / "w", 12), weights(finished.folder, 12), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_configuration_in_the_workdir_is_refused_by_its_field(project, finished, capsys):
    listing = sorted(finished.folder.rglob("*"))
    error = _main(capsys, "--config", project, "--config.optim.weight_decay=0.5", "--workdir", finished.folder)
    assert "config.optim.weight_decay is 0.002 there and 0.5 here" in error and str(finished.folder) in error
    assert sorted(finished.folder.rglob("*")) == listing


def test_folder_of_something_else_is_refused(project, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert "holds files but no run" in _main(capsys, "--config", project, "--workdir", tmp_path)
    assert "is a file" in _main(capsys, "--config", project, "--workdir", tmp_path / "thesis.tex")
    inside = _main(capsys, "--config", project, "--workdir", tmp_path / "thesis.tex" / "r")
    assert "a part of this path is a file" in inside and "thesis.tex" in inside
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]


def test_two_processes_never_train_in_one_folder(project, tmp_path):
    process = start("jaxcd.train", "--config", project, "--workdir", tmp_path / "r")
    while not _logged(tmp_path / "r") and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGSTOP)  # it must not come to its end meanwhile
    try:
        code, output = run("jaxcd.train", "--config", project, "--workdir", tmp_path / "r")
    finally:
        process.kill()
        process.communicate()
    assert code == 2 and "another process is training in it" in output


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--config.train.bacth=4", "config.train.bacth: no such field; config.train has batch, accumulation"),
        ("--config.train.batch=four", "config.train.batch: expected int, got 'four'"),
        ("--config.model.size=huge", "config.model.size: expected one of small, medium, large, got 'huge'"),
        ("--config.data.split_shares=0.5", "config.data.split_shares: expected 3 numbers"),
        ("--config.seed=9223372036854775808", "config.seed: expected at least 0 and below 2**63"),
        ("--flagfile=/nope", "/nope"),
        ("--config.train.epochs=2", "config.train: expected either steps or epochs above 0"),
        ("--config.data.root=/nowhere/at/all", "/nowhere/at/all"),
        ("--config.data.layout=xbd", "folders"),
        ("--config.data.split=published", "config.data.split: layout folders has no published split; expected place"),
        ("--config.data.crop=60", "config.data.crop: the small network takes multiples of 8 pixels, got 60; set 56 or"),
        ("--nonsense=1", "nonsense"),
    ],
)
def test_bad_settings_end_in_one_line_and_leave_nothing(project, finished, tmp_path, capsys, override, message):
    assert message in _main(capsys, "--config", project, override, "--workdir", tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_missing_and_broken_config_files_are_named(tmp_path, capsys):
    assert "nope.py: no such config file" in _main(
        capsys, "--config", tmp_path / "nope.py", "--workdir", tmp_path / "r"
    )
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    assert "broken.py: " in _main(capsys, "--config", tmp_path / "broken.py", "--workdir", tmp_path / "r")


def test_split_without_damage_is_named(project, finished, tmp_path, capsys):
    shutil.copytree(project.parent / "tiles", tmp_path / "tiles")
    for label in (tmp_path / "tiles" / "label").iterdir():
        if label.name != "r00_c01.tif":
            shutil.copy(next(_intact(project.parent / "tiles")), label)
    root, cache = f"--config.data.root={tmp_path / 'tiles'}", f"--config.data.cache={tmp_path / 'cache'}"
    error = _main(capsys, "--config", project, root, cache, "--workdir", tmp_path / "r")
    assert "no damaged pixel" in error and "split" in error
    assert not (tmp_path / "r").exists()


def _intact(tiles: Path):
    import rasterio

    for label in sorted((tiles / "label").iterdir()):
        with rasterio.open(label) as file:
            if not file.read().any():
                yield label


def test_diverging_run_names_step_and_tiles_and_keeps_the_last_good_checkpoint(project, finished, tmp_path):
    # A decay that multiplies the weights by hundreds from the second step on: they overflow after step 2 is saved.
    decay = "--config.optim.weight_decay=1e6", "--config.optim.warmup_steps=8"
    code, output = run("jaxcd.train", "--config", project, *decay, "--workdir", tmp_path / "r")
    assert code == 2 and "Traceback" not in output, output
    error = output.strip().splitlines()[-1]
    assert re.match(r"error: step [3-9]: loss .* on tiles r0", error) and "learning_rate" in error
    assert "the checkpoint of step 2 is kept" in error
    assert os.listdir(tmp_path / "r" / "checkpoints") == ["2"]
    assert all(np.isfinite(a).all() for a in weights(tmp_path / "r", 2))


@pytest.mark.slow
def test_folder_of_a_run_that_came_to_no_checkpoint_is_free_for_another(project, finished, tmp_path):
    rate = "--config.optim.learning_rate=1e30", "--config.optim.warmup_steps=0", "--config.optim.schedule=constant"
    code, output = run("jaxcd.train", "--config", project, *rate, "--workdir", tmp_path / "r")
    assert code == 2 and "no checkpoint was made yet" in output, output
    code, output = run("jaxcd.train", "--config", project, "--config.seed=3", "--workdir", tmp_path / "r")
    assert code == 0 and "finished 12 steps" in output, output
    assert [e["step"] for e in read_log(tmp_path / "r") if e["kind"] == "train"] == list(range(1, 13))
    assert json.loads((tmp_path / "r" / "config.json").read_text())["seed"] == 3


def test_signal_before_a_validation_ends_it_and_the_next_start_makes_up_for_it(project, finished, tmp_path):
    folder = tmp_path / "r"
    _stopped(project, folder, 6, signal.SIGTERM)
    assert [e["step"] for e in read_log(folder) if e["kind"] == "validation"] == []
    assert os.listdir(folder / "checkpoints") == ["6"]
    code, output = run("jaxcd.train", "--config", project, "--workdir", folder)
    assert code == 0 and "going on from step 6" in output, output
    entries = [[(e["step"], e["kind"], e["loss"]) for e in read_log(f)] for f in (folder, finished.folder)]
    assert entries[0] == entries[1]
    assert sorted(os.listdir(folder / "checkpoints")) == sorted(os.listdir(finished.folder / "checkpoints"))
    for a, b in zip(weights(folder, 12), weights(finished.folder, 12), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_full_disk_ends_in_one_line_and_with_more_room_the_run_goes_on(project, finished, tmp_path):
    """In a mount namespace of its own, on a file system with room for two checkpoints but not for three."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
        pytest.skip("this system allows no mount namespace, so no small disk to fill")
    disk = tmp_path / "disk"
    disk.mkdir()
    training = f"{sys.executable} -m jaxcd.train --config {project} --workdir {disk}/r; echo code $?"
    larger = f"mount -o remount,size=50m {disk}"
    script = (
        f"mount -t tmpfs -o size=3500k none {disk} && {training}; {larger} && {training}; cp -r {disk}/r {tmp_path}"
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=600)
    assert "code 2" in done.stdout and "Traceback" not in done.stderr, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (
        error.startswith("error: the disk is full: the checkpoint of step ") and "run the same command again" in error
    )
    assert "going on from step" in done.stdout and done.stdout.count("code 0") == 1
    for a, b in zip(weights(tmp_path / "r", 12), weights(finished.folder, 12), strict=True):
        np.testing.assert_array_equal(a, b)


def test_device_that_is_not_there_is_one_line(project, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    code, output = run_process("jaxcd.train", "--config", project, "--workdir", tmp_path / "r")
    assert code == 2 and "Traceback" not in output, output
    assert output.strip().splitlines()[-1].startswith("error: JAX_PLATFORMS=cuda: JAX cannot use it here")
    assert not (tmp_path / "r").exists()


def test_paths_of_a_run_do_not_depend_on_where_it_was_started(project, finished, tmp_path, monkeypatch):
    shutil.copytree(finished.folder, tmp_path / "run")
    monkeypatch.chdir(project.parent)
    code, output = run("jaxcd.train", "--config", project, "--config.data.root=tiles", "--workdir", tmp_path / "run")
    assert code == 0 and "going on from step 12 of 12" in output, output


def test_bfloat16_on_a_cpu_is_warned_of(project, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")  # which ends the run after what it says first
    for dtype, said in (("bfloat16", 1), ("float32", 0)):
        flags = f"--config.model.dtype={dtype}", "--workdir", tmp_path
        code, output = run("jaxcd.train", "--config", project, *flags)
        warned = [line for line in output.splitlines() if line.startswith("WARNING: the network computes in bfloat16")]
        assert code == 2 and len(warned) == said, output
