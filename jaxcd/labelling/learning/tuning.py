"""Fine-tuning a network on a store's labels: its settings, its folders, how far it is, and what its maps say.

STORE/tuned/3/plan.json       network, settings, and the last change of the labels that it learns from
STORE/tuned/3/labels.gpkg     those labels: a copy of the store
STORE/tuned/3/dataset_256/    built from them; run/: the training; maps/: a map of each pair
STORE/tuned/3/state.json      how far it is, written about once a second
STORE/tuned/3/found.json      what the maps say of footprints, and polygons where a pair has none
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxcd.base.errors import RunError
from jaxcd.base.files import write_whole
from jaxcd.config.fields import at_least, check_bounds, setting

TUNED, STATE, PLAN, FOUND, CANCELLED = "tuned", "state.json", "plan.json", "found.json", "cancelled"
RUN = "run"
IDLE, PREPARING, TRAINING, MAPPING = "idle", "preparing", "training", "mapping"
DONE, FAILED, STOPPED = "done", "failed", "stopped"
ACTIVE = (PREPARING, TRAINING, MAPPING)
"""States in which a process works."""
_SILENT = 120.0  # seconds without a word after which a fine-tuning counts as dead


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """How a network is fine-tuned; all else is as in the run that it begins with."""

    steps: int = setting(200, "optimiser steps of the fine-tuning", at_least(1))
    batch: int = setting(6, "crops in a step of the fine-tuning", at_least(1))
    learning_rate: float = setting(
        0.0, "highest learning rate of the fine-tuning; 0: 2e-4 with --run, 1e-3 with a decoder that begins at random",
        at_least(0),
    )  # fmt: skip
    encoder_lr_scale: float = setting(0.2, "factor on the encoder's learning rate in the fine-tuning", at_least(0))

    def validate(self) -> None:
        """Check all values.

        Raises:
            ConfigError: at the first invalid value; the message names its flag.
        """
        check_bounds(self, "--")


class Plan(NamedTuple):
    """What is fine-tuned, and how.

    Attributes:
        run: folder of the run that it begins with; empty: the recipe with ImageNet's weights.
        scaling: how 16-bit and float scenes become 8 bits.
        settings: of the training.
        seq: number of the last change of the labels.
    """

    run: str
    scaling: str
    settings: TuneSettings
    seq: int


class Progress(NamedTuple):
    """How far a fine-tuning is.

    Attributes:
        state: idle, preparing, training, mapping, done, failed or stopped.
        number: of its folder; 0: there was none yet.
        step: steps of the training that are done.
        steps: of the whole training.
        seconds_left: of the training, or None where that is not known.
        message: for the user; of a failed one, why.
    """

    state: str
    number: int = 0
    step: int = 0
    steps: int = 0
    seconds_left: int | None = None
    message: str = ""


def last(store: Path) -> Path | None:
    """Return the folder of the latest fine-tuning of a store, or None."""
    folder = store / TUNED
    numbers = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()] if folder.is_dir() else []
    return folder / str(max(numbers)) if numbers else None


def write_plan(folder: Path, plan: Plan) -> None:
    """Write what is fine-tuned in a folder."""
    write_whole(folder / PLAN, json.dumps({**plan._asdict(), "settings": asdict(plan.settings)}, indent=1) + "\n")


def read_plan(folder: Path) -> Plan:
    """Read what is fine-tuned in a folder.

    Raises:
        RunError: the file is missing or damaged.
    """
    content = _read(folder / PLAN)
    try:
        return Plan(**{**content, "settings": TuneSettings(**content["settings"])})
    except (TypeError, KeyError) as error:
        raise RunError(f"{folder / PLAN}: damaged ({error}); delete {folder}, and fine-tune anew") from error


def write_progress(folder: Path, progress: Progress) -> None:
    """Say how far a fine-tuning is; other processes read it."""
    write_whole(folder / STATE, json.dumps({**progress._asdict(), "pid": os.getpid(), "at": time.time()}))


def progress_of(store: Path) -> Progress:
    """Return how far the latest fine-tuning of a store is; one whose process was killed is stopped."""
    folder = last(store)
    if folder is None:
        return Progress(IDLE)
    if not (folder / STATE).is_file():
        return Progress(STOPPED, int(folder.name), message="was interrupted at its start")
    content = _read(folder / STATE)
    pid, at = content.pop("pid"), content.pop("at")
    found = Progress(**content)
    if found.state in ACTIVE and not (_lives(pid) and time.time() - at < _SILENT):
        return found._replace(state=STOPPED, seconds_left=None, message="was interrupted; goes on where it stopped")
    return found


def unfinished(store: Path) -> Plan | None:
    """Return the plan of a fine-tuning that was interrupted and not cancelled, or None."""
    folder = last(store)
    if folder is None or not (folder / PLAN).is_file() or (folder / CANCELLED).exists():
        return None
    return read_plan(folder) if progress_of(store).state == STOPPED else None


def network_scores(store: Path) -> Mapping[str, Mapping[str, float]] | None:
    """Return the probability of damage of footprints, by pair and object, that the newest finished maps say.

    A probability is the mean of the map's under the footprint, its log-odds shifted so that 0.5 is the threshold of the
    map. Footprints without data are missing. None: no fine-tuning has finished.
    """
    folder = _finished(store)
    return None if folder is None else _read(folder / FOUND)["scores"]


def network_run(store: Path) -> Path | None:
    """Return the folder of the run that the newest finished maps are of, or None."""
    folder = _finished(store)
    return None if folder is None else folder / RUN


def suggestions(store: Path, pair: str) -> list[dict[str, Any]]:
    """Return what the newest finished maps call damaged where a pair has no footprints.

    Returns:
        id ("d-" and a UUID, always the same), level, probability and outline (WKB in the pair's coordinates, as hex).
    """
    folder = _finished(store)
    return [] if folder is None else _read(folder / FOUND)["suggestions"].get(pair, [])


def _finished(store: Path) -> Path | None:
    newest = last(store)
    folders = [store / TUNED / str(number) for number in range(int(newest.name), 0, -1)] if newest else []
    return next((folder for folder in folders if (folder / FOUND).is_file()), None)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: damaged ({error}); delete {path.parent}, and fine-tune anew") from error
