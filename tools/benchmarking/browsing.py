"""The labelling page in a real browser: how long until a large pair is seen, and the memory that the page takes."""

import importlib.util
import shutil
import time
from typing import Any

_PATIENCE = 120.0  # seconds
_POLL = 20  # milliseconds between two looks at the page
_OPTIONS = ("--no-sandbox", "--disable-dev-shm-usage")
_IMAGE = "document.querySelectorAll('.leaflet-post-pane img.leaflet-tile-loaded').length > 0"
_OPEN = "document.getElementById('said')?.textContent.includes('is open') ?? false"
_OUTLINES = "import('/static/objects.js').then(({ objects }) => objects.size > 0)"
_PAINTED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
_NEAR = """async (zoom) => {
  const map = (await import('/static/view.js')).main();
  map.setView(map.getCenter(), zoom, { animate: false });
}"""


def painted(port: int, zoom: int) -> dict[str, float]:
    """Open the page in Debian's Chromium; nothing where that or Playwright is missing.

    Args:
        port: of the server, which shows one pair.
        zoom: at which few enough footprints are in view to be drawn.
    """
    program = shutil.which("chromium")
    if program is None or importlib.util.find_spec("playwright") is None:
        print("  no browser (chromium, and playwright of jaxcd[test]): first paint not measured", flush=True)
        return {}
    from playwright.sync_api import sync_playwright

    found: dict[str, float] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(_OPTIONS))
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        url = f"http://localhost:{port}/"
        context.request.post(f"{url}api/session", data={"name": "Ann"}, headers={"X-Jaxcd": "1"})
        page = context.new_page()
        begun = time.monotonic()
        page.goto(url, wait_until="commit")
        for name, wanted in (("first map tile on the page", _IMAGE), ("all counts on the page", _OPEN)):
            _wait(page, wanted)
            found[f"seconds to the {name}"] = time.monotonic() - begun
        begun = time.monotonic()
        page.evaluate(_NEAR, zoom)
        _wait(page, _OUTLINES)
        found["seconds from there to outlines, zoomed in"] = time.monotonic() - begun
        devtools = context.new_cdp_session(page)
        devtools.send("HeapProfiler.collectGarbage")
        heap = devtools.send("Runtime.getHeapUsage")
        found["outlines on the page"] = page.evaluate(
            "import('/static/objects.js').then(({ objects }) => objects.size)"
        )
        found["MiB of the page's scripts and objects"] = heap["usedSize"] / 2**20
        browser.close()
    return found


def _wait(page: Any, expression: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not page.evaluate(expression):
        if time.monotonic() > deadline:
            raise TimeoutError(f"never true: {expression}")
        page.wait_for_timeout(_POLL)
    page.evaluate(_PAINTED)
