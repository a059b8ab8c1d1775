"""What tests of pages share: a browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium: the system's, else the one that Playwright installed."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=program)
        except Error as error:
            pytest.skip(f"needs a Chromium, which `make browser` installs: {error.message[:200]}")
        yield browser
        browser.close()
