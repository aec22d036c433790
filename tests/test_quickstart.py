import json
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_quickstart_keeps_its_promise_from_a_fresh_clone(tmp_path):
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "jaxcd")], check=True)
    here = tmp_path / "jaxcd"
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "VIRTUAL_ENV")}

    def quickstart() -> str:
        # From another folder, as the README allows.
        command = ["sh", str(here / "tools" / "quickstart")]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = quickstart()
    scores = json.loads((here / "results" / "quickstart" / "metrics.json").read_text())
    (baseline,) = re.findall(r"\|pre - post\| >.*?\)\s+\S+\s+\S+\s+\S+\s+(\S+)", said)
    assert scores["best"]["f1"] > 2 * float(baseline), said
    assert f"{scores['0.5']['f1']:.4f}" in said and "Next, your own tiles" in said
    for name in ("runs/quickstart/curves.png", "results/quickstart/best.png", "results/quickstart/worst.png"):
        assert (here / name).stat().st_size > 10_000
    assert any(path.name.isdigit() for path in (here / "runs" / "quickstart" / "checkpoints").iterdir())
    again = quickstart()
    assert "up to date" in again and "going on from step 400 of 400" in again
