"""Real processes of one run on this machine, each with one CPU device."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_DEVICES = "--xla_force_host_platform_device_count="
_LONGEST = 900  # seconds
_started: list[subprocess.Popen[str]] = []


def free_address() -> str:
    """An address on this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def process(module: str, *arguments: object, log: Path, devices: int = 1, **environment: str) -> subprocess.Popen[str]:
    """Start `python -m module arguments` with so many CPU devices, its output in a file."""
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(_DEVICES)]
    given = {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "XLA_FLAGS": " ".join([*flags, f"{_DEVICES}{devices}"]),
        **environment,
    }
    with log.open("w") as file:
        started = subprocess.Popen(
            [sys.executable, "-m", module, *map(str, arguments)],
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            env=given,
        )
    _started.append(started)
    return started


def end_all() -> None:
    """Kill the processes that still run."""
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()


class Team:
    """The processes of one run; `arguments` of all, `own` of each."""

    def __init__(self, folder: Path, count: int, *arguments: object, own: Sequence[Sequence[object]] = ()):
        folder.mkdir(parents=True, exist_ok=True)
        address = free_address()
        self.logs = [folder / f"process_{i}.log" for i in range(count)]
        self.processes = [
            process(
                "jaxcd.train",
                *arguments,
                f"--config.hosts.coordinator={address}",
                f"--config.hosts.processes={count}",
                f"--config.hosts.index={i}",
                *(own[i] if own else ()),
                log=self.logs[i],
            )
            for i in range(count)
        ]

    def ended(self) -> list[int]:
        """Wait for all; returns their exit codes."""
        return [each.wait(_LONGEST) for each in self.processes]

    def output(self, index: int) -> str:
        """What a process has printed so far."""
        return self.logs[index].read_text()

    def error(self, index: int) -> str:
        """The line of a process's error."""
        lines = [line for line in self.output(index).splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "Traceback" not in self.output(index), self.output(index)
        return lines[0]
