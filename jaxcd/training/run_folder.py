"""The folder of a run: its configuration, and a lock so that two processes never write to one."""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from pathlib import Path

from jaxcd import config as configuration
from jaxcd.config import Config
from jaxcd.errors import ConfigError, RunError

CONFIG = "config.json"
_LOCK = ".lock"
_SPLITS = "splits.json"


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

    Raises:
        RunError: the folder holds another configuration or other files.
    """
    if run.exists() and not run.is_dir():
        raise RunError(f"{run}: is a file; give a folder with --workdir")
    if (run / CONFIG).exists():
        told = configuration.difference(read_config(run), config)
        if told:
            raise RunError(f"{run}: holds a run of another configuration: {told}; give a new folder with --workdir")
    elif run.is_dir() and any(path.name != _LOCK for path in run.iterdir()):
        raise RunError(f"{run}: holds files but no run; give a new folder with --workdir")


def record_splits(run: Path, places: dict[str, list[str]]) -> None:
    """Write down which places a run is trained, validated and tested on, the first time.

    Raises:
        RunError: the run was begun with other places.
    """
    path = run / _SPLITS
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(places, indent=1) + "\n")
        partial.replace(path)
    elif json.loads(path.read_text()) != places:
        raise RunError(
            f"{run}: the dataset has other places than when this run began; give a new folder with --workdir"
        )


def read_splits(run: Path) -> dict[str, list[str]]:
    """Read the places of a run's splits, by their ids.

    Raises:
        RunError: the run has none (its weights were imported).
    """
    path = run / _SPLITS
    if not path.is_file():
        raise RunError(f"{run}: has no data of its own (imported weights); give --data and --layout")
    return json.loads(path.read_text())


@contextlib.contextmanager
def claim(run: Path, config: Config) -> Iterator[None]:
    """Make the folder this configuration's run, and keep other processes out while the context lasts.

    Raises:
        RunError: as `check`, or another process trains in the folder.
    """
    check(run, config)
    run.mkdir(parents=True, exist_ok=True)
    with (run / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{run}: another process is training in it") from error
        if not (run / CONFIG).exists():
            configuration.write(config, run / CONFIG)
        yield
