"""One run on several real processes: it learns what one process learns, and survives what befalls a process."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from jaxcd.runs.logs import read_log
from tests.entries import run, tree
from tests.hosts.steps_together import CASES, STEPS
from tests.hosts.teams import Team, free_address, process

ROOT = Path(__file__).resolve().parents[2]
# Sums of float32 in another order; AdamW divides by the root of the squared gradient's mean, which enlarges it.
_NEAR = 1e-5
_SHALLOW = (
    "--config.model.name=tests.hosts.shallow:Shallow",
    "--config.model.size=tiny",
    "--config.train.steps=60",
    "--config.train.validate_every=30",
    "--config.train.checkpoint_every=5",
)


@pytest.fixture(scope="module")
def alone(project, tmp_path_factory) -> Path:
    """A run of one process that was never interrupted."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    code, output = run("jaxcd.train", "--config", project, *_SHALLOW, "--workdir", folder)
    assert code == 0, output
    return folder


def _await_step(folder: Path, team: Team, step: int) -> None:
    until = time.monotonic() + 300
    while max((entry["step"] for entry in read_log(folder)), default=0) < step:
        assert time.monotonic() < until and all(each.poll() is None for each in team.processes), team.output(0)
        time.sleep(0.02)


def _as_one(folder: Path, never: Path, step: int) -> None:
    """Compare a run of several processes with one of one process."""
    for item in ("params", "stats"):
        ours, theirs = tree(folder, step, item), tree(never, step, item)
        assert ours.keys() == theirs.keys()
        for name in ours:
            for a, b in zip(ours[name], theirs[name], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=_NEAR)
    losses = [[(e["step"], e["kind"]) for e in read_log(f)] for f in (folder, never)]
    assert losses[0] == losses[1]
    ours, theirs = ([e["loss"] for e in read_log(f)] for f in (folder, never))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@pytest.mark.slow
def test_a_run_survives_sigterm_and_a_kill_and_ends_as_one(project, alone, tmp_path, monkeypatch):
    folder, opened = tmp_path / "run", tmp_path / "opened"
    flags = "--config", project, *_SHALLOW, "--workdir", folder
    monkeypatch.setenv("PYTHONPATH", f"{_noting_what_is_written(tmp_path, folder, opened)}{os.pathsep}{ROOT}")
    team = Team(tmp_path / "first", 2, *flags)
    _await_step(folder, team, 2)
    team.processes[1].send_signal(signal.SIGTERM)
    assert team.ended() == [143, 143], team.output(0)
    stopped = max(int(name) for name in os.listdir(folder / "checkpoints"))
    assert f"stopped at step {stopped}, all saved" in team.output(0) and stopped < 60
    assert "stopped" not in team.output(1), "only the first process tells"
    # What a run leaves is what one process leaves: nothing of the second one, nothing hidden but the lock.
    assert {p.name for p in folder.iterdir()} <= {p.name for p in alone.iterdir()}
    _no_file_is_written_twice(opened)
    monkeypatch.undo()
    team = Team(tmp_path / "second", 2, *flags)
    _await_step(folder, team, 35)  # both have validated
    assert f"going on from step {stopped} of 60" in team.output(0)
    _kill(team, 1)
    code, output = run("jaxcd.train", *flags)
    assert code == 0 and "going on from step " in output and "finished 60 steps" in output, output
    _as_one(folder, alone, 60)
    events = Counter(p.name.split(".")[-2] for p in (folder / "tensorboard").iterdir())
    assert sum(events.values()) == 3  # three starts of one writer


def _noting_what_is_written(place: Path, folder: Path, opened: Path) -> Path:
    """Make a folder for PYTHONPATH with which each process notes the files of a folder that Python opens to write."""
    opened.mkdir()
    (place / "noting").mkdir()
    (place / "noting" / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"log = os.open(os.path.join({str(opened)!r}, str(os.getpid())), os.O_CREAT | os.O_WRONLY | os.O_APPEND)\n"
        "def note(event, arguments):\n"
        "    if event == 'open' and arguments[2] & (os.O_WRONLY | os.O_RDWR):\n"
        f"        if str(arguments[0]).startswith({str(folder)!r}):\n"
        "            os.write(log, f'{arguments[0]}\\n'.encode())\n"
        "sys.addaudithook(note)\n"
    )
    return place / "noting"


def _no_file_is_written_twice(opened: Path) -> None:
    written = [set(log.read_text().splitlines()) for log in opened.iterdir()]
    writers = Counter(name for names in written for name in names)
    assert sum("log.jsonl" in name for name in writers) and set(writers.values()) == {1}, writers


def _kill(team: Team, victim: int) -> None:
    """Kill one of two processes: the other one ends with a message."""
    team.processes[victim].kill()
    killed = time.monotonic()
    assert team.processes[1 - victim].wait(60) not in (0, -signal.SIGKILL)
    assert time.monotonic() - killed < 30
    said = team.output(1 - victim)
    if victim:  # JAX ends a process whose coordinator is gone itself, with a message of its own
        assert "has ended or can't be reached" in said or "process 1 of 2" in said
    else:
        assert "another task died" in said or "process 0 of this run can't be reached" in said
    assert team.processes[victim].wait(10) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_and_the_same_command_goes_on(project, alone, tmp_path, victim):
    folder = tmp_path / "run"
    flags = "--config", project, *_SHALLOW, "--workdir", folder
    team = Team(tmp_path / "first", 2, *flags)
    _await_step(folder, team, 7)
    _kill(team, victim)
    team = Team(tmp_path / "second", 2, *flags)
    assert team.ended() == [0, 0], team.output(0)
    assert "going on from step " in team.output(0) and "finished 60 steps" in team.output(0)
    _as_one(folder, alone, 60)
    assert {p.name for p in folder.iterdir()} == {p.name for p in alone.iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_goes_on_with_one_process_and_with_four(project, alone, tmp_path):
    folder = tmp_path / "run"
    flags = "--config", project, *_SHALLOW, "--workdir", folder
    for number, (count, step) in enumerate(((2, 5), (4, 15), (1, 25), (2, 60))):
        team = Team(tmp_path / str(number), count, *flags)
        if step < 60:
            _await_step(folder, team, step)
            team.processes[count - 1].send_signal(signal.SIGTERM)
        assert team.ended() == [0 if step == 60 else 143] * count, team.output(0)
    _as_one(folder, alone, 60)


@pytest.mark.slow
def test_pretraining_of_two_processes_validates_as_one(project, tmp_path):
    flags = (
        "--config", project, "--config.task=contrastive", "--config.train.steps=4", "--config.train.validate_every=2",
        "--config.contrast.samples=12",
    )  # fmt: skip
    code, output = run("jaxcd.train", *flags, "--workdir", tmp_path / "one")
    assert code == 0, output
    team = Team(tmp_path / "team", 2, *flags, "--workdir", tmp_path / "two")
    assert team.ended() == [0, 0], team.output(0)
    _as_one(tmp_path / "two", tmp_path / "one", 4)
    code, output = run(
        "jaxcd.train", "--config", project, f"--config.init.encoder_from={tmp_path / 'two'}",
        "--config.freeze.encoder=true", "--config.train.steps=2", "--workdir", tmp_path / "one_frozen",
    )  # fmt: skip
    assert code == 0, output
    team = Team(
        tmp_path / "frozen", 2, "--config", project, f"--config.init.encoder_from={tmp_path / 'two'}",
        "--config.freeze.encoder=true", "--config.train.steps=2", "--workdir", tmp_path / "two_frozen",
    )  # fmt: skip
    assert team.ended() == [0, 0], team.output(0)
    _as_one(tmp_path / "two_frozen", tmp_path / "one_frozen", 2)


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["slurm", "ompi"])
def test_processes_are_found_by_what_slurm_and_open_mpi_tell(project, tmp_path, cluster):
    job, flags = os.getpid(), ("--config", project, *_SHALLOW, "--workdir", tmp_path / "run", "--config.train.steps=2")
    told = {
        "slurm": lambda i: {
            "SLURM_JOB_ID": str(job), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2", "SLURM_PROCID": str(i),
            "SLURM_LOCALID": str(i), "SLURM_STEP_NUM_NODES": "1",
        },
        "ompi": lambda i: {
            "OMPI_MCA_orte_hnp_uri": f"{job * 4096}.0;tcp://127.0.0.1:34911", "OMPI_COMM_WORLD_SIZE": "2",
            "OMPI_COMM_WORLD_RANK": str(i), "OMPI_COMM_WORLD_LOCAL_RANK": str(i),
        },
    }[cluster]  # fmt: skip
    logs = [tmp_path / f"{i}.log" for i in range(2)]
    processes = [
        process("jaxcd.train", *flags, "--config.hosts.coordinator=auto", log=logs[i], **told(i)) for i in range(2)
    ]
    assert [each.wait(300) for each in processes] == [0, 0], logs[0].read_text()
    assert "process 1 of 2 on " in logs[1].read_text() and "finished 2 steps" in logs[0].read_text()


def _learned(folder: Path, case: str, count: int, devices: int) -> dict[str, np.ndarray]:
    """Return what so many processes have after 20 steps of a case, by number of the array."""
    address, name = free_address(), f"{count}_{devices}"
    file, logs = folder / f"{name}.npz", [folder / f"{name}_{i}.log" for i in range(count)]
    started = [
        process("tests.hosts.steps_together", file, case, log=logs[i], devices=devices, HOSTS=f"{address} {count} {i}")
        for i in range(count)
    ]
    assert [each.wait(600) for each in started] == [0] * count, logs[0].read_text()
    return dict(np.load(file))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES)
def test_every_network_learns_as_in_one_process(tmp_path, case):
    """20 steps, with accumulation, averages, augmentation and dropout, a frozen encoder, levels, and by contrast.

    Two processes compute the bits of one process with two devices: nothing but the order of sums can make them differ
    from one device. Four processes take sums in another order. AdamW, which follows the sign of gradients that are
    zero but for rounding, makes much of it (as of initial weights that are changed by 1e-7); so the losses are
    compared, closely for the first step.
    """
    two, of_two, of_four = (_learned(tmp_path, case, *how) for how in ((1, 2), (2, 1), (4, 1)))
    assert of_two.keys() == two.keys()
    for name, one in two.items():
        np.testing.assert_array_equal(of_two[name], one, err_msg=name)
    four, losses = (found[max(found)] for found in (of_four, two))
    assert len(losses) == STEPS
    np.testing.assert_allclose(four[0], losses[0], rtol=1e-5)
    np.testing.assert_allclose(four, losses, rtol=1e-2)


@pytest.mark.slow
def test_false_alarms_are_searched_together_and_all_draw_by_the_same(project, tmp_path):
    flags = (
        "--config", project, *_SHALLOW, "--config.train.steps=12", "--config.train.validate_every=12",
        "--config.data.balance=event", "--config.data.false_alarm_share=0.5", "--config.train.search_every=4",
    )  # fmt: skip
    code, output = run("jaxcd.train", *flags, "--workdir", tmp_path / "one")
    assert code == 0, output
    team = Team(tmp_path / "team", 2, *flags, "--workdir", tmp_path / "two")
    assert team.ended() == [0, 0], team.output(0)
    said = [[line for line in text.splitlines() if "false alarms found" in line] for text in (output, team.output(0))]
    assert said[0] == said[1] and len(said[0]) == 2 and " 0 false" not in said[0][0]
    _as_one(tmp_path / "two", tmp_path / "one", 12)
