"""What the script adds, and what works without it, in a real browser on real processes."""

from __future__ import annotations

import asyncio
import re
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.dashboard.site import BOUND_MS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Page

    from tests.e2e.dashboard.site import Site

pytestmark = pytest.mark.e2e

expect.set_options(timeout=BOUND_MS)

# How long a server with open streams may take to stop: far less than what it grants to requests under way.
STOP_SECONDS = 20.0


@asynccontextmanager
async def opened(site: Site, path: str, **options: object) -> AsyncIterator[Page]:
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


async def listening(page: Page) -> None:
    """Wait until the page hears of changes."""
    await expect(page.locator(".live-state")).to_have_attribute("data-state", "live")


async def test_lists_and_retries_work_without_a_script(site: Site) -> None:
    """The search is a form, a retry is a form, and the page says what was done."""
    async with opened(site, "/dashboard/deliveries", java_script_enabled=False) as page:
        form = page.get_by_role("search", name="Deliveries")
        await form.get_by_label("Search").fill("status:dead")
        await form.get_by_role("button", name="Search").click()
        assert "q=status%3Adead" in page.url
        shown = await page.locator("tbody .pill").all_text_contents()
        await page.get_by_role("button", name=f"Retry {site.dead}").click()

        await expect(page.locator(".notice.ok")).to_be_visible()

    assert set(shown) == {"dead"}


async def test_new_rows_wait_behind_a_button(site: Site) -> None:
    """An event that is published is seen by itself, and what is being read stays where it is."""
    async with opened(site, "/dashboard/deliveries") as page:
        await listening(page)
        first = await page.locator("[data-row]").first.get_attribute("id")
        published = await site.scene.publisher.publish("late.one")
        button = page.locator(".new-rows")
        await expect(button).to_have_text("1 new")
        assert await page.locator("[data-row]").first.get_attribute("id") == first
        await button.click()

        await expect(page.locator("[data-row]").first).to_contain_text("late.one")

    assert published is not None


async def test_the_live_tail_streams(site: Site) -> None:
    """Attempts that fit the query come in as they are made, and Space holds them back."""
    async with opened(site, "/dashboard/live?q=type:late.*") as page:
        await listening(page)
        rows = page.locator("#tail tbody tr")
        before = await rows.count()
        await site.scene.publisher.publish("late.two")
        await expect(rows).to_have_count(before + 1)
        await page.keyboard.press("Space")
        await site.scene.publisher.publish("late.three")
        await expect(page.locator("#tail-state")).to_contain_text("Paused, 1 new")
        await page.keyboard.press("Space")

        await expect(rows.first).to_contain_text("late.three")


async def test_a_pause_is_remembered(site: Site) -> None:
    """Pause means pause, also on the next page."""
    async with opened(site, "/dashboard/deliveries") as page:
        await listening(page)
        await page.locator(".live-state").click()
        await page.goto("/dashboard/")

        await expect(page.locator(".live-state")).to_have_attribute("data-state", "paused")


async def test_a_search_is_in_the_address_and_back_leads_back(site: Site) -> None:
    """Without loading the page: what was typed stays, and Back shows the list before."""
    async with opened(site, "/dashboard/deliveries") as page:
        await page.evaluate("document.documentElement.dataset.same = 'yes'")
        await page.locator("main #q").fill("type:dead.*")
        await page.locator("main #q").press("Enter")
        await expect(page).to_have_url(re.compile(r"q=type%3Adead"))
        await expect(page.locator("#results")).not_to_contain_text("order.placed")
        await page.go_back()

        await expect(page.locator("#results")).to_contain_text("order.placed")
        await expect(page.locator("html")).to_have_attribute("data-same", "yes")


async def test_keys_lead_everywhere(site: Site) -> None:
    """Search, rows, pages and the palette, without a pointer."""
    async with opened(site, "/dashboard/deliveries") as page:
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await expect(page.locator("[data-row]").nth(1)).to_have_attribute("data-cursor", "")
        await page.keyboard.press("Enter")
        await at_page(page, "/dashboard/deliveries/dlv_")
        await page.keyboard.press("g")
        await page.keyboard.press("l")
        await at_page(page, "/dashboard/live")
        await page.keyboard.press("/")
        await expect(page.locator("#find")).to_be_focused()
        await page.keyboard.press("Control+k")
        await page.get_by_role("combobox", name="Go to").fill("system")
        await page.keyboard.press("Enter")
        await at_page(page, "/dashboard/system")


async def test_keys_can_be_switched_off(site: Site) -> None:
    """Who dictates or leans on a key turns them off, in the list of keys, for good."""
    async with opened(site, "/dashboard/deliveries") as page:
        await page.keyboard.press("?")
        keys = page.get_by_role("dialog", name="Keys")
        await keys.get_by_role("checkbox").uncheck()
        await keys.get_by_role("button", name="Close").click()
        await page.reload()
        await page.keyboard.press("j")
        await page.keyboard.press("?")

        assert await page.locator("[data-cursor], dialog").count() == 0


async def test_colours_change_without_a_load(site: Site) -> None:
    """And stay so on the next page."""
    async with opened(site, "/dashboard/") as page:
        async with page.expect_response("**/dashboard/theme"):
            await page.get_by_role("button", name="Switch between light and dark").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.reload()

        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_a_server_with_open_streams_stops_and_pages_find_it_again(site: Site) -> None:
    """Open pages do not hold a stop up, and are up to date again when the server is back."""
    stack = site.scene.stack
    async with opened(site, "/dashboard/deliveries") as page:
        await listening(page)
        await asyncio.to_thread(stack.api.stop, seconds=STOP_SECONDS)
        # Not killed: it ended by itself.
        assert stack.api.exit_code != -signal.SIGKILL
        stack.start_api()
        await stack.wait_for_api()
        await site.scene.publisher.publish("late.four")

        await expect(page.locator(".new-rows")).to_be_visible(timeout=4 * BOUND_MS)
