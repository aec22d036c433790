"""The folder of a run: its configuration, and a lock so that two processes never write to one."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxcd import config as configuration
from jaxcd.config import Config
from jaxcd.errors import ConfigError, RunError
from jaxcd.files import locked, write_whole
from jaxcd.training import checkpoints

CONFIG = "config.json"
_LOCK = ".lock"
_SPLITS = "splits.json"
_TRACES = ("panels", "tensorboard")


def read_config(run: Path) -> Config:
    """Read the configuration of a run.

    Raises:
        RunError: not a run folder, or its configuration is damaged.
    """
    path = run / CONFIG
    if not path.is_file():
        raise RunError(f"{run}: not a run (it has no {CONFIG}); train one with python -m jaxcd.train --workdir {run}")
    try:
        return configuration.read(path)
    except ConfigError as error:
        raise RunError(f"{run}: {error}") from error


def check(run: Path, config: Config) -> None:
    """See that the folder is free for this configuration's run, or holds it already; writes nothing.

    A run that ended before its first checkpoint (too little memory, a mistyped field) makes room for another one.

    Raises:
        RunError: the folder holds another configuration or other files.
    """
    if run.exists() and not run.is_dir():
        raise RunError(f"{run}: is a file; give a folder with --workdir")
    if checkpoints.exist(run):
        told = configuration.difference(read_config(run), config)
        if told:
            raise RunError(f"{run}: holds a run of another configuration: {told}; give a new folder with --workdir")
    elif run.is_dir() and not (run / CONFIG).exists() and any(path.name[0] != "." for path in run.iterdir()):
        raise RunError(f"{run}: holds files but no run; give a new folder with --workdir")


def record_splits(run: Path, places: dict[str, list[str]]) -> None:
    """Write down which places a run is trained, validated and tested on, the first time.

    Raises:
        RunError: the run was begun with other places.
    """
    path = run / _SPLITS
    if not path.exists() or not checkpoints.exist(run):
        write_whole(path, json.dumps(places, indent=1) + "\n")
    elif read_splits(run) != places:
        raise RunError(
            f"{run}: the dataset has other places than when this run began; give a new folder with --workdir"
        )


def read_splits(run: Path) -> dict[str, list[str]]:
    """Read the places of a run's splits, by their ids.

    Raises:
        RunError: the run has none (its weights were imported), or the file is damaged.
    """
    path = run / _SPLITS
    if not path.is_file():
        raise RunError(f"{run}: has no data of its own (imported weights); give --data and --layout")
    try:
        places = json.loads(path.read_text())
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); restore it from a copy, or train anew") from error
    if not isinstance(places, dict) or not all(isinstance(ids, list) for ids in places.values()):
        raise RunError(f"{path}: damaged (expected lists of places); restore it from a copy, or train anew")
    return places


@contextlib.contextmanager
def claim(run: Path, config: Config) -> Iterator[None]:
    """Make the folder this configuration's run, and keep other processes out while the context lasts.

    Raises:
        RunError: as `check`, or another process trains in the folder.
    """
    check(run, config)
    run.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(run / _LOCK))
        except BlockingIOError as error:
            raise RunError(f"{run}: another process is training in it") from error
        if not checkpoints.exist(run):
            # What a run that never came to a checkpoint left would be taken for this one's.
            for name in _TRACES:
                shutil.rmtree(run / name, ignore_errors=True)
            configuration.write(config, run / CONFIG)
        yield
