"""Headless Chromium for the tests that look at a page: `from browser import browser`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture
def browser() -> Iterator[Any]:
    """A Playwright browser; the test is skipped where there is no Chromium."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("no Chromium to look at the page with; apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright; pip install -e '.[dev]'")
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=program)
        yield launched
        launched.close()
