"""The entry: what it refuses in one line, where it listens, how it ends."""

import builtins
import importlib.util
import re
import signal
import socket
import urllib.error
import urllib.request

import pytest

from tests.entries import run, run_process
from tests.labelling.served import CHANGING, Person, change, edit, process, write_scenes


@pytest.fixture
def scenes(tmp_path):
    return write_scenes(tmp_path)


def refused(*arguments: object) -> str:
    code, output = run("jaxcd.label", *arguments)
    lines = output.splitlines()
    assert code == 2 and len(lines) == 1 and lines[0].startswith("error: "), output
    return lines[0]


def test_what_was_not_meant_is_one_line(scenes, tmp_path):
    store = ("--store", tmp_path / "store")
    pair = ("--pre", scenes.pre, "--post", scenes.post)
    assert "give --pre and --post, --pairs LIST, or --source" in refused(*store)
    assert "give --pre and --post" in refused(*store, "--pre", scenes.pre)
    assert "give --pre and --post" in refused(*store, *pair, "--pairs", tmp_path / "list.csv")
    assert "--layout: goes with --source" in refused(*store, "--source", tmp_path)
    assert "--store" in refused(*pair)
    assert "--scale: expected one of binary" in refused(*store, *pair, "--scale", "richter")
    assert "--second_opinions: expected a share" in refused(*store, *pair, "--second_opinions", "2")
    assert "--port: expected 0 to 65535" in refused(*store, *pair, "--port", "70000")
    assert "--export and --out go together" in refused(*store, "--export", "coco")
    assert "leave out the scenes" in refused(*store, *pair, "--export", "coco", "--out", tmp_path / "x.json")
    tiles = ("--source", tmp_path, "--layout", "xbd")
    assert "--register: goes with scenes" in refused(*store, *tiles, "--register")
    assert "--footprints: goes with scenes" in refused(*store, *tiles, "--footprints", scenes.footprints)
    assert not (tmp_path / "store").exists()
    listening = (*store, "--port", "0")
    assert "no such file" in refused(*listening, "--pre", tmp_path / "gone.tif", "--post", scenes.post)
    assert "no such file" in refused(*listening, *pair, "--footprints", tmp_path / "gone.gpkg")
    assert "cannot be read" in refused(*listening, "--pairs", tmp_path / "gone.csv")
    assert "expected a folder images/" in refused(*listening, *tiles)
    assert "cannot listen there" in refused(*store, *pair, "--host", "203.0.113.7")
    assert "cannot listen there" in refused(*store, *pair, "--host", "no-such-host.invalid")


def test_a_port_in_use_is_one_line(scenes, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused("--pre", scenes.pre, "--post", scenes.post, "--store", tmp_path / "s", "--port", port)
    assert f"--port {port}: cannot listen there (Address already in use); give another --port" in line


def test_without_the_extra_it_says_how_to_get_it(scenes, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rio_tiler" else find(name))
    load = builtins.__import__

    def missing(name, *rest):
        if name.startswith("rio_tiler"):
            raise ModuleNotFoundError(name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    line = refused("--pre", scenes.pre, "--post", scenes.post, "--store", tmp_path / "s")
    assert line == "error: jaxcd.label needs rio_tiler: pip install 'jaxcd[label]'"


def test_a_store_of_something_else_is_refused(scenes, tmp_path):
    arguments = ("--pre", scenes.pre, "--post", scenes.post, "--store", tmp_path / "store")
    with process(*arguments):
        pass
    assert "its labels are of the scale xbd" in refused(*arguments, "--port", "0", "--scale", "binary")
    other = ("--pre", scenes.post, "--post", scenes.pre, "--store", tmp_path / "store", "--port", "0")
    assert "was made with other images" in refused(*other)
    (tmp_path / "store" / "labels.gpkg").write_bytes(b"no store")
    line = refused(*arguments, "--port", "0")
    assert "labels.gpkg" in line


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(scenes, tmp_path, number):
    with process("--pre", scenes.pre, "--post", scenes.post, "--store", tmp_path / "store") as (server, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/session") as answer:
            assert answer.status == 200
        server.send_signal(number)
        output, _ = server.communicate(timeout=20)
    assert server.returncode == 128 + number and "Traceback" not in output, output
    assert "stopped" in output or "interrupted" in output


def test_another_address_prints_a_link_with_a_token_once(scenes, tmp_path):
    arguments = ("--pre", scenes.pre, "--post", scenes.post, "--store", tmp_path / "store", "--host", "0.0.0.0")
    said: list[str] = []
    with process(*arguments, said=said) as (server, port):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/session")
        assert caught.value.code == 403
        caught.value.close()
        (token,) = re.findall(r"\?token=([0-9a-f]{40}) ", "".join(said))
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/?token={token}") as answer:
            assert answer.status == 200 and "samesite=strict" in answer.headers["set-cookie"].lower()
        server.send_signal(signal.SIGTERM)
        output, _ = server.communicate(timeout=20)
    assert "not encrypted" in "".join(said) and "TLS is the business of a proxy" in "".join(said)
    assert token not in output


def test_labels_are_written_without_a_server(scenes, tmp_path):
    store = tmp_path / "store"
    pair = ("--pre", scenes.pre, "--post", scenes.post, "--footprints", scenes.footprints)
    with process(*pair, "--store", store) as (_, port):
        ann = Person(port, "Ann")
        assert ann.ask("/api/pairs/scene/changes", change(edit(0, 0, "destroyed")))[0] == 200
    code, output = run("jaxcd.label", "--store", store, "--export", "coco", "--out", tmp_path / "labels.json")
    assert code == 0 and (tmp_path / "labels.json").read_text().count('"segmentation"') == 1, output
    assert "no such store" in refused("--store", tmp_path / "x", "--export", "coco", "--out", tmp_path / "y.json")


def test_a_list_of_pairs_as_predict_takes_it(scenes, tmp_path):
    rows = f"name,pre,post,footprints\nold town,{scenes.pre.name},{scenes.post.name},{scenes.footprints.name}\n"
    (tmp_path / "list.csv").write_text(f"{rows}north,{scenes.pre.name},{scenes.post.name},\n")
    with process("--pairs", tmp_path / "list.csv", "--store", tmp_path / "store") as (_, port):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/pairs", headers=CHANGING)
        with urllib.request.urlopen(request) as answer:
            text = answer.read().decode()
    assert re.findall(r'"id":"([^"]+)"', text)[1] == "north" and '"title":"old town"' in text
    assert re.findall(r'"footprints":(\w+)', text) == ["25", "null"]


def test_help_is_quick():
    code, output = run_process("jaxcd.label", "--help")
    assert code == 0 and "--second_opinions" in output
