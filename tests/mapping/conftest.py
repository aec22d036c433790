"""The browser that looks at maps' pages."""

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright


def launched() -> Iterator[Browser]:
    """Start the system's Chromium, without a window."""
    program = shutil.which("chromium")
    assert program, "no chromium; sh tools/setup dev installs it"
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        options += ["--disable-background-networking", "--disable-component-update"]
        running = playwright.chromium.launch(executable_path=program, args=options)
        yield running
        running.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from launched()
