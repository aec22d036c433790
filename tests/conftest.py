"""Settings that hold for every test: strict warnings, two simulated CPU devices, shared runs and imagery."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from playwright.sync_api import Browser, sync_playwright

from jaxcd.base import machine
from tests.entries import Finished, made_once, trained, write_project

ROOT = Path(__file__).resolve().parents[1]

# Read when jax is imported. Child processes inherit them.
assert "jax" not in sys.modules
os.environ["JAX_PLATFORMS"] = "cpu"
_FLAGS = ["--xla_force_host_platform_device_count=2"]
# Without LLVM's optimisations a training step compiles in less than half the time; XLA's own passes are the same. With
# JAXCD_TEST_OPTIMISED, which `sh tools/test --slow` sets, programs are compiled as for users.
if not os.environ.get("JAXCD_TEST_OPTIMISED"):
    _FLAGS.append("--xla_backend_optimization_level=0")
# Tests that run beside each other share the cores: one thread each.
if "PYTEST_XDIST_WORKER" in os.environ:
    _FLAGS.append("--xla_cpu_multi_thread_eigen=false")
    os.environ["OMP_NUM_THREADS"] = "1"
# A worker inherits what pytest's first process has set, and JAX's cache tells programs apart by these words.
_GIVEN = os.environ.get("XLA_FLAGS", "").split()
os.environ["XLA_FLAGS"] = " ".join([*_GIVEN, *(flag for flag in _FLAGS if flag not in _GIVEN)])

# One cache of compiled code for all processes and all days: each would spend more time on compiling its steps than
# on them. Code for one kind of CPU is kept from another that shares the checkout.
_COMPILED = (ROOT / ".compiled").resolve()
_MOST_COMPILED = 2**30  # bytes; one run of the suite leaves a tenth
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(_COMPILED / machine.cpu_digest())
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# Warnings that are not ours to fix, each with its reason.
IGNORED_WARNINGS: tuple[str, ...] = (
    # ml_collections 1.1.0 loads config files this way.
    "ignore:the load_module.. method is deprecated:DeprecationWarning",
    # rasterio 1.4.4 multiplies transforms of affine 3.1 in the old way.
    "ignore:Use .@. matmul:PendingDeprecationWarning:rasterio",
    # JAX 0.10 writes an entry of its cache in place: another process, or the one after a kill, can meet half of it.
    # Then it compiles.
    "ignore:Error (reading|writing) persistent compilation cache entry:UserWarning:jax",
)

# One commit, one result: examples are derived from the test, and a first call that compiles is not slow.
hypothesis.settings.register_profile("jaxcd", derandomize=True, deadline=None)
hypothesis.settings.load_profile("jaxcd")


def pytest_configure(config: pytest.Config) -> None:
    # A shell lets its background jobs ignore Ctrl-C, and processes that the tests start would ignore it, too.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "PYTEST_XDIST_WORKER" not in os.environ:  # before there are workers
        if sum(file.stat().st_size for file in _COMPILED.rglob("*") if file.is_file()) > _MOST_COMPILED:
            shutil.rmtree(_COMPILED)
    for line in ("error", *IGNORED_WARNINGS):
        config.addinivalue_line("filterwarnings", line)


# pytest's workers take files in this order, so that none is left with a long one at the end.
LONGEST = (
    "test_train.py",
    "test_scene_map.py",
    "test_seams.py",
    "test_tune.py",
    "test_pretrain.py",
    "test_predict.py",
    "test_steps.py",
    "test_parity.py",
    "test_scenes.py",
    "test_prepare.py",
    "test_benchmark.py",
    "test_evaluate.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what is made once in a session, whichever of pytest's workers makes it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def project(session_folder: Path) -> Path:
    """Config file of a tiny project, see `write_project`; its dataset is built. Tests leave it as it is."""
    return made_once(session_folder / "project", write_project) / "config.py"


@pytest.fixture(scope="session")
def finished(project: Path) -> Finished:
    """A run of the project that was never interrupted. Tests that change a run copy it."""
    folder = made_once(project.parent.parent / "finished", lambda folder: trained(project, folder))
    return Finished(folder / "run", (folder / "output.txt").read_text())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the third-party imagery that lies beside the repository and is no part of it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no third-party imagery at {folder} (see docs/README.md: it is not part of the project)")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window. One a file: Playwright bears no second one, and no asyncio beside it."""
    program = shutil.which("chromium")
    assert program, "no chromium; sh tools/setup dev installs it"
    options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    options += ["--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=options)
        yield running
        running.close()
