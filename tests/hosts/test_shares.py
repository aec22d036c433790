"""Lists that processes share: the same bytes as one process, whichever dies and is started again."""

import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from jaxcd.base.errors import ConfigError
from jaxcd.feed.loader import count_evaluation_batches, evaluation_batches, own_share, training_dataset
from jaxcd.runs.shares import FOLDER, Share
from jaxcd.store.dataset import open_or_build
from tests.entries import read_config, run
from tests.hosts.teams import process
from tests.mapping.map_runs import config, write_run, write_scenes

_SHALLOW = "tests.hosts.shallow:Shallow", "tiny"
# When a map was made, how long that took, and the date of a GeoPackage.
_TIMES = re.compile(rb'"(made|seconds|blocks_computed)": [^,\n]+|\d{4}-\d\d-\d\dT[\d:.]+')


@pytest.fixture(scope="module")
def shallow(tmp_path_factory) -> Path:
    """A run without training."""
    return write_run(tmp_path_factory.mktemp("shallow") / "run", config(*_SHALLOW))


def _files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def _evaluated(run_folder: Path, project: Path, out: Path, *flags: object) -> str:
    data = "--data", project.parent / "tiles", "--cache", project.parent / "datasets"
    code, output = run("jaxcd.evaluate", "--run", run_folder, *data, "--batch", 2, "--out", out, *flags)
    assert code == 0, output
    return output


def test_a_shared_evaluation_has_the_bytes_of_one_process(project, shallow, tmp_path):
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    _evaluated(shallow, project, alone)
    said = _evaluated(shallow, project, shared, "--share", "1/2")
    assert "share 1 of 2 is done; 4 of 8 pieces are there" in said and _files(shared) == {}
    lost = sorted((shared / FOLDER).glob("piece_*"))[2]  # what a process that died would not have written
    lost.unlink()
    assert "share 0 of 2 is done; 7 of 8" in _evaluated(shallow, project, shared, "--share", "0/2")
    before = {p: p.stat().st_mtime_ns for p in (shared / FOLDER).glob("piece_*")}
    code, output = run(
        "jaxcd.evaluate", "--run", shallow, "--data", project.parent / "tiles", "--cache", project.parent / "datasets",
        "--batch", 4, "--share", "1/2", "--out", shared,
    )  # fmt: skip
    assert code == 2 and "holds a shared, unfinished evaluation of other settings: batches.batch is 2 there" in output
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert "written: " in _evaluated(shallow, project, shared, "--share", "1/2")
    assert _files(shared) == _files(alone) and len(_files(alone)) == 7
    assert "all shares are done and summed up" in _evaluated(shallow, project, shared, "--share", "0/2")
    assert _files(shared) == _files(alone)


def _list(folder: Path, maps: int) -> Path:
    lines = ["name,pre,post"]
    for k in range(maps):
        (folder / f"scenes_{k}").mkdir(parents=True)
        write_scenes(folder / f"scenes_{k}", 200 + 40 * k, 220)
        lines.append(f"map_{k},scenes_{k}/pre.tif,scenes_{k}/post.tif")
    lines.append("broken,missing.tif,scenes_0/post.tif")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


@pytest.mark.slow
def test_shared_maps_and_their_summary_have_the_bytes_of_one_process(shallow, tmp_path):
    wanted = _list(tmp_path, 3)
    flags = "--run", shallow, "--pairs", wanted, "--threshold", 0.5, "--out"
    code, output = run("jaxcd.predict", *flags, tmp_path / "alone")
    assert code == 2 and "3 of 4 maps made" in output, output
    logs = [tmp_path / f"{i}.log" for i in range(2)]
    started = [
        process("jaxcd.predict", *flags, tmp_path / "shared", "--share", f"{i}/2", log=logs[i]) for i in range(2)
    ]
    until = time.monotonic() + 200
    while not (tmp_path / "shared" / FOLDER / "plan.json").exists():
        assert time.monotonic() < until, logs[0].read_text()
        time.sleep(0.02)
    started[0].send_signal(signal.SIGKILL)
    assert started[0].wait(10) == -signal.SIGKILL
    assert started[1].wait(200) == 2, logs[1].read_text()  # it has the broken map
    assert "share 1 of 2 is done" in logs[1].read_text() and not (tmp_path / "shared" / "summary.json").exists()
    code, output = run("jaxcd.predict", *flags, tmp_path / "shared", "--share", "0/2")
    assert code == 2 and "3 of 4 maps made" in output, output
    for folder in ("", "map_0", "map_1", "map_2"):
        alone, shared = (_files(tmp_path / kind / folder) for kind in ("alone", "shared"))
        assert alone.keys() == shared.keys() and len(alone) > (1 if folder == "" else 6)
        for name in set(alone) - {"map.html", "summary.md"} if folder else ["summary.json", "summary.md"]:
            assert _TIMES.sub(b"", alone[name]) == _TIMES.sub(b"", shared[name]), (folder, name)


def test_no_record_is_read_by_two_processes_and_none_is_missed(project):
    """Three processes and four; the last batch of an epoch, which begins the next one, too."""
    settings = read_config(project)
    dataset = open_or_build(settings.data)
    settings.train.batch, rows = 12, list(range(len(dataset.samples)))
    whole = training_dataset(dataset, rows, settings, stride=8)
    for count in (2, 3, 4):
        parts = [
            training_dataset(dataset, rows, settings, stride=8, process_index=i, process_count=count)
            for i in range(count)
        ]
        for k in range(3):  # 16 places: batch 1 goes over the end of the epoch
            together = [np.concatenate(arrays) for arrays in zip(*(part[k] for part in parts), strict=True)]
            for ours, one in zip(together, whole[k], strict=True):
                np.testing.assert_array_equal(ours, one)
    first = np.concatenate([whole[k].ids for k in range(4)])
    assert all(sorted(first[epoch * 16 : (epoch + 1) * 16]) == rows for epoch in range(3))
    with pytest.raises(ConfigError, match="expected a multiple of the 5 processes, got 12"):
        own_share(12, 0, 5)

    how = {"batch": 3, "stride": 8}
    total = count_evaluation_batches(dataset, rows, **how)
    every = [tile for _, tiles in evaluation_batches(dataset, rows, **how) for tile in tiles]
    for count in (2, 4):
        shares = [
            [
                tile
                for _, tiles in evaluation_batches(dataset, rows, numbers=range(i, total, count), **how)
                for tile in tiles
            ]
            for i in range(count)
        ]
        assert sorted(tile for share in shares for tile in share) == sorted(every)
        assert sum(map(len, shares)) == len(set(every)) == 16 and min(map(len, shares)) > 0


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "1/2/3"])
def test_wrong_shares_are_named(text):
    with pytest.raises(ConfigError, match="--share: expected I/N with I from 0 to N - 1, or auto, got"):
        Share.of(text)


def test_a_share_is_found_by_what_slurm_and_open_mpi_tell(monkeypatch):
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="neither Slurm nor Open MPI started this process; give I/N"):
        Share.of("auto")
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "3")
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    assert Share.of("auto") == (3, 4)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    assert Share.of("auto") == (0, 2)


def test_totals_survive_json():
    from jaxcd.mapping.products.summary import Area, LevelTotals, Totals, plain, totals

    levels = LevelTotals(
        scale="xbd", damage_from="x", area_m2={"a": 0.1}, buildings={"a": 3}, agreement={"confusion": {"a": {"b": 1}}}
    )
    for each in (None, levels):
        found = Totals(
            area=Area(seen_km2=1 / 3, damaged_m2=2.5, damaged_share=1e-9), polygons=4, buildings={"intact": 2},
            agreement={}, levels=each,
        )  # fmt: skip
        assert totals(json.loads(json.dumps(plain(found)))) == found
