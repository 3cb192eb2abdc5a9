"""One stack and one Chromium for all tests of the dashboard in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import async_playwright

from tests.e2e.dashboard.site import Site, fill, sign_in
from tests.faults.harness.scene import open_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="session")
async def site() -> AsyncIterator[Site]:
    """API, worker, beat, Postgres, broker and a receiver; deliveries of every kind; an admin who is signed in."""
    async with open_scene() as scene, async_playwright() as playwright:
        # Without a sandbox of its own: in containers it cannot be made, and only our own pages are opened.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            objects, dead = await fill(scene)
            yield Site(
                scene=scene, browser=browser, state=await sign_in(scene, browser), objects=objects, dead=dead
            )
        finally:
            await browser.close()
