"""Exports are read back by other libraries with what was labelled."""

import json
import zipfile

import cv2
import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import BUILDINGS, INVALID, UNKNOWN, XBD
from jaxcd.labelling import exports
from jaxcd.labelling.exports.truth import codes_of, read_as, shapes_of
from jaxcd.labelling.queues import Queues
from jaxcd.labelling.store import PAIR, Edit, Store
from jaxcd.sources.labels import paint
from tests.labelling.label_stores import (
    SOUTH,
    WEST,
    draw,
    judge,
    levels_of,
    new_id,
    picture_pair,
    placed_pair,
    squares,
    town,
    write_footprints,
)


def labelled_town(folder) -> tuple[Store, str]:
    store = town(folder, 5)
    anna = store.person("Änna")
    judge(store, anna, {"f0": "intact", "f1": "minor", "f2": "unknown", "f3": "cloud"})
    store.save("town", new_id(), anna, [Edit(object="f1", base=1, comment='roof; "half" gone\n')])
    name = draw(store, anna, shapely.box(WEST + 100, SOUTH + 20, WEST + 120, SOUTH + 30), "destroyed")
    gone = draw(store, anna, shapely.box(WEST + 1, SOUTH + 20, WEST + 2, SOUTH + 30), "destroyed")
    store.save("town", new_id(), anna, [Edit(object=gone, base=1, deleted=True)])
    return store, name


def test_a_geopackage_holds_what_was_labelled(tmp_path):
    store, name = labelled_town(tmp_path)
    exports.write(store, "gpkg", tmp_path / "out.gpkg")
    frame = gpd.read_file(tmp_path / "out.gpkg", layer="labels")
    assert frame.crs == "EPSG:32637"
    assert dict(zip(frame.object, frame.level, strict=True)) == levels_of(store)
    assert frame.set_index("object").comment["f1"] == 'roof; "half" gone\n' and set(frame.author) == {"Änna"}
    assert frame.set_index("object").version.to_dict() == {"f0": 1, "f1": 2, "f2": 1, "f3": 1, name: 1}
    expected = {label.object: label.geometry for label in store.labels("town", viewer=None)}
    assert all(geometry.equals(expected[key]) for key, geometry in zip(frame.object, frame.geometry, strict=True))
    assert pyogrio.read_dataframe(tmp_path / "out.gpkg", layer="pairs").id.tolist() == ["town"]
    store.close()


def test_geojson_holds_the_same_in_degrees(tmp_path):
    store, _ = labelled_town(tmp_path)
    exports.write(store, "geojson", tmp_path / "out.geojson")
    frame = gpd.read_file(tmp_path / "out.geojson").to_crs(32637)
    assert dict(zip(frame.object, frame.level, strict=True)) == levels_of(store)
    expected = {label.object: label.geometry for label in store.labels("town", viewer=None)}
    for key, geometry in zip(frame.object, frame.geometry, strict=True):
        assert shapely.hausdorff_distance(geometry, expected[key]) < 1e-3
    store.close()


def test_pictures_without_a_place_keep_their_pixels(tmp_path):
    store = Store.create_or_open(tmp_path / "store", XBD, [picture_pair()])
    draw(store, store.person("Anna"), shapely.box(3, -9, 8, -5), "major", "tile")
    for form in ("gpkg", "geojson"):
        path = tmp_path / f"out.{form}"
        exports.write(store, form, path)
        frame = gpd.read_file(path, layer="labels")
        assert frame.total_bounds.tolist() == [3, -9, 8, -5] and frame.level.tolist() == ["major"]
    store.close()


def test_an_empty_store_exports_nothing_but_files(tmp_path):
    store = town(tmp_path)
    for form, suffix in exports.SUFFIXES.items():
        exports.write(store, form, tmp_path / f"out{suffix}")
    assert len(gpd.read_file(tmp_path / "out.gpkg", layer="labels")) == 0
    assert json.loads((tmp_path / "out.geojson").read_text())["features"] == []
    with zipfile.ZipFile(tmp_path / "out.zip") as packed:
        assert packed.namelist() == ["town.tif"]
    with pytest.raises(LabelError, match="--export kml: expected one of geojson, gpkg, coco, masks"):
        exports.write(store, "kml", tmp_path / "out.kml")
    with pytest.raises(LabelError, match="city: no such pair"):
        exports.write(store, "coco", tmp_path / "out.json", pair="city")
    assert not list(tmp_path.glob(".partial*"))
    store.close()


def test_coco_by_hand(tmp_path):
    store = Store.create_or_open(tmp_path / "store", XBD, [picture_pair("a"), picture_pair("b", post="later.png")])
    anna = store.person("Anna")
    draw(store, anna, shapely.box(3, -9, 8, -5), "major", "b")
    ring = shapely.difference(shapely.box(10, -30, 30, -10), shapely.box(15, -25, 25, -15))
    draw(store, anna, ring, "destroyed", "b")
    draw(store, anna, shapely.box(60, -4, 70, 4), "unknown", "b")  # reaches over the edge
    draw(store, anna, shapely.box(40, -50, 44, -46), None, "b")  # not judged
    exports.write(store, "coco", tmp_path / "out.json")
    found = json.loads((tmp_path / "out.json").read_text())
    names = ["intact", "minor", "major", "destroyed", "unknown", "cloud"]
    assert [(each["id"], each["name"]) for each in found["categories"]] == list(enumerate(names, start=1))
    assert [(each["id"], each["file_name"], each["width"], each["height"]) for each in found["images"]] == [
        (1, "post.png", 64, 64),
        (2, "later.png", 64, 64),
    ]
    boxes = [(each["image_id"], each["category_id"], each["area"], each["bbox"]) for each in found["annotations"]]
    assert boxes == [
        (2, 3, 20, [3, 5, 5, 4]),
        (2, 4, 300, [10, 10, 20, 20]),
        (2, 5, 16, [60, 0, 4, 4]),
    ]
    first, second, _ = found["annotations"]
    assert [each["id"] for each in found["annotations"]] == [1, 2, 3] and first["iscrowd"] == 0
    assert sorted(zip(first["segmentation"][0][::2], first["segmentation"][0][1::2], strict=True)) == [
        (3, 5), (3, 9), (8, 5), (8, 9),
    ]  # fmt: skip
    parts = [shapely.Polygon(np.reshape(part, (-1, 2))) for part in second["segmentation"]]
    assert all(part.is_valid and not part.interiors for part in parts)
    assert sum(part.area for part in parts) == 300 and shapely.union_all(parts).area == 300
    store.close()


def test_masks_are_what_jaxcd_paints(tmp_path):
    store, name = labelled_town(tmp_path)
    judge(store, store.person("Anna"), {PAIR: "damaged"})
    exports.write(store, "masks", tmp_path / "masks")
    with rasterio.open(tmp_path / "masks" / "town.tif") as file:
        codes, transform, crs = file.read(1), file.transform, file.crs
    assert crs == "EPSG:32637" and transform == Affine(0.5, 0, WEST, 0, -0.5, SOUTH + 50)
    levels = {**{f"f{i}": code for i, code in enumerate((1, 2, UNKNOWN, INVALID, UNKNOWN))}, name: 4}
    outlines = {label.object: label.geometry for label in store.labels("town", viewer=None, ids=levels)}
    own = [(outlines[key], code) for key, code in levels.items()]
    assert (codes == paint(own, XBD, shape=(100, 400), transform=transform)).all()
    counts = dict(zip(*np.unique(codes, return_counts=True), strict=True))
    assert counts == {0: 40_000 - 500 - 800, 1: 100, 2: 100, 4: 800, UNKNOWN: 200, INVALID: 100}
    exports.write(store, "masks", tmp_path / "masks.zip")
    with zipfile.ZipFile(tmp_path / "masks.zip") as packed:
        assert packed.read("town.tif") == (tmp_path / "masks" / "town.tif").read_bytes()
    store.close()


def test_masks_of_pictures_are_png_with_rows_downwards(tmp_path):
    store = Store.create_or_open(tmp_path / "store", XBD, [picture_pair()])
    anna = store.person("Anna")
    draw(store, anna, shapely.box(3, -9, 8, -5), "major", "tile")
    judge(store, anna, {PAIR: "damaged"}, "tile")
    exports.write(store, "masks", tmp_path / "masks")
    codes = cv2.imread(str(tmp_path / "masks" / "tile.png"), cv2.IMREAD_UNCHANGED)
    expected = np.zeros((64, 64), np.uint8)
    expected[5:9, 3:8] = 3
    assert (codes == expected).all()
    store.close()


def known(store: Store, pair: str = "town") -> dict[int, int]:
    """Pixels by code."""
    codes = codes_of(shapes_of(store, pair), store.pairs[pair], store.scale)
    values, counts = np.unique(codes, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def test_ground_is_known_only_where_somebody_looked(tmp_path):
    store = town(tmp_path, 5)
    anna = store.person("Anna")
    assert shapes_of(store, "town") == []
    judge(store, anna, {"f1": "major"})
    # f1 has 10 x 10 pixels; the ground around it reaches 10 further, and 4 to the pair's edge. f0 and f2 touch it.
    assert known(store) == {0: 30 * 24 - 100, 3: 100, UNKNOWN: 200, INVALID: 40_000 - 30 * 24 - 200}
    judge(store, anna, {PAIR: "damaged"})
    assert known(store) == {0: 40_000 - 500, 3: 100, UNKNOWN: 400}
    judge(store, anna, {PAIR: "bad image"})
    assert shapes_of(store, "town") == []
    judge(store, anna, {PAIR: "intact"})
    assert known(store) == {0: 40_000 - 500, 1: 400, 3: 100}
    judge(store, anna, {PAIR: "damaged", "f1": None})
    assert shapes_of(store, "town") == []  # somewhere is damage, nobody knows where
    judge(store, anna, {PAIR: None} | {f"f{i}": "intact" for i in range(5)})
    assert known(store) == {0: 40_000 - 500, 1: 500}  # all footprints are judged
    table = read_as(shapes_of(store, "town"), XBD, BUILDINGS)
    assert {code for _, code in table} == {0, 1}
    store.close()


def test_ground_of_an_area_that_is_done_is_known(tmp_path):
    file = write_footprints(tmp_path / "f.gpkg", squares(300, apart=2, side=1))
    store = Store.create_or_open(tmp_path / "store", XBD, [placed_pair(file, width=1200, height=100)])
    anna = store.person("Anna")
    task = Queues(store).next(anna)
    judge(store, anna, dict.fromkeys(task.objects, "intact"))
    Queues(store).next(anna, "town")
    codes = codes_of(shapes_of(store, "town"), store.pairs["town"], XBD)
    columns = round((task.area[2] - task.area[0]) * 2)
    assert (codes[:, : columns - 10] != INVALID).all() and (codes[:, columns + 10 :] == INVALID).all()
    store.close()
