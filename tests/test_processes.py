"""Runs started by a process that is killed end, too."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.child_processes import await_end, children

PARENT = """
import sys
from pathlib import Path
from jaxcd.processes import Children
with Children() as running:
    running.run(["http.server", "0", "--bind", "127.0.0.1"], Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent ended")
def test_a_run_ends_with_its_killed_parent(tmp_path):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "log")], env=environment)
    run = None
    try:
        deadline = time.monotonic() + 30
        while "Serving" not in _text(tmp_path / "log"):
            assert parent.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        (run,) = children(parent.pid)
        command = Path(f"/proc/{run}/cmdline").read_text().split("\0")
        assert command[1:3] == ["-m", "http.server"]  # it took the place of what started it
        parent.kill()
        parent.wait()
        await_end([run], seconds=5)
    finally:
        parent.kill()
        if run is not None and Path(f"/proc/{run}").exists():
            os.kill(run, signal.SIGKILL)


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""
