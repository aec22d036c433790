"""A store of labels is a source of prepare: exact levels, unknown and invalid pixels, and a network trains on them."""

import dataclasses
import os
import re
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from jaxcd.base.scales import BINARY, INVALID, UNKNOWN, XBD
from jaxcd.labelling.exports.for_prepare import SOURCE
from jaxcd.labelling.pairs import Pair
from jaxcd.labelling.store import PAIR, Store
from jaxcd.simulator import cut_tiles, simulate
from jaxcd.store.dataset import TileDataset
from jaxcd.store.encodings import decode
from tests.entries import run
from tests.labelling.label_stores import draw, judge, picture_pair, write_config

SIDE, TILE, PICTURE = 512, 64, 128


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("scene"), seed=1, size=SIDE)


def open_store(folder: Path, scene) -> Store:
    with rasterio.open(scene.pre) as file:
        bounds = tuple(file.bounds)
    pair = Pair(
        id="town",
        title="a town",
        pre=(str(scene.pre),),
        post=(str(scene.post),),
        footprints=str(scene.footprints),
        epsg=32637,
        bounds=bounds,
        width=SIDE,
        height=SIDE,
    )
    return Store.create_or_open(folder, XBD, [pair])


def label(store: Store) -> dict[str, int]:
    """Judge most footprints; returns the code of each."""
    codes = {}
    labels, _ = store.objects("town", store.pairs["town"].bounds, viewer=None)
    names = ("intact", "minor", "major", "destroyed", "unknown", "cloud")
    levels = {each.object: names[i % 7] for i, each in enumerate(labels) if i % 7 < 6}
    judge(store, store.person("Anna"), levels | {PAIR: "damaged"})
    known = dict(zip(names, (1, 2, 3, 4, UNKNOWN, INVALID), strict=True))
    for each in labels:
        codes[each.object] = known[levels[each.object]] if each.object in levels else UNKNOWN
    return codes


def expected_codes(scene, codes: dict[str, int], *, worst_wins: tuple[int, ...]) -> np.ndarray:
    """Burn the footprints' own file; of those that overlap, the later one of `worst_wins` counts."""
    frame = gpd.read_file(scene.footprints)
    with rasterio.open(scene.pre) as file:
        transform = file.transform
    burnt = np.zeros((SIDE, SIDE), np.uint8)
    for code in worst_wins:
        outlines = [frame.geometry[int(key[1:])] for key, each in codes.items() if each == code]
        if outlines:
            rasterize(outlines, out=burnt, transform=transform, default_value=code)
    return burnt


def whole(out: Path, side: int = SIDE, tile: int = TILE) -> np.ndarray:
    """Put the tiles of a dataset together; what is no tile is 77."""
    dataset, columns = TileDataset.open(out), side // tile
    codes = np.full((side, side), 77, np.uint8)
    for row, sample in enumerate(dataset.samples):
        i, j = divmod(int(sample.id.rsplit("_", 1)[1]), columns)
        codes[i * tile : (i + 1) * tile, j * tile : (j + 1) * tile] = decode(dataset.read(row).label[0])
    return codes


def prepare(store: Path, out: Path, *more: object, scale: str = "xbd") -> tuple[int, str]:
    flags = ("--layout", "labelled", "--source", store, "--out", out, "--scale", scale)
    return run("jaxcd.prepare", *flags, *more)


SCENES = ("--tile", TILE, "--variance", 1)


@pytest.mark.slow
def test_levels_unknown_and_invalid_pixels_are_exact_and_a_network_trains(simulated, tmp_path):
    store = open_store(tmp_path / "store", simulated)
    codes = label(store)
    store.close()
    code, said = prepare(tmp_path / "store", tmp_path / "out", *SCENES)
    assert code == 0, said
    expected = expected_codes(simulated, codes, worst_wins=(1, 2, UNKNOWN, INVALID, 3, 4))
    found = whole(tmp_path / "out")
    np.testing.assert_array_equal(found[found != 77], expected[found != 77])
    assert (found != 77).mean() > 0.9
    assert {1, 2, 3, 4, UNKNOWN, INVALID, 0} <= set(np.unique(found).tolist())

    write_config(tmp_path / "config.py", tmp_path / "out")
    code, said = run("jaxcd.train", "--config", tmp_path / "config.py", "--workdir", tmp_path / "run")
    assert code == 0, said
    assert "xView2 score" in said and (tmp_path / "run" / "checkpoints" / "8").is_dir()


def test_tiles_and_pairs_of_which_nothing_is_known_are_left_out(simulated, tmp_path):
    store = open_store(tmp_path / "store", simulated)
    anna = store.person("Anna")
    labels, _ = store.objects("town", store.pairs["town"].bounds, viewer=None)
    judge(store, anna, {labels[0].object: "cloud"})
    code, said = prepare(tmp_path / "store", tmp_path / "none", *SCENES)
    assert code == 2 and "its labels say nothing in the scale xbd: clouds and unknown levels alone" in said
    assert not (tmp_path / "none").exists()
    judge(store, anna, {labels[1].object: "destroyed"})
    store.close()
    code, said = prepare(tmp_path / "store", tmp_path / "out", *SCENES)
    assert code == 0, said
    mask = next((tmp_path / "store" / SOURCE / "town").glob("labels.tif"))
    with rasterio.open(mask) as file:
        known = file.read(1) != INVALID
    columns = SIDE // TILE
    wanted = {f"town_{k}" for k in range(columns**2) if known[_tile(k, columns)].any()}
    assert {sample.id for sample in TileDataset.open(tmp_path / "out").samples} == wanted and 0 < len(wanted) < 9
    assert re.search(rf"tiles kept +{len(wanted)}\n", said)
    assert re.search(rf"tiles unlabelled +{columns**2 - len(wanted)}\n", said)
    code, said = prepare(tmp_path / "store", tmp_path / "binary", *SCENES, "--labelled_only")
    assert code == 2 and "--labelled_only: goes with --layout scenes" in said


def _tile(number: int, columns: int) -> tuple[slice, slice]:
    row, column = (TILE * each for each in divmod(number, columns))
    return slice(row, row + TILE), slice(column, column + TILE)


def test_in_the_scale_binary_unknown_is_invalid(simulated, tmp_path):
    store = open_store(tmp_path / "store", simulated)
    codes = label(store)
    store.close()
    code, said = prepare(tmp_path / "store", tmp_path / "out", *SCENES, scale="binary")
    assert code == 0, said
    reading = XBD.read_as(BINARY)
    assert reading is not None
    binary = {key: int(reading[each]) for key, each in codes.items()}
    expected = expected_codes(simulated, binary, worst_wins=(0, INVALID, 1))
    found = whole(tmp_path / "out")
    np.testing.assert_array_equal(found[found != 77], expected[found != 77])
    code, said = prepare(tmp_path / "store", tmp_path / "other", *SCENES, scale="ems98")
    assert code == 2 and "holds labels of the scale xbd, which cannot be read as ems98; give --scale xbd" in said


def test_the_same_labels_are_the_same_source_and_others_are_told(simulated, tmp_path):
    store = open_store(tmp_path / "store", simulated)
    label(store)
    assert prepare(tmp_path / "store", tmp_path / "out", *SCENES)[0] == 0
    source = tmp_path / "store" / SOURCE
    before = {path: os.lstat(path).st_mtime_ns for path in source.rglob("*") if not path.is_dir()}
    assert {path.name for path in before} == {"labels.tif", "pre_000_pre.tif", "post_000_post.tif"}
    code, said = prepare(tmp_path / "store", tmp_path / "out", *SCENES)
    assert code == 0 and "was built before with these settings" in said
    assert before == {path: os.lstat(path).st_mtime_ns for path in source.rglob("*") if not path.is_dir()}
    judge(store, store.person("Ben"), {"f0": "destroyed"})
    store.close()
    code, said = prepare(tmp_path / "store", tmp_path / "out", *SCENES)
    assert code == 2 and "as it was before its files changed; give another folder" in said
    assert prepare(tmp_path / "store", tmp_path / "new", *SCENES)[0] == 0


def test_tile_folders(simulated, tmp_path):
    cut_tiles(simulated, tmp_path / "tiles", tile=PICTURE)
    names = sorted(path.stem for path in (tmp_path / "tiles" / "A").iterdir())
    pairs = []
    for name in names[:8]:
        pre, post = (next((tmp_path / "tiles" / when).glob(f"{name}.*")) for when in "AB")
        pairs.append(dataclasses.replace(picture_pair(name, PICTURE), pre=(str(pre),), post=(str(post),)))
    store = Store.create_or_open(tmp_path / "store", XBD, pairs)
    anna = store.person("Anna")
    for name in names[:4]:
        draw(store, anna, shapely.box(10, -30, 20, -10), "destroyed", name)
        draw(store, anna, shapely.box(50, -30, 60, -10), "unknown", name)
        draw(store, anna, shapely.box(70, -30, 80, -10), "cloud", name)
    for name in names[:3]:
        judge(store, anna, {PAIR: "damaged"}, name)
    judge(store, anna, {PAIR: "intact"}, names[4])
    judge(store, anna, {PAIR: "bad image"}, names[5])
    draw(store, anna, shapely.box(70, -30, 80, -10), "cloud", names[6])
    store.close()
    code, said = prepare(tmp_path / "store", tmp_path / "out")
    assert code == 0, said
    assert f"3 pairs without labels, left out: {', '.join(names[5:8])}" in said
    dataset = TileDataset.open(tmp_path / "out")
    assert [sample.id for sample in dataset.samples] == names[:5]
    codes = np.stack([decode(dataset.read(row).label[0]) for row in range(5)])
    seen = np.zeros((PICTURE, PICTURE), np.uint8)
    seen[10:30, 10:20], seen[10:30, 50:60], seen[10:30, 70:80] = 4, UNKNOWN, INVALID
    np.testing.assert_array_equal(codes[:3], np.stack([seen] * 3))
    np.testing.assert_array_equal(codes[3], np.where(seen == 0, INVALID, seen))  # nobody said that there is no more
    assert (codes[4] == 0).all()
    code, said = prepare(tmp_path / "store", tmp_path / "binary", scale="binary")
    assert code == 0, said
    first = decode(TileDataset.open(tmp_path / "binary").read(0).label[0])
    np.testing.assert_array_equal(first, np.select([seen == 4, seen >= UNKNOWN], [1, INVALID], 0))
    code, said = prepare(tmp_path / "store", tmp_path / "x", "--tile", 64)
    assert code == 2 and "--tile: is of scenes, and the pairs of this store are tiles without a place" in said


def test_what_cannot_be_prepared_is_told_in_one_line(simulated, tmp_path):
    store = open_store(tmp_path / "store", simulated)
    code, said = prepare(tmp_path / "store", tmp_path / "out")
    assert code == 2 and "nothing is labelled yet; label with jaxcd.label" in said
    label(store)
    store.close()
    code, said = prepare(tmp_path / "store", tmp_path / "out", "--labels", "none")
    assert code == 2 and "--labels: goes with --layout scenes; with --layout labelled the store says it" in said
    code, said = prepare(tmp_path / "none", tmp_path / "out")
    assert code == 2 and "no such store of labels" in said
    copy = dataclasses.replace(simulated, pre=tmp_path / "pre.tif")
    copy.pre.write_bytes(simulated.pre.read_bytes())
    store = open_store(tmp_path / "moved", copy)
    label(store)
    store.close()
    copy.pre.unlink()
    code, said = prepare(tmp_path / "moved", tmp_path / "out")
    assert code == 2 and f"{copy.pre} of pair town: no such file" in said
    assert not (tmp_path / "out").exists()
