"""The server: labels are taken out as files, and existing ones brought in."""

import io
import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import geopandas as gpd
from starlette.testclient import TestClient

from jaxcd.labelling import existing
from jaxcd.labelling.server import uploads
from tests.labelling.served import (
    CHANGES,
    CHANGING,
    change,
    client,
    edit,
    everything,
    post,
)


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


def square(level: str, around: dict) -> str:
    """A file of one outline: that of an object."""
    feature = {"type": "Feature", "geometry": around["geometry"], "properties": {"level": level}}
    return json.dumps({"type": "FeatureCollection", "features": [feature]})


def bring(client, content: str):
    return client.post("/api/pairs/scene/import", files={"file": ("labels.geojson", content)}, headers=CHANGING)


def test_an_import_looks_again_where_somebody_labelled_meanwhile(tmp_path, monkeypatch):
    with client(tmp_path) as ann:
        first, second = everything(ann)["features"][:2]
        content = json.loads(square("minor", first))
        content["features"] += json.loads(square("major", second))["features"]
        ben = TestClient(ann.app, base_url="http://localhost")
        post(ben, "/api/session", {"name": "Ben"})
        read, reads = existing.read, []

        def raced(*arguments, **more):
            found = read(*arguments, **more)
            if not reads:
                assert post(ben, CHANGES, change(edit(0, 0, "destroyed"))).status_code == 200
            reads.append(found)
            return found

        monkeypatch.setattr(existing, "read", raced)
        answer = bring(ann, json.dumps(content))
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"saved": 1, "left_out": ["1 footprints that are judged already"]} and len(reads) == 2
        levels = {each["id"]: each["properties"]["level"] for each in everything(ann)["features"][:2]}
        assert levels == {"f0": "destroyed", "f1": "major"}


def test_one_file_at_a_time(tmp_path, monkeypatch):
    with client(tmp_path) as ann:
        content = square("minor", everything(ann)["features"][0])
        read, at_once, most = existing.read, [0], [0]

        def counted(*arguments, **more):
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            time.sleep(0.05)
            at_once[0] -= 1
            return read(*arguments, **more)

        monkeypatch.setattr(existing, "read", counted)
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: bring(ann, content).status_code, range(4)))
        assert answers == [200] * 4 and most == [1]


def test_whoever_gives_a_second_opinion_imports_later(tmp_path):
    with client(tmp_path, second_opinions=1.0) as ann:
        content = square("minor", everything(ann)["features"][0])
        ben = TestClient(ann.app, base_url="http://localhost")
        post(ben, "/api/session", {"name": "Ben"})
        task = post(ann, "/api/next", {}).json()["task"]
        for number, name in enumerate(task["objects"]):
            post(ann, CHANGES, change(edit(int(name[1:]), 0, "intact" if number else "major")))
        post(ann, "/api/next", {"after": "scene"})
        assert post(ben, "/api/next", {}).json()["task"]["second"]
        answer = bring(ben, content)
        assert answer.status_code == 422 and "you give a second opinion on this pair" in answer.json()["error"]
