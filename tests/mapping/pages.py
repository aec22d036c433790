"""A map's page, opened in a browser or read as one reads it."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Page

from jaxcd.mapping.page import web_page


@contextlib.contextmanager
def opened(browser, path: Path, **context) -> Iterator[Page]:
    """Open a page; it may say nothing and ask for nothing."""
    page: Page = browser.new_page(**({"viewport": {"width": 1100, "height": 700}} | context))
    said: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelectorAll('img.before').length > 0")
    page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    page.evaluate("() => ready.then(() => new Promise(requestAnimationFrame))")
    yield page
    assert said == []
    assert [url for url in requested if not url.startswith(("data:", path.as_uri()))] == []
    page.close()


def data_of(page: Path) -> dict:
    """What a page embeds, read as a browser would: within its budget."""
    text = page.read_text(encoding="utf-8").split('<script type="application/json" id="data">')[1]
    text = text.split("</script>")[0]
    assert len(text) < web_page.MEGABYTES * 1e6
    return json.loads(text)
