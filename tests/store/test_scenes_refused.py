"""Scenes that no tile can be made of: one line says why, or they are left out."""

import json
import shutil
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from affine import Affine

from jaxcd.store.dataset import TileDataset
from tests.scenes.scene_files import UTM, at, write
from tests.store.scene_sources import POST, PRE, error, house, prepare, town


def spoil(source: Path, how: str) -> None:
    place = source / "town"
    if how == "no crs":
        write(place / "pre.tif", PRE, crs=None)
    elif how == "apart":
        write(place / "post.tif", POST, at(0, 5000))
    elif how == "turned":
        write(place / "pre.tif", PRE, at() @ Affine.rotation(5))
    elif how == "truncated":
        path = write(place / "post.tif", POST, compress="jpeg", tiled=True, blockxsize=64, blockysize=64)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    elif how == "16 bits":
        write(place / "post.tif", POST.astype(np.uint16) * 9)
    elif how == "no post":
        (place / "post.tif").unlink()
    elif how == "no labels":
        (place / "damage.geojson").unlink()
    elif how == "no attribute":
        gpd.GeoDataFrame({"kind": ["house"]}, geometry=[house(10, 10)], crs=UTM).to_crs(4326).to_file(
            place / "damage.geojson"
        )


REFUSED = {
    "no crs": (["pre.tif: it has no reference system"], []),
    "apart": (["pre.tif: overlaps no post scene of its place (and 1 more)"], []),
    "turned": (["place town: ", "pre.tif: its grid is rotated by -5.0 degrees"], []),
    "truncated": (["post.tif: damaged or truncated"], []),
    "16 bits": (["post.tif: pixels are uint16", "--scaling"], []),
    "no post": (["no post scene of its place"], []),
    "no labels": (["place town: no label file beside its post scene; give one with --labels"], []),
    "no attribute": (["no attribute 'damage'; it has kind"], ["--label_attribute", "damage", "--label_values", "yes"]),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("how", REFUSED)
def test_what_is_wrong_is_one_line(tmp_path, capsys, how):
    source = town(tmp_path / "source")
    spoil(source, how)
    wanted, flags = REFUSED[how]
    assert prepare(source, tmp_path / "out", *flags) == 2
    said = error(capsys)
    assert said.startswith("error: ") and all(text in said for text in wanted), said
    assert not (tmp_path / "out" / "dataset.json").exists()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("how", ["no crs", "apart", "truncated", "no post", "no labels"])
def test_what_is_wrong_can_be_left_out(tmp_path, capsys, how):
    source = town(tmp_path / "source")
    shutil.copytree(source / "town", source / "village")
    spoil(source, how)
    assert prepare(source, tmp_path / "out", "--incomplete", "leave_out") == 0
    places = {sample.id.rsplit("_", 1)[0] for sample in TileDataset.open(tmp_path / "out").samples}
    # Of a truncated file the tiles before the cut are whole.
    assert places == ({"town", "village"} if how == "truncated" else {"village"})
    left_out = json.loads((tmp_path / "out" / "report.json").read_text())["left_out"]
    assert left_out and all("town" in where for where, _ in left_out)


def test_a_turned_scene_is_straightened_where_that_is_asked_for(tmp_path):
    source = town(tmp_path / "source")
    spoil(source, "turned")
    assert prepare(source, tmp_path / "out", "--gsd", "0.5", "--variance", "100", "--valid", "0.2") == 0
    assert len(TileDataset.open(tmp_path / "out").samples) >= 4
