"""Scenes behind URLs: windows of real files over real HTTP, and servers that fail."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxcd.prepare import main
from jaxcd.store.dataset import TileDataset
from jaxcd.store.encodings import decode
from tests.scenes.range_server import serving
from tests.scenes.scene_files import at, ground, write

SIDE = 1024
COG = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
COLUMNS = (
    "datetime", "gsd", "catalog_id", "quadkey", "view:off_nadir", "proj:epsg", "proj:bbox", "tile:clouds_percent",
    "visual",
)  # fmt: skip
PLACES = ("120022132301", "120022132302", "120022132303")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The scenes' files."""
    folder = tmp_path_factory.mktemp("scenes")
    for k, place in enumerate(PLACES):
        for after, when in enumerate(("pre", "post")):
            write(folder / f"{place}-{when}.tif", ground(2 * k + after, SIDE, SIDE), at(0, 5000 * k), **COG)
    return folder


@pytest.fixture
def catalogue(tmp_path, scenes):
    """Three places of one pre and one post scene each, behind URLs; gives the server and the index."""
    shutil.copytree(scenes, tmp_path / "web")
    with serving(tmp_path / "web") as server:
        rows = ["\t".join(COLUMNS)]
        for k, place in enumerate(PLACES):
            corner = at(0, 5000 * k)
            left, top = corner.c, corner.f
            box = f"{left},{top - SIDE / 2},{left + SIDE / 2},{top}"
            for when, day in (("pre", "2022-07-26"), ("post", "2023-02-08")):
                url = f"{server.url}/{place}-{when}.tif"
                rows.append("\t".join([day, "0.5", f"id{when}", place, "20", "32637", box, "0", url]))
        (tmp_path / "index.tsv").write_text("\n".join(rows))
        yield server, tmp_path / "index.tsv"


def prepare(index: Path, out: Path, *more: str) -> int:
    flags = ["--event_date", "2023-02-06", "--tile", "256", "--labels", "none", "--variance", "100"]
    cache = ["--cache", str(out.parent / "cache")]
    return main(["--layout", "scenes", "--source", str(index), "--out", str(out), *cache, *flags, *more])


def places(out: Path) -> list[str]:
    return sorted({sample.id.rsplit("_", 1)[0] for sample in TileDataset.open(out).samples})


def test_the_list_needs_no_network(catalogue, tmp_path, capsys):
    server, index = catalogue
    assert prepare(index, tmp_path / "out", "--list") == 0
    said = capsys.readouterr().out
    assert "3 places with 3 acquisitions before and 3 after" in said and "nothing of them has been read" in said
    assert not server.sent and not (tmp_path / "out").exists()


def test_tiles_come_over_http_as_they_lie_there(catalogue, tmp_path):
    server, index = catalogue
    server.busy[f"{PLACES[0]}-pre.tif"] = 1  # asked again
    assert prepare(index, tmp_path / "out", "--only", PLACES[0]) == 0
    assert set(server.sent) == {f"{PLACES[0]}-pre.tif", f"{PLACES[0]}-post.tif"}
    dataset = TileDataset.open(tmp_path / "out")
    assert len(dataset.samples) == 16
    row = next(i for i, sample in enumerate(dataset.samples) if sample.id == f"{PLACES[0]}_6")
    record = dataset.read(row)
    np.testing.assert_array_equal(decode(record.pre[0]), ground(0, SIDE, SIDE)[256:512, 512:768])
    np.testing.assert_array_equal(decode(record.post[0]), ground(1, SIDE, SIDE)[256:512, 512:768])
    sample = dataset.samples[row]
    assert (sample.pre[0].date, sample.post[0].date) == ("2022-07-26", "2023-02-08")


def test_what_came_over_the_network_is_kept(catalogue, tmp_path):
    """Other thresholds, other labels: the same windows, without a byte of them over the network again."""
    server, index = catalogue
    assert prepare(index, tmp_path / "out", "--only", PLACES[0]) == 0
    before = dict(server.sent)
    assert min(before.values()) > 500_000
    assert prepare(index, tmp_path / "again", "--only", PLACES[0], "--variance", "101", "--encoding", "raw") == 0
    headers = sum(server.sent.values()) - sum(before.values())
    assert headers < sum(before.values()) / 10  # opened to plan (blocks of 16 KB), and not read
    first, second = (TileDataset.open(tmp_path / name) for name in ("out", "again"))
    for row in range(16):
        pictures = [decode(image) for image in (*first.read(row).pre, *first.read(row).post)]
        again = [decode(image) for image in (*second.read(row).pre, *second.read(row).post)]
        assert all((a == b).all() for a, b in zip(pictures, again, strict=True))
    assert first.samples == second.samples


def test_a_scene_that_cannot_be_reached_costs_its_place_and_no_other(catalogue, tmp_path, capsys):
    server, index = catalogue
    (server.folder / f"{PLACES[1]}-pre.tif").unlink()
    assert prepare(index, tmp_path / "out") == 0
    assert places(tmp_path / "out") == [PLACES[0], PLACES[2]]
    ((where, reason),) = json.loads((tmp_path / "out" / "report.json").read_text())["left_out"]
    assert where == PLACES[1] and "404" in reason
    assert "1 files left out" in capsys.readouterr().out


def test_a_server_that_fails_midway_costs_tiles(catalogue, tmp_path):
    server, index = catalogue
    name = f"{PLACES[2]}-post.tif"
    server.fail_from[name] = (server.folder / name).stat().st_size // 2
    assert prepare(index, tmp_path / "out", "--only", PLACES[2]) == 0
    kept = {int(sample.id.rsplit("_", 1)[1]) for sample in TileDataset.open(tmp_path / "out").samples}
    assert kept and kept <= set(range(8)) | {8, 9, 10, 11} and len(kept) < 16  # rows of tiles before the break
    left_out = json.loads((tmp_path / "out" / "report.json").read_text())["left_out"]
    assert len(left_out) == 16 - len(kept) and all("cannot be read" in reason for _, reason in left_out)


def test_nothing_reachable_is_one_line(catalogue, tmp_path, capsys):
    server, index = catalogue
    for file in server.folder.iterdir():
        file.unlink()
    assert prepare(index, tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no place with scenes of before and after the event" in said and "404" in said
    assert not (tmp_path / "out").exists()
