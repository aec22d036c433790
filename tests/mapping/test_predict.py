"""`python -m jaxcd.predict` as a process: killed, ended, on a full disk, beside another, on a list of maps."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from jaxcd.mapping import scene_map
from jaxcd.mapping.predict import blocks
from jaxcd.mapping.products import rasters
from tests.entries import run as run_entry
from tests.entries import start
from tests.mapping.map_runs import config, write_run, write_scenes


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path):
    run = write_run(tmp_path / "run", config("fc_siam_diff", "small"))
    pre, post = write_scenes(tmp_path, 900, 900)
    arguments = ["--run", run, "--pre", pre, "--post", post, "--window", 120, "--threshold", 0.5, "--out"]
    code, output = run_entry("jaxcd.predict", *arguments, tmp_path / "straight")
    assert code == 0, output
    process = start("jaxcd.predict", *arguments, tmp_path / "killed")
    folder, deadline = tmp_path / "killed" / ".blocks", time.monotonic() + 120
    while len(list(folder.glob("[!.]*.tif")) if folder.is_dir() else ()) < 3 and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = len(list(folder.glob("[!.]*.tif")))
    assert not (tmp_path / "killed" / rasters.DECISION).exists()
    code, output = run_entry("jaxcd.predict", *arguments, tmp_path / "killed")
    assert code == 0, output
    map_summary = json.loads((tmp_path / "killed" / "summary.json").read_text())
    assert 3 <= done < map_summary["blocks"] and map_summary["blocks_computed"] == map_summary["blocks"] - done
    for name in (rasters.PROBABILITY, rasters.DECISION, "damage.geojson"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert not list((tmp_path / "killed").glob(".partial*"))


def test_sigterm_leaves_a_state_that_goes_on(tmp_path, monkeypatch):
    """The signal comes when three blocks are there."""
    run = write_run(tmp_path / "run", config("fc_siam_diff", "small"))
    pre, post = write_scenes(tmp_path, 600, 600)
    arguments = ["--run", run, "--pre", pre, "--post", post, "--window", 120, "--min_area", 60]
    arguments += ["--out", tmp_path / "out"]
    add, added = blocks.Written.add, []

    def adding(written: blocks.Written, block: blocks.Block) -> None:
        add(written, block)
        added.append(block)
        if len(added) == 3:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(blocks.Written, "add", adding)
        code, output = run_entry("jaxcd.predict", *arguments)
    assert code == 143 and "the same command goes on" in output and "Traceback" not in output
    done = len(list((tmp_path / "out" / ".blocks").glob("[!.]*.tif")))
    assert done >= 3
    code, output = run_entry("jaxcd.predict", *arguments)
    assert code == 0, output
    map_summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert map_summary["blocks_computed"] == map_summary["blocks"] - done > 0


def test_a_list_makes_many_maps_and_goes_past_a_bad_one(tmp_path):
    run = write_run(tmp_path / "run", config("fc_siam_diff", "small"))
    write_scenes(tmp_path / "a b", 200, 200)
    write_scenes(tmp_path / "c", 200, 200)
    (tmp_path / "list.csv").write_text(
        "name,pre,post\nfirst,'a b/pre.tif','a b/post.tif'\nbad,c/pre.tif,c/none.tif\nsecond,c/pre.tif,c/post.tif\n"
    )
    code, output = run_entry(
        "jaxcd.predict", "--run", run, "--pairs", tmp_path / "list.csv", "--min_area", 60, "--out", tmp_path / "maps"
    )
    assert code == 2 and "error: bad: " in output and "2 of 3 maps made" in output
    map_summary = json.loads((tmp_path / "maps" / "summary.json").read_text())
    assert list(map_summary["maps"]) == ["first", "second"] and "no such file" in map_summary["failed"]["bad"]
    assert (tmp_path / "maps" / "second" / "map.html").is_file()
    for text, said in (
        ("name,pre\nx,y\n", "expected the columns"),
        ("name,pre,post\n../x,y,z\n", "no name for a folder"),
    ):
        (tmp_path / "list.csv").write_text(text)
        arguments = ["--run", run, "--pairs", tmp_path / "list.csv", "--out", tmp_path / "more"]
        code, output = run_entry("jaxcd.predict", *arguments)
        assert code == 2 and said in output and "Traceback" not in output


@pytest.mark.slow
@pytest.mark.parametrize(("room", "what"), [("400k", ".blocks/"), ("1500k", "damage")])
def test_on_a_full_disk_it_ends_in_one_line_and_goes_on_with_more_room(tmp_path, room, what):
    """In a mount namespace of its own, on a tiny file system."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
        pytest.skip("this system allows no mount namespace, so no small disk to fill")
    run = write_run(tmp_path / "run", config("fc_siam_diff", "small"))
    pre, post = write_scenes(tmp_path, 600, 700)
    arguments = ["--run", run, "--pre", pre, "--post", post, "--window", 120, "--threshold", 0.5, "--min_area", 60]
    code, output = run_entry("jaxcd.predict", *arguments, "--out", tmp_path / "straight" / "map")
    assert code == 0, output
    (tmp_path / "disk").mkdir()
    out = tmp_path / "disk" / "map"
    predict = " ".join(map(str, [sys.executable, "-m", "jaxcd.predict", *arguments, "--out", out]))
    script = f"""
        mount -t tmpfs -o size={room} none {tmp_path}/disk
        {predict}; echo code $?; ls -A {out}
        mount -o remount,size=20m {tmp_path}/disk; {predict} 2>&1; echo code $?; cp -r {out} {tmp_path}/after
    """
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=600)
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: the disk is full: could not write {out}/{what}")
    assert "free some space and run the same command again" in error and "Traceback" not in done.stderr
    first, second = done.stdout.split("code 2\n")
    assert ".partial" not in second and "summary" not in second.split("device: ")[0] and "code 0" in second, done.stdout
    assert first.count("device: ") == 1
    for name in scene_map.FILES:
        ours, expected = tmp_path / "after" / name, tmp_path / "straight" / "map" / name
        assert ours.exists() == expected.exists() == (not name.startswith("buildings"))
        if expected.exists() and expected.suffix in (".tif", ".geojson", ".html", ".qml"):
            assert ours.read_bytes() == expected.read_bytes(), name


@pytest.mark.slow
def test_one_folder_takes_one_process_at_a_time(tmp_path):
    run = write_run(tmp_path / "run", config("fc_siam_diff", "small"))
    pre, post = write_scenes(tmp_path, 900, 900)
    arguments = ["--run", run, "--pre", pre, "--post", post, "--window", 120, "--min_area", 60]
    first = start("jaxcd.predict", *arguments, "--out", tmp_path / "out")
    folder, deadline = tmp_path / "out" / ".blocks", time.monotonic() + 120
    while not list(folder.glob("*.tif")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it must not come to its end meanwhile
    try:
        code, output = run_entry("jaxcd.predict", *arguments, "--out", tmp_path / "out")
    finally:
        first.send_signal(signal.SIGCONT)
    assert code == 2 and "Traceback" not in output
    assert output.splitlines()[-1].endswith(
        "out: another process is mapping into it; wait for it, or give another folder"
    )
    output, _ = first.communicate(timeout=120)
    assert first.returncode == 0 and (tmp_path / "out" / "map.html").is_file(), output
