"""The steps of a fine-tuning, one after the other: a copy of the labels, tiles, training, maps, and what these say.

Each step is an entry of jaxcd in a process of its own, which goes on where it was stopped; so the whole does, too.
"""

import csv
import shlex
import sqlite3
from collections.abc import Callable
from pathlib import Path

from jaxcd.base.errors import JaxcdError, LabelError, RunError, SplitError
from jaxcd.base.files import replacing
from jaxcd.base.folders import alone
from jaxcd.base.processes import Children, Stopped, last_words
from jaxcd.config import Config
from jaxcd.config import files as config_files
from jaxcd.labelling.learning import recipe, tuning
from jaxcd.labelling.learning.tuned_maps import write_found
from jaxcd.labelling.learning.tuning import (
    CANCELLED,
    DONE,
    FAILED,
    FOUND,
    MAPPING,
    PREPARING,
    RUN,
    STOPPED,
    TRAINING,
    Plan,
    Progress,
)
from jaxcd.labelling.store import Store
from jaxcd.labelling.store.schema import FILE
from jaxcd.labelling.workspace import REGISTRATION

_TILES = (256, 128, 64)  # sides of tiles in pixels: smaller ones where else a split would have no damage
_SHARES = ((0.8, 0.1, 0.1), (0.7, 0.15, 0.15), (0.6, 0.2, 0.2), (0.5, 0.25, 0.25), (0.34, 0.33, 0.33))
_KEEP_ALL = ("--variance", "0", "--black", "1", "--snow", "1000", "--valid", "0.05")  # people chose what to label
_LOG, _CONFIG, _MAPS, _PAIRS = "output.log", "config.py", "maps", "pairs.csv"


def plan(store: Path, run: Path | None, scaling: str, settings: tuning.TuneSettings) -> Plan:
    """Say what a fine-tuning of a store would be.

    Raises:
        LabelError: no store, or one of pictures without a place, which no map can be made of.
        ConfigError, RunError: the run does not fit.
    """
    opened = Store.open(store)
    try:
        if any(pair.epsg is None for pair in opened.pairs.values()):
            raise LabelError(f"{store}: holds pictures without a place; fine-tuning makes maps, and takes scenes alone")
        recipe.base(run, opened.scale)
        with opened.reading() as db:
            (seq,) = db.execute("SELECT COALESCE(MAX(seq), 0) FROM change").fetchone()
    finally:
        opened.close()
    return Plan(str(run.absolute()) if run else "", scaling, settings, seq)


def fine_tune(store: Path, wanted: Plan, *, tell: Callable[[Progress], None] = lambda _: None) -> Path:
    """Fine-tune a network on the labels of a store, and map its pairs; goes on with an unfinished fine-tuning.

    Args:
        store: its folder.
        wanted: of `plan`.
        tell: called when the state has changed.

    Returns:
        The folder of the fine-tuning.

    Raises:
        JaxcdError: a step failed; the message says why.
        Stopped: a signal came; all is saved.
    """
    with alone(store / tuning.TUNED, working="fine-tuning"):
        folder = _folder(store, wanted)
        work = _Work(store, folder, tuning.read_plan(folder), tell)
        try:
            with Children() as work.children:
                work.run_to_end()
        except Stopped:
            work.say(STOPPED, message="stopped; goes on where it was")
            raise
        except JaxcdError as error:
            work.say(FAILED, message=str(error))
            raise
    return folder


def _folder(store: Path, wanted: Plan) -> Path:
    """Return the folder of an unfinished fine-tuning that is the wanted one, or a new one."""
    newest = tuning.last(store)
    if newest is not None and (newest / tuning.PLAN).is_file() and not (newest / FOUND).exists():
        found = tuning.read_plan(newest)
        given_up = (newest / CANCELLED).exists() or tuning.progress_of(store).state == FAILED
        if found == wanted or (found._replace(seq=wanted.seq) == wanted and not given_up):
            (newest / CANCELLED).unlink(missing_ok=True)
            return newest
    folder = store / tuning.TUNED / str(int(newest.name) + 1 if newest else 1)
    folder.mkdir()
    tuning.write_plan(folder, wanted)
    return folder


class _Work:
    """One fine-tuning, in its folder."""

    children: Children

    def __init__(self, store: Path, folder: Path, plan: Plan, tell: Callable[[Progress], None]):
        self.store, self.folder, self.plan, self.tell = store, folder, plan, tell
        self.progress = Progress("", int(folder.name), steps=plan.settings.steps)
        self.flags = [*(["--register"] if (store / REGISTRATION).is_file() else [])]
        self.flags += ["--scaling", plan.scaling] if plan.scaling else []

    def say(self, state: str, *, message: str = "", step: int | None = None, left: int | None = None) -> None:
        step = self.progress.step if step is None else step
        new = self.progress._replace(state=state, step=step, seconds_left=left, message=message)
        tuning.write_progress(self.folder, new)  # at each call: it is a sign of life
        if new != self.progress:
            self.tell(new)
        self.progress = new

    def run_to_end(self) -> None:
        self.say(PREPARING, message="copying the labels")
        snapshot(self.store, self.folder)
        labels = Store.open(self.folder)
        try:
            if not (self.folder / _CONFIG).is_file():
                self._prepare(recipe.base(Path(self.plan.run) if self.plan.run else None, labels.scale))
            self._train()
            maps = self._map(labels)
            self.say(MAPPING, message="reading the maps")
            write_found(self.folder / FOUND, labels, maps, int(self.folder.name))
            self.say(DONE, step=self.progress.steps)
        finally:
            labels.close()

    def _prepare(self, base: Config) -> None:
        found = None
        for tile in _TILES:
            dataset = self.folder / f"dataset_{tile}"
            told = f"cutting tiles of {tile} pixels"
            self._entry(
                ["prepare", "--layout", "labelled", "--source", self.folder, "--out", dataset, "--tile", tile]
                + ["--scale", base.data.scale, *_KEEP_ALL, *self.flags],
                lambda told=told: self.say(PREPARING, message=told),
            )
            found = divided(base, self.plan, dataset, tile)
            if found is not None:
                break
        if found is None:
            raise LabelError(
                "fine-tuning needs labelled damage in at least three places that lie apart: one to learn from, one to "
                "choose the threshold, one to test; label more of it"
            )
        about = f"Fine-tuning on the labels of {self.store.name}, as jaxcd.label --fine_tune wrote it."
        config_files.write_python(found, self.folder / _CONFIG, about=about)

    def _train(self) -> None:
        from jaxcd.runs import run_folder

        run = self.folder / RUN
        self.say(TRAINING, step=logged(run)[0], message="waiting for an earlier process to save")
        run_folder.await_free(run, meanwhile=self.children.check)
        self._entry(["train", "--config", self.folder / _CONFIG, "--workdir", run], self._watch)

    def _watch(self) -> None:
        step, each = logged(self.folder / RUN)
        left = None if each is None else round((self.progress.steps - step) * each)
        self.say(TRAINING, step=step, left=left)

    def _map(self, labels: Store) -> dict[str, Path]:
        names = list(labels.pairs)
        with replacing(self.folder / _PAIRS) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("name", "pre", "post", "footprints"))
            for pair in labels.pairs.values():
                rows.writerow((pair.id, shlex.join(pair.pre), shlex.join(pair.post), pair.footprints or ""))
        maps = {name: self.folder / _MAPS / name for name in names}

        def count() -> None:
            made = sum((folder / "summary.json").is_file() for folder in maps.values())
            self.say(MAPPING, message=f"{made} of {len(maps)} maps made", step=self.progress.steps)

        run = self.folder / RUN
        flags = ["--pairs", self.folder / _PAIRS, "--out", self.folder / _MAPS, *self.flags]
        self._entry(["predict", "--run", run, *flags], count)
        return maps

    def _entry(self, arguments: list, meanwhile: Callable[[], None]) -> None:
        """Run an entry to its end.

        Raises:
            RunError: it failed.
            Stopped: a signal came.
        """
        log = self.folder / _LOG
        with log.open("a", encoding="utf-8") as file:
            file.write(f"\n{shlex.join(map(str, arguments))}\n")
        code = self.children.run([f"jaxcd.{arguments[0]}", *map(str, arguments[1:])], log, meanwhile=meanwhile)
        if code:
            raise RunError(f"fine-tuning, {arguments[0]}: {last_words(log, code)}")


def snapshot(store: Path, folder: Path) -> None:
    """Copy the labels of a store as they are now into a folder, once; the copy is a store, too."""
    if (folder / FILE).is_file():
        return
    opened = Store.open(store)
    try:
        with opened.reading() as db, replacing(folder / FILE) as partial:
            copy = sqlite3.connect(partial)
            try:
                db.backup(copy)
            finally:
                copy.close()
    finally:
        opened.close()


def divided(base: Config, plan: Plan, dataset: Path, tile: int) -> Config | None:
    """Return the configuration whose splits all have damage, with as much of it as can be for training; or None."""
    from jaxcd.feed.splits import split_places
    from jaxcd.store.dataset import TileDataset

    samples = TileDataset.open(dataset).samples
    for shares in _SHARES:
        config = recipe.configured(base, plan.settings, dataset=dataset, tile=tile, shares=shares)
        try:
            split_places(samples, config.data)
        except SplitError:
            continue
        return config
    return None


def logged(run: Path) -> tuple[int, float | None]:
    """Return the last step that a run has logged, and the seconds that a step takes; None where that is not known."""
    from jaxcd.runs.logs import read_log

    if not (run / "log.jsonl").is_file():
        return 0, None
    entries = [entry for entry in read_log(run) if entry["kind"] == "train"]
    if not entries:
        return 0, None
    first, final = entries[max(len(entries) - 6, 0)], entries[-1]
    took = final["step"] - first["step"]
    return final["step"], (final["time"] - first["time"]) / took if took else None
