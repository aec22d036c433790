"""The labelling server on a large scene: map tiles beside rasterio alone, key presses on disk, many footprints."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from rasterio.enums import Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

from benchmarking import browsing, report
from benchmarking.case import SCENE
from benchmarking.large_scenes import large_pair
from benchmarking.machine import machine

FOOTPRINTS = 300_000
_CLIENTS = 4
_PRESSES = 100  # of each client
_ROUNDS = 7
_ACROSS = 6  # tiles along a side of the square that is timed
_ROOT = Path(__file__).resolve().parents[2]
_JSON = {"Content-Type": "application/json", "X-Jaxcd": "1"}


def run(folder: Path | None, out: Path | None) -> int:
    """Measure and print; scenes and footprints are made once in a folder, which may be kept.

    Args:
        folder: of the scenes; None: one that is deleted afterwards.
        out: JSON file of all figures, or None.
    """
    from benchmarking import scoring  # which uses this file's server

    print(report.heading(machine({"backend": "cpu", "device": "cpu"})), flush=True)
    with tempfile.TemporaryDirectory(prefix="jaxcd-label-") as made:
        scenes = folder or Path(made)
        scenes.mkdir(parents=True, exist_ok=True)
        pre, post = large_pair(scenes)
        footprints = _footprints(scenes, pre)
        figures = _tiles(pre, post)
        figures |= _served(pre, post, footprints, Path(made) / "store")
        figures |= scoring.scored(pre, post, Path(made))
    for name, value in figures.items():
        print(f"  {name:<52}{value:>10.4g}", flush=True)
    if out:
        report.write(out, {"machine": machine({"backend": "cpu", "device": "cpu"}), "label": figures})
    return 0


def _footprints(folder: Path, pre: Path) -> Path:
    file = folder / "footprints.gpkg"
    if not file.exists():
        with rasterio.open(pre) as source:
            crs, affine = source.crs, source.transform
        side = int(FOOTPRINTS**0.5) + 1
        rows, columns = np.divmod(np.arange(FOOTPRINTS), side)
        step = SCENE / side
        west, north = affine.c + columns * step * affine.a, affine.f + rows * step * affine.e
        boxes = shapely.box(west + 1, north - 9, west + 9, north - 1)
        partial = file.with_suffix(".partial.gpkg")
        gpd.GeoDataFrame(geometry=boxes, crs=crs.to_wkt()).to_file(partial)
        partial.rename(file)
    return file


def _tiles(pre: Path, post: Path) -> dict[str, float]:
    """Compare map tiles on one core with rasterio that reads, warps and encodes the same ones."""
    from jaxcd.labelling import workspace
    from jaxcd.labelling.imagery import Imagery, encoded
    from jaxcd.labelling.settings import LabelSettings

    settings = LabelSettings()
    named = workspace.named(pre=[str(pre)], post=[str(post)], settings=settings)
    with tempfile.TemporaryDirectory() as store:
        (opened,) = workspace.open_all(named, settings, Path(store))
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    imagery, found = Imagery(opened, ""), {}
    try:
        for away, name in ((2, "own zoom"), (4, "two zooms out")):
            tiles = _square(opened.bounds, imagery.zooms[1] - away)

            def ours(tiles: list = tiles) -> None:
                for at in tiles:
                    tile = imagery.tile("post", *at)
                    assert tile is not None
                    encoded(tile, 0, 255)

            with rasterio.open(post) as source:

                def theirs(tiles: list = tiles, source: Any = source) -> None:
                    for at in tiles:
                        _by_rasterio(source, at)

                times: dict[str, list[float]] = {"ours": [], "theirs": []}
                for each in (ours, theirs):
                    each()
                for _ in range(_ROUNDS):
                    for side, each in (("ours", ours), ("theirs", theirs)):
                        begun = time.process_time()
                        each()
                        times[side].append(time.process_time() - begun)
            rates = {side: len(tiles) / float(np.median(seconds)) for side, seconds in times.items()}
            found[f"tiles/s of CPU time, {name}"] = rates["ours"]
            found[f"tiles/s of CPU time, {name}, rasterio alone"] = rates["theirs"]
            found[f"ratio, {name} (mark: at least 0.5)"] = rates["ours"] / rates["theirs"]
    finally:
        os.sched_setaffinity(0, cores)
    return found


def _by_rasterio(source: Any, at: tuple[int, int, int]) -> bytes:
    from jaxcd.labelling.imagery import mercator_grid
    from jaxcd.scenes.raster import unreferenced_allowed

    grid = mercator_grid(*at)
    with WarpedVRT(
        source,
        crs=grid.crs,
        transform=grid.transform,
        height=256,
        width=256,
        resampling=Resampling.cubic,
        add_alpha=True,
    ) as vrt:
        values = vrt.read()
    with MemoryFile() as memory:
        with (
            unreferenced_allowed(),
            memory.open(driver="WEBP", width=256, height=256, count=4, dtype="uint8", QUALITY=85) as target,
        ):
            target.write(values)
        return bytes(memory.getbuffer())


def _square(bounds: tuple[float, float, float, float], zoom: int) -> list[tuple[int, int, int]]:
    """Return tiles around the middle of a map."""
    west, south, east, north = bounds
    count = 2**zoom
    x = int(((west + east) / 2 + 180) / 360 * count)
    latitude = np.radians((south + north) / 2)
    y = int((1 - np.arcsinh(np.tan(latitude)) / np.pi) / 2 * count)
    half = _ACROSS // 2
    return [(zoom, x + i, y + k) for i in range(-half, half) for k in range(-half, half)]


def _served(pre: Path, post: Path, footprints: Path, store: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    arguments = ["--pre", pre, "--post", post, "--footprints", footprints, "--store", store]
    begun = time.monotonic()
    with server(arguments):
        found[f"seconds to open, {FOOTPRINTS:,} footprints, first time"] = time.monotonic() - begun
    begun = time.monotonic()
    with server(arguments) as (process, port):
        found["seconds to open, again"] = time.monotonic() - begun
        ask = Client(port)
        pair = ask("GET", "/api/pairs")["pairs"][0]
        west, south, east, north = pair["bounds"]
        for zoom, name in ((pair["max_zoom"] - 2, "own zoom"), (pair["min_zoom"], "whole scene")):
            at = "/".join(map(str, _square(pair["bounds"], zoom)[_ACROSS * _ACROSS // 2 + _ACROSS // 2]))
            begun = time.monotonic()
            ask("GET", f"/tiles/scene/post/{at}.webp")
            found[f"seconds to the first tile, {name} (mark: at most 1)"] = time.monotonic() - begun
        reach = 0.04  # of the scene's sides: about 2000 footprints
        x, y = (west + east) / 2, (south + north) / 2
        box = f"west={x}&south={y}&east={x + 2 * reach * (east - west)}&north={y + 2 * reach * (north - south)}"
        path = f"/api/pairs/scene/objects?{box}"
        found["objects in a box"] = len(ask("GET", path)["features"])
        found["ms for objects in a box"] = 1000 * _median(lambda: ask("GET", path))
        found["ms for the overview"] = 1000 * _median(lambda: ask("GET", "/api/pairs/scene/overview"))
        found |= browsing.painted(port, pair["max_zoom"] - 1)
        presses = _key_presses(port)
        for share in (50, 95):
            mark = " (mark: at most 50)" if share == 95 else ""
            found[f"ms for a key press, {share}th percentile{mark}"] = float(np.percentile(presses, share)) * 1000
        status = Path(f"/proc/{process.pid}/status").read_text()
        for name, field in (("MiB of the server's memory at most", "VmHWM"), ("MiB of the server's memory", "VmRSS")):
            found[name] = int(re.findall(rf"{field}:\s+(\d+)", status)[0]) / 1024
    return found


def _median(ask: Any) -> float:
    times = []
    for _ in range(_ROUNDS):
        begun = time.monotonic()
        ask()
        times.append(time.monotonic() - begun)
    return float(np.median(times))


def _key_presses(port: int) -> list[float]:
    """Let several people judge footprints at once; returns the seconds that each answer took."""
    taken: list[float] = []

    def work(number: int) -> None:
        ask = Client(port)
        ask("POST", "/api/session", {"name": f"person {number}"})
        for press in range(_PRESSES):
            edit = {"object": f"f{number * _PRESSES + press}", "base": 0, "level": "minor"}
            begun = time.monotonic()
            ask("POST", "/api/pairs/scene/changes", {"id": str(uuid.uuid4()), "edits": [edit]})
            taken.append(time.monotonic() - begun)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == _CLIENTS * _PRESSES
    return taken


class Client:
    """A person's browser, as far as requests go: one connection, its cookie."""

    def __init__(self, port: int):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._cookie = ""

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request; returns its JSON, or the bytes of another answer."""
        headers = _JSON | ({"Cookie": self._cookie} if self._cookie else {})
        self._connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content[:300]
        self._cookie = (answer.headers.get("set-cookie") or self._cookie).partition(";")[0]
        return json.loads(content) if "json" in answer.headers["content-type"] else content


@contextmanager
def server(arguments: list[object]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start a server; gives its process and its port."""
    command = [sys.executable, "-m", "jaxcd.label", *map(str, arguments), "--port", "0"]
    paths = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": paths}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        port = 0
        for line in process.stdout:
            found = re.search(r"http://[^/]+:(\d+)/", line)
            if found:
                port = int(found[1])
                break
        assert port, "the server did not start"
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
