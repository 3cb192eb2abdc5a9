"""The frame of every page: who may come in, what it links to, and where forms lead."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from tests.integration.people.conftest import CSRF

if TYPE_CHECKING:
    from tests.integration.api.traffic import Traffic
    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser, OpenBrowser


async def test_who_is_not_signed_in_is_led_to_the_door(open_browser: OpenBrowser) -> None:
    """And from there back to the page that was asked for."""
    browser = await open_browser()

    answer = await browser.get("/dashboard/?range=7d")

    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=/dashboard/%3Frange%3D7d"


async def test_a_page_that_is_none_says_so(owner: Browser) -> None:
    """As a page, with the request's id."""
    answer = await owner.get("/dashboard/nothing/here")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-request-id"] in answer.text


async def test_pages_for_admins_are_absent_for_others(browse_as: BrowseAs) -> None:
    """A viewer's navigation has no API keys and no audit log."""
    admins, viewers = await browse_as("admin"), await browse_as("viewer")

    for_admins, for_viewers = (await admins.get("/dashboard/")).text, (await viewers.get("/dashboard/")).text

    assert 'href="/dashboard/keys"' in for_admins
    assert 'href="/dashboard/keys"' not in for_viewers
    assert 'href="/dashboard/audit"' not in for_viewers
    assert 'href="/dashboard/deliveries"' in for_viewers


async def test_colours_are_kept_without_a_script(owner: Browser) -> None:
    """The form of the bar chooses them, and leads back to the page."""
    answer = await owner.submit(
        "/dashboard/theme", at="/dashboard/", theme="dark", next="/dashboard/?range=1h"
    )

    assert answer.status_code == 303
    assert answer.headers["location"] == "/dashboard/?range=1h"
    assert '<html lang="en" data-theme="dark">' in (await owner.get("/dashboard/")).text


async def test_a_dashboard_page_lets_only_our_own_script_run(owner: Browser) -> None:
    """Nothing is loaded from elsewhere, nothing inline runs, and nobody frames it."""
    policy = (await owner.get("/dashboard/")).headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


async def test_a_form_s_token_looks_different_each_time_and_is_the_same(owner: Browser) -> None:
    """So a page may be compressed; a token that lacks its end, or is of another browser, is refused."""
    tokens = {CSRF.search((await owner.get("/dashboard/")).text)[1] for _ in range(2)}
    refused = {next(iter(tokens))[:-2], "0" * 128, "no hex", ""}

    answers = {
        token: await owner.post("/dashboard/theme", data={"csrf": token, "theme": "dark"})
        for token in tokens | refused
    }

    assert len(tokens) == 2
    assert {answers[token].status_code for token in tokens} == {303}
    assert {answers[token].status_code for token in refused} == {403}


async def test_a_page_is_compressed_unless_it_shows_a_secret(owner: Browser, traffic: Traffic) -> None:
    """How well a secret compresses beside what the address brings would tell of it."""
    endpoint = await traffic.endpoint()
    path = f"/dashboard/endpoints/{endpoint['id']}/secret"

    hidden = await owner.get(path)
    made = await owner.submit(f"{path}/rotate", at=path, grace="0")
    shown = await owner.get(made.headers["location"])

    assert hidden.headers["content-encoding"] == "gzip"
    assert "whsec_" in shown.text
    assert "content-encoding" not in shown.headers


async def test_every_part_of_the_script_may_be_kept_for_ever(owner: Browser) -> None:
    """The page names all that its modules import, by addresses that change with the content."""
    page = (await owner.get("/dashboard/")).text
    named = re.findall(r'(?:src|href)="(/static/[^"]+\.js)"', page)
    imported: set[str] = set()
    for address in named:
        answer = await owner.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
        assert "immutable" in answer.headers["cache-control"]
        imported |= set(re.findall(r'^import .*"(\./.+)";', answer.text, re.MULTILINE))
        for later in re.findall(r'import\("(\./.+?)"\)', answer.text):
            assert (await owner.get(urljoin(address, later))).status_code == 200, later

    assert imported == {f"./{address.rsplit('/', 1)[1]}" for address in named[1:]}


async def test_what_another_release_named_is_not_kept(owner: Browser) -> None:
    """While servers change, a page of one asks another: it is answered, and the answer does not stay."""
    for address in ("/static/script/0123456789ab/live.js", "/static/dashboard.css?v=0123456789ab"):
        answer = await owner.get(address)

        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


async def test_the_colours_that_were_chosen_are_those_of_all_pages(owner: Browser) -> None:
    """Also of the reference, of problems, of the account and of the door; who chose none has the system's."""
    paths = ("/dashboard/", "/docs", "/problems", "/problems/invalid", "/account")
    before = [(await owner.get(path)).text for path in paths]
    await owner.submit("/dashboard/theme", at="/dashboard/", theme="dark")
    after = [(await owner.get(path)).text for path in paths]
    await owner.submit("/logout", at="/dashboard/")

    assert not any('<html lang="en" data-theme' in page for page in before)
    assert all('<html lang="en" data-theme="dark">' in page for page in after)
    assert '<html lang="en" data-theme="dark">' in (await owner.get("/login")).text
