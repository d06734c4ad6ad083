"""A real browser on this machine, for tests of the page."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest

FLAGS = (
    "--no-sandbox",  # tests run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextlib.contextmanager
def browsing() -> Iterator[object]:
    """Run Chromium without a window, of a profile of its own; skip the test if there is none, or fail if required."""
    program = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        program = None
    if program is None:
        why = "this needs Debian's chromium and: pip install -e '.[page]'"
        if os.environ.get("MESHSYNC_REQUIRE") == "1":
            pytest.fail(f"MESHSYNC_REQUIRE=1, but {why}")
        pytest.skip(why)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()
