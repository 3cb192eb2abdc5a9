"""Write docs/images/dashboard-*.png: every page of the dashboard in Chromium, on deliveries that `bellwire seed` made.

`make images` runs it. It starts a stack of its own in a temporary folder and leaves nothing else behind.
"""  # noqa: INP001 - a program beside the pages that it illustrates

from __future__ import annotations

import asyncio
import subprocess
import sys
import zlib
from pathlib import Path

from playwright.async_api import Page, async_playwright, expect

from tests.e2e.dashboard.conftest import CHROMIUM
from tests.e2e.dashboard.site import Site, sign_in, templates_of_pages
from tests.faults.harness.scene import open_scene
from tests.faults.harness.waiting import wait_until

IMAGES = Path(__file__).parent / "images"
# Enough for charts of a week, and made in seconds.
DELIVERIES = "20000"
# Pages that are shown in the dark and on a telephone as well, by the name of their picture.
ALSO = frozenset({"overview", "deliveries", "deliveries-delivery"})
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
MAX_BYTES = 150_000
UPKEEP_SECONDS = 180.0


async def take(site: Site) -> list[Path]:
    """Take all pictures; those of files and of pages that answer something else are left out."""
    taken: list[Path] = []
    for template in templates_of_pages():
        name = (
            template.removeprefix("/dashboard").strip("/").replace("/", "-").replace("{", "").replace("}", "")
        )
        name = name or "overview"
        context = await site.open_context(viewport=WIDE)
        answer = await context.request.get(site.path_of(template))
        if answer.status == 200 and answer.headers["content-type"].startswith("text/html"):  # noqa: PLR2004 - OK
            page = await context.new_page()
            await page.goto(site.path_of(template))
            live = page.locator(".live-state")
            if await live.is_visible():
                await expect(live).to_have_attribute("data-state", "live")
            taken.append(await _shoot(page, name))
            if name in ALSO:
                await page.emulate_media(color_scheme="dark")
                taken.append(await _shoot(page, f"{name}-dark"))
                await page.emulate_media(color_scheme="light")
                await page.set_viewport_size(NARROW)
                taken.append(await _shoot(page, f"{name}-narrow"))
        await context.close()
    return taken


async def _shoot(page: Page, name: str) -> Path:
    path = IMAGES / f"dashboard-{name}.png"
    path.write_bytes(_packed(await page.screenshot(animations="disabled", caret="hide")))
    return path


def _packed(png: bytes) -> bytes:
    """Return the same picture packed harder: Chromium is in a hurry."""
    head, at, packed, others = png[:8], 8, b"", []
    while at < len(png):
        length = int.from_bytes(png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            packed += content
        else:
            others.append(_chunk(kind, content))
        at += length + 12
    best = zlib.compress(zlib.decompress(packed), level=9)
    return b"".join((head, *others[:-1], _chunk(b"IDAT", best), others[-1]))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


async def main() -> None:
    """Seed a stack, and take the pictures."""
    async with (
        open_scene(short=False, receives=False) as scene,
        async_playwright() as playwright,
    ):
        stack = scene.stack
        subprocess.run(  # noqa: S603, ASYNC221 - our own command, and nothing else is to be done meanwhile
            [sys.executable, "-m", "app.cli", "seed", "--deliveries", DELIVERIES],
            env={**stack.environment, "BELLWIRE_ENVIRONMENT": "development"},
            check=True,
        )
        # Upkeep counts a minute when it is over; from then on every part shows a sign of life.
        await wait_until(
            lambda: stack.number("SELECT count(*) FROM rollup_progress WHERE name = 'fresh'") > 0,
            seconds=UPKEEP_SECONDS,
            what="upkeep has counted",
        )
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        site = Site(scene=scene, browser=browser, state=await sign_in(scene, browser))
        # Who has one is not asked for one.
        stack.sql("UPDATE users SET password_hash = 'none'")
        for folder, path in (
            ("deliveries", "/v1/deliveries?state=dead&limit=1"),
            ("events", "/v1/events?limit=1"),
            ("endpoints", "/v1/endpoints?limit=1"),
            ("applications", "/v1/applications?limit=1"),
            ("keys", "/v1/api-keys?limit=1"),
            ("people", "/v1/users?limit=1"),
        ):
            found = (await stack.client.get(path)).json()["data"]
            site.objects[folder] = found[0]["id"]
        site.objects["attempts"] = "1"
        taken = await take(site)
        await browser.close()
    for path in taken:
        size = path.stat().st_size
        print(f"{path.name}: {size // 1000} kB{' (large!)' if size > MAX_BYTES else ''}")  # noqa: T201 - for who runs it


if __name__ == "__main__":
    asyncio.run(main())
