"""Several processes of one run, on one machine or many: they meet by JAX's coordinator, agree, and end together.

In a run of one process nothing here does anything: `count()` is 1, `exchange` returns what it is given.
"""

import contextlib
import json
import os
import pickle
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from jaxcd.base.entry import explained
from jaxcd.base.errors import HostsError
from jaxcd.base.fingerprints import difference

# Seconds. The others have to end within 30 of a process's end; JAX checks after each half of its time-out.
_HEARTBEAT = 15
_SHUTDOWN = 20
_POLL = 1.0
_LINGER = 4.0  # that a failed process stays, so that the others can read why
_LAST = 10.0  # that the first process stays at most for others that do not say that they end
_SEEN = 20.0  # until a file of one host is seen by another on a network disk
_EVER = 7 * 24 * 3600 * 1000  # milliseconds; a process that ends ends the waiting of others, too
_GRACE = 60  # so much later than our own time-out comes JAX's, which ends the process with a page of stack
# What errors of a collective operation say where its peer has gone: of gloo, and of JAX's coordination service.
_GONE = ("Gloo", "UNAVAILABLE", "coordination", "Connection reset", "Connection closed", "Broken pipe", "heartbeat")
_KEYS = "jaxcd"

_team: "_Team | None" = None
_marks: set[Path] = set()  # files to delete, however this process ends


class AskedToStop(Exception):
    """A signal asked some process to stop, and all processes know it.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def index() -> int:
    """Return the number of this process, from 0."""
    return 0 if _team is None else _team.index


def count() -> int:
    """Return the number of processes."""
    return 1 if _team is None else _team.count


def is_first() -> bool:
    """Say whether this process writes the files that a run has once."""
    return index() == 0


def run(work: Callable[[], int], *, coordinator: str, processes: int, index: int, timeout: float) -> int:
    """Join the other processes, work with them and leave together.

    Where one of them ends early, the others end with a message and an exit code that is not 0.

    Args:
        work: returns the exit code; it is the first that asks JAX for devices.
        coordinator: HOST:PORT of the first process, or "auto": as JAX detects it.
        processes: number of processes; 0: as JAX detects it.
        index: number of this process; -1: as JAX detects it.
        timeout: seconds to wait for the others.

    Returns:
        The exit code of `work`.

    Raises:
        HostsError: this process could not begin to wait: its address is in use, or nothing was detected.
    """
    global _team
    _join(coordinator, processes, index, timeout)
    _team = _Team()
    if _team.count > 1:
        print(f"process {_team.index} of {_team.count} on {socket.gethostname()}: all are there", flush=True)
    if not is_first():  # what one process says, the others would say again
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        code = work()
    except BaseException as error:
        _team.fail(error)
    _team.leave()
    _team = None
    return code


def _join(coordinator: str, processes: int, index: int, timeout: float) -> None:
    import jax

    # JAX's own handler of SIGTERM would take the place of the training loop's.
    jax.config.update("jax_enable_preemption_service", False)
    detects = coordinator == "auto"
    there = threading.Event()

    def give_up() -> None:
        if not there.wait(timeout):
            where = "a coordinator that was detected" if detects else coordinator
            waiting = "not all processes came to it" if index == 0 else "it or another process was not there"
            _end(
                f"{where}: {waiting} within {timeout:g} s; see that all processes run, and that the first one's host "
                "and port can be reached from all hosts (config.hosts.timeout waits longer)",
                2,
            )

    threading.Thread(target=give_up, daemon=True).start()
    try:
        jax.distributed.initialize(
            coordinator_address=None if detects else coordinator,
            num_processes=processes or None,
            process_id=None if index < 0 else index,
            # All given: each process takes all devices that it sees. Else JAX fills in what its cluster tells.
            cluster_detection_method=None if detects or not processes or index < 0 else "deactivate",
            initialization_timeout=int(timeout) + _GRACE,
            heartbeat_timeout_seconds=_HEARTBEAT,
            shutdown_timeout_seconds=_SHUTDOWN,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise HostsError(
            f"config.hosts.coordinator={coordinator}: JAX could not begin ({reason}); "
            + (
                "no Slurm, Open MPI, TPU pod or GKE was detected: give HOST:PORT, processes and index"
                if "defined" in reason
                else "is the port in use on this host? Give another one to all processes"
            )
        ) from error
    finally:
        there.set()


class _Team:
    """This process and the others, from when they have met until they leave."""

    def __init__(self) -> None:
        import jax
        from jax._src import distributed  # as Orbax: JAX has no public name for its key-value store

        self.index, self.count = distributed.global_state.process_id, distributed.global_state.num_processes
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        self._client: Any = distributed.global_state.client
        self._barriers: dict[str, int] = {}
        self._ending = threading.Event()
        self._last_word = threading.Lock()  # is held by the thread that ends this process
        self.asked, self._told = 0, 0
        threading.Thread(target=self._watch, daemon=True).start()

    def tell(self, name: str, text: str) -> None:
        self._client.key_value_set(f"{_KEYS}/{name}", text)

    def hear(self, name: str) -> str:
        return self._client.blocking_key_value_get(f"{_KEYS}/{name}", _EVER)

    def meet(self, name: str) -> None:
        self._barriers[name] = self._barriers.get(name, 0) + 1
        self._client.wait_at_barrier(f"{_KEYS}/{name}/{self._barriers[name]}", _EVER)

    def fail(self, error: BaseException) -> NoReturn:
        """Say why this process ends, to its user and to the others, and end it."""
        while not self._last_word.acquire(blocking=False):
            time.sleep(_POLL)  # `_watch` ends it
        self._ending.set()
        code, told = 2, explained(error) if isinstance(error, Exception) else None
        if isinstance(error, KeyboardInterrupt):
            code, told = 130, "interrupted"
        elif isinstance(error, SystemExit):
            code, told = int(error.code or 0), "ended"
        elif told is None and any(word in str(error) for word in _GONE):
            time.sleep(_POLL)  # the other one may be about to tell why
            told = self._failure() or (
                "another process of this run has ended or can't be reached "
                f"({' '.join(str(error).split())[:160]}); see its own output; the same command on all hosts goes on "
                "from the last checkpoint"
            )
        elif told is None:
            traceback.print_exception(error)
            code, told = 1, f"a defect of jaxcd, see its traceback ({type(error).__name__})"
        print(f"error: {told}", file=sys.stderr, flush=True)
        with contextlib.suppress(Exception):  # the coordinator may be gone
            self.tell(f"failed/{self.index}", told)
        if self.index:
            time.sleep(_LINGER)
        self._stay_last()
        _end("", code)

    def leave(self) -> None:
        """Wait for the others and part from them."""
        import jax

        self.meet("leaving")
        self._last_word.acquire()
        self._ending.set()
        jax.distributed.shutdown()

    def _watch(self) -> None:
        while not self._ending.wait(_POLL):
            try:
                failed = self._failure()
                if self.asked and not self._told:
                    self.tell(f"stop/{self.index}", str(self.asked))
                    self._told = self.asked
                for _, number in self._client.key_value_dir_get(f"{_KEYS}/stop/"):
                    self.asked = self.asked or int(number)
            except Exception:
                failed = (
                    "process 0 of this run can't be reached any more; see its own output; the same command on all "
                    "hosts goes on from the last checkpoint"
                )
            if failed and self._last_word.acquire(blocking=False):
                self._stay_last()
                _end(failed, 2)

    def _stay_last(self) -> None:
        """Say that this process ends; the first one, where the coordinator lives, waits until all others have said so.

        Without the coordinator JAX aborts them, before they could say why they end.
        """
        until = time.monotonic() + _LAST
        with contextlib.suppress(Exception):  # the coordinator may be gone
            if self.index:
                self.tell(f"ended/{self.index}", "")
                return
            while len(self._client.key_value_dir_get(f"{_KEYS}/ended/")) < self.count - 1:
                if time.monotonic() > until:
                    return
                time.sleep(_POLL / 4)
            time.sleep(_POLL)  # from their word to their end

    def _failure(self) -> str:
        for name, told in self._client.key_value_dir_get(f"{_KEYS}/failed/"):
            who = name.rpartition("/")[2]
            if int(who) != self.index:
                return f"process {who} of {self.count} has ended: {told}"
        return ""


def _end(told: str, code: int) -> NoReturn:
    """End this process at once: JAX's way out waits for processes that are gone."""
    with contextlib.suppress(OSError, ValueError):
        if told:
            print(f"error: {told}", file=sys.stderr)
        _delete_marks()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _delete_marks() -> None:
    while _marks:
        _marks.pop().unlink(missing_ok=True)


def agree(facts: Mapping[str, Any]) -> None:
    """Check that all processes know the same facts before they begin.

    Args:
        facts: nested dictionaries that JSON can hold.

    Raises:
        HostsError: in all processes; the message names two of them and the first fact that differs.
    """
    if _team is None:
        return
    _team.tell(f"facts/{_team.index}", json.dumps({"host": socket.gethostname(), "facts": dict(facts)}))
    known = [json.loads(_team.hear(f"facts/{i}")) for i in range(_team.count)]
    for other, found in enumerate(known[1:], start=1):
        differs = difference(known[0]["facts"], found["facts"])
        if differs:
            raise HostsError(
                f"processes 0 (on {known[0]['host']}) and {other} (on {found['host']}) do not fit: "
                f"{differs.replace(' there and ', ' in process 0 and ').removesuffix(' here')} in process {other}; "
                "start all with the same command, code and data"
            )


def check_shared(folder: Path) -> None:
    """Check that all processes see the same folder; the first one has made it.

    Raises:
        HostsError: this one does not see what the first one writes there.
    """
    if _team is None:
        return
    if is_first():
        mark = folder / f".hosts-{secrets.token_hex(8)}"
        _marks.add(mark)
        mark.touch()
        _team.tell("shared", mark.name)
        _team.meet("shared")
        _delete_marks()
        return
    name, until = _team.hear("shared"), time.monotonic() + _SEEN
    while not (folder.is_dir() and name in os.listdir(folder)):  # listing a folder makes NFS look again
        if time.monotonic() > until:
            raise HostsError(
                f"{folder}: process {_team.index} (on {socket.gethostname()}) does not see what process 0 writes "
                "there; give a folder on storage that all hosts share"
            )
        time.sleep(_POLL / 4)
    _team.meet("shared")


@contextlib.contextmanager
def first_alone(name: str) -> Iterator[None]:
    """Let the first process go through the block before the others do, `name` being unique to the block."""
    if _team is not None and not is_first():
        _team.meet(name)
    yield
    if _team is not None and is_first():
        _team.meet(name)


def meet(name: str) -> None:
    """Wait for all processes."""
    if _team is not None:
        _team.meet(name)


def ask_to_stop(number: int) -> None:
    """Ask all processes to stop, because this one got a signal; they know within some seconds."""
    if _team is not None:
        _team.asked = number


def asked_to_stop() -> int:
    """Return the number of a signal that some process got, as far as this one knows, or 0."""
    return 0 if _team is None else _team.asked


def exchange(value: Any) -> list[Any]:
    """Give a value to all processes, which all call this; returns what each gave, in their order.

    Raises:
        AskedToStop: in all processes, where one of them was asked to by then: its value may be unfinished.
    """
    if _team is None:
        return [value]
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    _team.meet("exchange")  # one process may be minutes later than another, and gloo waits 30 s for it at the first sum
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes, signals = process_allgather(np.array([content.size, _team.asked], np.int32)).T
    if signals.any():
        raise AskedToStop(int(signals.max()))
    # Few lengths, because each is compiled.
    padded = np.zeros(1 << int(sizes.max() - 1).bit_length(), np.uint8)
    padded[: content.size] = content
    gathered = process_allgather(padded)
    return [pickle.loads(part[:size].tobytes()) for part, size in zip(gathered, sizes, strict=True)]
