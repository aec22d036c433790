"""The command itself: what it says, what it refuses, and that a kill costs nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from jaxcd.base.errors import DatasetError
from jaxcd.prepare import main
from jaxcd.store import build, staging
from jaxcd.store.dataset import TileDataset
from jaxcd.store.encodings import decode
from tests.child_processes import await_end, children
from tests.sources.tile_sources import picture, write_folders, write_rgb, write_xbd, xbd_label

ROOT = Path(__file__).resolve().parents[1]


def command(source: Path, out: Path, *more: str, layout: str = "folders") -> list[str]:
    return ["--layout", layout, "--source", str(source), "--out", str(out), *more]


def test_the_report_tells_counts_balance_and_splits(tmp_path, capsys):
    source = write_folders(tmp_path / "source", 20)
    (source / "B" / "p003.png").unlink()
    assert main(command(source, tmp_path / "out", "--incomplete", "leave_out")) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"{tmp_path / 'out'}: built places 19 places with damage 19 pre images 19" in said
    assert "invalid share 0.000%" in said and "2 files left out:" in said
    assert f"{source / 'A' / 'p003.png'}: no post image named 'p003'" in said
    assert "Splits by place, seed 42: train 13 places, 13 with damage" in said and "test 3 places" in said
    assert main(command(source, tmp_path / "out", "--incomplete", "leave_out", "--split", "block")) == 0
    said = capsys.readouterr().out
    assert "was built before with these settings and is left as it is" in said
    assert "none with these settings: the train split is empty; 0 places" in said


def test_of_many_files_left_out_twenty_are_shown(tmp_path, capsys):
    source = write_folders(tmp_path / "source", 4)
    for i in range(30):
        write_rgb(source / "A" / f"alone{i:02}.png", picture(i))
    assert main(command(source, tmp_path / "out")) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: {source}/A/alone00.png: no post image and no label named 'alone00' (and 29 more")
    assert not (tmp_path / "out").exists()
    assert main([*command(source, tmp_path / "out"), "--incomplete", "leave_out"]) == 0
    said = capsys.readouterr().out
    assert said.count("alone") == 40 and "and 10 more, all in" in said  # each line names the file twice
    assert len(json.loads((tmp_path / "out" / "report.json").read_text())["left_out"]) == 30


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def grey(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((64, 64), np.uint8))


BAD_FILES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "not an image": ("A", lambda path: path.write_text("hello"), "neither PNG, JPEG nor TIFF"),
    "truncated": ("B", truncated, "truncated"),
    "empty": ("A", lambda path: path.write_bytes(b""), "empty"),
    "grey": ("A", grey, "grey"),
    "16 bits": ("B", lambda path: cv2.imwrite(str(path), np.ones((64, 64, 3), np.uint16)), "uint16"),
    "another size": ("B", lambda path: write_rgb(path, picture(0, 64, 60)), "64 x 60 pixels, but"),
    "mask of another size": ("label", lambda path: write_rgb(path, np.zeros((9, 64), np.uint8)), "9 x 64 pixels, but"),
    "mask values": ("label", lambda path: write_rgb(path, np.full((64, 64), 7, np.uint8)), "holds the values 7"),
    "mask truncated": ("label", truncated, "truncated"),
    "mask in colours": ("label", lambda path: write_rgb(path, picture(0)), "three bands that differ"),
}


def test_of_two_bad_files_workers_always_name_the_first(tmp_path, capfd):
    """The first one's worker finds out last: it has more to read before. So large a place is a piece."""
    source = write_folders(tmp_path / "source", 4)
    large = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)
    for folder in ("A", "B"):
        write_rgb(source / folder / "p000.png", large)
    for name in ("p000", "p001"):  # of p000 the mask has another size, which is seen after the images
        (source / "label" / f"{name}.png").write_bytes((source / "label" / "p002.png").read_bytes())
    truncated(source / "A" / "p001.png")
    assert main(command(source, tmp_path / "out")) == 2
    (error,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "p000.png" in error and "64 x 64 pixels, but" in error
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert not list((tmp_path / "out").rglob(".partial-*"))


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_ends_the_build_with_its_name(tmp_path, capfd, case):
    folder, spoil, message = BAD_FILES[case]
    source = write_folders(tmp_path / "source", 4)
    path = source / folder / "p002.png"
    spoil(path)
    assert main(command(source, tmp_path / "out")) == 2
    (error,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert str(path) in error and message in error
    assert not (tmp_path / "out" / "dataset.json").exists() and not (tmp_path / "out" / "records").exists()
    assert not list((tmp_path / "out").rglob(".partial-*"))
    with pytest.raises(DatasetError, match="the build was not finished"):
        TileDataset.open(tmp_path / "out")


def test_a_bad_xbd_label_ends_the_build_with_its_field(tmp_path, capfd):
    source = write_xbd(tmp_path / "source", "a", xbd_label([]))
    label = xbd_label([((0, 0, 4, 4), "destroyed")])
    del label["features"]["xy"][0]["properties"]["subtype"]
    write_xbd(source, "b", label)
    assert main(command(source, tmp_path / "out", layout="xbd")) == 2
    error = capfd.readouterr().err
    assert f"error: {source / 'labels' / 'b_post_disaster.json'}: lacks the field features.xy[0].prop" in error
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--scaling", "auto"], "config.data.scaling: expected range:LOW,HIGH"),
        (["--damage_levels", "ruined"], "config.data.damage_levels: expected at least one level, of no-damage"),
        (["--split", "country"], "config.data.split: expected one of place, block"),
        (["--split_shares", ".5", ".5", ".5"], "config.data.split_shares: expected shares above 0 that sum to 1"),
        (["--block_size", "0"], "config.data.block_size: expected metres above 0"),
        (["--layout", "xbd"], "layout xbd wants a folder images/ and a folder labels/"),
        (["--source", "absent"], "absent: no such folder"),
    ],
)
def test_bad_arguments_leave_nothing_behind(tmp_path, capsys, arguments, message):
    source = write_folders(tmp_path / "source", 2)
    assert main([*command(source, tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


PIECE, BYTES = 4, 3 * 2**19  # places of 512 x 512 pixels in a piece, and bytes that 4 of them fit in, but not 8
SMALL_PIECES = f"""
import sys
from jaxcd.prepare import main
from jaxcd.store import build, staging
staging._PIECE = {BYTES}
raise SystemExit(main(sys.argv[1:]))
"""


def killed_when(arguments: list[str], ready: Callable[[], bool]) -> None:
    """Start the command, kill -9 it as soon as `ready`, and see its workers go too."""
    process = subprocess.Popen([sys.executable, "-c", SMALL_PIECES, *arguments], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not ready():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.001)
        workers = children(process.pid)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    assert workers
    await_end(workers)


@pytest.mark.slow
def test_a_build_killed_while_staging_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """And the shards are the same bytes as without a kill, and with another number of processes."""
    places = 60
    source, out, whole = write_folders(tmp_path / "source", places, size=512), tmp_path / "out", tmp_path / "whole"
    staged = out / "staging"
    killed_when(command(source, out), lambda: staged.is_dir() and len(list(staged.glob("[!.]*.zip"))) >= 2)
    done = [path.with_suffix(".array_record").stat() for path in staged.glob("[!.]*.zip")]
    assert 2 <= len(done) < places // PIECE and not (out / "dataset.json").exists()
    with pytest.raises(DatasetError, match="the build was not finished; run the same command again"):
        TileDataset.open(out)
    arguments = [sys.executable, "-c", SMALL_PIECES, *command(source, out)]
    again = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert f"{PIECE * len(done)}/{places} [00:00<" in again.stderr  # the bar starts where the killed one stood
    monkeypatch.setattr(build, "cores", lambda: 1)
    monkeypatch.setattr(staging, "_PIECE", BYTES)
    assert main(command(source, whole)) == 0
    resumed, direct = TileDataset.open(out), TileDataset.open(whole)
    assert resumed.samples == direct.samples
    assert shards(out) == shards(whole) and len(shards(out)) == places // PIECE
    assert {(stat.st_ino, stat.st_mtime_ns) for stat in done} <= {
        (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.rglob("*.array_record-*")
    }  # finished ones were moved, not written again
    assert not staged.exists()


def shards(dataset: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dataset.rglob("*.array_record-*")}


KILLED = SMALL_PIECES.replace(
    "raise",
    """
import os, signal
from pathlib import Path
build.cores = lambda: 1
rename, moved = Path.rename, []
def killed_after_two(path, target):
    rename(path, target)
    moved.append(target)
    if len(moved) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
Path.rename = killed_after_two
raise""",
)


def test_a_build_killed_while_its_shards_are_moved_goes_on(tmp_path, monkeypatch):
    """Killed after two of four shards were moved; then all are moved, none is written again."""
    source, out = write_folders(tmp_path / "source", 4 * PIECE, size=512), tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, *command(source, out)], cwd=ROOT, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert len(shards(out)) == 2 and not (out / "dataset.json").exists()
    before = {path.stat().st_ino for path in out.rglob("*.array_record*")}
    monkeypatch.setattr(staging, "_PIECE", BYTES)
    assert main(command(source, out)) == 0
    assert {path.stat().st_ino for path in out.rglob("*.array_record*")} == before and len(before) == 4
    dataset = TileDataset.open(out)
    for row in (0, 15):
        np.testing.assert_array_equal(decode(dataset.read(row).pre[0]), picture(2 * row, 512, 512))


def test_two_builds_at_once_make_one_dataset(tmp_path):
    source, out = write_folders(tmp_path / "source", 12, size=256), tmp_path / "out"
    arguments = [sys.executable, "-m", "jaxcd.prepare", *command(source, out)]
    both = [subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(f"{out}: built\n" in text for text in said) == 1
    assert sum("was built before" in text for text in said) == 1
    assert len(TileDataset.open(out).samples) == 12


def on_a_disk(room: int, tmp_path: Path, source: Path) -> subprocess.CompletedProcess:
    """Build in a mount namespace of its own, on a tiny file system of `room` bytes."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0:
        pytest.skip("this system allows no mount namespace, so no small disk to fill")
    (tmp_path / "disk").mkdir()
    prepare = " ".join([sys.executable, "-m", "jaxcd.prepare", *command(source, tmp_path / "disk" / "out")])
    script = f"mount -t tmpfs -o size={room} none {tmp_path}/disk && {prepare}; echo code $?; find {tmp_path}/disk"
    return subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_full_disk_is_one_line_and_no_dataset(tmp_path):
    done = on_a_disk(200 * 2**10, tmp_path, write_folders(tmp_path / "source", 60))
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "the disk is full: could not write" in error and "free some space and run the same command again" in error
    assert "code 2" in done.stdout and "Traceback" not in done.stderr
    assert "dataset.json" not in done.stdout and ".partial-" not in done.stdout and "records" not in done.stdout
    assert ".array_record" not in done.stdout and ".zip" not in done.stdout


def test_a_disk_with_room_for_the_dataset_is_enough(tmp_path):
    """Its bytes are written once."""
    source = write_folders(tmp_path / "source", 60)
    assert main(command(source, tmp_path / "out")) == 0
    size = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    done = on_a_disk(int(1.2 * size), tmp_path, source)
    assert "code 0" in done.stdout and "dataset.json" in done.stdout, done.stderr


def test_a_killed_worker_is_one_line(tmp_path):
    source, out = write_folders(tmp_path / "source", 60, size=512), tmp_path / "out"
    arguments = [sys.executable, "-m", "jaxcd.prepare", *command(source, out)]
    process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    while not list(out.glob("staging/.partial-*.zip")):
        assert process.poll() is None
        time.sleep(0.005)
    for pid in children(process.pid):
        if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text():  # not multiprocessing's own helper
            os.kill(pid, signal.SIGKILL)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 2 and "Traceback" not in error
    assert "a worker process was killed, often for lack of memory; run the same command again" in error


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    source = write_folders(tmp_path / "source", 6)
    prepare = " ".join([sys.executable, "-m", "jaxcd.prepare", *command(source, tmp_path / "out")])
    done = subprocess.run(["bash", "-c", f"{prepare} | true"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "Error" not in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "out" / "dataset.json").is_file()


def test_interrupting_is_no_error(tmp_path):
    """And needs not wait for the end of the pieces that are being staged: nothing of them is left."""
    source, out = write_folders(tmp_path / "source", 120, size=512), tmp_path / "out"
    arguments = [sys.executable, "-m", "jaxcd.prepare", *command(source, out)]
    process = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(out.glob("staging/.partial-*.zip")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGINT)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in error and "interrupted" in error, error
    assert not list((out / "staging").iterdir())
