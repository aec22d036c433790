"""Runs started by a process that is killed end, too."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxcd.base.processes import Children, Stopped
from tests.child_processes import await_end, children

PARENT = """
import sys
from pathlib import Path
from jaxcd.base.processes import Children
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


CHILD = """
import signal, sys, time
received = []
signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
print("ready", flush=True)
while not received:
    time.sleep(0.01)
time.sleep(2.5)  # saving
print("received", len(received), flush=True)
"""


def test_a_signal_is_passed_on_once_however_long_the_run_takes_to_save(tmp_path, monkeypatch):
    """A second one would end the run at once, and cost what it is saving."""
    (tmp_path / "slow_to_save.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    sent = []

    def meanwhile() -> None:
        if not sent and "ready" in _text(tmp_path / "log"):
            sent.append(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with Children() as running, pytest.raises(Stopped) as stopped:
        running.run(["slow_to_save"], tmp_path / "log", meanwhile=meanwhile)
    assert stopped.value.number == signal.SIGINT
    assert _text(tmp_path / "log") == "ready\nreceived 1\n"


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""
