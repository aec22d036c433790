"""What several hosts cost on this machine: python tools/measure_hosts.py steps|catalogue [--rounds 3].

`steps` trains FC-Siam-Diff small (4 crops of 64² of the simulated town) in 1, 2 and 4 processes by turns and takes the
time of each step from their logs. `catalogue` lists a simulated catalogue of 1614 scenes, pairs them and shares them.
"""

import argparse
import csv
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
_COUNTS = (1, 2, 4)
_STEPS, _WARM, _BATCH = 20, 4, 4
_PLACES, _DEGREES, _OVERLAP = 807, 0.05, 0.1
_PROCESSES = 64


def main() -> int:
    """Measure one of the two and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("steps", "catalogue"))
    parser.add_argument("--rounds", type=int, default=3, help="runs of each number of processes (default 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "steps":
            _steps(Path(folder), options.rounds)
        else:
            _catalogue(Path(folder))
    return 0


def _steps(folder: Path, rounds: int) -> None:
    seconds: dict[int, list[float]] = {count: [] for count in _COUNTS}
    for number in range(rounds):
        for count in _COUNTS:
            seconds[count] += _run(folder, f"{number}_{count}", count)
            print(f"round {number + 1}, {count} processes: {_told(seconds[count])} so far", flush=True)
    one = statistics.median(seconds[1])
    for count, found in seconds.items():
        print(f"{count} processes: {_told(found)}, {statistics.median(found) / one:.2f} times that of one")


def _run(folder: Path, name: str, count: int) -> list[float]:
    """Train in so many processes; returns the seconds of each step that is not one of the first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        *(sys.executable, "-m", "jaxcd.train", "--config", "configs/quickstart.py", "--workdir", str(folder / name)),
        *("--config.data.crop=64", f"--config.train.batch={_BATCH}", "--config.model.onednn=off"),
        *(f"--config.train.steps={_STEPS}", "--config.train.log_every=1", f"--config.train.validate_every={_STEPS}"),
    ]
    together = [f"--config.hosts.coordinator={address}", f"--config.hosts.processes={count}"]
    given = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    log = folder / f"{name}.log"
    with log.open("w") as output:
        started = [
            subprocess.Popen(
                command if count == 1 else [*command, *together, f"--config.hosts.index={index}"],
                **{"cwd": ROOT, "env": given, "stdout": output, "stderr": subprocess.STDOUT},
            )
            for index in range(count)
        ]
        if any([process.wait() for process in started]):
            raise SystemExit(log.read_text())
    entries = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
    rates = [entry["pairs_per_second"] for entry in entries if "pairs_per_second" in entry]
    return [_BATCH / rate for rate in rates[_WARM:]]


def _told(seconds: list[float]) -> str:
    return (
        f"a step takes {1000 * statistics.median(seconds):.0f} ms (median of {len(seconds)}; "
        f"{1000 * min(seconds):.0f} to {1000 * max(seconds):.0f})"
    )


def _catalogue(folder: Path) -> None:
    from jaxcd.mapping import listed_pairs
    from jaxcd.runs.shares import Share, SharedWork
    from jaxcd.scenes.catalogue import find_scenes
    from jaxcd.scenes.pairing import pair

    imports = _peak()
    for named in (True, False):
        path = folder / f"{'named' if named else 'by_ground'}.json"
        path.write_text(json.dumps(_items(named=named)))
        began, cpu = time.perf_counter(), time.process_time()
        scenes = find_scenes(str(path), "2025-01-10").scenes
        listed, listed_cpu = time.perf_counter() - began, time.process_time() - cpu
        began, cpu = time.perf_counter(), time.process_time()
        places = pair(scenes, min_overlap=0.5).places
        paired, paired_cpu = time.perf_counter() - began, time.process_time() - cpu
        print(
            f"{len(scenes)} scenes, places {'named' if named else 'found by their ground'}: listed in {listed:.1f} s "
            f"({listed_cpu:.1f} s of CPU time), {len(places)} places paired in {paired:.1f} s ({paired_cpu:.1f} s)"
        )
    wanted = folder / "pairs.csv"
    with wanted.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("name", "pre", "post"))
        rows.writerows(
            (f"map_{number}", place.pre[0].scenes[0].location, place.post[0].scenes[0].location)
            for number, place in enumerate(places)
        )
    began, cpu = time.perf_counter(), time.process_time()
    maps = listed_pairs.read(wanted)
    todo = []
    for index in range(_PROCESSES):
        work = SharedWork(folder, {"maps": [each.name for each in maps]}, Share(index, _PROCESSES),
                          pieces=len(maps), holds="list")  # fmt: skip
        todo.append(work.todo())
    assert sorted(number for each in todo for number in each) == list(range(len(maps)))
    print(
        f"{len(maps)} pairs read and shared among {_PROCESSES} processes in {time.perf_counter() - began:.1f} s "
        f"({time.process_time() - cpu:.1f} s of CPU time): {min(map(len, todo))} to {max(map(len, todo))} each, none "
        f"twice, none missed\nat most {_peak():.0f} MiB, of which imports {imports:.0f}"
    )


def _items(*, named: bool) -> dict:
    """Return a STAC item collection of two dates over a grid of places whose neighbours overlap."""
    features, across, apart = [], 30, _DEGREES * (1 - _OVERLAP)
    for number in range(_PLACES):
        west, south = number % across * apart, number // across * apart
        corners = [[west, south], [west + _DEGREES, south], [west + _DEGREES, south + _DEGREES],
                   [west, south + _DEGREES], [west, south]]  # fmt: skip
        for date in ("2025-01-05", "2025-01-12"):
            name = f"{date}_{number}"
            features.append(
                {
                    "type": "Feature",
                    "stac_version": "1.0.0",
                    "id": name,
                    "geometry": {"type": "Polygon", "coordinates": [corners]},
                    "bbox": [*corners[0], *corners[2]],
                    "properties": {"datetime": f"{date}T10:00:00Z", **({"quadkey": f"{number:06d}"} if named else {})},
                    "links": [],
                    "assets": {"visual": {"href": f"{name}.tif"}},
                }
            )
    return {"type": "FeatureCollection", "features": features}


def _peak() -> float:
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    raise SystemExit(main())
