"""The server: what is asked and what is answered."""

import json
import math
import uuid

import cv2
import numpy as np
import shapely
from starlette.testclient import TestClient

from jaxcd.labelling import workspace
from jaxcd.labelling.settings import LabelSettings
from tests.labelling.served import (
    CHANGES,
    CHANGING,
    change,
    client,
    edit,
    everything,
    polygon,
    post,
    serving,
)


def test_a_pair_is_described(tmp_path):
    with client(tmp_path) as ann:
        (pair,) = ann.get("/api/pairs").json()["pairs"]
        assert pair["id"] == "scene" and pair["georeferenced"] is True and pair["size"] == [600, 600]
        assert pair["footprints"] == 25 and pair["shift"] is None
        west, south, east, north = pair["bounds"]
        assert 38.2 < west < east < 38.3 and 37.7 < south < north < 37.8
        assert pair["progress"] == {"levels": {}, "judged": 0, "verdict": None, "verdict_version": 0, "people": {}}
        session = ann.get("/api/session").json()
        assert session["person"] == "Ann" and [each["key"] for each in session["scale"]["levels"]] == [
            "1",
            "2",
            "3",
            "4",
        ]


def test_objects_are_labelled_undone_and_told_to_others(tmp_path):
    with client(tmp_path) as ann:
        found = everything(ann)
        assert found["total"] == 25 and found["complete"] and found["seq"] == 0
        assert {each["properties"]["level"] for each in found["features"]} == {None}
        where = shapely.geometry.shape(found["features"][0]["geometry"]).bounds
        west, south, east, north = where
        box = {"west": west, "south": south, "east": east, "north": north}
        near = ann.get("/api/pairs/scene/objects", params=box).json()
        assert near["total"] == 1
        world = {"west": -180, "south": -90, "east": 180, "north": 90}
        limited = ann.get("/api/pairs/scene/objects", params={**world, "limit": 3})
        assert (limited.json()["total"], len(limited.json()["features"]), limited.json()["complete"]) == (25, 3, False)
        away = ann.get("/api/pairs/scene/objects", params={"west": 0, "south": 0, "east": 1, "north": 1}).json()
        assert away["features"] == [] and away["total"] == 0

        saved = post(ann, CHANGES, change(edit(0, 0, "destroyed"), {**edit(1, 0, "unknown"), "comment": "under trees"}))
        assert saved.status_code == 200
        levels = {each["id"]: each["properties"] for each in saved.json()["labels"]}
        assert levels["f0"]["level"] == "destroyed" and levels["f0"]["author"] == "Ann" and levels["f0"]["version"] == 1
        assert levels["f1"]["comment"] == "under trees"
        since = ann.get(f"{CHANGES}?since=0").json()
        assert {each["id"] for each in since["labels"]} == {"f0", "f1"}
        assert since["progress"]["levels"] == {"destroyed": 1, "unknown": 1}
        assert ann.get(f"{CHANGES}?since={since['seq']}").json()["labels"] == []
        post(ann, "/api/pairs/scene/undo", {})
        assert ann.get(f"{CHANGES}?since=0").json()["progress"]["judged"] == 0
        assert post(ann, "/api/pairs/scene/undo", {}).status_code == 404
        assert post(ann, "/api/pairs/scene/redo", {}).status_code == 200
        steps = ann.get("/api/pairs/scene/history/f0").json()["history"]
        assert [step["kind"] for step in steps] == ["save", "undo", "redo"]
        assert ann.get("/api/pairs/scene/history/f99").status_code == 404
        cells = ann.get("/api/pairs/scene/overview").json()["cells"]
        assert sum(cell[4] for cell in cells) == 25 and sum(cell[5] for cell in cells) == 2
        assert {cell[6] for cell in cells} == {None, 3}
        verdict = {"id": str(uuid.uuid4()), "verdict": "damaged", "base": 0}
        told = post(ann, "/api/pairs/scene/verdict", verdict).json()
        assert told == {"verdict": "damaged", "version": 1}
        assert ann.get("/api/pairs").json()["pairs"][0]["progress"]["verdict"] == "damaged"


def test_two_people_and_one_object(tmp_path):
    with client(tmp_path) as ann:
        ben = TestClient(ann.app, base_url="http://localhost")
        assert post(ben, CHANGES, change(edit(0, 0, "minor"))).status_code == 403  # has not said who he is
        post(ben, "/api/session", {"name": "Ben"})
        first = change(edit(0, 0, "major"))
        assert post(ann, CHANGES, first).status_code == 200
        refused = post(ben, CHANGES, change(edit(0, 0, "minor"), edit(1, 0, "minor")))
        assert refused.status_code == 409
        (current,) = refused.json()["labels"]
        assert (current["id"], current["properties"]["level"], current["properties"]["author"]) == (
            "f0",
            "major",
            "Ann",
        )
        assert "changed by Ann" in refused.json()["error"]
        again = post(ann, CHANGES, first)  # the answer was lost on the way, and the page sends it again
        assert again.status_code == 200 and again.json()["labels"][0]["properties"]["version"] == 1
        levels = {each["id"]: each["properties"]["level"] for each in everything(ann)["features"]}
        assert levels["f0"] == "major" and levels["f1"] is None


def test_polygons_are_drawn_and_bad_ones_refused(tmp_path):
    with client(tmp_path) as ann:
        name, outline = f"d-{uuid.uuid4()}", polygon(ann)
        drawn = {"object": name, "base": 0, "level": "destroyed", "geometry": outline}
        answer = post(ann, CHANGES, change(drawn))
        assert answer.status_code == 200, answer.text
        kept = shapely.geometry.shape(answer.json()["labels"][0]["geometry"])
        assert shapely.hausdorff_distance(kept, shapely.geometry.shape(outline)) < 2e-7
        assert everything(ann)["total"] == 26

        x, y = outline["coordinates"][0][0]
        step = 1e-4
        bow = [[x, y], [x + step, y + step], [x + step, y], [x, y + step], [x, y]]
        ring = [[x + step * math.cos(a / 15916), y + step * math.sin(a / 15916)] for a in range(100_000)]
        bad = {
            "NaN": {"type": "Polygon", "coordinates": [[[math.nan, y], [x, y], [x, y + step], [math.nan, y]]]},
            "infinite": {"type": "Polygon", "coordinates": [[[math.inf, y], [x, y], [x, y + step], [math.inf, y]]]},
            "vertices": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            "point": {"type": "Point", "coordinates": [x, y]},
            "open": {"type": "Polygon", "coordinates": [[[x, y], [x + step, y]]]},
            "nested": {"type": "Polygon", "coordinates": [[[[[x]]]]]},
            "text": {"type": "Polygon", "coordinates": "here"},
            "none": {"type": "Polygon"},
            "mixed": {"type": "MultiPolygon", "coordinates": [[[[x, y], "a", {}]]]},
            "far": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
            "nowhere": {"type": "Polygon", "coordinates": [[[1e9, 1e9], [2e9, 1e9], [2e9, 2e9], [1e9, 1e9]]]},
            "empty": {},
        }
        for what, geometry in bad.items():
            body = json.dumps(
                change({"object": f"d-{uuid.uuid4()}", "base": 0, "level": "minor", "geometry": geometry})
            )
            answer = ann.post(CHANGES, content=body, headers={**CHANGING, "content-type": "application/json"})
            assert answer.status_code in (413, 422), (what, answer.status_code, answer.text[:200])
            assert len(answer.json()["error"]) < 300
        crossing = {
            "object": f"d-{uuid.uuid4()}",
            "base": 0,
            "level": "minor",
            "geometry": {"type": "Polygon", "coordinates": [bow]},
        }
        answer = post(ann, CHANGES, change(crossing))
        assert answer.status_code in (200, 422)
        if answer.status_code == 200:
            assert shapely.geometry.shape(answer.json()["labels"][0]["geometry"]).is_valid


def test_people_get_work_that_nobody_else_is_at(tmp_path):
    with client(tmp_path) as ann:
        ben = TestClient(ann.app, base_url="http://localhost")
        assert post(ben, "/api/next", {}).status_code == 403
        post(ben, "/api/session", {"name": "Ben"})
        task = post(ann, "/api/next", {}).json()["task"]
        assert task["pair"] == "scene" and len(task["objects"]) > 0 and task["second"] is False
        (pair,) = ann.get("/api/pairs").json()["pairs"]
        west, south, east, north = task["bounds"]
        assert pair["bounds"][0] - 1e-4 < west < east < pair["bounds"][2] + 1e-4 and south < north
        other = post(ben, "/api/next", {}).json()["task"]
        assert other is None or not set(other["objects"]) & set(task["objects"])


def test_pictures_are_labelled_in_pixels(tmp_path, shared_data):
    chosen = LabelSettings(only=("hurricane-michael_00000003", "hurricane-michael_00000015"))
    named = workspace.named(source=shared_data / "xbd_michael", layout="xbd", settings=chosen)
    with serving(named, chosen, tmp_path / "store") as ann:
        first, second = ann.get("/api/pairs").json()["pairs"]
        assert not first["georeferenced"] and first["bounds"] == [0, -1024, 1024, 0] and first["size"] == [1024, 1024]
        outline = {"type": "Polygon", "coordinates": [[[10, -10], [60, -10], [60, -80], [10, -10]]]}
        body = change({"object": f"d-{uuid.uuid4()}", "base": 0, "level": "minor", "geometry": outline})
        answer = post(ann, f"/api/pairs/{first['id']}/changes", body)
        assert answer.status_code == 200, answer.text
        kept = shapely.geometry.shape(answer.json()["labels"][0]["geometry"])
        assert kept.equals(shapely.geometry.shape(outline))
        assert everything(ann, second["id"])["total"] == 0 and everything(ann, first["id"])["total"] == 1
        assert ann.get(f"/tiles/{first['id']}/post/-2/0/0.webp").content[:4] == b"RIFF"


def test_a_picture_that_moved_is_told(tmp_path):
    for when in ("pre", "post"):
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / f"town_00000001_{when}_disaster.png"), np.full((64, 64, 3), 9, np.uint8))
    named = workspace.named(source=tmp_path, layout="xbd", settings=LabelSettings())
    with serving(named, LabelSettings(), tmp_path / "store") as ann:
        (tmp_path / "images" / "town_00000001_pre_disaster.png").unlink()
        answer = ann.get("/tiles/town_00000001/pre/0/0/0.webp")
        assert answer.status_code == 404 and "was moved" in answer.json()["error"]


def test_tiles_are_sent_once(tmp_path):
    with client(tmp_path) as ann:
        path = "/tiles/scene/post/18/158893/101335.webp"
        answer = ann.get(path)
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/webp"
        assert answer.headers["cache-control"] == "private, no-cache"
        again = ann.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304 and again.content == b""
        assert ann.get(f"{path}?low=10&high=200").headers["etag"] != answer.headers["etag"]
        for wrong in ("pre/99/0/0", "middle/18/0/0", "pre/18/a/0", "pre/18/0/99999999999999999999"):
            assert ann.get(f"/tiles/scene/{wrong}.webp").status_code == 422
        assert ann.get(f"{path}?low=-1").status_code == 422
        assert ann.get("/tiles/scene/pre/24/16777215/16777215.webp").status_code == 200  # beside the scene: transparent
