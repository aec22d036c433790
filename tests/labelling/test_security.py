"""Who is let in, and what the server keeps to itself."""

import json
import re

import pytest
from starlette.testclient import TestClient

from jaxcd.labelling import workspace
from jaxcd.labelling.server import security
from jaxcd.labelling.server.security import Guard, Secrets, read_secrets
from jaxcd.labelling.settings import LabelSettings
from tests.labelling.served import CHANGING, SECRETS, change, client, edit, serving, write_scenes

PERSON, TOKEN = SECRETS.cookie("jaxcd_person"), SECRETS.cookie("jaxcd_token")


@pytest.fixture(scope="module")
def ann(tmp_path_factory):
    with client(tmp_path_factory.mktemp("served")) as found:
        yield found


def test_foreign_host_headers_are_refused(ann):
    for host in (
        "localhost", "localhost:8000", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000",
    ):  # fmt: skip
        assert ann.get("/api/session", headers={"Host": host}).status_code == 200, host
    for host in (
        "evil.example", "evil.example:8000", "localhost.", "localhost.:8000", "localhost.evil.example",
        "127.0.0.1.evil.example", "[::1].evil.example", "[::ffff:127.0.0.1]", "[::2]:8000", "0.0.0.0:8000",
        "127.0.0.1@evil.example", "evil.example#localhost", "localhost:80:80", "localhost:x", "192.168.1.7",
        "", "localhost/", "local host", "127.1", "2130706433",
    ):  # fmt: skip
        for path in ("/", "/api/session", "/static/label.css", "/tiles/scene/pre/18/1/1.webp"):
            answer = ann.get(path, headers={"Host": host})
            assert answer.status_code == 403, (host, path)
            assert answer.json() == {"error": "this server answers at its own address only"}
    twice = [("Host", "localhost"), ("Host", "evil.example")]
    assert ann.get("/api/session", headers=twice).status_code == 403


def test_a_request_of_another_site_changes_nothing(ann):
    body = {"name": "Eve"}
    for headers in (
        {},
        {"X-Jaxcd": "0"},
        {**CHANGING, "Origin": "http://evil.example"},
        {**CHANGING, "Origin": "null"},
        {**CHANGING, "Origin": "http://["},
        {**CHANGING, "Origin": "http://localhost:9999"},
        {**CHANGING, "Origin": "http://localhost.evil.example"},
        {**CHANGING, "Sec-Fetch-Site": "cross-site"},
        {**CHANGING, "Sec-Fetch-Site": "same-site"},
    ):
        for path in ("/api/session", "/api/pairs/scene/changes", "/api/pairs/scene/undo", "/api/next"):
            assert ann.post(path, json=body, headers=headers).status_code == 403, (headers, path)
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    for path in ("/api/pairs", "/api/export/masks", "/tiles/scene/pre/18/1/1.webp"):
        assert ann.get(path, headers=elsewhere).status_code == 403, path
        assert ann.get(path, headers={"Sec-Fetch-Site": "none"}).status_code == 200, path
    assert ann.get("/", headers=elsewhere).status_code == 200  # a link in a mail
    own = {**CHANGING, "Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert ann.post("/api/session", json={"name": "Ann"}, headers=own).status_code == 200
    assert ann.get("/api/session").json()["person"] == "Ann"


def test_every_answer_carries_the_headers(ann):
    for path in ("/", "/api/session", "/no/such/thing", "/api/pairs/none/objects", "/tiles/scene/pre/18/1/1.webp"):
        headers = ann.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in headers and "access-control-allow-origin" not in headers


def test_no_path_reaches_beyond_the_given_files(ann, tmp_path):
    for path in (
        "/static/../settings.py", "/static/..%2fsettings.py", "/static/%2e%2e/%2e%2e/settings.py",
        "/static/....//settings.py", "/static//etc/passwd", "/static/%2fetc%2fpasswd", "/static/..\\..\\settings.py",
        "/static/vendor/../../settings.py", "/static/index.html%00.js", "/static/", "/static/vendor",
        "/tiles/..%2f..%2fetc/pre/1/1/1.webp", "/tiles/scene/..%2fpre/1/1/1.webp", "/tiles/scene/pre/1/1/..%2f1.webp",
        "/api/pairs/..%2fscene/objects?west=0&south=0&east=1&north=1", "/api/export/..%2f..%2fetc",
        "/api/export/geojson?pair=../../etc/passwd", "/api/pairs/scene/history/..%2f..%2fx", "/etc/passwd",
        "/labels.gpkg", "/secret",
    ):  # fmt: skip
        answer = ann.get(path)
        assert answer.status_code in (404, 422), (path, answer.status_code)
        assert list(answer.json()) == ["error"] and "\n" not in answer.json()["error"], path


def test_errors_tell_no_internals(ann, tmp_path):
    json_type = {**CHANGING, "content-type": "application/json"}
    wrong = [
        ann.get("/api/pairs/scene/objects?west=a&south=0&east=1&north=1"),
        ann.post("/api/pairs/scene/changes", content=b"{", headers=CHANGING),
        ann.post("/api/pairs/scene/changes", content=b"[" * 100_000, headers=CHANGING),
        ann.post("/api/pairs/scene/changes", content=b"\xff\xfe", headers=json_type),
        ann.post("/api/pairs/scene/changes", json=change(edit(0, 0, "no such level")), headers=CHANGING),
        ann.post("/api/pairs/scene/changes", json=change(edit(10**9, 0, "minor")), headers=CHANGING),
        ann.post("/api/session", content=b'{"name": "\\ud800"}', headers=CHANGING),
        ann.post("/api/session", json={"name": "a\x00b"}, headers=CHANGING),
    ]  # fmt: skip
    for answer in wrong:
        assert answer.status_code in (400, 404, 422), answer.text
        assert list(answer.json()) == ["error"]
        text = answer.json()["error"]
        assert text and not re.search(r"Traceback|/tmp|/work|site-packages|\.py|sqlite", text), text


def test_files_that_are_gone_tell_no_path(tmp_path):
    scenes = write_scenes(tmp_path)
    with client(tmp_path) as ann:
        scenes.pre.unlink()
        (pair,) = ann.get("/api/pairs").json()["pairs"]
        from tests.labelling.served import tile_at

        west, south, east, north = pair["bounds"]
        x, y = tile_at((west + east) / 2, (south + north) / 2, 18)
        answer = ann.get(f"/tiles/scene/pre/18/{x}/{y}.webp")
        assert answer.status_code == 404
        assert answer.json()["error"].startswith("the pre image cannot be read there")


def test_bodies_are_bounded_whether_their_length_is_told_or_not(ann):
    large = b" " * (security.MOST_BYTES + 1)
    for path in ("/api/session", "/api/pairs/scene/changes", "/api/pairs/scene/verdict"):
        told = ann.post(path, content=large, headers={**CHANGING, "content-type": "application/json"})
        streamed = ann.post(
            path, content=(large[i : i + 65536] for i in range(0, len(large), 65536)),
            headers={**CHANGING, "content-type": "application/json"},
        )  # fmt: skip
        for answer in (told, streamed):
            assert answer.status_code == 413, answer.text
            assert answer.json() == {"error": "more than 4 MiB; send less at a time"}
    assert ann.post("/api/session", content=b"{}", headers={**CHANGING, "content-length": "x"}).status_code == 400
    # Below the limit, the limit of the thing itself is told.
    edits = [edit(i, 0, "minor") for i in range(5001)]
    answer = ann.post("/api/pairs/scene/changes", json=change(*edits), headers=CHANGING)
    assert answer.status_code == 422 and "edits" in answer.json()["error"]


async def _never(scope, receive, send):
    raise AssertionError("the guard let something through")


def test_another_address_wants_the_token(tmp_path):
    write_scenes(tmp_path)
    settings = LabelSettings(host="0.0.0.0")
    named = workspace.named(pre=[str(tmp_path / "pre.tif")], post=[str(tmp_path / "post.tif")], settings=settings)
    with serving(named, settings, tmp_path / "store", name=None) as guest:
        guest.base_url = "http://labels.example:8000"
        for path in (
            "/",
            "/api/session",
            "/api/pairs",
            "/static/x.js",
            "/tiles/scene/pre/18/1/1.webp",
            "/?token=wrong",
        ):
            answer = guest.get(path)
            assert answer.status_code == 403 and "?token=" in answer.json()["error"], path
        assert guest.post("/api/session", json={"name": "Eve"}, headers=CHANGING).status_code == 403
        assert guest.get(f"/api/session?token={SECRETS.token}").status_code == 403  # only the page's address takes it
        arrived = guest.get(f"/?token={SECRETS.token}")
        assert arrived.status_code == 200 and 'content="0;url=/"' in arrived.text and SECRETS.token not in arrived.text
        cookie = arrived.headers["set-cookie"].lower()
        assert cookie.startswith(f"{TOKEN}={SECRETS.token}".lower())
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
        assert guest.get("/api/session").json()["person"] is None
        assert guest.post("/api/session", json={"name": "Ann"}, headers=CHANGING).status_code == 200
        assert guest.get("/api/session").json()["person"] == "Ann"
        other = TestClient(guest.app, base_url="http://labels.example")
        for value in (
            f"{TOKEN}=\xff".encode(),
            f"{TOKEN}=".encode(),
            TOKEN.encode(),
            SECRETS.token[:-1].encode(),
            b";=;=",
        ):
            assert other.get("/", headers={b"Cookie": value}).status_code == 403
        beside = f'a={{"b":[1]}}; {TOKEN}={SECRETS.token}'  # another app's cookie, not as the standard has it
        assert other.get("/api/session", headers={"Cookie": beside}).status_code == 200


def test_two_servers_of_one_machine_have_cookies_of_their_own(ann):
    names = {secrets.cookie(name) for secrets in (SECRETS, Secrets(b"x" * 32)) for name in ("jaxcd_person", "a")}
    assert len(names) == 4 and PERSON in ann.cookies and "jaxcd_person" not in ann.cookies


def test_a_forged_cookie_names_nobody(ann):
    for value in ("416e6e.", "416e6e." + "0" * 64, "Ann", ".", "zz.zz", SECRETS.signed("Ann")[:-1], "é.é"):
        answer = TestClient(ann.app, base_url="http://localhost").get(
            "/api/session", headers={b"Cookie": f"{PERSON}={value}".encode()}
        )
        assert answer.status_code == 200 and answer.json()["person"] is None, value
    other = Secrets(b"x" * 32).signed("Ann")
    answer = TestClient(ann.app, base_url="http://localhost").get(
        "/api/session", headers={"Cookie": f"{PERSON}={other}"}
    )
    assert answer.json()["person"] is None


def test_the_key_is_kept_for_the_owner_alone(tmp_path):
    made = read_secrets(tmp_path / "store")
    file = tmp_path / "store" / "secret"
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_secrets(tmp_path / "store") == made and len(made.token) == 40
    file.write_text("short")
    with pytest.raises(Exception, match="not a key of jaxcd.label; delete it"):
        read_secrets(tmp_path / "store")


def test_read_only_lets_people_look(tmp_path):
    with client(tmp_path) as ann:
        assert (
            ann.post("/api/pairs/scene/changes", json=change(edit(0, 0, "minor")), headers=CHANGING).status_code == 200
        )
    with client(tmp_path, name=None, read_only=True) as guest:
        assert guest.get("/api/session").json()["read_only"] is True
        (pair,) = guest.get("/api/pairs").json()["pairs"]
        assert pair["progress"]["levels"] == {"minor": 1}
        for path, body in (
            ("/api/session", {"name": "Eve"}),
            ("/api/pairs/scene/changes", change(edit(1, 0, "minor"))),
            ("/api/pairs/scene/undo", {}),
            ("/api/pairs/scene/import", {}),
        ):
            answer = guest.post(path, content=json.dumps(body), headers=CHANGING)
            assert answer.status_code == 403 and "--read_only" in answer.json()["error"]


def test_the_guard_passes_nothing_but_http():
    eve = TestClient(Guard(_never, private=True, secrets=SECRETS, read_only=False), base_url="http://evil.example")
    assert eve.get("/").status_code == 403
    with pytest.raises(Exception), eve.websocket_connect("/"):  # noqa: B017
        pass
