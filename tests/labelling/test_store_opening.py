"""Stores are made and opened: their scale, images, footprints and layers."""

import sqlite3

import pyogrio
import pytest
import shapely

from jaxcd.base.errors import LabelError
from jaxcd.base.scales import EMS98, XBD
from jaxcd.labelling.store import Store
from tests.labelling.label_stores import (
    draw,
    judge,
    picture_pair,
    placed_pair,
    squares,
    town,
    write_footprints,
)


def test_another_scale_version_or_file_is_refused(tmp_path):
    town(tmp_path).close()
    with pytest.raises(LabelError, match="its labels are of the scale xbd, not ems98; give --scale xbd, or another"):
        town(tmp_path, scale=EMS98)
    other = write_footprints(tmp_path / "other.gpkg", squares(3))
    with pytest.raises(LabelError, match="was made with other footprints of the pair town"):
        Store.create_or_open(tmp_path / "store", XBD, [placed_pair(other)])
    with pytest.raises(LabelError, match="was made with other images of the pair town"):
        Store.create_or_open(tmp_path / "store", XBD, [placed_pair(tmp_path / "footprints.gpkg", width=500)])
    path = tmp_path / "store" / "labels.gpkg"
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value = '2' WHERE name = 'version'")
    db.commit()
    db.close()
    with pytest.raises(LabelError, match="a store of version 2, this jaxcd knows version 1"):
        town(tmp_path)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "labels.gpkg").write_text("no database" * 100)
    with pytest.raises(LabelError, match="not a store of labels"):
        Store.create_or_open(tmp_path / "text", XBD, [])
    write_footprints(tmp_path / "labels.gpkg", squares(3))
    with pytest.raises(LabelError, match="not a store of labels; name another folder with --store"):
        Store.create_or_open(tmp_path, XBD, [])
    with pytest.raises(LabelError, match="no such store of labels"):
        Store.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_images_may_move_but_not_change(tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(b"first")
    Store.create_or_open(tmp_path / "store", XBD, [picture_pair(pre=str(image), post=str(image))]).close()
    moved = image.rename(tmp_path / "b.png")
    store = Store.create_or_open(tmp_path / "store", XBD, [picture_pair(pre=str(moved), post=str(moved))])
    assert store.pairs["tile"].pre == (str(moved),)
    store.close()
    moved.write_bytes(b"other")
    with pytest.raises(LabelError, match="other images of the pair tile; give those, or another folder with --store"):
        Store.create_or_open(tmp_path / "store", XBD, [picture_pair(pre=str(moved), post=str(moved))])


def test_footprints_in_another_reference_system_and_without_any(tmp_path):
    degrees = write_footprints(tmp_path / "degrees.geojson", squares(5), epsg=4326)
    store = Store.create_or_open(tmp_path / "store", XBD, [placed_pair(degrees)])
    labels, total = store.objects("town", store.pairs["town"].bounds, viewer=None)
    assert total == 5
    for label, outline in zip(labels, squares(5), strict=True):
        assert shapely.hausdorff_distance(label.geometry, outline) < 0.01  # GeoJSON's decimals
    store.close()
    bare = tmp_path / "bare.shp"
    write_footprints(bare, squares(5))
    bare.with_suffix(".prj").unlink()
    with pytest.raises(LabelError, match=r"bare\.shp: has no reference system; export it with its reference system"):
        Store.create_or_open(tmp_path / "bare", XBD, [placed_pair(bare)])
    store = Store.create_or_open(tmp_path / "bare", XBD, [placed_pair(degrees)])  # nothing half-made was left
    assert store.objects("town", store.pairs["town"].bounds, viewer=None)[1] == 5
    store.close()


def test_the_store_opens_as_layers(tmp_path):
    store = town(tmp_path)
    anna = store.person("Anna")
    judge(store, anna, {"f1": "minor", "pair": "damaged"})
    draw(store, anna, squares(1)[0], "major")
    assert pyogrio.list_layers(store.path).tolist() == [["labels", "Unknown"], ["pair", None]]
    frame = pyogrio.read_dataframe(store.path, layer="labels")
    assert frame.crs == "EPSG:32637" and sorted(frame.level) == ["major", "minor"]
    assert frame.author.tolist() == ["Anna"] * 2 and frame.geometry.area.round(3).tolist() == [25, 25]
    store.close()
    both = [placed_pair(tmp_path / "footprints.gpkg"), picture_pair()]
    store = Store.create_or_open(tmp_path / "store", XBD, both)
    name = draw(store, anna, shapely.box(1, -5, 4, -1), "intact", pair="tile")
    layers = {layer for layer, _ in pyogrio.list_layers(store.path)}
    assert layers == {"labels_32637", "labels_pixels", "pair"}
    frame = pyogrio.read_dataframe(store.path, layer="labels_pixels")
    assert frame.object.tolist() == [name] and frame.total_bounds.tolist() == [1, -5, 4, -1]
    store.close()
