"""What tests of the labelling page share: a town and a server of it."""

import signal
from pathlib import Path

import pytest

from jaxcd.simulator.scene import SimulatedScene, simulate
from tests.labelling.page_runs import Server, serving

PAIRS = ("clicks", "many", "lost", "keyboard", "conflict", "phone", "views", "spread", "listed", "watched")
"""A pair for each test that shares the server, all of the same scene."""


@pytest.fixture(scope="package")
def scene(tmp_path_factory) -> SimulatedScene:
    return simulate(tmp_path_factory.mktemp("town"), seed=3, size=400)


@pytest.fixture(scope="package")
def store(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("labels") / "store"


@pytest.fixture(scope="package")
def flags(scene, store) -> list[str | Path]:
    lines = [f"{name},{scene.pre},{scene.post},{scene.footprints}" for name in PAIRS]
    lines += [f"{name},{scene.pre},{scene.post}," for name in ("drawn", "imported")]
    listed = store.parent / "list.csv"
    listed.write_text("\n".join(["name,pre,post,footprints", *lines]))
    return ["--pairs", listed, "--store", store]


@pytest.fixture(scope="package")
def server(flags):
    with serving(flags, end_by=signal.SIGKILL) as server:
        yield server


@pytest.fixture
def bare(scene, tmp_path) -> list[str | Path]:
    """A pair without footprints, with a store of its own."""
    return ["--pre", scene.pre, "--post", scene.post, "--store", tmp_path / "store"]


@pytest.fixture
def running():
    """Servers that the test starts; they end with it."""
    started: list[Server] = []
    yield lambda server: started.append(server) or server
    for server in started:
        server.end()
