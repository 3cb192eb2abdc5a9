"""What tests of the dashboard in a browser do again and again: open a page, and wait until it is as they need it."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from playwright.async_api import expect

from tests.e2e.dashboard.site import BOUND_MS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Page

    from tests.e2e.dashboard.site import Site

expect.set_options(timeout=BOUND_MS)


@asynccontextmanager
async def opened(site: Site, path: str, **options: Any) -> AsyncIterator[Page]:
    """Open a page in a browser of its own."""
    context = await site.open_context(**options)
    try:
        page = await context.new_page()
        await page.goto(path)
        yield page
    finally:
        await context.close()


async def at_page(page: Page, address: str) -> None:
    """Wait until a page is there and its script has run."""
    await expect(page).to_have_url(re.compile(address))
    await expect(page.locator("html")).to_have_attribute("data-script", "on")


async def listening(page: Page, state: str = "live") -> None:
    """Wait until the page hears of changes, or is in another of its states."""
    await expect(page.locator(".live-state")).to_have_attribute("data-state", state)
