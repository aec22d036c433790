"""Which scenes there are and which belong together, on real indexes and on folders made on the spot."""

import json
from collections import Counter

import numpy as np
import pytest

from jaxcd.base.errors import SceneError
from jaxcd.scenes.catalogue import POST, PRE, find_scenes
from jaxcd.scenes.listing import describe
from jaxcd.scenes.pairing import pair, restricted_to
from tests.scenes.scene_files import at, write

TINY = np.full((40, 60, 3), 90, np.uint8)
EVENT = "2023-02-06"


def paired(source, event="", **limits):
    found = find_scenes(str(source), event)
    return pair(found.scenes, **{"min_overlap": 0.01, **limits}), found.left_out


@pytest.mark.slow
def test_the_index_of_the_event_pairs_101_quadkeys(shared_data):
    index = shared_data / "maxar_catalog" / "kahramanmaras_2023.tsv"
    pairing, left_out = paired(index, EVENT)
    scenes = find_scenes(str(index), EVENT).scenes
    assert Counter(scene.when for scene in scenes) == {PRE: 229, POST: 1886} and not left_out
    assert len(pairing.places) == 101
    in_places = {s.location for p in pairing.places for image in (*p.pre, *p.post) for s in image.scenes}
    assert len(in_places) + len(pairing.unpaired) == 2115 and not pairing.unwanted
    # Catalogue id, angle and clouds of one row of the index, as it stands there.
    place = next(place for place in pairing.places if place.id == "031131233232")
    row = next(image.scenes[0] for image in place.post if image.date == "2023-02-08")
    assert (row.catalog_id, row.off_nadir, row.clouds, row.metres) == ("10300500D9F8D200", 40.2, 0.0, 0.78)
    assert all(image.date < EVENT for place in pairing.places for image in place.pre)
    assert all(image.date >= EVENT for place in pairing.places for image in place.post)
    assert all(list(place.pre) == sorted(place.pre, key=lambda image: image.date) for place in pairing.places)
    text = describe(pairing, left_out)
    assert "101 places with" in text and "no pre scene of its place" in text
    assert len(text.splitlines()) > 300

    clear, _ = paired(index, EVENT, max_clouds=10, max_off_nadir=25)
    assert clear.unwanted and len(clear.places) < 101
    assert all(
        (s.clouds or 0) <= 10 and (s.off_nadir or 0) <= 25 for p in clear.places for i in p.post for s in i.scenes
    )
    assert [place.id for place in restricted_to(pairing, ["0311312332"]).places] == [
        place.id for place in pairing.places if place.id.startswith("0311312332")
    ]


def test_rows_that_are_none_are_listed(tmp_path, shared_data):
    lines = (shared_data / "maxar_catalog" / "kahramanmaras_2023.tsv").read_text().splitlines()
    broken = lines[1].split("\t")
    broken[14] = "not,a,box"
    (tmp_path / "index.tsv").write_text("\n".join([lines[0], "\t".join(broken), *lines[2:40]]))
    found = find_scenes(str(tmp_path / "index.tsv"), EVENT)
    assert len(found.scenes) == 38 and found.left_out[0][0].endswith("index.tsv:2")
    (tmp_path / "other.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(SceneError, match="lacks the column 'datetime'"):
        find_scenes(str(tmp_path / "other.tsv"), EVENT)
    with pytest.raises(SceneError, match="--event_date is missing"):
        find_scenes(str(tmp_path / "index.tsv"), "")
    with pytest.raises(SceneError, match="'6 February' is no date"):
        find_scenes(str(tmp_path / "index.tsv"), "6 February")


def test_real_folders_of_places(shared_data):
    pairing, left_out = paired(shared_data / "turkey_2023")
    assert len(pairing.places) == 8 and not pairing.unpaired and not left_out
    place = pairing.places[3]
    assert place.id == "Adiyaman_Merkez_4" and place.post[0].scenes[0].label.endswith(
        "Adiyaman_Merkez_4/destroyed.geojson"
    )
    assert place.post[0].overlap == pytest.approx(1) and place.reference.metres == pytest.approx(0.5, rel=0.01)


def test_scenes_beside_each_other_are_one_image_of_every_place_they_cover(shared_data):
    pairing, _ = paired(shared_data / "joplin_2011")
    assert [place.id for place in pairing.places] == [
        "tile_1361-10160", "tile_1361-9136", "tile_337-10160", "tile_337-9136"
    ]  # fmt: skip
    assert [len(place.post) for place in pairing.places] == [1, 1, 1, 1]
    assert [len(place.post[0].scenes) for place in pairing.places] == [4, 2, 4, 2]
    assert [round(place.post[0].overlap, 2) for place in pairing.places] == [1.0, 0.56, 0.93, 0.53]


def test_dates_of_one_place_stay_together(tmp_path):
    """Two dates before, two after, and one on the day of the event, which is after it."""
    for day in ("20220501", "2022-09-01", "2023_02_06", "20230208"):
        write(tmp_path / f"town_{day}.tif", TINY)
    write(tmp_path / "elsewhere_20230208.tif", TINY, at(0, 500))
    write(tmp_path / "undated.tif", TINY)
    pairing, left_out = paired(tmp_path, EVENT)
    (place,) = pairing.places
    assert [image.date for image in place.pre] == ["2022-05-01", "2022-09-01"]
    assert [image.date for image in place.post] == ["2023-02-06", "2023-02-08"]
    ((alone, reason),) = pairing.unpaired
    assert alone.location.endswith("elsewhere_20230208.tif") and reason == "overlaps no pre scene of this source"
    assert left_out[0][0].endswith("undated.tif") and "no date" in left_out[0][1]
    with pytest.raises(SceneError, match="--event_date is missing"):
        paired(tmp_path)


def test_a_tree_as_maxar_publishes_it(tmp_path):
    for day, name in (("2022-07-26", "10300100D797E100"), ("2023-02-08", "10300500D9F8D200")):
        write(tmp_path / "37" / "031131233232" / day / f"{name}-visual.tif", TINY)
    ((place,), _) = paired(tmp_path, EVENT)[0].places, None
    assert place.id == "031131233232" and [image.date for image in place.post] == ["2023-02-08"]


def test_scenes_that_cannot_be_placed_are_listed(tmp_path):
    write(tmp_path / "pre" / "a.tif", TINY)
    write(tmp_path / "post" / "a.tif", TINY)
    write(tmp_path / "post" / "wrong.tif", TINY, crs="EPSG:4326")  # metres in degrees
    (tmp_path / "post" / "text.tif").write_text("hello")
    pairing, left_out = paired(tmp_path)
    assert len(pairing.places) == 1
    reasons = {where.rsplit("/", 1)[1]: reason for where, reason in left_out}
    assert "outside of the area of its reference system" in reasons["wrong.tif"]
    assert "neither PNG, JPEG nor TIFF" in reasons["text.tif"]


def test_several_label_files_are_refused(tmp_path):
    write(tmp_path / "town" / "pre.tif", TINY)
    write(tmp_path / "town" / "post.tif", TINY)
    for name in ("a.geojson", "b.gpkg"):
        (tmp_path / "town" / name).write_text("{}")
    with pytest.raises(SceneError, match="several files could hold the labels .a.geojson, b.gpkg."):
        find_scenes(str(tmp_path), "")


def stac_item(name: str, when: str, href: str, clouds: float = 3.0) -> dict:
    ring = [[37.0, 37.0], [37.1, 37.0], [37.1, 37.1], [37.0, 37.1], [37.0, 37.0]]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "bbox": [37.0, 37.0, 37.1, 37.1], "links": [],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"datetime": when, "eo:cloud_cover": clouds, "view:off_nadir": 12.5, "gsd": 0.4},
        "assets": {"visual": {"href": href, "type": "image/tiff"}} if href else {},
    }  # fmt: skip


def test_stac_items(tmp_path):
    items = [
        stac_item("before", "2022-07-26T08:00:00Z", "https://example.invalid/a.tif"),
        stac_item("after", "2023-02-08T08:00:00Z", "https://example.invalid/b.tif", clouds=60),
        stac_item("bare", "2023-02-09T08:00:00Z", ""),
    ]
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    pairing, left_out = paired(path, EVENT)
    (place,) = pairing.places
    (after,) = place.post
    assert (after.scenes[0].location, after.scenes[0].clouds) == ("https://example.invalid/b.tif", 60)
    assert left_out == (("bare", "the STAC item has no asset named visual, rgb, image or data"),)
    assert not paired(path, EVENT, max_clouds=50)[0].places
    path.write_text("[]")
    with pytest.raises(SceneError, match="neither a STAC item"):
        paired(path, EVENT)
