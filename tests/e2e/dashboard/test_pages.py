"""Every page in a real browser: light, dark and on a telephone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.async_playwright import Axe

from tests.e2e.dashboard.site import MARKUP, Witness, templates_of_pages

if TYPE_CHECKING:
    from playwright.async_api import Page

    from tests.e2e.dashboard.site import Site

pytestmark = pytest.mark.e2e

LOOKS = (("light", 1280), ("dark", 1280), ("light", 390))
FIRST_LOAD_BYTES = 60_000


@pytest.mark.parametrize("template", templates_of_pages())
async def test_page_is_whole_in_every_look(site: Site, template: str) -> None:
    """It answers 200, loads little and only from here, says no error, fits the screen, and axe finds nothing."""
    path = site.path_of(template)
    context = await site.open_context(viewport={"width": 1280, "height": 900})
    try:
        answer = await context.request.get(path)
        assert answer.status == 200, path
        if not answer.headers["content-type"].startswith("text/html"):
            return
        page = await context.new_page()
        witness = Witness(site.url)
        witness.watch(page)
        await page.goto(path)
        received = await witness.bytes_received()
        for scheme, width in LOOKS:
            await page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            await page.set_viewport_size({"width": width, "height": 900})
            assert await _faults_of(page) == [], f"{path} {scheme} {width}"
            assert await page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (
                f"{path} {width}"
            )
        assert witness.foreign == []
        assert witness.errors == []
        assert received <= FIRST_LOAD_BYTES
    finally:
        await context.close()


@pytest.mark.parametrize("template", templates_of_pages())
async def test_markup_stays_text(site: Site, template: str) -> None:
    """Whatever is in a body, a URL, a header, a name or a type: no element of it is in the page, and nothing runs."""
    context = await site.open_context()
    try:
        answer = await context.request.get(site.path_of(template))
        if not answer.headers["content-type"].startswith("text/html"):
            return
        page = await context.new_page()
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: dialogs.append(dialog.message))
        await page.goto(site.path_of(template))

        assert dialogs == []
        assert await page.locator("main img[src='x'], main script, main [onerror]").count() == 0
        assert await page.locator("main b", has_text="bold").count() == 0
        assert MARKUP not in await page.content()
    finally:
        await context.close()


async def _faults_of(page: Page) -> list[str]:
    found = await Axe().run(page)
    return [
        f"{each['id']}: {each['help']} {[node['html'][:200] for node in each['nodes'][:3]]}"
        for each in found.response["violations"]
    ]
