"""Watching processes end, on Linux."""

import time
from pathlib import Path


def children(pid: int) -> list[int]:
    """Living processes started by `pid`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _parent(entry) == pid:
            found.append(int(entry.name))
    return found


def await_end(pids: list[int], seconds: float = 20) -> None:
    """Wait until none of the processes lives."""
    deadline = time.monotonic() + seconds
    while any(_parent(Path(f"/proc/{pid}")) is not None for pid in pids):
        assert time.monotonic() < deadline, f"of {pids} some live on"
        time.sleep(0.05)


def _parent(entry: Path) -> int | None:
    try:
        state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return None
    return None if state == "Z" else int(parent)
