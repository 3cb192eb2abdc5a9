"""Everything that people come for works without a script: find, retry, rotate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.async_api import expect

from tests.e2e.dashboard.browsing import opened

if TYPE_CHECKING:
    from tests.e2e.dashboard.site import Site

pytestmark = pytest.mark.e2e


async def test_a_list_is_filtered_and_a_delivery_retried(site: Site) -> None:
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


async def test_a_secret_is_rotated(site: Site) -> None:
    """The question is a part of the page; the new secret is shown once, and the old one signs on for the grace."""
    stack = site.scene.stack
    endpoint = await stack.create_endpoint("/rotated", event_types=["rotated.*"])
    address = f"/v1/endpoints/{endpoint.id}/secret"
    before = (await stack.client.get(address)).json()["secret"]
    path = f"/dashboard/endpoints/{endpoint.id}/secret"
    async with opened(site, path, java_script_enabled=False) as page:
        await page.locator("summary", has_text="Rotate…").click()
        await page.get_by_label("Grace of the old one").select_option("3600")
        await page.get_by_role("button", name="Rotate the secret").click()
        await expect(page.locator(".notice.ok")).to_be_visible()
        shown = await page.locator("#shown").text_content()
        states = await page.get_by_role("region", name="Keys").locator(".pill").all_text_contents()
        await page.goto(path)

        assert await page.locator("#shown").count() == 0
    after = (await stack.client.get(address)).json()["secret"]

    assert shown == after != before
    assert states == ["current", "earlier"]
