"""Every page in a real browser: light, dark and on a telephone.

One browser looks at all of them, in two tabs that are as wide as a desk's and a hand's screen. Each page is loaded once
in either tab, and everything that is to be said of it is asked of those two loads.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from tests.e2e.dashboard.site import MARKUP, Witness, templates_of_pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Page

    from tests.conftest import Report
    from tests.e2e.dashboard.site import Site

pytestmark = pytest.mark.e2e

DESK, HAND = 1280, 390
FIRST_LOAD_BYTES = 60_000
# The other rules do not look at colours, and nothing but colours is different in the dark.
COLOURS = ["color-contrast", "link-in-text-block"]
AXE = (files("axe_playwright_python") / "axe.min.js").read_text()
ELEMENTS_OF_MARKUP = "main img[src='x'], main script, main [onerror]"
RUN_AXE = """async ({ only }) => {
  const found = await axe.run(document, { resultTypes: ["violations"], ...(only && { runOnly: only }) });
  return found.violations.map((each) => `${each.id}: ${each.help} ${each.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))}`);
}"""


@dataclass
class Tab:
    """One tab, and what is noted of the pages in it."""

    page: Page
    width: int
    witness: Witness
    dialogs: list[str] = field(default_factory=list)

    async def look(self, path: str, *, dark: bool) -> Seen:
        """Load a page, and note everything that is wrong with it."""
        self.witness.forget()
        await self.page.emulate_media(color_scheme="light")
        answer = await self.page.goto(path)
        assert answer is not None
        seen = Seen(status=answer.status, received=await self.witness.bytes_received())
        await self.page.evaluate(AXE)
        seen.faults += await self._faults("light")
        if dark:
            seen.faults += await self._faults("dark", only=COLOURS)
        wide = await self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        if wide > 0:
            seen.faults.append(f"{self.width}: the page is {wide} px wider than the screen")
        seen.faults += [f"asked another host: {each}" for each in self.witness.foreign]
        seen.faults += [f"said an error: {each}" for each in self.witness.errors]
        seen.faults += [f"ran what is only text: {each}" for each in self.dialogs]
        seen.elements = await self.page.locator(ELEMENTS_OF_MARKUP).count()
        seen.elements += await self.page.locator("main b", has_text="bold").count()
        seen.elements += (await self.page.content()).count(MARKUP)
        return seen

    async def _faults(self, scheme: str, *, only: list[str] | None = None) -> list[str]:
        await self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found = await self.page.evaluate(RUN_AXE, {"only": only})
        return [f"{scheme} {self.width}: {each}" for each in found]


@dataclass
class Seen:
    """What a look at a page found: all faults in words, and elements that were published as text."""

    status: int
    received: int
    faults: list[str] = field(default_factory=list)
    elements: int = 0


@pytest.fixture(scope="module")
async def tabs(site: Site) -> AsyncIterator[tuple[Tab, Tab]]:
    """A desk's and a hand's, in one browser in which the admin is signed in."""
    context = await site.open_context()
    opened = []
    for width in (DESK, HAND):
        page = await context.new_page()
        await page.set_viewport_size({"width": width, "height": 900})
        tab = Tab(page=page, width=width, witness=Witness(site.url))
        tab.witness.watch(page)
        # Each load is a first one: nothing comes from the browser's cache.
        network = await context.new_cdp_session(page)
        await network.send("Network.enable")
        await network.send("Network.setCacheDisabled", {"cacheDisabled": True})
        page.on("dialog", lambda dialog, tab=tab: tab.dialogs.append(dialog.message))
        opened.append(tab)
    yield opened[0], opened[1]
    await context.close()


@pytest.mark.parametrize("template", templates_of_pages())
async def test_page_is_whole_in_every_look(
    site: Site, tabs: tuple[Tab, Tab], template: str, report: Report
) -> None:
    """It answers 200, loads little and only from here, says no error, fits the screen, and axe finds nothing.

    And whatever is in a body, a URL, a header, a name or a type stays text: no element of it is in the page, and
    nothing of it runs.
    """
    path = site.path_of(template)
    desk, hand = tabs
    answer = await desk.page.request.get(path)
    assert answer.status == 200, path
    if not answer.headers["content-type"].startswith("text/html"):
        report("200, a file")
        return

    # Both at once: a browser has a process for each.
    looks = await asyncio.gather(desk.look(path, dark=True), hand.look(path, dark=False))

    for seen in looks:
        assert seen.status == 200
        assert seen.faults == [], path
        assert seen.elements == 0
    received = max(seen.received for seen in looks)
    assert received <= FIRST_LOAD_BYTES
    report(f"200, axe 0 in 3 looks, nothing foreign, no error, no sideways scroll, {received / 1000:.1f} kB")
