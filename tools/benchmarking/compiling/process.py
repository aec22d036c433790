"""The worker as a process, in the environment that has XLA's compiler for NVIDIA cards."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarking.case import Case
from benchmarking.compiling.targets import Target
from jaxcd.base.errors import ConfigError

_ROOT = Path(__file__).resolve().parents[3]
_PYTHON = _ROOT / ".venv-compile" / "bin" / "python"
_PLUGIN = "jax_plugins.xla_cuda13"
# Nothing runs on the card: JAX itself stays on the CPU, and must not look for a driver.
_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1", "JAX_ENABLE_COMPILATION_CACHE": "0"}


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is compiled: a case of suite step or infer, as `programs.program` takes it."""

    case: Case
    accumulation: int = 1
    remat: bool = False


def python() -> str:
    """Return the Python that has the compiler: this one, or that of `.venv-compile`.

    Raises:
        ConfigError: there is none.
    """
    if importlib.util.find_spec("jax_plugins") and importlib.util.find_spec(_PLUGIN):
        return sys.executable
    if _PYTHON.is_file() and (_PYTHON.parents[1] / ".jaxcd-compile").is_file():
        return str(_PYTHON)
    raise ConfigError("--suite compile needs XLA's compiler for NVIDIA cards: run `sh tools/setup compile` (5.5 GB)")


def version() -> str:
    """Version of jaxlib in that environment, whose compiler is used."""
    ask = "from importlib.metadata import version; print(version('jaxlib'))"
    return subprocess.run([python(), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()


def compiled(target: Target, programs: Sequence[Program]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Compile programs for a card.

    Yields:
        XLA's text of each, and what the compiler says: memory in bytes and seconds, or why it failed.
    """
    with tempfile.TemporaryDirectory(prefix="jaxcd-compile-") as folder:
        given = {"card": target.text, "folder": folder, "programs": [asdict(each) for each in programs]}
        log = Path(folder) / "log"
        with log.open("w") as errors:  # XLA says much there
            worker = subprocess.Popen(
                [python(), str(Path(__file__).with_name("worker.py")), json.dumps(given)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **_ENVIRONMENT},
            )
        try:
            for _ in programs:
                answer = _answer(worker, log)
                text = Path(answer.pop("text")).read_text() if "text" in answer else ""
                yield text, answer
        finally:
            worker.kill()
            worker.communicate()


def _answer(worker: "subprocess.Popen[str]", log: Path) -> dict[str, Any]:
    assert worker.stdout is not None
    for line in worker.stdout:  # libraries print there, too
        if line.startswith("{"):
            return json.loads(line)
    last = log.read_text(errors="replace").strip().splitlines()[-1:]
    return {"failed": f"the compiling process ended with code {worker.wait()} ({''.join(last)[:200]})"}
