"""Processes that can't meet, or do not fit each other: one line says what is wrong, and all end."""

import shutil
import time
from pathlib import Path

import pytest

from jaxcd.base.errors import ConfigError
from jaxcd.config import Config, DataConfig, HostsConfig, TrainConfig
from jaxcd.config import files as config_files
from tests.entries import run
from tests.hosts.teams import Team, free_address, process

ROOT = Path(__file__).resolve().parents[2]


def _both_say(team: Team, words: str) -> None:
    assert team.ended() == [2, 2], [team.output(0), team.output(1)]
    for i in range(2):
        assert words in team.error(i)


def test_processes_of_different_configurations_are_told_which_field(project, tmp_path):
    flags = "--config", project, "--workdir", tmp_path / "run"
    team = Team(tmp_path / "team", 2, *flags, own=[[], ["--config.optim.learning_rate=0.5"]])
    _both_say(team, "config.optim.learning_rate is 0.001 in process 0 and 0.5 in process 1; start all with the same")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_processes_do_not_divide(project, tmp_path):
    flags = "--config", project, "--workdir", tmp_path / "run", "--config.train.batch=3"
    team = Team(tmp_path / "team", 2, *flags)
    _both_say(team, "config.train.batch: 2 devices of 2 processes can't share micro-batches of 3 pairs evenly; set a")
    assert not (tmp_path / "run").exists()


def test_a_coordinator_that_is_not_there(project, tmp_path):
    flags = "--config", project, "--workdir", tmp_path / "run", "--config.hosts.timeout=4"
    address, began = free_address(), time.monotonic()
    for index in range(2):  # no first process; a first process alone
        how = f"--config.hosts.coordinator={address}", "--config.hosts.processes=2", f"--config.hosts.index={index}"
        log = tmp_path / f"{index}.log"
        assert process("jaxcd.train", *flags, *how, log=log).wait(120) == 2
        assert log.read_text().splitlines()[-1].startswith(f"error: {address}: ") and "within 4 s" in log.read_text()
        assert "Traceback" not in log.read_text() and "stack" not in log.read_text()
    assert time.monotonic() - began < 90 and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_one_host_without_the_data(project, tmp_path):
    copy = shutil.copytree(project.parent / "tiles", tmp_path / "tiles")
    flags = "--config", project, "--workdir", tmp_path / "run", f"--config.data.root={copy}"
    caches = [[f"--config.data.cache={tmp_path / name}"] for name in "ab"]
    # The first process has built its dataset; the source is gone, and the second one has none.
    code, output = run("jaxcd.train", *flags, *caches[0], "--config.train.steps=1", "--workdir", tmp_path / "before")
    assert code == 0, output
    shutil.rmtree(copy)
    team = Team(tmp_path / "team", 2, *flags, own=caches)
    assert team.ended() == [2, 2]
    assert str(copy) in team.error(1) and "no such folder" in team.error(1), team.error(1)
    assert f"process 1 of 2 has ended: {team.error(1).removeprefix('error: ')}" in team.error(0)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_hosts_with_other_labels_of_the_same_places(project, tmp_path):
    copy = shutil.copytree(project.parent / "tiles", tmp_path / "tiles")
    flags = "--config", project, f"--config.data.root={copy}", "--config.train.steps=1"
    caches = [[f"--config.data.cache={tmp_path / name}"] for name in "ab"]
    for k, cache in enumerate(caches):
        code, output = run("jaxcd.train", *flags, *cache, "--workdir", tmp_path / f"before_{k}")
        assert code == 0, output
        label, other = sorted((copy / "label").iterdir())[:2]
        shutil.copy(other, label)
    shutil.rmtree(copy)
    team = Team(tmp_path / "team", 2, *flags, "--workdir", tmp_path / "run", own=caches)
    _both_say(team, "do not fit: data.labels is ")


@pytest.mark.slow
def test_a_folder_that_the_processes_do_not_share(project, tmp_path):
    flags = "--config", project
    own = [["--workdir", tmp_path / name] for name in "ab"]
    team = Team(tmp_path / "team", 2, *flags, own=own)
    assert team.ended() == [2, 2]
    assert f"{tmp_path / 'b'}: process 1 (on " in team.error(1) and "storage that all hosts share" in team.error(1)
    assert "process 1 of 2 has ended: " in team.error(0) and not (tmp_path / "b").exists()
    assert not list((tmp_path / "a").glob(".hosts-*"))


@pytest.mark.slow
def test_processes_of_different_code(project, tmp_path):
    shutil.copytree(ROOT / "jaxcd", tmp_path / "other" / "jaxcd")
    with (tmp_path / "other" / "jaxcd" / "learn" / "losses.py").open("a") as file:
        file.write("# changed\n")
    address = free_address()
    logs = [tmp_path / f"{i}.log" for i in range(2)]
    processes = [
        process(
            "jaxcd.train",
            *("--config", project, "--workdir", tmp_path / "run", f"--config.hosts.coordinator={address}"),
            *("--config.hosts.processes=2", f"--config.hosts.index={i}"),
            log=logs[i],
            PYTHONPATH=str(path),
            PYTHONSAFEPATH="1",
        )
        for i, path in enumerate((ROOT, tmp_path / "other"))
    ]
    assert [each.wait(300) for each in processes] == [2, 2]
    assert all("code.jaxcd/learn/losses.py is " in log.read_text() for log in logs)


def _config(**of_hosts: object) -> Config:
    return Config(data=DataConfig(root="x"), train=TrainConfig(steps=3), hosts=HostsConfig(**of_hosts))


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"coordinator": "here"}, "config.hosts.coordinator: expected HOST:PORT, auto, or nothing, got 'here'"),
        ({"processes": 2}, "config.hosts.coordinator: expected HOST:PORT or auto where processes or index is given"),
        ({"coordinator": "a:1", "processes": 2, "index": 2}, "config.hosts.index: expected less than processes = 2"),
    ],
)
def test_wrong_settings_are_named(given, error):
    with pytest.raises(ConfigError, match=error):
        _config(**given).validate()


def test_how_many_processes_there_are_defines_no_run():
    together = _config(coordinator="a:1", processes=2, index=1)
    assert config_files.difference(_config(), together) is None
    first = _config(coordinator="a:1", processes=2, index=0)
    assert config_files.shared_by_processes(first) == config_files.shared_by_processes(together)
