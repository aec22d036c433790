"""The server: several people at once, and a server that is killed, lose nothing."""

import json
import signal
import socket
import threading
import time

import pytest

from jaxcd.labelling.store import Store
from tests.labelling.served import CHANGES, Person, change, edit, process, write_scenes


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
    with process(*scenes.flags(folder / "store")) as (server, port):
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
    arguments = scenes.flags(tmp_path / "store")
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


def test_a_connection_that_drops_in_mid_save_saves_nothing_or_all_and_once(tmp_path):
    with process(*write_scenes(tmp_path).flags(tmp_path / "store")) as (_, port):
        ann = Person(port, "Ann")
        body = change(edit(3, 0, "minor"), edit(4, 0, "major"))
        content = json.dumps(body).encode()

        def send(length: int) -> None:
            """Send so many bytes of a change, and hang up."""
            head = {"Host": "localhost", "Content-Type": "application/json", "X-Jaxcd": "1", "Cookie": ann.cookies()}
            lines = [f"POST {CHANGES} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
            lines += [f"Content-Length: {len(content)}", "", ""]
            with socket.create_connection(("127.0.0.1", port)) as dropped:
                dropped.sendall("\r\n".join(lines).encode() + content[:length])

        send(len(content) // 2)
        time.sleep(0.3)
        status, since = ann.ask(f"{CHANGES}?since=0")
        assert status == 200 and since["labels"] == []
        send(len(content))  # whole: the author does not hear that it is saved
        status, answer = ann.ask(CHANGES, body)
        assert status == 200
        assert {each["id"]: each["properties"]["version"] for each in answer["labels"]} == {"f3": 1, "f4": 1}
        _, history = ann.ask("/api/pairs/scene/history/f3")
        assert len(history["history"]) == 1
