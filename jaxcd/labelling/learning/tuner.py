"""The fine-tuning of a server: a process of its own, which is started, watched and cancelled from here."""

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from jaxcd.base.errors import JaxcdError
from jaxcd.base.processes import last_words, tied_to_this
from jaxcd.labelling.learning import tuning
from jaxcd.labelling.learning.tuning import ACTIVE, CANCELLED, FAILED, PREPARING, TUNED, Plan, Progress, TuneSettings

_LOG = "process.log"
_PATIENCE = 60.0  # seconds that a process gets to save what it has


class Busy(JaxcdError):
    """A fine-tuning is going on already."""


class Tuner:
    """Starts `jaxcd.label --fine_tune` on a store, and knows how far it is. Several threads may use it."""

    def __init__(self, store: Path, run: Path | None, scaling: str, done: Callable[[], None] = lambda: None):
        """Remember what would be fine-tuned.

        Args:
            store: folder of the labels.
            run: that it begins with; None: the recipe with ImageNet's weights.
            scaling: of 16-bit and float scenes.
            done: called when maps are finished, on a thread of its own.
        """
        self._store, self._run, self._scaling, self._done = store.absolute(), run, scaling, done
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._failure = ""

    def start(self, settings: TuneSettings) -> None:
        """Start a fine-tuning on the labels of now, or go on with one that was cancelled on the same labels.

        Raises:
            Busy: one is going on.
            JaxcdError: the store, its images or the run do not fit.
        """
        from jaxcd.labelling.learning.tuning_steps import plan

        settings.validate()
        self._begin(plan(self._store, self._run, self._scaling, settings))

    def resume(self) -> bool:
        """Go on with a fine-tuning that was interrupted, if there is one; one that was cancelled stays so."""
        left = tuning.unfinished(self._store)
        if left is not None:
            self._begin(left)
        return left is not None

    def progress(self) -> Progress:
        """Return how far the fine-tuning is."""
        found = tuning.progress_of(self._store)
        with self._lock:
            if self._lives():
                # Its first word comes after some seconds; until then the files are those of an earlier one.
                return found if found.state in ACTIVE else Progress(PREPARING, found.number, message="starting")
            return found._replace(state=FAILED, message=self._failure) if self._failure else found

    def cancel(self) -> None:
        """Ask the fine-tuning to save and end.

        Raises:
            Busy: it was started by another command, which alone can end it.
        """
        with self._lock:
            process = self._process if self._lives() else None
        if process is None:
            if tuning.progress_of(self._store).state in ACTIVE:
                raise Busy("this fine-tuning was started by another command; end that one (Ctrl-C)")
            return
        folder = tuning.last(self._store)
        if folder is not None:
            (folder / CANCELLED).touch()
        process.terminate()

    def close(self) -> None:
        """End the process, which saves what it has; the next start of the server goes on with it."""
        with self._lock:
            process, thread = self._process, self._thread
        if process is not None and process.poll() is None:
            process.terminate()
        if thread is not None:
            thread.join(_PATIENCE)

    def _lives(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _begin(self, plan: Plan) -> None:
        with self._lock:
            if self._lives() or tuning.progress_of(self._store).state in ACTIVE:
                raise Busy("a fine-tuning is going on already; wait for it, or cancel it")
            self._failure = ""
            started = threading.Event()
            # Linux ends the process with the thread that started it: so that thread stays until its end.
            self._thread = threading.Thread(target=self._watch, args=(plan, started), name="fine-tuning", daemon=True)
            self._thread.start()
        started.wait()

    def _watch(self, plan: Plan, started: threading.Event) -> None:
        log = self._store / TUNED / _LOG
        log.parent.mkdir(exist_ok=True)
        flags = [f"--{name}={value}" for name, value in asdict(plan.settings).items()]
        flags += [f"--run={plan.run}"] if plan.run else []
        flags += [f"--scaling={plan.scaling}"] if plan.scaling else []
        command = [*tied_to_this(), "jaxcd.label", "--store", str(self._store), "--fine_tune", *flags]
        try:
            with log.open("wb") as file:
                process = subprocess.Popen(
                    [sys.executable, "-m", *command], stdout=file, stderr=subprocess.STDOUT, start_new_session=True
                )
            self._process = process
        finally:
            started.set()
        code = process.wait()
        if code == 0:
            self._done()
        elif code not in (130, 143, -15):
            self._failure = last_words(log, code)
