"""Child processes: entries that other entries and tools run, and the workers of a pool."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType

_POLL = 1.0  # seconds
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h

_unwanted: Event | None = None  # of this worker


class Stopped(Exception):
    """A signal asked this process to end; the child has saved its state and ended.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class Unwanted(Exception):
    """What a worker does is no longer wanted."""


class Children:
    """Runs entries one after the other; on SIGTERM or Ctrl-C it asks the running one to end, and waits for it."""

    def __enter__(self) -> "Children":
        self._process: subprocess.Popen[bytes] | None = None
        self._received, self._terminated = 0, False
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, arguments: Sequence[str], log: Path, *, meanwhile: Callable[[], None] = lambda: None) -> int:
        """Run `python -m ARGUMENTS` and wait for it.

        Args:
            arguments: the module and its arguments.
            log: file that its output is appended to.
            meanwhile: called about once a second, and once after the child's end.

        Returns:
            Its exit code, negative for the signal that killed it.

        Raises:
            Stopped: a signal came; the child was asked to end (SIGTERM) and did.
        """
        self._terminated = False
        with log.open("ab") as file:
            # The child has a session of its own, so that Ctrl-C reaches it once, through this process.
            # On Linux this module starts the entry: see `_end_with`.
            bound = ["jaxcd.base.processes", str(os.getpid())] if sys.platform == "linux" else []
            self._process = subprocess.Popen(
                [sys.executable, "-m", *bound, *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while self._process.poll() is None:
                    if self._received and not self._terminated:  # the signal came before there was a child
                        self.stop()
                    meanwhile()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self._process.wait(_POLL)
                meanwhile()
            except BaseException:
                if not self._terminated:
                    self.stop()
                self._process.wait()
                raise
        self.check()
        return self._process.returncode

    def check(self) -> None:
        """Raise an error if a signal has come.

        Raises:
            Stopped: a signal came.
        """
        if self._received:
            raise Stopped(self._received)

    def stop(self) -> None:
        """Ask the child to save and end. A second request ends it at once, and what it has not saved is lost."""
        if self._process is not None and self._process.poll() is None:
            self._terminated = True
            self._process.terminate()

    def _note(self, number: int, _: FrameType | None) -> None:
        if not self._received:
            print("\nwaiting for the run to save its state", file=sys.stderr, flush=True)
        self._received = number
        self.stop()


def _end_with(parent: int) -> None:
    """Ask Linux for a SIGTERM when the parent ends, even by a kill: nothing else would stop this process."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGTERM)


def last_words(log: Path, code: int) -> str:
    """Say why an entry failed, from its output: the line of its error, or the last one."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if code == 2 and errors:
        return f"{errors[-1]} (its output: {log})"
    return f"exit code {code}, {lines[-1].strip()[:200] if lines else 'no output'} (its output: {log})"


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let this process keep memory that it has freed (glibc).

    A batch takes tens of megabytes. By default glibc returns them to the system after each batch, and the next batch
    then costs a fault for each page: together as much time as reading it takes (benchmarks/NOTES.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_TRIM_THRESHOLD, -1)
    mallopt(_M_MMAP_MAX, 0)


def start_worker(unwanted: Event | None = None) -> None:
    """Prepare a pool's worker: it leaves Ctrl-C to its parent, and ends when the parent ends, even by a kill.

    Args:
        unwanted: the parent sets it when it wants no more of what its workers do; see `check_wanted`.
    """
    global _unwanted
    _unwanted = unwanted
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # runs in workers only

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def check_wanted() -> None:
    """End a long job of a pool's worker early, where the parent wants no more of it.

    Raises:
        Unwanted: it is so.
    """
    if _unwanted is not None and _unwanted.is_set():
        raise Unwanted


if __name__ == "__main__":
    # Not in Popen's preexec_fn: code between fork and exec may hang where the parent has threads, and JAX has some.
    _end_with(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])
