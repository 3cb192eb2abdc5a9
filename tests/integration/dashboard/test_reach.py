"""How far a search looks: a page judges a bounded number of rows, says so, and goes on from there."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from app.dashboard.search import reach
from app.deliveries.record import Settle

if TYPE_CHECKING:
    from tests.integration.api.traffic import Traffic
    from tests.integration.people.conftest import Browser

DELIVERIES = "/dashboard/deliveries"
EVENTS = "/dashboard/events"
DEAD = "/dashboard/dead"
_ROW = re.compile(r'<tr id="((?:dlv|evt)_[0-9a-z]+)" data-row>')
_NEXT = re.compile(r'rel="next" href="([^"]+)"')
_PREVIOUS = re.compile(r'rel="prev" href="([^"]+)"')


@pytest.fixture(autouse=True)
def short_sighted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that judge three rows."""
    for name in ("LOOKED", "LOOKED_INSIDE", "LOOKED_INTO_HEADERS"):
        monkeypatch.setattr(reach, name, 3)
    monkeypatch.setattr(reach, "FEW", 2)


async def pages_of(browser: Browser, address: str) -> list[str]:
    """Return the page and all that follow it."""
    pages: list[str] = []
    following: str | None = address
    while following is not None:
        answer = await browser.get(following)
        assert answer.status_code == 200, answer.text
        pages.append(answer.text)
        found = _NEXT.search(answer.text)
        following = found[1].replace("&amp;", "&") if found is not None else None
        assert len(pages) < 20
    return pages


async def ids_of(browser: Browser, address: str) -> list[list[str]]:
    """Return the ids of the page and of all that follow it."""
    return [_ROW.findall(page) for page in await pages_of(browser, address)]


async def rare_and_others(traffic: Traffic, *, others: int = 7) -> tuple[str, str]:
    """Publish one event, then others of another type; return its delivery and itself."""
    await traffic.endpoint()
    rare = await traffic.publish("rare.one", data={"n": 1})
    for _ in range(others):
        await traffic.publish(data={"n": 2})
    return (await traffic.delivery_of(rare))["id"], rare["id"]


@pytest.mark.parametrize("query", ["type:rare.one", "rare", "-type:order.*", "data.n:1"])
async def test_a_rare_delivery_is_come_to_page_by_page(owner: Browser, traffic: Traffic, query: str) -> None:
    """Each page says that it looked through three, and leads on; none of them has read more."""
    delivery, _ = await rare_and_others(traffic)

    pages = await pages_of(owner, f"{DELIVERIES}?q={query}")

    assert [_ROW.findall(page) for page in pages] == [[], [], [delivery]]
    assert ["Looked through 3 deliveries" in page for page in pages] == [True, True, False]
    assert "No delivery matches so far" in pages[0]
    assert "Look further back" in pages[0]


@pytest.mark.parametrize(
    "query", ["type:order.*", "status:succeeded,pending", "endpoint:shop", "application:default"]
)
async def test_no_row_is_left_out_or_shown_twice(owner: Browser, traffic: Traffic, query: str) -> None:
    """Pages that end where the looking ended continue with the row after it, and lead back."""
    await rare_and_others(traffic, others=0)
    wanted = [(await traffic.delivery_of(await traffic.publish()))["id"] for _ in range(7)]

    pages = await ids_of(owner, f"{DELIVERIES}?q={query} -type:rare.one")

    assert [row for page in pages for row in page] == wanted[::-1]
    assert max(map(len, pages)) <= 3


async def test_a_page_without_a_match_leads_back(owner: Browser, traffic: Traffic) -> None:
    """To those that are newer."""
    await rare_and_others(traffic)
    first = await owner.get(f"{DELIVERIES}?q=type:none")
    older = _NEXT.search(first.text)
    assert older is not None

    second = await owner.get(older[1].replace("&amp;", "&"))

    assert _PREVIOUS.search(second.text) is not None


async def test_errors_of_which_there_are_few_are_found_at_once(owner: Browser, traffic: Traffic) -> None:
    """Whatever came after them; of those that are many, one page has what is among the newest."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish()
    await traffic.attempt(endpoint, Settle.DEAD, error_class="read_timeout", response_status=None)
    failed = (await traffic.delivery_of(event))["id"]
    for _ in range(7):
        await traffic.publish()

    few = await ids_of(owner, f"{DELIVERIES}?q=code:timeout")
    narrowed = await ids_of(owner, f"{DELIVERIES}?q=code:timeout type:other")
    counted = (await owner.get(f"{DELIVERIES}?q=code:timeout")).text

    assert (few, narrowed) == ([[failed]], [[]])
    assert re.search(r'</i>dead <span class="n">1<', counted)


async def test_errors_of_which_there_are_many_are_looked_for_among_the_newest(
    owner: Browser, traffic: Traffic
) -> None:
    """Page by page, like anything else."""
    endpoint = await traffic.endpoint()
    events = [await traffic.publish() for _ in range(3)]
    for _ in events:
        await traffic.attempt(endpoint, Settle.DEAD, error_class="read_timeout", response_status=None)
    failed = [(await traffic.delivery_of(event))["id"] for event in events]
    for _ in range(3):
        await traffic.publish()

    pages = await ids_of(owner, f"{DELIVERIES}?q=code:timeout")

    assert [row for page in pages for row in page] == failed[::-1]
    assert pages[0] == []


async def test_what_ended_is_searched_among_what_ended(owner: Browser, traffic: Traffic) -> None:
    """A search of dead deliveries judges dead ones, however many others are newer."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish("rare.one")
    await traffic.attempt(endpoint, Settle.DEAD)
    dead = (await traffic.delivery_of(event))["id"]
    for _ in range(7):
        await traffic.publish()

    assert await ids_of(owner, f"{DELIVERIES}?q=status:dead type:rare.one") == [[dead]]
    assert await ids_of(owner, f"{DELIVERIES}?q=status:dead type:other") == [[]]
    assert await ids_of(owner, f"{DEAD}?flat=1&q=type:rare.one") == [[dead]]


async def test_a_rare_event_is_come_to_page_by_page(owner: Browser, traffic: Traffic) -> None:
    """As a delivery is."""
    _, event = await rare_and_others(traffic)

    for query in ("type:rare.one", "data.n:1", "status:pending -type:order.*"):
        pages = await pages_of(owner, f"{EVENTS}?q={query}")

        assert [_ROW.findall(page) for page in pages] == [[], [], [event]], query
        assert "Looked through 3 events" in pages[0]
        assert "No event matches so far" in pages[0]
