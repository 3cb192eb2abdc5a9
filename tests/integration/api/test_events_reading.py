"""Reading events, their deliveries, and erasing their data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from tests.integration.api.traffic import Traffic, uuid_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx2
    from fastapi import FastAPI

    from tests.integration.api.conftest import MakeKey

EVENTS = "/v1/events"


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def listed(traffic: Traffic, **params: Any) -> list[str]:
    """The ids of a list."""
    answer = await traffic.client.get(EVENTS, params=params, headers=traffic.headers)
    assert answer.status_code == 200, answer.text
    return [event["id"] for event in answer.json()["data"]]


async def test_list_is_newest_first_without_data(traffic: Traffic) -> None:
    """Each as it was answered when it was published."""
    made = [await traffic.publish(uid=f"u{n}") for n in range(3)]
    answer = await traffic.get(EVENTS)
    assert answer == {"data": made[::-1], "next_cursor": None, "prev_cursor": None}


async def test_list_is_paged_both_ways(traffic: Traffic) -> None:
    """Following `next_cursor` meets each event once; `prev_cursor` leads back."""
    made = [(await traffic.publish())["id"] for _ in range(5)][::-1]
    first = await traffic.get(f"{EVENTS}?limit=2")
    second = await traffic.get(f"{EVENTS}?limit=2&cursor={first['next_cursor']}")
    third = await traffic.get(f"{EVENTS}?limit=2&cursor={second['next_cursor']}")
    back = await traffic.get(f"{EVENTS}?limit=2&cursor={second['prev_cursor']}")
    pages = [[event["id"] for event in page["data"]] for page in (first, second, third, back)]
    assert pages == [made[:2], made[2:4], made[4:], made[:2]]
    assert third["next_cursor"] is None


async def test_filters_select(traffic: Traffic) -> None:
    """Each filter alone, and two together."""
    await traffic.post("/v1/applications", {"name": "Shop", "uid": "shop"}, status=201)
    a = await traffic.publish("order.placed", uid="u1", correlation_id="c1")
    b = await traffic.publish("order.changed", correlation_id="c1")
    c = await traffic.publish("order.placed", uid="u1", application="shop")
    found = {
        "type": await listed(traffic, type="order.placed"),
        "uid": await listed(traffic, uid="u1"),
        "correlation_id": await listed(traffic, correlation_id="c1"),
        "application": await listed(traffic, application="shop"),
        "two": await listed(traffic, uid="u1", application="default"),
        "from": await listed(traffic, **{"created_at[gte]": c["created_at"]}),
        "until": await listed(traffic, **{"created_at[lt]": b["created_at"]}),
        "none": await listed(traffic, type="order"),
    }
    assert found == {
        "type": [c["id"], a["id"]],
        "uid": [c["id"], a["id"]],
        "correlation_id": [b["id"], a["id"]],
        "application": [c["id"]],
        "two": [a["id"]],
        "from": [c["id"]],
        "until": [a["id"]],
        "none": [],
    }


async def test_tests_are_not_listed(traffic: Traffic) -> None:
    """A test delivery's event is seen through its delivery only."""
    endpoint = await traffic.endpoint()
    await traffic.post(f"/v1/endpoints/{endpoint['id']}/test", {}, status=202)
    assert await listed(traffic) == []


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("limit=0", 422),
        ("limit=251", 422),
        ("cursor=x", 422),
        ("types=a", 422),
        ("created_at[gte]=yesterday", 422),
        ("created_at[lt]=2026-01-31T12:00:00", 422),
        ("uid=%00", 422),
        ("application=nobody", 404),
    ],
)
async def test_bad_queries_are_refused(traffic: Traffic, query: str, status: int) -> None:
    """A filter that does not exist, or a value that cannot be, is not ignored."""
    refused = await traffic.get(f"{EVENTS}?{query}", status=status)
    assert refused["type"] == ("/problems/invalid" if status == 422 else "/problems/not-found")


async def test_who_may_read(
    traffic: Traffic,
    make_key: MakeKey,
    headers: Callable[[str], dict[str, str]],
    other_admin: dict[str, str],
) -> None:
    """Readers of the workspace; a bound key sees its application's events only; a publisher none."""
    await traffic.post("/v1/applications", {"name": "Shop", "uid": "shop"}, status=201)
    mine = await traffic.publish()
    shops = await traffic.publish(application="shop")
    bound = headers(await make_key("viewer", application="shop"))
    publisher = headers(await make_key("publisher"))
    viewer = headers(await make_key("viewer"))

    async def statuses(caller: dict[str, str]) -> list[int]:
        paths = [
            EVENTS,
            *(f"{EVENTS}/{e['id']}{tail}" for e in (mine, shops) for tail in ("", "/deliveries")),
        ]
        return [(await traffic.client.get(path, headers=caller)).status_code for path in paths]

    assert await statuses(viewer) == [200] * 5
    assert await statuses(bound) == [200, 404, 404, 200, 200]
    assert await statuses(other_admin) == [200, 404, 404, 404, 404]
    assert await statuses(publisher) == [403] * 5
    assert await statuses({}) == [401] * 5
    assert await listed(Traffic(traffic.app, traffic.client, bound)) == [shops["id"]]
    assert await listed(Traffic(traffic.app, traffic.client, other_admin)) == []


@pytest.mark.parametrize("event_id", ["evt_x", "x", "app_01m820pnrqe22ajshqxky75d5v", "evt_" + "z" * 26])
async def test_ids_that_are_none_are_404(traffic: Traffic, event_id: str) -> None:
    """For every route of one event."""
    await traffic.get(f"{EVENTS}/{event_id}", status=404)
    await traffic.get(f"{EVENTS}/{event_id}/deliveries", status=404)
    erased = await traffic.client.delete(f"{EVENTS}/{event_id}/data", headers=traffic.headers)
    assert erased.status_code == 404


async def test_deliveries_of_one_event(traffic: Traffic) -> None:
    """One for each endpoint that matched, and none of another event."""
    endpoints = [await traffic.endpoint() for _ in range(2)]
    event = await traffic.publish()
    await traffic.publish()
    found = (await traffic.get(f"{EVENTS}/{event['id']}/deliveries"))["data"]
    assert {delivery["endpoint"]["id"] for delivery in found} == {endpoint["id"] for endpoint in endpoints}
    assert {delivery["event"]["id"] for delivery in found} == {event["id"]}
    assert {delivery["state"] for delivery in found} == {"pending"}


async def test_erasing_removes_the_data_for_good(traffic: Traffic) -> None:
    """204, then the data is null, what was pending is cancelled, it is on the audit log; a second time is 404."""
    endpoint = await traffic.endpoint()
    event = await traffic.publish(data={"secret": "of a person"}, uid="u")
    other = await traffic.publish()
    path = f"{EVENTS}/{event['id']}/data"
    answer = await traffic.client.delete(path, headers=traffic.headers)
    again = await traffic.client.delete(path, headers=traffic.headers)
    shown = await traffic.get(f"{EVENTS}/{event['id']}")
    delivery = await traffic.delivery_of(event)
    claimed = await traffic.claim(endpoint)
    (entry,) = [
        entry
        for entry in (await traffic.get("/v1/audit-log"))["data"]
        if entry["action"] == "event.data_erased"
    ]
    async with traffic.app.state.runtime.engine.connect() as connection:
        left = await connection.scalar(text("SELECT count(*) FROM events WHERE data IS NOT NULL"))
    assert (answer.status_code, answer.content, again.status_code) == (204, b"", 404)
    assert (shown["data"], shown["uid"], shown["type"]) == (None, "u", "order.placed")
    assert shown["data_erased_at"].endswith("Z")
    assert delivery["state"] == "cancelled"
    assert [item.event_id for item in claimed] == [uuid_of(other)]
    assert left == 1
    assert str(entry).find("of a person") == -1
    assert event["id"] in str(entry)


async def test_erasing_is_for_admins(
    traffic: Traffic, make_key: MakeKey, headers: Callable[[str], dict[str, str]]
) -> None:
    """Nobody else may, and then nothing is erased."""
    event = await traffic.publish()
    for role in ("operator", "publisher", "viewer"):
        answer = await traffic.client.delete(
            f"{EVENTS}/{event['id']}/data", headers=headers(await make_key(role))
        )
        assert answer.status_code == 403
    assert (await traffic.get(f"{EVENTS}/{event['id']}"))["data"] == {"n": 1}


async def test_repeat_of_an_erased_event_stays_erased(traffic: Traffic) -> None:
    """The same uid and content again is the first event, whose data does not come back."""
    event = await traffic.publish(uid="u")
    await traffic.client.delete(f"{EVENTS}/{event['id']}/data", headers=traffic.headers)
    again = await traffic.post(EVENTS, {"type": "order.placed", "data": {"n": 1}, "uid": "u"}, status=200)
    assert again["id"] == event["id"]
    assert (await traffic.get(f"{EVENTS}/{event['id']}"))["data"] is None
