"""A labelling server as a process of its own, and its page in a browser."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from playwright.sync_api import Browser, CDPSession, Page

from jaxcd.labelling.store import PAIR, Label, Store

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen
    port: int

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}/"

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it, if it lives; SIGKILL leaves it no time for anything."""
        self.process.send_signal(number)
        self.process.wait(SECONDS)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


def start(flags: Sequence[str | Path], port: int = 0) -> Server:
    """Start `python -m jaxcd.label` and wait until it says where it is."""
    command = [sys.executable, "-m", "jaxcd.label", *map(str, flags), "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if told := re.match(r"open http://localhost:(\d+)/", line):
            return Server(process, int(told[1]))
    raise AssertionError(f"no server: {process.stderr.read()}")


@contextlib.contextmanager
def serving(flags: Sequence[str | Path], *, end_by: int = signal.SIGTERM) -> Iterator[Server]:
    """Run a server for as long as it is needed; one that is killed does not wait for the scores that it works at."""
    server = start(flags)
    try:
        yield server
    finally:
        server.end(end_by)


class Labeller:
    """A person at the page.

    Attributes:
        page: in a window of its own, with cookies and storage of its own.
        said: what the browser's console was told, security policy included.
    """

    def __init__(self, browser: Browser, url: str, name: str | None = "Ana", **window):
        context = browser.new_context(**({"viewport": {"width": 1300, "height": 800}} | window))
        self.page: Page = context.new_page()
        self.said: list[str] = []
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.goto(url)
        if name is not None:
            self.page.fill("#name", name)
            self.page.keyboard.press("Enter")
        self.wait_for_map()

    def close(self) -> None:
        """Leave; the browser must have had nothing to complain of but lost connections."""
        self.page.context.close()
        complaints = [text for text in self.said if "ERR_CONNECTION" not in text and "409" not in text]
        assert complaints == []

    def wait_for_map(self) -> None:
        self.wait("document.querySelectorAll('.leaflet-post-pane img.leaflet-tile-loaded').length > 0")
        self.wait("document.getElementById('said').textContent.includes('is open')")

    def reload(self) -> None:
        self.page.reload()
        self.wait_for_map()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def spot(self, x: float, y: float) -> tuple[float, float]:
        """Where in the window a point of the pair is, in the image of after."""
        found = self.page.evaluate(
            "async ([x, y]) => { const { main } = await import('/static/view.js'); "
            "const { left, top } = main().getContainer().getBoundingClientRect(); "
            "const point = main().latLngToContainerPoint([y, x]); return [left + point.x, top + point.y]; }",
            [x, y],
        )
        return tuple(found)

    def objects(self) -> dict[str, dict]:
        """The objects as the page has them."""
        return self.page.evaluate("async () => Object.fromEntries((await import('/static/objects.js')).objects)")

    def levels(self) -> dict[str, str]:
        """The levels that the page shows."""
        return {name: one["level"] for name, one in self.objects().items() if one["level"]}

    def selected(self) -> list[str]:
        return self.page.evaluate("async () => [...(await import('/static/state.js')).state.selected]")

    def bounds(self) -> list[float]:
        """West, south, east and north of the open pair."""
        return self.page.evaluate("async () => (await import('/static/state.js')).state.pair.bounds")

    def buildings(self) -> list[str]:
        """Objects that a click on their middle selects: well within the image, under no other one."""
        west, south, east, north = self.bounds()
        return self.page.evaluate(
            "async ([w, s, e, n]) => { const { objects, at } = await import('/static/objects.js'); "
            "const map = (await import('/static/view.js')).main(); "
            "const hit = ([x, y]) => map.containerPointToLatLng(map.latLngToContainerPoint([y, x]).round()); "
            "return [...objects.values()].filter(({ id, centre: [x, y] }) => x > w && x < e && y > s && y < n "
            "&& at([hit([x, y]).lng, hit([x, y]).lat])?.id === id).map(({ id }) => id); }",
            [west + 0.2 * (east - west), south + 0.2 * (north - south), east - 0.2 * (east - west),
             north - 0.2 * (north - south)],
        )  # fmt: skip

    def click(self, object_id: str) -> None:
        """Click the middle of an object's box."""
        self.page.mouse.click(*self.spot(*self.objects()[object_id]["centre"]))

    def drag(self, *points: tuple[float, float]) -> None:
        """Draw with the pointer through points of the window."""
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point, steps=8)
        self.page.mouse.up()

    def fingers(self, kind: str, *places: tuple[float, float]) -> None:
        """Move fingers on a touch screen: touchStart, touchMove or touchEnd, and where they are in the window."""
        points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        self._devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    @cached_property
    def _devtools(self) -> CDPSession:
        return self.page.context.new_cdp_session(self.page)  # one: it remembers where the fingers are

    def middle(self) -> tuple[float, float]:
        """The middle of the image of after, in the window."""
        box = self.page.locator("#map").bounding_box()
        assert box is not None
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def wait_saved(self) -> None:
        self.page.wait_for_selector("#saved[data-state=saved]", timeout=1000 * SECONDS)

    def wait_shown(self, object_id: str, level: str | None) -> None:
        """Wait until the page shows a level."""
        self.wait(
            f"import('/static/objects.js').then(({{ objects }}) => (objects.get('{object_id}')?.level ?? null) === "
            f"{json.dumps(level)})"
        )

    def wait(self, expression: str) -> None:
        """Wait until JavaScript is true. Playwright's own way needs `eval`, which the page's policy forbids."""
        deadline = time.monotonic() + SECONDS
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"never true: {expression}"
            self.page.wait_for_timeout(30)


def polygon(labeller: Labeller, left: float, top: float, side: float = 40) -> None:
    """Draw a square with the tool for polygons, in pixels from the map's middle."""
    x, y = labeller.middle()
    x, y = x + left, y + top
    labeller.press("g")
    for corner in ((x, y), (x + side, y), (x + side, y + side), (x, y + side), (x, y)):
        labeller.page.mouse.click(*corner)
    labeller.press("Escape")


def kept(folder: Path, pair: str) -> dict[str, Label]:
    """What a store holds of a pair, read beside the server."""
    store = Store.open(folder)
    try:
        return {label.object: label for label in store.labels(pair, viewer=None) if not label.deleted}
    finally:
        store.close()


def levels(folder: Path, pair: str) -> dict[str, str]:
    """The levels that a store holds of a pair's objects."""
    return {name: label.level for name, label in kept(folder, pair).items() if label.level and name != PAIR}
