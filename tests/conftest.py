"""Settings that hold for every test: strict warnings, two simulated CPU devices, the shared imagery."""

import os
import tempfile
from pathlib import Path

import hypothesis
import pytest

# Read when jax is imported, so set before any test module is. Child processes inherit both.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()

# One cache of compiled code for all processes: each would spend more time on compiling its steps than on them.
_compiled = tempfile.TemporaryDirectory(prefix="jaxcd-compiled-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

# Warnings that are not ours to fix, each with its reason.
IGNORED_WARNINGS: tuple[str, ...] = (
    # ml_collections 1.1.0 loads config files this way.
    "ignore:the load_module.. method is deprecated:DeprecationWarning",
    # rasterio 1.4.4 multiplies transforms of affine 3.1 in the old way.
    "ignore:Use .@. matmul:PendingDeprecationWarning:rasterio",
)

# One commit, one result: examples are derived from the test, and a first call that compiles is not slow.
hypothesis.settings.register_profile("jaxcd", derandomize=True, deadline=None)
hypothesis.settings.load_profile("jaxcd")


def pytest_configure(config: pytest.Config) -> None:
    for line in ("error", *IGNORED_WARNINGS):
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the third-party imagery that lies beside the repository and is no part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no third-party imagery at {folder} (see README, it is not part of the project)")
    return folder
