"""The list of deliveries: what it shows, how it is searched, and what is sent again from it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from app.deliveries.record import Settle
from tests.integration.api.traffic import Traffic

if TYPE_CHECKING:
    import httpx2
    import pytest
    from fastapi import FastAPI

    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

LIST = "/dashboard/deliveries"
_ROW = re.compile(r'<tr id="(dlv_[0-9a-z]+)" data-row>')
_STATEMENTS = re.compile(r'desc="(\d+) statements"')
NASTY = '"><script>alert(1)</script>'


async def shown(browser: Browser, query: str = "") -> list[str]:
    """Return the ids of the deliveries on the page."""
    answer = await browser.get(f"{LIST}{query}")
    assert answer.status_code == 200, answer.text
    return _ROW.findall(answer.text)


async def one_dead(traffic: Traffic, **fields: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Make an endpoint, an event, and its delivery, which is dead."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish(**fields)
    await traffic.attempt(endpoint, Settle.DEAD)
    return endpoint, event, await traffic.delivery_of(event)


NOT_UNDERSTOOD = (
    "?q=colour:red",
    '?q="never closed',
    "?q=a%00b",
    "?q=" + "x" * 600,
    "?status=odd",
    "?code=teapot",
    "?type=,",
    "?endpoint=ep_1",
    "?application=%22",
)
UNDERSTOOD = (
    "?q=%25_%5C",
    "?q=%ed%a0%80",
    "?q=%22a b%22",
    "?type=order.%25",
    "?q=data.n:1",
    "?q=data.n:*",
    '?q=data.n:"1"',
    "?q=data.a.b.c:x*",
    "?q=header.webhook-id:evt",
    "?q=header.x:%25",
    "?q=-status:dead -type:order.* -code:5xx -attempt:1 -application:default -endpoint:shop -text",
    "?q=duration:>1ms attempt:>=1",
    "?q=evt_0 dlv_0 att_0 ep_0 app_0",
    "?range=forever&cursor=",
)


async def test_what_is_not_understood_is_said_and_nothing_is_searched(
    owner: Browser, traffic: Traffic
) -> None:
    """A page with a sentence, not a fault, and no rows that nobody asked for."""
    await one_dead(traffic)

    for query in NOT_UNDERSTOOD:
        answer = await owner.get(f"{LIST}{query}")

        assert answer.status_code == 200, query
        assert "Nothing was searched" in answer.text, query
        assert _ROW.findall(answer.text) == [], query


async def test_everything_that_is_understood_can_be_asked(owner: Browser, traffic: Traffic) -> None:
    """Whatever it finds."""
    await one_dead(traffic)

    for query in UNDERSTOOD:
        assert (await owner.get(f"{LIST}{query}")).status_code == 200, query


async def test_a_cursor_that_is_none_is_refused(owner: Browser) -> None:
    """It says so on a page."""
    answer = await owner.get(f"{LIST}?cursor=nonsense")

    assert answer.status_code == 422
    assert "cursor" in answer.text


async def test_the_first_page_ever_says_what_to_do(owner: Browser) -> None:
    """Not that nothing matches."""
    page = (await owner.get(LIST)).text

    assert "No deliveries yet" in page
    assert "Clear filters" not in page


async def test_a_search_without_a_match_offers_to_clear_it(owner: Browser, traffic: Traffic) -> None:
    """Its chips can be removed one by one, too."""
    await one_dead(traffic)

    page = (await owner.get(f"{LIST}?q=status:succeeded type:order.*&range=1h")).text

    assert "No delivery matches" in page
    assert 'href="/dashboard/deliveries?range=1h"' in page
    assert 'href="/dashboard/deliveries?q=type%3Aorder.%2A&amp;range=1h"' in page


async def test_a_row_shows_what_became_of_a_delivery(owner: Browser, traffic: Traffic) -> None:
    """State, event, endpoint, application, tries, code, duration."""
    endpoint, _, delivery = await one_dead(traffic)

    page = (await owner.get(LIST)).text

    for text in ("dead", "order.placed", endpoint["url"], "default", ">1<", "503", "12 ms", delivery["id"]):
        assert text in page


TRUE_OR_NOT = (
    ("?status=dead", True),
    ("?status=succeeded", False),
    ("?q=status:dead,succeeded", True),
    ("?q=-status:dead", False),
    ("?code=5xx", True),
    ("?code=timeout", False),
    ("?type=order.*", True),
    ("?type=user.*", False),
    ("?application=default", True),
    ("?application=other", False),
    ("?endpoint=SHOP.example", True),
    ("?endpoint=hidden", False),
    ("?q=hidden", False),
    ("?q=placed", True),
    ("?q=attempt:1", True),
    ("?q=attempt:>1", False),
    ("?q=duration:>10ms", True),
    ("?q=duration:>1s", False),
    ("?q=data.order.id:42", True),
    ("?q=data.order.id:42.0", True),
    ("?q=data.order.id:4", False),
    ("?q=data.order.tags:new", True),
    ("?q=data.lines.sku:B*", True),
    ("?q=data.lines.sku:C*", False),
    ("?q=data.name:käse", True),
    ('?q=data.order.id:"42"', False),
    ("?q=header.webhook-id:evt_x", True),
    ("?q=header.webhook-id:other", False),
    ("?q=header.authorization:Bearer", False),
)


async def test_a_delivery_is_found_by_what_is_true_of_it(owner: Browser, traffic: Traffic) -> None:
    """In SQL as in Python: the same terms, the same rows."""
    endpoint = await traffic.endpoint(url="https://shop.example.com/hooks?token=hidden")
    await traffic.publish(
        data={"order": {"id": 42, "tags": ["new"]}, "lines": [{"sku": "A1"}, {"sku": "B2"}], "name": "käse"}
    )
    await traffic.attempt(endpoint, Settle.DEAD)

    for query, found in TRUE_OR_NOT:
        assert bool(await shown(owner, query)) is found, query


async def test_an_id_of_any_kind_is_found(owner: Browser, traffic: Traffic) -> None:
    """Of the event, the delivery, the endpoint, the application, an attempt; its beginning, too."""
    endpoint, event, delivery = await one_dead(traffic)
    (attempt,) = (await traffic.get(f"/v1/deliveries/{delivery['id']}/attempts"))["data"]

    for text in (
        event["id"],
        delivery["id"],
        endpoint["id"],
        delivery["application"],
        attempt["id"],
        event["id"][:16],
    ):
        assert await shown(owner, f"?q={text}") == [delivery["id"]], text


async def test_data_that_no_jsonb_holds_breaks_no_search(
    owner: Browser, traffic: Traffic, client: httpx2.AsyncClient, admin: dict[str, str]
) -> None:
    """U+0000, numbers of any size, escapes: what is published can be looked for beside it."""
    await traffic.endpoint()
    for data in (
        rb'{"s":"a\u0000b","order":{"id":42}}',
        b'{"n":1e999999,"order":{"id":42}}',
        b'{"n":' + b"9" * 5_000 + b',"order":{"id":42}}',
        rb'{"s":"\ud83d\ude00\\u0000","order":{"\u0069d":4.2e1}}',
        b"[" * 100 + b"]" * 100,
        b'"42"',
    ):
        answer = await client.post(
            "/v1/events",
            content=b'{"type":"odd","data":' + data + b"}",
            headers=admin | {"content-type": "application/json"},
        )
        assert answer.status_code == 202, answer.text

    assert len(await shown(owner, "?q=data.order.id:42")) == 4
    assert len(await shown(owner, "?q=data.s:*")) == 2


async def test_counts_by_state_ignore_the_state_that_is_chosen(owner: Browser, traffic: Traffic) -> None:
    """So that the others can be chosen next."""
    await one_dead(traffic)
    await traffic.publish()

    page = (await owner.get(f"{LIST}?status=dead")).text

    assert re.search(
        r'aria-current="true"><i class="dot bad" aria-hidden="true"></i>dead <span class="n">1<', page
    )
    assert re.search(r'</i>pending <span class="n">1<', page)


async def test_pages_follow_each_other(owner: Browser, traffic: Traffic) -> None:
    """And lead back again."""
    await traffic.endpoint()
    for _ in range(30):
        await traffic.publish()

    first = (await owner.get(LIST)).text
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = (await owner.get(older[1].replace("&amp;", "&"))).text
    newer = re.search(r'rel="prev" href="([^"]+)"', second)
    assert newer is not None
    again = (await owner.get(newer[1].replace("&amp;", "&"))).text

    assert (len(_ROW.findall(first)), len(_ROW.findall(second))) == (25, 5)
    assert set(_ROW.findall(first)) & set(_ROW.findall(second)) == set()
    assert _ROW.findall(again) == _ROW.findall(first)


async def test_few_statements_make_a_page(owner: Browser, traffic: Traffic) -> None:
    """However many rows and filters it has."""
    await one_dead(traffic)

    timing = (await owner.get(f"{LIST}?q=status:dead data.n:1")).headers["server-timing"]

    found = _STATEMENTS.search(timing)
    assert found is not None
    assert int(found[1]) <= 4


async def test_a_row_is_sent_again(owner: Browser, traffic: Traffic) -> None:
    """The button of one row sends that one, whatever else is ticked."""
    endpoint, _, first = await one_dead(traffic)
    second = await traffic.publish()
    await traffic.attempt(endpoint, Settle.DEAD)

    answer = await owner.submit(
        f"{LIST}/retry",
        at=LIST,
        one=first["id"],
        pick=(await traffic.delivery_of(second))["id"],
        next=f"{LIST}?status=dead",
    )

    assert answer.status_code == 303
    assert answer.headers["location"] == f"{LIST}?status=dead&done=retried&n=1&left=0"
    assert (await traffic.get(f"/v1/deliveries/{first['id']}"))["state"] == "pending"
    assert (await traffic.delivery_of(second))["state"] == "dead"
    assert "1 delivery is due now." in (await owner.get(answer.headers["location"])).text


async def test_what_is_ticked_is_sent_again_and_what_cannot_be_is_counted(
    owner: Browser, traffic: Traffic
) -> None:
    """One that is being sent, or is no delivery here, keeps the others from nothing."""
    endpoint, _, dead = await one_dead(traffic)
    sending = await traffic.publish()
    await traffic.claim(endpoint)
    page = (await owner.get(LIST)).text
    token = re.search(r'name="csrf" value="([0-9a-f]{128})"', page)
    assert token is not None
    picks = [dead["id"], (await traffic.delivery_of(sending))["id"], "dlv_nonsense"]

    answer = await owner.post(f"{LIST}/retry", data={"csrf": token[1], "pick": picks, "next": LIST})

    assert answer.headers["location"].endswith("done=retried&n=1&left=2")
    assert (await traffic.get(f"/v1/deliveries/{dead['id']}"))["state"] == "pending"


async def test_who_may_only_look_has_no_buttons_and_is_refused(browse_as: BrowseAs, traffic: Traffic) -> None:
    """Absent, not dead."""
    _, _, dead = await one_dead(traffic)
    viewer = await browse_as("viewer")

    page = (await viewer.get(LIST)).text
    answer = await viewer.submit(f"{LIST}/retry", at=LIST, one=dead["id"])

    assert 'name="pick"' not in page
    assert 'name="one"' not in page
    assert answer.status_code == 403
    assert (await traffic.get(f"/v1/deliveries/{dead['id']}"))["state"] == "dead"


async def test_a_viewer_sees_no_query_string_of_a_url(browse_as: BrowseAs, traffic: Traffic) -> None:
    """It often holds a credential."""
    await traffic.endpoint(url="https://shop.example.com/hooks?token=hidden")
    await traffic.publish()
    viewer = await browse_as("viewer")

    page = (await viewer.get(LIST)).text

    assert "https://shop.example.com/hooks" in page
    assert "token=" not in page


async def test_another_workspaces_deliveries_are_not_there(
    owner: Browser, app: FastAPI, client: httpx2.AsyncClient, other_admin: dict[str, str]
) -> None:
    """By whatever they are asked for."""
    other = Traffic(app=app, client=client, headers=other_admin)
    endpoint, event, delivery = await one_dead(other)

    for query in (
        "",
        f"?q={delivery['id']}",
        f"?q={event['id']}",
        f"?endpoint={endpoint['id']}",
        "?q=data.n:1",
    ):
        assert await shown(owner, query) == []
    answer = await owner.submit(f"{LIST}/retry", at="/dashboard/", one=delivery["id"], next=LIST)
    assert answer.headers["location"].endswith("n=0&left=1")
    assert (await other.get(f"/v1/deliveries/{delivery['id']}"))["state"] == "dead"


async def test_markup_stays_text(owner: Browser, traffic: Traffic) -> None:
    """In the search, in an error, in an application's name."""
    endpoint, _, _ = await one_dead(traffic)
    await traffic.publish()
    await traffic.attempt(endpoint, Settle.DEAD, error_message=NASTY)

    page = (await owner.get(f"{LIST}?type={NASTY}&q={NASTY}")).text + (await owner.get(LIST)).text

    assert NASTY not in page
    assert "&lt;script&gt;" in page


async def test_a_list_that_takes_too_long_offers_less(
    owner: Browser, traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its frame, with the request's id and a way to try again."""
    await one_dead(traffic)
    monkeypatch.setattr("app.dashboard.page.READ_SECONDS", 0.001)

    answer = await owner.get(f"{LIST}?q=data.n:1")

    assert answer.status_code == 503
    assert "narrow the range" in answer.text
    assert answer.headers["x-request-id"] in answer.text
