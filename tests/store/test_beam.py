"""Apache Beam's local runner, in its own environment, gives the records that a pool of processes gives."""

import os
import subprocess
from pathlib import Path

import pytest

from jaxcd.prepare import main
from jaxcd.store.dataset import TileDataset
from tests.scenes.scene_files import ground, write

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["--layout", "scenes", "--tile", "128", "--variance", "100", "--labels", "none", "--register"]
RUNNER = ["--beam_runner", "DirectRunner"]
SMALL_PIECES = """
import sys
from jaxcd.prepare import main
from jaxcd.store import staging
staging._PIECE = 4 * 2 * 3 * 128**2
raise SystemExit(main(sys.argv[1:]))
"""


def source(folder: Path) -> Path:
    for k, town in enumerate(("a", "b")):
        write(folder / town / "pre.tif", ground(2 * k, 300, 300))
        write(folder / town / "post.tif", ground(2 * k + 1, 300, 300), compress="deflate", tiled=True)
    return folder


@pytest.mark.slow
def test_beam_gives_the_records_of_the_pool(tmp_path):
    subprocess.run(["sh", "tools/setup", "beam"], cwd=ROOT, check=True, timeout=1200)
    scenes = source(tmp_path / "source")

    def on_beam(out: str, *more: str) -> subprocess.CompletedProcess:
        command = [ROOT / ".venv-beam/bin/python", "-c", SMALL_PIECES, "--source", scenes, "--out", tmp_path / out]
        environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
        return subprocess.run(
            [*map(str, command), *FLAGS, *RUNNER, *more], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    workers = "--beam_options=--direct_num_workers=2 --direct_running_mode=multi_processing"
    done = on_beam("beam", workers)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "18 of 18 tiles, 5 jobs" in done.stdout
    assert main(["--source", str(scenes), "--out", str(tmp_path / "pool"), *FLAGS]) == 0
    beam, pool = TileDataset.open(tmp_path / "beam"), TileDataset.open(tmp_path / "pool")
    assert beam.samples == pool.samples and len(pool.samples) == 18
    assert [beam.read(row) for row in range(18)] == [pool.read(row) for row in range(18)]

    post = scenes / "b" / "post.tif"
    post.write_bytes(post.read_bytes()[: post.stat().st_size // 2])
    failed = on_beam("broken")
    assert failed.returncode == 2 and "Traceback" not in failed.stderr
    assert f"error: {post}: damaged or truncated" in failed.stderr and not (tmp_path / "broken/dataset.json").exists()


def test_without_beam_it_is_said_where_to_get_it(tmp_path, capsys):
    scenes = source(tmp_path / "source")
    assert main(["--source", str(scenes), "--out", str(tmp_path / "out"), *FLAGS, *RUNNER]) == 2
    assert "Apache Beam is missing here; pip install 'jaxcd[beam]'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "dataset.json").exists()
