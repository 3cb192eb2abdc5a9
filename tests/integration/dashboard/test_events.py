"""Events: the list, one event with where it went and where not, and the form that publishes one."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from app.deliveries.record import Settle
from tests.integration.api.traffic import Traffic, uuid_of

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

    from tests.integration.dashboard.conftest import BrowseAs
    from tests.integration.people.conftest import Browser

LIST = "/dashboard/events"
TAG = re.compile(r"<[^>]*>")
_ROW = re.compile(r'<tr id="(evt_[0-9a-z]+)" data-row>')
_STATEMENTS = re.compile(r'desc="(\d+) statements"')
NASTY = '"><script>alert(1)</script>'
BIG = b'{"type":"order.placed","data":{"id":9007199254740993,"note":"<b>bold</b>"}}'


async def shown(browser: Browser, query: str = "") -> list[str]:
    """Return the ids of the events on the page."""
    answer = await browser.get(f"{LIST}{query}")
    assert answer.status_code == 200, answer.text
    return _ROW.findall(answer.text)


async def test_an_event_that_is_not_here_is_not_found(
    owner: Browser, app: FastAPI, client: httpx2.AsyncClient, other_admin: dict[str, str]
) -> None:
    """Another workspace's is not, either: no page, no data, no action."""
    other = Traffic(app=app, client=client, headers=other_admin)
    await other.endpoint()
    event = await other.publish()

    for reference in (event["id"], "evt_nonsense", "dlv_0"):
        assert (await owner.get(f"{LIST}/{reference}")).status_code == 404
        assert (await owner.get(f"{LIST}/{reference}/data")).status_code == 404
        for action in ("retry", "cancel", "erase"):
            answer = await owner.submit(f"{LIST}/{reference}/{action}", at="/dashboard/")
            assert answer.status_code == 404, action
    assert await shown(owner, f"?q={event['id']}") == []
    assert (await other.delivery_of(event))["state"] == "pending"


async def test_everything_can_be_asked_of_events(owner: Browser, traffic: Traffic) -> None:
    """Also what only deliveries have: one of the event's must be like that."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish(uid="mine", correlation_id="chain")
    await traffic.attempt(endpoint, Settle.DEAD)
    delivery = await traffic.delivery_of(event)

    for query, found in (
        ("", True),
        (f"?q={event['id']}", True),
        (f"?q={event['id'][:15]}", True),
        (f"?q={delivery['id']}", True),
        (f"?q={endpoint['id']}", True),
        (f"?q={delivery['application']}", True),
        ("?q=mine", True),
        ("?q=chain", True),
        ("?q=placed", True),
        ("?q=other", False),
        ("?type=order.*", True),
        ("?application=default", True),
        ("?endpoint=shop", True),
        ("?endpoint=nowhere", False),
        ("?q=status:dead", True),
        ("?q=status:succeeded", False),
        ("?q=-status:dead", False),
        ("?q=status:retrying", False),
        ("?q=code:5xx attempt:1 duration:>1ms header.webhook-id:*", True),
        ("?q=data.n:1", True),
        ("?q=data.n:2", False),
    ):
        assert bool(await shown(owner, query)) is found, query


async def test_three_kinds_of_nothing(owner: Browser, traffic: Traffic) -> None:
    """Never anything, nothing that matches, and nothing that was understood."""
    assert "No events yet" in (await owner.get(LIST)).text
    await traffic.publish()

    assert "No event matches" in (await owner.get(f"{LIST}?type=other")).text
    assert "Nothing was searched" in (await owner.get(f"{LIST}?q=colour:red")).text


async def test_a_row_says_how_far_it_has_come(owner: Browser, traffic: Traffic) -> None:
    """Endpoints, and how many of each state, in signs and in words."""
    first = await traffic.endpoint()
    await traffic.endpoint()
    await traffic.publish()
    await traffic.attempt(first)

    page = (await owner.get(LIST)).text

    assert "2 endpoints" in page
    assert '1 ✓<span class="vh"> succeeded' in page
    assert '1 ↻<span class="vh"> on the way' in page


async def test_where_it_did_not_go_has_a_reason(
    owner: Browser, traffic: Traffic, client: httpx2.AsyncClient
) -> None:
    """Type, filter, disabled, made later: each endpoint says its own."""
    await traffic.endpoint(url="https://a.example.com/", event_types=["user.*"])
    await traffic.endpoint(url="https://b.example.com/", filter="data.n > 5")
    await traffic.endpoint(url="https://c.example.com/", filter="data.missing > 5")
    closed = await traffic.endpoint(url="https://d.example.com/")
    await traffic.post(f"/v1/endpoints/{closed['id']}/disable", status=200)
    event = await traffic.publish()
    await traffic.endpoint(url="https://e.example.com/")

    page = (await owner.get(f"{LIST}/{event['id']}")).text

    for url, reason in (
        ("https://a.example.com/", "type filter"),
        ("https://b.example.com/", "filter"),
        ("https://c.example.com/", "filter failed"),
        ("https://d.example.com/", "disabled then"),
        ("https://e.example.com/", "created later"),
    ):
        row = re.search(re.escape(url) + r'</a></th><td><span class="pill">([^<]+)<', page)
        assert row is not None, url
        assert row[1] == reason
    assert "user.*, which order.placed is not" in page
    assert "data.n &gt; 5" in page


async def test_the_data_is_shown_as_it_was_published(
    owner: Browser, client: httpx2.AsyncClient, admin: dict[str, str]
) -> None:
    """No digit is lost, and markup stays text, in each of its forms; the file is the bytes themselves."""
    answer = await client.post(
        "/v1/events", content=BIG, headers=admin | {"content-type": "application/json"}
    )
    event = answer.json()["id"]

    for view in ("pretty", "bytes", "cloudevents", "nonsense"):
        page = (await owner.get(f"{LIST}/{event}?view={view}")).text
        assert "9007199254740993" in page
        assert "<b>bold" not in page
        assert "&lt;b&gt;bold" in page
        spread = '{\n  "id": 9007199254740993,\n  "note": "<b>bold</b>"\n}' in html.unescape(
            TAG.sub("", page)
        )
        assert spread is (view in ("pretty", "nonsense"))
    file = await owner.get(f"{LIST}/{event}/data")
    assert file.content == b'{"id":9007199254740993,"note":"<b>bold</b>"}'
    assert file.headers["content-disposition"] == f'attachment; filename="{event}.json"'


async def test_few_statements_make_the_pages(owner: Browser, traffic: Traffic) -> None:
    """The session's look-up comes on top: five in all."""
    event = await traffic.publish()

    for path in (LIST, f"{LIST}?q=data.n:1", f"{LIST}/{event['id']}"):
        found = _STATEMENTS.search((await owner.get(path)).headers["server-timing"])
        assert found is not None
        assert int(found[1]) <= 4, path


async def test_what_failed_of_an_event_is_sent_again(owner: Browser, traffic: Traffic) -> None:
    """And nothing that has arrived, unless all is asked for."""
    bad, good = await traffic.endpoint(), await traffic.endpoint()
    event = await traffic.publish()
    await traffic.attempt(bad, Settle.DEAD)
    await traffic.attempt(good)
    path = f"{LIST}/{event['id']}"

    answer = await owner.submit(f"{path}/retry", at=path, next=path)

    assert answer.headers["location"] == f"{path}?done=retried&n=1&left=0"
    states = await _states(traffic, event)
    assert states == {bad["id"]: "pending", good["id"]: "succeeded"}
    await owner.submit(f"{path}/retry", at=path, which="all", next=path)
    assert set((await _states(traffic, event)).values()) == {"pending"}


async def test_what_waits_is_cancelled_and_data_is_erased(owner: Browser, traffic: Traffic) -> None:
    """Then nothing is offered that can no longer be done."""
    await traffic.endpoint()
    event = await traffic.publish()
    path = f"{LIST}/{event['id']}"

    await owner.submit(f"{path}/cancel", at=path)
    assert (await traffic.delivery_of(event))["state"] == "cancelled"
    await owner.submit(f"{path}/erase", at=path)
    page = (await owner.get(path)).text

    assert "data erased" in page
    assert "Erase data" not in page
    assert "Send to all again" not in page
    assert (await owner.get(f"{path}/data")).status_code == 404


async def test_a_form_with_a_fault_is_shown_again(owner: Browser, traffic: Traffic) -> None:
    """With the fault at its field and what was typed, and nothing is stored."""
    for fields, fault in (
        ({"type": "no good", "application": "default", "data": "{}"}, "type-fault"),
        ({"type": "a", "application": "nobody", "data": "{}"}, "application-fault"),
        ({"type": "a", "application": "default", "data": "{" + NASTY}, "data-fault"),
        ({"type": "a", "application": "default", "data": '1,"uid":"x"'}, "data-fault"),
        ({"type": "a", "application": "operations", "data": "1"}, "application-fault"),
    ):
        answer = await owner.submit(LIST, at=f"{LIST}/new", **fields)

        assert answer.status_code == 422, fields
        assert f'id="{fault}"' in answer.text, fields
        assert NASTY not in answer.text
    assert (await traffic.get("/v1/events"))["data"] == []


async def test_an_event_is_published_from_the_form(owner: Browser, traffic: Traffic) -> None:
    """As by the API: with its deliveries, its data untouched."""
    await traffic.endpoint()

    answer = await owner.submit(
        LIST, at=f"{LIST}/new", type="order.placed", application="default", data='{"id": 9007199254740993}'
    )

    event = answer.headers["location"].removeprefix(f"{LIST}/").removesuffix("?done=published")
    assert (await traffic.delivery_of({"id": event}))["state"] == "pending"
    assert (await owner.get(f"{LIST}/{event}/data")).content == b'{"id": 9007199254740993}'
    assert "9007199254740993" in (await owner.get(f"{LIST}/new?from={event}")).text
    (entry,) = (await traffic.get(f"/v1/audit-log?object={event}"))["data"]
    assert (entry["action"], entry["actor"]["kind"]) == ("event.published", "user")
    assert entry["after"]["type"] == "order.placed"


async def test_what_people_publish_is_counted_against_the_quota(
    owner: Browser, traffic: Traffic, instance: dict[str, str]
) -> None:
    """The workspace's own one, for the form and for sample events: the same bucket as that of programs."""
    workspaces = (await traffic.client.get("/v1/workspaces", headers=instance)).json()["data"]
    own = next(each["id"] for each in workspaces if each["name"] == "Default")
    quotas = {"quotas": {"payload_bytes_per_second": 100}}
    answer = await traffic.client.patch(f"/v1/workspaces/{own}", json=quotas, headers=instance)
    assert answer.status_code == 200, answer.text
    fields = {"type": "order.placed", "application": "default"}

    large = await owner.submit(LIST, at=f"{LIST}/new", data='"' + "x" * 30_000 + '"', **fields)
    refused = await owner.submit(LIST, at=f"{LIST}/new", data="1", **fields)
    sample = await owner.submit("/dashboard/sample", at="/dashboard/")

    assert large.status_code == 303
    assert refused.status_code == 422
    assert "This workspace may publish 100 bytes per second" in refused.text
    assert sample.status_code == 429
    assert len((await traffic.get("/v1/events"))["data"]) == 1


async def test_who_may_only_look_changes_nothing(browse_as: BrowseAs, traffic: Traffic) -> None:
    """No buttons, and their forms are refused; publishing is for those who may publish by the API."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish()
    await traffic.attempt(endpoint, Settle.DEAD)
    path = f"{LIST}/{event['id']}"
    viewer, operator = await browse_as("viewer"), await browse_as("operator")

    for action in ("retry", "cancel", "erase"):
        assert f"{path}/{action}" not in (await viewer.get(path)).text
        assert (await viewer.submit(f"{path}/{action}", at=path)).status_code == 403
    assert (await operator.get(f"{LIST}/new")).status_code == 403
    assert (
        await operator.submit(LIST, at=path, type="a", application="default", data="1")
    ).status_code == 403
    assert f"{path}/erase" not in (await operator.get(path)).text
    assert (await traffic.delivery_of(event))["state"] == "dead"


async def _states(traffic: Traffic, event: dict[str, Any]) -> dict[str, str]:
    found = (await traffic.get(f"/v1/events/{event['id']}/deliveries"))["data"]
    return {each["endpoint"]["id"]: each["state"] for each in found}


async def test_an_event_is_tried_on_one_endpoint(owner: Browser, traffic: Traffic) -> None:
    """As a test: a copy for that endpoint alone, also one that did not match; the event itself stays as it is."""
    await traffic.endpoint()
    other = await traffic.endpoint(event_types=["user.*"])
    event = await traffic.publish(data={"order": 7})
    path = f"{LIST}/{event['id']}"
    assert (await owner.submit(f"{path}/test", at=path)).status_code == 404
    assert (await owner.submit(f"{path}/test", at=path, endpoint="ep_nothing")).status_code == 404
    assert 'form="as-test"' in (await owner.get(path)).text

    answer = await owner.submit(f"{path}/test", at=path, endpoint=other["id"])

    assert answer.headers["location"].startswith(f"/dashboard/endpoints/{other['id']}/test?sent=dlv_")
    (claimed,) = await traffic.claim(other)
    assert claimed.event_id != uuid_of(event)
    await traffic.finish(claimed)
    assert "&#34;order&#34;" in (await owner.get(answer.headers["location"])).text
    assert (await traffic.delivery_of(event))["state"] == "pending"


async def test_without_data_there_is_nothing_to_test_with(owner: Browser, traffic: Traffic) -> None:
    """The buttons are absent, and the form says why."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish()
    path = f"{LIST}/{event['id']}"
    await traffic.client.delete(f"/v1/events/{event['id']}/data", headers=traffic.headers)

    answer = await owner.submit(f"{path}/test", at=path, endpoint=endpoint["id"])

    assert answer.status_code == 404
    assert "there is nothing to test with" in answer.text
    assert "as-test" not in (await owner.get(path)).text
