"""Existing labels become edits: polygons, masks, exports of another store."""

import cv2
import geopandas as gpd
import numpy as np
import pytest
import shapely

from jaxcd.base.errors import ImageError, LabelError
from jaxcd.base.scales import XBD
from jaxcd.labelling import exports
from jaxcd.labelling.existing import read
from jaxcd.labelling.store import PAIR, Store
from tests.labelling.label_stores import EPSG, SOUTH, WEST, draw, judge, levels_of, new_id, picture_pair, squares, town


def write(path, outlines, crs: int = EPSG, **columns):
    gpd.GeoDataFrame(columns, geometry=outlines, crs=EPSG).to_crs(crs).to_file(path)
    return path


def saved(store: Store, path, pair: str = "town", **how) -> list[str]:
    edits, left_out = read(path, store, pair, **how)
    if edits:
        store.save(pair, new_id(), store.person("Anna"), edits)
    return left_out


def test_polygons_give_footprints_their_levels_and_others_are_drawn(tmp_path):
    store = town(tmp_path, 5)
    judge(store, store.person("Ben"), {"f3": "intact"})
    moved = [shapely.affinity.translate(outline, 0.5, 0.5) for outline in squares(4)]
    tie = shapely.Polygon(
        [(WEST + 50, SOUTH + 20), (WEST + 60, SOUTH + 30), (WEST + 60, SOUTH + 20), (WEST + 50, SOUTH + 30)]
    )
    outlines = [*moved, tie, shapely.box(WEST - 50, SOUTH, WEST - 40, SOUTH + 10)]
    values = ["no-damage", "destroyed", None, "major", "minor", "minor"]
    file = write(tmp_path / "old.geojson", outlines, 4326, damage=values)
    left_out = saved(store, file, attribute="damage", values={"no-damage": "intact"})
    found = levels_of(store)
    drawn = [key for key in found if key.startswith("d-")]
    assert len(drawn) == 1 and found == {"f0": "intact", "f1": "destroyed", "f3": "intact", drawn[0]: "minor"}
    (label,) = store.labels("town", viewer=None, ids=drawn)
    assert label.origin == "imported" and label.geometry.area == pytest.approx(50, rel=1e-3)
    remarks = "; ".join(left_out)
    assert "1 polygons without a value of 'damage'" in remarks and "lies outside of the pair's ground" in remarks
    assert "1 footprints that are judged already" in remarks and "1 polygons that cross themselves" in remarks
    again = saved(store, file, attribute="damage", values={"no-damage": "intact"})
    assert levels_of(store) == found and "1 outlines that are there already" in again
    store.close()


def test_what_one_store_exports_another_imports(tmp_path):
    store = town(tmp_path / "one", 4)
    anna = store.person("Anna")
    judge(store, anna, {"f0": "intact", "f1": "unknown", "f2": "cloud"})
    draw(store, anna, shapely.box(WEST + 100, SOUTH + 20, WEST + 120, SOUTH + 30), "destroyed")
    exports.write(store, "geojson", tmp_path / "out.geojson")
    other = town(tmp_path / "two", 4)
    assert saved(other, tmp_path / "out.geojson") == []
    assert sorted(map(str, levels_of(other).values())) == sorted(map(str, levels_of(store).values()))
    store.close()
    other.close()


def test_damage_polygons_without_levels(tmp_path):
    store = town(tmp_path, 3)
    saved(store, write(tmp_path / "damage.gpkg", squares(2)))
    assert levels_of(store) == {"f0": "major", "f1": "major"}
    store.close()


def test_masks_with_a_place_and_without(tmp_path):
    store = town(tmp_path, 4)
    anna = store.person("Anna")
    judge(store, anna, {"f0": "minor", "f1": "destroyed", "f2": "unknown", PAIR: "damaged"})
    exports.write(store, "masks", tmp_path)
    other = town(tmp_path / "two", 4)
    assert saved(other, tmp_path / "town.tif") == []
    assert levels_of(other) == {"f0": "minor", "f1": "destroyed", "f2": "unknown", "f3": "unknown"}
    store.close()
    other.close()
    tiles = Store.create_or_open(tmp_path / "tiles", XBD, [picture_pair()])
    mask = np.zeros((64, 64), np.uint8)
    mask[5:9, 3:8] = 3
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    assert saved(tiles, tmp_path / "mask.png", "tile") == []
    (label,) = tiles.labels("tile", viewer=None)
    assert label.level == "major" and label.geometry.equals(shapely.box(3, -9, 8, -5))
    cv2.imwrite(str(tmp_path / "mask.png"), mask[:32])
    with pytest.raises(ImageError, match=r"mask\.png: 32 x 64 pixels, but post\.png has 64 x 64"):
        read(tmp_path / "mask.png", tiles, "tile")
    cv2.imwrite(str(tmp_path / "mask.png"), mask * 3)
    with pytest.raises(LabelError, match="holds the value 9, expected 0"):
        read(tmp_path / "mask.png", tiles, "tile")
    tiles.close()


def test_what_says_nothing_is_refused(tmp_path):
    store = town(tmp_path, 3)
    file = write(tmp_path / "a.gpkg", squares(2), state=["bad", "good"])
    with pytest.raises(LabelError, match="'state' is 'bad', expected intact, .*; say what it means"):
        read(file, store, "town", attribute="state")
    with pytest.raises(LabelError, match="no attribute 'grade'; it has state"):
        read(file, store, "town", attribute="grade")
    with pytest.raises(LabelError, match="'awful' is no level; expected intact, minor"):
        read(file, store, "town", attribute="state", values={"bad": "awful"})
    bare = write(tmp_path / "bare.shp", squares(2), state=["bad", "good"])
    bare.with_suffix(".prj").unlink()
    with pytest.raises(LabelError, match="has no reference system; export it with its reference system"):
        read(bare, store, "town", attribute="state")
    (tmp_path / "text.geojson").write_text("{")
    with pytest.raises(LabelError, match="cannot be read as polygons"):
        read(tmp_path / "text.geojson", store, "town")
    store.close()
