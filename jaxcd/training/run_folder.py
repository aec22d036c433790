"""The folder of a run: its configuration, and a lock so that two processes never write to one."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from jaxcd import config as configuration
from jaxcd.config import Config
from jaxcd.errors import ConfigError, RunError

CONFIG = "config.json"
_LOCK = ".lock"


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
