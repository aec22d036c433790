"""What `tools/carry` refuses; that what it carries is enough is tested in test_imports."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a folder, the version of Python there, and datasets"),
        (["out", "2.7"], "2.7: expected a version of Python from 3.11"),
        ([".", "3.12"], ".: is there already"),
        (["out", "3.12", "tiles"], "tiles: not a dataset built by python -m jaxcd.prepare"),
    ],
)
def test_bad_arguments_are_named_and_leave_nothing(tmp_path, arguments, message):
    command = ["sh", str(ROOT / "tools" / "carry"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"carry: {message}")
    assert not list(tmp_path.iterdir())
