"""Small scenes to label, their server in this process or as one of its own, and its clients."""

import contextlib
import http.cookiejar
import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import shapely
from starlette.testclient import TestClient

from jaxcd.base.scales import SCALES
from jaxcd.labelling import workspace
from jaxcd.labelling.server import app
from jaxcd.labelling.server.security import Secrets
from jaxcd.labelling.settings import LabelSettings
from jaxcd.labelling.store import Store
from tests.entries import start
from tests.scenes.scene_files import GSD, ORIGIN, UTM, ground, write

SIDE = 600
CHANGING = {"X-Jaxcd": "1"}
SECRETS = Secrets(b"k" * 32)
CHANGES = "/api/pairs/scene/changes"


class Scenes(NamedTuple):
    """Two scenes and the footprints of their buildings."""

    pre: Path
    post: Path
    footprints: Path

    def flags(self, store: Path) -> list[str | Path]:
        """The arguments that label them."""
        named = ["--pre", self.pre, "--post", self.post, "--footprints", self.footprints]
        return [*named, "--store", store]


def write_scenes(folder: Path, *, buildings: int = 5) -> Scenes:
    """Write two scenes of 300 m, and buildings² footprints of 10 m."""
    pre = write(folder / "pre.tif", ground(1, SIDE, SIDE))
    post = write(folder / "post.tif", ground(2, SIDE, SIDE))
    west, north = ORIGIN
    step = SIDE * GSD / buildings
    boxes = [
        shapely.box(west + i * step + 5, north - k * step - 15, west + i * step + 15, north - k * step - 5)
        for k in range(buildings)
        for i in range(buildings)
    ]
    footprints = folder / "footprints.gpkg"
    gpd.GeoDataFrame(geometry=boxes, crs=UTM).to_file(footprints)
    return Scenes(pre, post, footprints)


@contextlib.contextmanager
def client(folder: Path, *, name: str | None = "Ann", **settings: Any) -> Iterator[TestClient]:
    """Serve the scenes of a folder in this process, the store beside them; the client has said its name."""
    scenes = write_scenes(folder) if not (folder / "pre.tif").exists() else Scenes(
        folder / "pre.tif", folder / "post.tif", folder / "footprints.gpkg"
    )  # fmt: skip
    chosen = LabelSettings(footprints=scenes.footprints, **settings)
    named = workspace.named(pre=[str(scenes.pre)], post=[str(scenes.post)], settings=chosen)
    with serving(named, chosen, folder / "store", name=name) as made:
        yield made


@contextlib.contextmanager
def serving(
    named: Sequence[workspace.Named], settings: LabelSettings, store: Path, *, name: str | None = "Ann"
) -> Iterator[TestClient]:
    """Serve pairs in this process."""
    opened = workspace.open_all(named, settings, store)
    kept = Store.create_or_open(store, SCALES[settings.scale], [each.pair for each in opened], cells=settings.cells)
    made = app.create_app(opened, kept, settings, SECRETS)
    try:
        with TestClient(app.guarded(made, settings, SECRETS), base_url="http://localhost") as found:
            if name:
                answer = found.post("/api/session", json={"name": name}, headers=CHANGING)
                assert answer.status_code == 200, answer.text
            yield found
    finally:
        made.state.served.readers.shutdown()
        kept.close()


def edit(number: int, base: int, level: str | None) -> dict[str, Any]:
    """The edit of a footprint."""
    return {"object": f"f{number}", "base": base, "level": level}


def change(*edits: dict[str, Any], key: str = "") -> dict[str, Any]:
    """The body of a change."""
    return {"id": key or str(uuid.uuid4()), "edits": list(edits)}


def post(client: TestClient, path: str, body: object):
    return client.post(path, json=body, headers=CHANGING)


def everything(client: TestClient, pair: str = "scene") -> dict:
    (described,) = [each for each in client.get("/api/pairs").json()["pairs"] if each["id"] == pair]
    west, south, east, north = described["bounds"]
    box = {"west": west, "south": south, "east": east, "north": north}
    return client.get(f"/api/pairs/{pair}/objects", params=box).json()


def polygon(client: TestClient, share: float = 0.1) -> dict:
    (pair,) = client.get("/api/pairs").json()["pairs"]
    west, south, east, north = pair["bounds"]
    x, y, side = (west + east) / 2, (south + north) / 2, share * (east - west)
    return shapely.geometry.mapping(shapely.box(x, y, x + side, y + side))


class Person:
    """A client of a real server that keeps its cookies, on one connection for each request."""

    def __init__(self, port: int, name: str):
        self._root = f"http://127.0.0.1:{port}"
        self._jar = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self._jar))
        assert self.ask("/api/session", {"name": name})[0] == 200

    def cookies(self) -> str:
        """The header of its cookies."""
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._jar)

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request; returns status and JSON."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", **CHANGING}
        request = urllib.request.Request(self._root + path, content, headers)
        try:
            with self._opener.open(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())


@contextlib.contextmanager
def process(*arguments: object, said: list[str] | None = None) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start the entry as a process on a free port; gives the process and its port once it listens.

    Args:
        arguments: of the entry.
        said: takes the lines that it printed until then.
    """
    started = start("jaxcd.label", *arguments, "--port", 0)
    lines = [] if said is None else said
    try:
        assert started.stdout is not None
        for line in started.stdout:
            lines.append(line)
            found = re.search(r"http://[^/]+:(\d+)/", line)
            if found:
                break
        else:
            raise AssertionError("".join(lines))
        yield started, int(found[1])
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGKILL)
        started.communicate(timeout=30)


def tile_at(longitude: float, latitude: float, zoom: int) -> tuple[int, int]:
    """Column and row of the map tile around a place."""
    n = 2**zoom
    y = (1 - np.arcsinh(np.tan(np.radians(latitude))) / np.pi) / 2
    return int((longitude + 180) / 360 * n), int(y * n)
