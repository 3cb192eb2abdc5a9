"""What the script adds for hands and eyes: searches without a load, keys, colours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.dashboard.browsing import at_page, opened

if TYPE_CHECKING:
    from tests.e2e.dashboard.site import Site

pytestmark = pytest.mark.e2e


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
