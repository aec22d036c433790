"""The folder of a run: its configuration, and a lock so that two processes never write to one."""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from jaxcd.base import hosts
from jaxcd.base.errors import ConfigError, RunError
from jaxcd.base.files import locked, write_whole
from jaxcd.base.fingerprints import refuse_other
from jaxcd.base.folders import LOCK, alone, check_folder
from jaxcd.config import Config
from jaxcd.config import files as config_files
from jaxcd.runs import checkpoints
from jaxcd.runs.logs import LOG, read_log

CONFIG = "config.json"
_WAIT = 0.5  # seconds
_SPLITS = "splits.json"
_IMAGERY = "imagery.json"
_WEIGHTS = "pretrained.json"
_BEFORE = "before"
_TRACES = (_SPLITS, _WEIGHTS, LOG, "curves.png", "panels", "embeddings", "tensorboard")


def read_config(run: Path) -> Config:
    """Read the configuration of a run.

    Raises:
        RunError: not a run folder, or its configuration is damaged.
    """
    path = run / CONFIG
    if not path.is_file():
        raise RunError(f"{run}: not a run (it has no {CONFIG}); train one with python -m jaxcd.train --workdir {run}")
    try:
        return config_files.read(path)
    except ConfigError as error:
        raise RunError(f"{run}: {error}") from error


def check(run: Path, config: Config) -> None:
    """Check that the folder is free, or holds a run of this configuration already; writes nothing.

    A run that ended before its first checkpoint (too little memory, a mistyped field) may be replaced by another one.

    Raises:
        RunError: the folder holds another configuration or other files.
    """
    check_folder(run, CONFIG, holds="run")
    if (run / CONFIG).exists() and _begun(run):
        refuse_other(run, config_files.difference(read_config(run), config), holds="run")


def _begun(run: Path) -> bool:
    """Say whether the folder holds more than a start: a checkpoint, or (if those were deleted) a validation.

    Raises:
        RunError: its configuration is not one of ours.
    """
    read_config(run)
    return checkpoints.exist(run) or any(entry["kind"] == "validation" for entry in read_log(run))


def record_splits(run: Path, places: dict[str, list[str]], *, labels: str, before: Iterable[str] = ()) -> None:
    """Record which places a run is trained, validated and tested on; later calls check that they are the same.

    Args:
        run: the run's folder.
        places: ids by split.
        labels: digest of the dataset's places and labels.
        before: places that the run's initial encoder has learned from.

    Raises:
        RunError: the run was begun with other places or labels.
    """
    path = run / _SPLITS
    if not path.exists():
        write_whole(path, json.dumps({"labels": labels, **places, _BEFORE: sorted(before)}, indent=1) + "\n")
    elif {**_read_splits(path), _BEFORE: []} != {"labels": labels, **places, _BEFORE: []}:
        raise RunError(
            f"{run}: the dataset's places or labels are not those that this run began with; give a new folder"
        )


def record_metres(run: Path, metres: float) -> None:
    """Record the side of the pixels that a run learns from; 0 if its data don't tell."""
    write_whole(run / _IMAGERY, json.dumps({"metres_per_pixel": metres}) + "\n")


def record_weights(run: Path, file: Path, sha256: str) -> None:
    """Record the file of ImageNet weights that a run's encoder began with."""
    write_whole(run / _WEIGHTS, json.dumps({"file": str(file), "sha256": sha256}, indent=1) + "\n")


def read_metres(run: Path) -> float:
    """Return the side of the pixels that a run has learned from, in metres; 0 if it is not recorded.

    Raises:
        RunError: the file is damaged.
    """
    path = run / _IMAGERY
    if not path.is_file():
        return 0.0
    try:
        return float(json.loads(path.read_text())["metres_per_pixel"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged ({error}); restore it from a copy, or delete it") from error


def read_splits(run: Path) -> dict[str, list[str]]:
    """Read the places of a run's splits, by their ids.

    Raises:
        RunError: the run has none (its weights were imported), or the file is damaged.
    """
    path = run / _SPLITS
    if not path.is_file():
        raise RunError(f"{run}: has no data of its own (imported weights); give --data and --layout")
    return {part: ids for part, ids in _read_splits(path).items() if part not in ("labels", _BEFORE)}


def learned_from(run: Path) -> tuple[set[str], str]:
    """Return the ids of the places that a run, or the one it began with, was trained on, and its dataset's digest."""
    if not (run / _SPLITS).is_file():
        return set(), ""
    content = _read_splits(run / _SPLITS)
    return {*content["train"], *content.get(_BEFORE, ())}, content["labels"]


def _read_splits(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise RunError(f"{path}: damaged ({error}); restore it from a copy, or train anew") from error
    if not isinstance(content, dict) or not {"labels", "train", "validation", "test"} <= content.keys():
        raise RunError(f"{path}: damaged (expected the places of each split); restore it from a copy, or train anew")
    return content


def await_free(run: Path, *, meanwhile: Callable[[], None]) -> None:
    """Wait until no process trains in a folder: a process whose parent was killed still saves its state.

    Args:
        run: the folder; it need not be there.
        meanwhile: called now and then; what it raises ends the waiting.
    """
    announced = False
    while (run / LOCK).exists():
        try:
            with locked(run / LOCK):
                return
        except BlockingIOError:
            if not announced:
                print(f"{run}: another process is training in it; waiting for its end", file=sys.stderr, flush=True)
            announced = True
        meanwhile()
        time.sleep(_WAIT)


@contextlib.contextmanager
def claim(run: Path, config: Config) -> Iterator[None]:
    """Claim the folder for a run of this configuration, and keep other processes out while the context lasts.

    Of several processes of one run, the first one claims it, and the others see that it is the same folder.

    Raises:
        RunError: as `check`, or another process trains in the folder.
        HostsError: this process does not see the first one's folder.
    """
    check(run, config)
    if not hosts.is_first():
        hosts.check_shared(run)
        yield
        return
    with alone(run, working="training in it"):
        if not (run / CONFIG).exists() or not _begun(run):
            # Files of a run that never reached a checkpoint would be taken for this run's.
            for path in (run / name for name in _TRACES):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            config_files.write(config, run / CONFIG)
        hosts.check_shared(run)
        yield
