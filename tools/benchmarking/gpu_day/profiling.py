"""A profile of some steps: in a process of its own, packed into one archive, with its largest operations.

As a process it takes case, folder and steps as JSON, traces into the folder, and prints a row's fields as JSON.
"""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from benchmarking.bare import supply_jaxtyping  # noqa: E402
from benchmarking.case import JAXCD, Case  # noqa: E402

ARCHIVE = "profile.tar.gz"
MOST = 16 * 10**6
"""Bytes of the archive."""
_LARGEST = 20
_STEPS = 5


def profiled(case: Case, folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Trace some steps of a case into a folder; returns a row.

    The row has `seconds` of a step under trace, `device_seconds` of its operations added up, and `operations`, those
    that take longest: `name`, `seconds`, `share` of all operations, and how many `times`, all for one step.
    """
    print(f"\n{case}: {_STEPS} steps under jax.profiler", flush=True)
    given = json.dumps({"case": asdict(case), "folder": str(folder), "steps": _STEPS})
    command = [sys.executable, str(Path(__file__)), given]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    row: dict[str, Any] = {"case": str(case), **asdict(case), "side": JAXCD, "steps": _STEPS}
    told = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not told:
        last = (done.stderr.strip().splitlines() or [f"the process ended with code {done.returncode}"])[-1]
        row["failed"] = last[:300]
    else:
        row |= json.loads(told[-1])
    return {name: value for name, value in row.items() if name not in ("cache", "tiles")}


def pack(folder: Path, archive: Path, *, most: int = MOST) -> tuple[list[str], list[str]]:
    """Pack traces into one archive; where they are too large, as many as fit.

    Args:
        folder: with the traces.
        archive: to write.
        most: bytes that it may have.

    Returns:
        Names of the files within, and of those left out. The largest is left out first; xplane.pb files only once
        nothing else is left.
    """
    files = [file for file in folder.rglob("*") if file.is_file()]
    kept = sorted(files, key=lambda file: (not file.name.endswith(".xplane.pb"), file.stat().st_size))
    left: list[str] = []
    while True:
        with tarfile.open(archive, "w:gz") as packed:
            for file in kept:
                packed.add(file, str(file.relative_to(folder)))
        if archive.stat().st_size < most or not kept:
            return [str(file.relative_to(folder)) for file in kept], left
        left.append(str(kept.pop().relative_to(folder)))


def line(row: Mapping[str, Any]) -> str:
    """Say what a profile shows."""
    if "failed" in row:
        return f"  not measured: {row['failed']}"
    text = f"  {row['seconds'] * 1e3:.2f} ms a step under trace"
    if not row["operations"]:
        return f"{text}; the trace names no operations"
    return f"{text}, operations {row['device_seconds'] * 1e3:.2f} ms; longest: " + ", ".join(
        f"{each['name'][:40]} {each['share']:.0%}" for each in row["operations"][:3]
    )


def operations(trace: Path, steps: int) -> tuple[float, list[dict[str, Any]]]:
    """Add up the operations of a trace; returns seconds a step of all of them, and those that take longest."""
    import jax

    planes = list(jax.profiler.ProfileData.from_file(str(trace)).planes)
    seconds: dict[str, float] = {}
    times: dict[str, int] = {}
    for name, duration in _events([plane for plane in planes if plane.name.startswith("/device:")] or planes):
        seconds[name] = seconds.get(name, 0.0) + duration / 1e9 / steps
        times[name] = times.get(name, 0) + 1
    total = sum(seconds.values())
    longest = sorted(seconds, key=lambda name: -seconds[name])[:_LARGEST]
    return total, [
        {"name": name, "seconds": seconds[name], "share": seconds[name] / total, "times": times[name] / steps}
        for name in longest
    ]


def _events(planes: Sequence[Any]) -> Iterator[tuple[str, float]]:
    """Name and nanoseconds of what ran: a GPU's streams, else whatever belongs to an operation of XLA."""
    for plane in planes:
        lines = list(plane.lines)
        # A GPU's plane may also hold lines that say the same again, by module or by step.
        streams = [each for each in lines if each.name.startswith("Stream")]
        for each in streams or lines:
            for event in each.events:
                operation = dict(event.stats).get("hlo_op")
                if operation or streams:
                    yield str(operation or event.name), event.duration_ns


def _main() -> None:
    supply_jaxtyping()
    import jax

    from benchmarking import jax_side

    given = json.loads(sys.argv[1])
    run, about = jax_side.prepare(Case(**given["case"]))
    run(2)
    with jax.profiler.trace(given["folder"]):
        seconds = run(given["steps"]) / given["steps"]
    (trace,) = Path(given["folder"]).rglob("*.xplane.pb")
    total, longest = operations(trace, given["steps"])
    print("\n" + json.dumps({**about, "seconds": seconds, "device_seconds": total, "operations": longest}))


if __name__ == "__main__":
    _main()
