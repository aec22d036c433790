"""A town whose damaged buildings look damaged, served with its labels; helpers that wait for scores."""

import contextlib
import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from starlette.testclient import TestClient

from jaxcd.labelling import workspace
from jaxcd.labelling.settings import LabelSettings
from tests.labelling.served import CHANGING, Person, change, edit, serving
from tests.scenes.scene_files import GSD, ORIGIN, UTM, ground, write

if importlib.util.find_spec("sklearn") is not None:
    # Here, and not in the worker's thread: the tests' hooks parse what is imported, and Python 3.11 fails where two
    # threads do so at once ("AST constructor recursion depth mismatch").
    import jaxcd.active.encoders
    import jaxcd.active.head
    import jaxcd.labelling.learning.buildings
    import jaxcd.labelling.learning.figures  # noqa: F401

ACROSS, STEP, SIDE = 10, 48, 20  # buildings along a side; pixels from one to the next, and of a building
BUILDINGS = ACROSS**2
DAMAGED = frozenset(range(2, BUILDINGS, 4))
"""Numbers of the damaged buildings."""


def write_town(folder: Path) -> None:
    """Write scenes before and after with 100 bright buildings, of which a quarter is rubble after the event."""
    folder.mkdir(parents=True, exist_ok=True)
    side = ACROSS * STEP
    pre = ground(1, side, side) // 2
    boxes, generator = [], np.random.default_rng(0)
    for number in range(BUILDINGS):
        top, left = (each * STEP + 14 for each in divmod(number, ACROSS))
        pre[top : top + SIDE, left : left + SIDE] = 200
        west, north = ORIGIN[0] + left * GSD, ORIGIN[1] - top * GSD
        boxes.append(shapely.box(west, north - SIDE * GSD, west + SIDE * GSD, north))
    post = pre.copy()
    for number in DAMAGED:
        top, left = (each * STEP + 14 for each in divmod(number, ACROSS))
        post[top : top + SIDE, left : left + SIDE] = generator.integers(0, 160, (SIDE, SIDE, 3))
    write(folder / "pre.tif", pre)
    write(folder / "post.tif", post)
    gpd.GeoDataFrame(geometry=boxes, crs=UTM).to_file(folder / "footprints.gpkg")


@contextlib.contextmanager
def town(folder: Path, **settings: Any) -> Iterator[TestClient]:
    """Serve the town in this process, the store beside it; the client is Ann."""
    if not (folder / "pre.tif").exists():
        write_town(folder)
    chosen = LabelSettings(footprints=folder / "footprints.gpkg", **settings)
    named = workspace.named(pre=[str(folder / "pre.tif")], post=[str(folder / "post.tif")], settings=chosen)
    with serving(named, chosen, folder / "store") as made:
        yield made


def level(number: int) -> str:
    """The true level of a building."""
    return "destroyed" if number in DAMAGED else "intact"


def judge(client: TestClient, levels: dict[int, str | None], base: int = 0) -> None:
    """Save levels of footprints by number."""
    body = change(*(edit(number, base, each) for number, each in levels.items()))
    answer = client.post("/api/pairs/scene/changes", json=body, headers=CHANGING)
    assert answer.status_code == 200, answer.text[:200]


def wait_scores(
    client: TestClient | Person, *, state: str = "ready", labels: int | None = None, above: int = 0
) -> dict:
    """Ask for scores until they are there, of so many labels, with a number above another."""
    for _ in range(600):
        path = "/api/scores?pair=scene"
        found = client.ask(path)[1] if isinstance(client, Person) else client.get(path).json()
        if found["state"] == state and labels in (None, found["labels"]) and found["number"] > above:
            return found
        assert found["state"] != "off", found
        time.sleep(0.1)
    raise AssertionError(found)
