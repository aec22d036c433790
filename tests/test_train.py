import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runs import run, start, weights, write_project

from jaxcd import train
from jaxcd.training.logs import read_log


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Config file of a tiny project whose dataset is built by the first run."""
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def finished(project) -> tuple[Path, str]:
    """A run that was never interrupted, and what it printed."""
    folder = project.parent / "finished"
    code, output = run("jaxcd.train", "--config", project, "--workdir", folder)
    assert code == 0, output
    return folder, output


def _logged(folder: Path) -> int:
    return max((entry["step"] for entry in read_log(folder)), default=0)


def _checkpointed(folder: Path) -> int:
    there = folder / "checkpoints"
    return max((int(p.name) for p in there.iterdir() if p.name.isdigit()), default=0) if there.is_dir() else 0


def _interrupt(project: Path, folder: Path, after: int, number: int) -> tuple[int, str]:
    """Start training, send a signal when it is `after` steps in and has a checkpoint; returns code and output."""
    process = start("jaxcd.train", "--config", project, "--workdir", folder)
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if _logged(folder) >= after and _checkpointed(folder):
            break
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[0]
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def test_killed_and_stopped_run_ends_bit_for_bit_as_one_never_interrupted(project, finished):
    folder = project.parent / "interrupted"
    code, output = _interrupt(project, folder, 4, signal.SIGKILL)
    assert code == -signal.SIGKILL
    code, output = _interrupt(project, folder, 9, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM, output
    assert "going on from step" in output and "all saved; the same command goes on from there" in output
    stopped = int(output.split("stopped at step ")[1].split(",")[0])
    assert str(stopped) in os.listdir(folder / "checkpoints")
    code, output = _interrupt(project, folder, 15, signal.SIGINT)
    assert code == 128 + signal.SIGINT, output
    assert f"going on from step {stopped} of 24" in output
    code, output = run("jaxcd.train", "--config", project, "--workdir", folder)
    assert code == 0 and "finished 24 steps" in output, output

    ours, never = weights(folder, 24), weights(finished[0], 24)
    assert len(ours) == len(never) > 30
    for a, b in zip(ours, never, strict=True):
        np.testing.assert_array_equal(a, b)
    # The logs tell one story: each step once, in order, with the same losses.
    told = [[(e["step"], e["kind"], e["loss"]) for e in read_log(f)] for f in (folder, finished[0])]
    assert told[0] == told[1]
    assert [step for step, kind, _ in told[0] if kind == "train"] == list(range(1, 25))


def test_run_leaves_what_it_promises(finished):
    folder, output = finished
    assert "First use" in output and "device: " in output
    assert (folder / "curves.png").stat().st_size > 10_000
    assert sorted(p.name for p in (folder / "panels").iterdir()) == ["step_0000012.png", "step_0000024.png"]
    validations = [entry for entry in read_log(folder) if entry["kind"] == "validation"]
    assert [entry["step"] for entry in validations] == [12, 24]
    best = max(validations, key=lambda entry: entry["iou"])["step"]
    assert set(os.listdir(folder / "checkpoints")) == {str(best), "24"}
    parts = json.loads((folder / "splits.json").read_text())
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [11, 3, 2]


def test_tensorboard_reads_the_events(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished[0] / "tensorboard")).Reload()
    logged = {e["step"]: e["loss"] for e in read_log(finished[0]) if e["kind"] == "train"}
    assert {e.step: e.value for e in events.Scalars("train/loss")} == pytest.approx(logged, rel=1e-6)
    assert [e.step for e in events.Scalars("validation/iou")] == [12, 24]


def test_finished_run_is_not_run_again(project, finished):
    before = weights(finished[0], 24)
    code, output = run("jaxcd.train", "--config", project, "--workdir", finished[0])
    assert code == 0 and "going on from step 24 of 24" in output and "First use" not in output
    for a, b in zip(before, weights(finished[0], 24), strict=True):
        np.testing.assert_array_equal(a, b)


def _main(capsys, *arguments: object) -> str:
    """Call the entry in this process; returns the one line of its error."""
    assert train.main(["train", *map(str, arguments)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    return error


def test_loader_processes_give_the_run_of_threads(project, finished, tmp_path):
    code, output = run(
        "jaxcd.train",
        "--config",
        project,
        "--config.data.workers=2",
        "--config.train.steps=24",
        "--workdir",
        tmp_path / "w",
    )
    assert code == 0, output
    for a, b in zip(weights(tmp_path / "w", 24), weights(finished[0], 24), strict=True):
        np.testing.assert_array_equal(a, b)


def test_other_configuration_in_the_workdir_is_refused_by_its_field(project, finished, capsys):
    listing = sorted(finished[0].rglob("*"))
    error = _main(capsys, "--config", project, "--config.optim.weight_decay=0.5", "--workdir", finished[0])
    assert "config.optim.weight_decay is 0.002 there and 0.5 here" in error and str(finished[0]) in error
    assert sorted(finished[0].rglob("*")) == listing


def test_folder_of_something_else_is_refused(project, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert "holds files but no run" in _main(capsys, "--config", project, "--workdir", tmp_path)
    assert "is a file" in _main(capsys, "--config", project, "--workdir", tmp_path / "thesis.tex")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.tex"]


def test_two_processes_never_train_in_one_folder(project, tmp_path):
    process = start("jaxcd.train", "--config", project, "--workdir", tmp_path / "r")
    while not _logged(tmp_path / "r") and process.poll() is None:
        time.sleep(0.05)
    code, output = run("jaxcd.train", "--config", project, "--workdir", tmp_path / "r")
    process.kill()
    process.communicate()
    assert code == 2 and "another process is training in it" in output


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("--config.train.bacth=4", "config.train.bacth: no such field; config.train has batch, accumulation"),
        ("--config.train.batch=four", "config.train.batch: expected int, got 'four'"),
        ("--config.model.size=huge", "config.model.size: expected one of small, medium, large, got 'huge'"),
        ("--config.data.split_shares=0.5", "config.data.split_shares: expected 3 numbers"),
        ("--config.train.epochs=2", "config.train: expected either steps or epochs above 0"),
        ("--config.data.root=/nowhere/at/all", "/nowhere/at/all"),
        ("--config.data.layout=xbd", "folders"),
        ("--nonsense=1", "nonsense"),
    ],
)
def test_bad_settings_end_in_one_line_and_leave_nothing(project, finished, tmp_path, capsys, override, told):
    assert told in _main(capsys, "--config", project, override, "--workdir", tmp_path / "r")
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
    code, output = run(
        "jaxcd.train",
        "--config",
        project,
        "--config.optim.learning_rate=1e30",
        "--config.optim.schedule=constant",
        "--config.optim.warmup_steps=8",
        "--workdir",
        tmp_path / "r",
    )
    assert code == 2 and "Traceback" not in output, output
    error = output.strip().splitlines()[-1]
    assert error.startswith("error: step ") and "on tiles r0" in error and "learning_rate" in error
    kept = [int(name) for name in os.listdir(tmp_path / "r" / "checkpoints")]
    step = int(error.split()[2].rstrip(":"))
    assert kept == [] or max(kept) < step
    for saved in kept:
        assert all(np.isfinite(a).all() for a in weights(tmp_path / "r", saved))


def test_full_disk_ends_in_one_line_and_what_was_saved_is_whole(project, finished, tmp_path):
    """In a mount namespace of its own, on a file system of one megabyte."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
        pytest.skip("this system allows no mount namespace, so no small disk to fill")
    (tmp_path / "disk").mkdir()
    training = f"{sys.executable} -m jaxcd.train --config {project} --workdir {tmp_path}/disk/r"
    mount = f"mount -t tmpfs -o size=1m none {tmp_path}/disk"
    script = f"{mount} && {training}; echo code $?; cp -r {tmp_path}/disk/r {tmp_path}"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=600)
    assert "code 2" in done.stdout and "Traceback" not in done.stderr, done.stderr
    assert "error: the disk is full: " in done.stderr, done.stderr
    for step in (tmp_path / "r" / "checkpoints").iterdir():
        if step.name.isdigit():
            weights(tmp_path / "r", int(step.name))
