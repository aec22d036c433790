"""Child processes: entries that another entry or a tool runs, and the workers of a process pool."""

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

_POLL = 1.0  # seconds between two looks at the child
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h

_unwanted: Event | None = None  # in a worker: the event given to `start_worker`


class Stopped(Exception):
    """A signal asked this process to end; if a child was running, it has ended too.

    Attributes:
        number: the number of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class Unwanted(Exception):
    """The parent process no longer needs the result of this worker's job."""


class Children:
    """Runs entries one after the other; on SIGTERM or Ctrl-C it asks the running one to end, and waits for it."""

    def __enter__(self) -> "Children":
        self._process: subprocess.Popen[bytes] | None = None
        self._received, self._terminated = 0, False
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, arguments: Sequence[str], log: Path, *, meanwhile: Callable[[], None] = lambda: None) -> int:
        """Run `python -m ARGUMENTS` and wait for it.

        Args:
            arguments: the module and its arguments.
            log: file that its output is appended to.
            meanwhile: called about once a second while the child runs, and once after it has ended.

        Returns:
            The child's exit code; if a signal killed it, minus the number of that signal.

        Raises:
            Stopped: this process received a signal, asked the child to end (SIGTERM), and the child has ended.
        """
        self._terminated = False
        with log.open("ab") as file:
            # The child gets a session of its own. The terminal then sends Ctrl-C to this process only, which passes it
            # on once. On Linux the child first runs this module, which ties it to its parent (`_end_with_parent`) and
            # then becomes the entry.
            self._process = subprocess.Popen(
                [sys.executable, "-m", *tied_to_this(), *arguments],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while self._process.poll() is None:
                    if self._received and not self._terminated:  # the signal came before the child was started
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

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if not self._received:
            print("\nwaiting for the run to save its state", file=sys.stderr, flush=True)
        self._received = number
        self.stop()


def tied_to_this() -> list[str]:
    """Return what stands before a module after `python -m`, so that Linux ends it with the thread that starts it."""
    return ["jaxcd.base.processes", str(os.getpid())] if sys.platform == "linux" else []


def _end_with_parent(parent: int) -> None:
    """Let Linux send SIGTERM to this process when its parent ends: a parent that was killed can't stop its child."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # the parent ended before the request
        os._exit(128 + signal.SIGTERM)


def last_words(log: Path, code: int) -> str:
    """Return why an entry failed: the error message in its log, or else its exit code and the log's last line."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if code == 2 and errors:
        return f"{errors[-1]} (full output: {log})"
    return f"exit code {code}, {lines[-1].strip()[:200] if lines else 'no output'} (full output: {log})"


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def keep_freed_memory() -> None:
    """Let this process keep memory that it has freed (glibc).

    A batch takes tens of megabytes. By default glibc returns them to the system after each batch, and the next batch
    then causes a page fault for each page. Both together take as long as reading the batch (benchmarks/NOTES.md).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_M_TRIM_THRESHOLD, -1)
    mallopt(_M_MMAP_MAX, 0)


def start_worker(unwanted: Event | None = None) -> None:
    """Set up a worker of a process pool: it ignores Ctrl-C, and ends when its parent ends or is killed.

    The parent handles Ctrl-C for all its workers.

    Args:
        unwanted: an event that the parent sets when it no longer needs the results; see `check_wanted`.
    """
    global _unwanted
    _unwanted = unwanted
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None  # runs in workers only

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def check_wanted() -> None:
    """End this worker's job early if the parent no longer needs its result; long jobs call this now and then.

    Raises:
        Unwanted: the parent has set the event of `start_worker`.
    """
    if _unwanted is not None and _unwanted.is_set():
        raise Unwanted


if __name__ == "__main__":
    # This is a program and not Popen's preexec_fn: JAX starts threads, and if a process has threads, Python code
    # between fork and exec may deadlock.
    _end_with_parent(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[2:]])
