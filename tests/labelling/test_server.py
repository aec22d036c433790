"""The server: what is labelled is there, whoever else labels and however it ends."""

import importlib.util
import io
import json
import math
import signal
import sqlite3
import threading
import time
import uuid

import cv2
import geopandas as gpd
import numpy as np
import pytest
import schemathesis
import shapely
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from starlette.testclient import TestClient

from jaxcd.labelling import workspace
from jaxcd.labelling.server import uploads
from jaxcd.labelling.settings import LabelSettings
from jaxcd.labelling.store import Store
from tests.labelling import learned
from tests.labelling.served import CHANGING, Person, change, client, edit, process, serving, write_scenes

CHANGES = "/api/pairs/scene/changes"
_LONG = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def post(client: TestClient, path: str, body: object):
    return client.post(path, json=body, headers=CHANGING)


def everything(client: TestClient, pair: str = "scene") -> dict:
    (described,) = [each for each in client.get("/api/pairs").json()["pairs"] if each["id"] == pair]
    west, south, east, north = described["bounds"]
    box = {"west": west, "south": south, "east": east, "north": north}
    return client.get(f"/api/pairs/{pair}/objects", params=box).json()


def polygon(client: TestClient, share: float = 0.1) -> dict:
    (pair,) = client.get("/api/pairs").json()["pairs"]
    west, south, east, north = pair["bounds"]
    x, y, side = (west + east) / 2, (south + north) / 2, share * (east - west)
    return shapely.geometry.mapping(shapely.box(x, y, x + side, y + side))


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


def test_labels_are_taken_out_and_brought_in(tmp_path):
    with client(tmp_path) as ann:
        post(ann, CHANGES, change(edit(0, 0, "destroyed"), edit(3, 0, "intact")))
        got = {kind: ann.get(f"/api/export/{kind}") for kind in ("geojson", "gpkg", "coco", "masks")}
        for kind, answer in got.items():
            assert answer.status_code == 200 and "attachment" in answer.headers["content-disposition"], kind
        assert got["masks"].content[:2] == b"PK" and got["gpkg"].content[:15] == b"SQLite format 3"
        assert len(got["coco"].json()["annotations"]) == 2
        assert ann.get("/api/export/geojson?pair=scene").status_code == 200
        assert ann.get("/api/export/geojson?pair=other").status_code == 404
        outlines = gpd.read_file(io.BytesIO(got["geojson"].content))
        assert sorted(outlines["level"]) == ["destroyed", "intact"]
        assert ann.get("/api/agreement").status_code == 200
    exported = got["geojson"].content
    with client(tmp_path / "other") as ben:

        def send(content, name="labels.geojson", **data):
            return ben.post("/api/pairs/scene/import", files={"file": (name, content)}, data=data, headers=CHANGING)

        answer = send(exported, attribute="level")
        assert answer.status_code == 200 and answer.json()["saved"] == 2, answer.text
        assert ben.get(f"{CHANGES}?since=0").json()["progress"]["levels"] == {"destroyed": 1, "intact": 1}
        secret = tmp_path / "secret.geojson"
        secret.write_bytes(exported)
        layer = f'<OGRVRTLayer name="a"><SrcDataSource>{secret}</SrcDataSource></OGRVRTLayer>'
        vrt = f"<OGRVRTDataSource>{layer}</OGRVRTDataSource>"
        stream = json.dumps({"type": "gdal_streamed_alg", "command_line": f"gdal vector convert {secret}"})
        for content in (
            vrt,
            stream,
            "",
            "{",
            "[]",
            '{"type": "FeatureCollection"}',
            "x" * 100,
            b"SQLite format 3\0",
            b"\x89PNG\r\n\x1a\n",
        ):
            answer = send(content)
            assert answer.status_code == 422, (content[:40], answer.text)
            assert str(tmp_path) not in answer.text and "jaxcd-import" not in answer.text, answer.text
        for system in ({"type": "link", "properties": {"href": "http://localhost:1/"}},
                       {"type": "name", "properties": {"name": "http://localhost:1/"}}, 7):  # fmt: skip
            answer = send(json.dumps({**json.loads(exported), "crs": system}))
            assert answer.status_code == 422 and "the file's crs is no name" in answer.text, answer.text
        database = tmp_path / "virtual.gpkg"
        with sqlite3.connect(database) as db:
            db.execute('CREATE VIRTUAL TABLE "rtree_a_geom" USING rtree(id, minx, maxx)')
        with database.open("rb") as file:
            uploads.keep(file, tmp_path / "kept.gpkg")
        with sqlite3.connect(database) as db:
            db.execute('CREATE VIRTUAL TABLE "v USING RTREE" USING fts5(x)')
        db.close()
        answer = send(database.read_bytes())
        assert answer.status_code == 422 and "holds virtual tables" in answer.text, answer.text
        answer = send(exported, attribute="level", values="destroyed")
        assert answer.status_code == 422 and answer.json()["error"] == "values: expected lines VALUE=LEVEL"
        assert send(exported, attribute="nothing").status_code == 422


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


@pytest.mark.timeout(240)
def test_no_request_breaks_the_server(tmp_path):
    """Requests made from the OpenAPI schema, right and wrong ones: never an answer of 500 or above."""
    with client(tmp_path) as ann:
        inner = vars(ann.app)["_app"]  # the app without its guard, which is tested elsewhere
        schema = schemathesis.openapi.from_asgi("/api/openapi.json", inner)
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in ann.cookies.items()),
            **CHANGING,
            "Host": "localhost",
        }
        if importlib.util.find_spec("sklearn") is not None:  # its work would disturb what Hypothesis draws
            learned.wait_scores(ann, state="labels")
        seen = set()
        for operation in schema.get_all_operations():
            assert isinstance(operation, Ok), operation
            made = operation.ok()
            seen.add((made.method.upper(), made.path))

            @settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=_LONG)
            @given(case=made.as_strategy())
            def ask(case):
                answer = case.call(headers=headers)
                assert answer.status_code < 500, (case.as_curl_command(), answer.text)

            ask()
        assert ("POST", "/api/pairs/{pair}/changes") in seen and len(seen) >= 14
        assert everything(ann)["total"] >= 25


def _label(port: int, name: str, number: int, until: float, done: dict, conflicts: list) -> None:
    """Judge footprints over and over: own ones, and one that all want."""
    person, versions, turn = Person(port, name), {}, 0
    while time.monotonic() < until:
        turn += 1
        own = number * 5 + turn % 5
        for target in (own, 24):
            base = versions.get(target, 0)
            level = ("intact", "minor", "major", "destroyed")[turn % 4]
            status, answer = person.ask(CHANGES, change(edit(target, base, level)))
            assert status in (200, 409), answer
            (label,) = answer["labels"]
            versions[target] = label["properties"]["version"]
            if status == 200:
                done.setdefault(target, []).append((versions[target], level, name))
            else:
                conflicts.append((name, target))


def _four_people(folder, seconds):
    scenes = write_scenes(folder)
    done: dict[int, list] = {}
    conflicts: list = []
    arguments = (
        "--pre",
        scenes.pre,
        "--post",
        scenes.post,
        "--footprints",
        scenes.footprints,
        "--store",
        folder / "store",
    )
    with process(*arguments) as (server, port):
        until = time.monotonic() + seconds
        threads = [
            threading.Thread(target=_label, args=(port, f"person {i}", i, until, done, conflicts)) for i in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        status, since = Person(port, "reader").ask(f"{CHANGES}?since=0")
        assert status == 200
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 128 + signal.SIGTERM
    current = {each["id"]: each["properties"] for each in since["labels"]}
    for target, saves in done.items():
        versions = sorted(version for version, _, _ in saves)
        assert versions == list(range(1, len(saves) + 1)), "an edit was lost or doubled"
        last = max(saves)
        label = current[f"f{target}"]
        assert (label["version"], label["level"], label["author"]) == last
    assert {target for _, target in conflicts} == {24}, "conflicts are those of the one that all want"
    store = Store.open(folder / "store")
    try:
        assert {
            label.object: label.version for label in store.labels("scene", viewer=None) if label.object != "pair"
        } == {f"f{target}": len(saves) for target, saves in done.items()}
    finally:
        store.close()
    return sum(map(len, done.values()))


def test_four_people_at_once_lose_nothing(tmp_path):
    assert _four_people(tmp_path, 4) > 20


@pytest.mark.slow
def test_four_people_for_a_minute_lose_nothing(tmp_path):
    assert _four_people(tmp_path, 60) > 300


def test_a_killed_server_has_every_acknowledged_label(tmp_path):
    scenes = write_scenes(tmp_path)
    arguments = (
        "--pre",
        scenes.pre,
        "--post",
        scenes.post,
        "--footprints",
        scenes.footprints,
        "--store",
        tmp_path / "store",
    )
    acknowledged: dict[str, int] = {}
    with process(*arguments) as (server, port):
        ann = Person(port, "Ann")

        def work() -> None:
            for turn in range(10_000):
                target = turn % 25
                name = f"f{target}"
                try:
                    status, answer = ann.ask(CHANGES, change(edit(target, acknowledged.get(name, 0), "minor")))
                except OSError:
                    return  # the server is gone
                assert status == 200, answer
                acknowledged[name] = answer["labels"][0]["properties"]["version"]

        thread = threading.Thread(target=work)
        thread.start()
        while len(acknowledged) < 12:
            time.sleep(0.01)
        server.send_signal(signal.SIGKILL)
        server.wait(timeout=20)
        thread.join()
    with process(*arguments) as (_, port):
        ann = Person(port, "Ann")
        _, since = ann.ask(f"{CHANGES}?since=0")
        versions = {each["id"]: each["properties"]["version"] for each in since["labels"]}
        assert all(versions[name] in (version, version + 1) for name, version in acknowledged.items())
        assert set(versions) - set(acknowledged) == set() or len(set(versions) - set(acknowledged)) == 1
        assert ann.ask("/api/pairs/scene/undo", {})[0] == 200  # also what was done before the kill
