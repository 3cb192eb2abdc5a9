"""`/v1/attempts` (the delivery log) and `/v1/stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from app.deliveries.record import Settle
from tests.integration.api.traffic import URL, Traffic

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def only_attempt(traffic: Traffic) -> dict[str, Any]:
    """Return the one attempt there is."""
    (found,) = (await traffic.get("/v1/attempts"))["data"]
    return found


async def test_attempt_shows_everything(traffic: Traffic) -> None:
    """What was sent, what came back, how long each phase took, over which connection, and why it failed."""
    made = await traffic.endpoint()
    event = await traffic.publish()
    delivery = await traffic.delivery_of(event)
    await traffic.attempt(
        made,
        Settle.RETRY,
        queue_ms=3.5,
        dns_ms=1.25,
        connect_ms=2.5,
        send_ms=0.1,
        wait_ms=7.7,
        receive_ms=0.2,
        response_headers=orjson.dumps([["set-cookie", "a=1"], ["set-cookie", "b=2"], ["server", "x"]]),
        response_body=b"busy \xff",
        response_body_truncated=True,
        ip="198.51.100.7",
        http_version="1.1",
        tls_version="TLSv1.3",
        certificate_expires_at=1_800_000_000,
        connection_reused=True,
        note="A note.",
    )
    shown = await only_attempt(traffic)
    assert shown.pop("id").startswith("att_")
    assert shown.pop("started_at").endswith("Z")
    assert shown == {
        "delivery": delivery["id"],
        "endpoint": made["id"],
        "event": {"id": event["id"], "type": "order.placed"},
        "number": 1,
        "trigger": "scheduled",
        "outcome": "failed",
        "stale": False,
        "duration_ms": 12.5,
        "timing": {
            "queue_ms": 3.5,
            "dns_ms": 1.25,
            "connect_ms": 2.5,
            "tls_ms": None,
            "send_ms": 0.1,
            "wait_ms": 7.7,
            "receive_ms": 0.2,
        },
        "request": {
            "method": "POST",
            "url": URL,
            "headers": {"webhook-id": "evt_x", "authorization": "***"},
        },
        "response": {
            "status": 503,
            "headers": {"set-cookie": "a=1, b=2", "server": "x"},
            "body": "busy \ufffd",
            "body_truncated": True,
        },
        "error": {
            "class": "http_5xx",
            "message": "The receiver failed while it handled the request.",
            "hint": "Search the receiver's logs for the webhook-id of this delivery.",
        },
        "connection": {
            "ip": "198.51.100.7",
            "http_version": "1.1",
            "tls_version": "TLSv1.3",
            "certificate_expires_at": "2027-01-15T08:00:00.000000Z",
            "reused": True,
        },
        "note": "A note.",
        "worker": "worker-1:1",
    }


async def test_attempt_without_a_response(traffic: Traffic) -> None:
    """Nothing is invented where nothing came: no response, no connection."""
    made = await traffic.endpoint()
    await traffic.publish()
    await traffic.attempt(
        made,
        Settle.RETRY,
        response_status=None,
        error_class="blocked_address",
        error_message=None,
        request_headers=None,
        duration_ms=None,
    )
    shown = await only_attempt(traffic)
    assert (shown["response"], shown["connection"], shown["duration_ms"]) == (None, None, None)
    assert shown["request"]["headers"] == {}
    assert shown["error"]["class"] == "blocked_address"
    assert shown["error"]["message"]
    assert "BELLWIRE_EGRESS_ALLOW" in shown["error"]["hint"]


async def test_hint_is_finer_by_status(traffic: Traffic) -> None:
    """A 401 gets the advice for a 401."""
    made = await traffic.endpoint()
    await traffic.publish()
    await traffic.attempt(made, Settle.RETRY, response_status=401, error_class="http_4xx")
    assert "auth header" in (await only_attempt(traffic))["error"]["hint"]


async def test_one_attempt_by_id(traffic: Traffic, other_admin: dict[str, str]) -> None:
    """It can be looked up by its id, in its own workspace only."""
    made = await traffic.endpoint()
    await traffic.publish()
    await traffic.attempt(made)
    shown = await only_attempt(traffic)
    path = f"/v1/attempts/{shown['id']}"
    assert await traffic.get(path) == shown
    assert shown["error"] is None
    await traffic.get("/v1/attempts/att_nonsense", status=404)
    assert (await traffic.client.get(path, headers=other_admin)).status_code == 404
    assert (await traffic.client.get("/v1/attempts", headers=other_admin)).json()["data"] == []


async def test_query_string_is_hidden_from_viewers(traffic: Traffic, make_key: Any, headers: Any) -> None:
    """The URL that was sent to may hold a credential."""
    made = await traffic.endpoint(url=f"{URL}?token=abc")
    await traffic.publish()
    await traffic.attempt(made, request_url=f"{URL}?token=abc")
    viewer = headers(await make_key("viewer"))
    answer = await traffic.client.get("/v1/attempts", headers=viewer)
    assert answer.json()["data"][0]["request"]["url"] == f"{URL}?***"
    assert "abc" not in answer.text


async def test_attempts_of_a_delivery_are_oldest_first(traffic: Traffic) -> None:
    """They tell the story from its beginning, page by page."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    path = f"/v1/deliveries/{delivery['id']}"
    for _ in range(3):
        await traffic.attempt(made, Settle.RETRY)
        await traffic.post(f"{path}/retry", status=202)
    first = await traffic.get(f"{path}/attempts?limit=2")
    second = await traffic.get(f"{path}/attempts?limit=2&cursor={first['next_cursor']}")
    back = await traffic.get(f"{path}/attempts?limit=2&cursor={second['prev_cursor']}")
    assert [row["number"] for row in (*first["data"], *second["data"])] == [1, 2, 3]
    assert (second["next_cursor"], first["prev_cursor"]) == (None, None)
    assert back["data"] == first["data"]


async def test_lists_filter(traffic: Traffic) -> None:
    """With the filters of deliveries, and by delivery, outcome and trigger."""
    one, two = await traffic.endpoint(), await traffic.endpoint(event_types=["user.*"])
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(one, Settle.RETRY)
    await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=202)
    await traffic.attempt(one, Settle.SUCCEEDED)
    await traffic.post(f"/v1/endpoints/{two['id']}/test", status=202)
    await traffic.attempt(
        two, Settle.DEAD, event_type="bellwire.test", response_status=404, error_class="http_4xx"
    )

    async def listed(query: str) -> list[tuple[str, int]]:
        page = await traffic.get(f"/v1/attempts?{query}")
        return [(row["trigger"], row["number"]) for row in page["data"]]

    scheduled, manual, test = ("scheduled", 1), ("manual", 2), ("test", 1)
    assert await listed("") == [test, manual, scheduled]
    assert await listed(f"delivery={delivery['id']}") == [manual, scheduled]
    assert await listed(f"endpoint={two['id']}") == [test]
    assert await listed("type=bellwire.test") == [test]
    assert await listed("outcome=succeeded") == [manual]
    assert await listed("trigger=scheduled") == [scheduled]
    assert await listed("status_class=5xx") == [scheduled]
    assert await listed("error_class=http_4xx") == [test]
    assert await listed("state=succeeded") == [manual, scheduled]
    assert await listed("application=default&outcome=failed") == [test, scheduled]
    first = (await traffic.get("/v1/attempts"))["data"][2]
    assert await listed(f"created_at[lt]={first['started_at']}") == []
    assert len(await listed(f"created_at[gte]={first['started_at']}")) == 3
    await traffic.get("/v1/attempts?colour=red", status=422)
    await traffic.get("/v1/attempts?outcome=odd", status=422)
    await traffic.get("/v1/attempts?delivery=dlv_none", status=404)


async def test_statistics_of_the_workspace(traffic: Traffic) -> None:
    """Totals, both success rates, percentiles, the queue, and a series that adds up."""
    await traffic.post("/v1/applications", {"name": "Other", "uid": "other"}, status=201)
    made, paused = await traffic.endpoint(), await traffic.endpoint(application="other")
    for _ in range(5):
        await traffic.publish()
    await traffic.post(f"/v1/endpoints/{paused['id']}/pause", status=200)
    await traffic.publish(application="other")
    for settle in (Settle.SUCCEEDED, Settle.SUCCEEDED, Settle.DEAD, Settle.RETRY):
        await traffic.attempt(made, settle)
    stats = await traffic.get("/v1/stats?window=15m")
    assert stats["totals"] == {
        "events": 6,
        "deliveries": 6,
        "pending": 3,
        "succeeded": 2,
        "dead": 1,
        "cancelled": 0,
        "attempts": 4,
    }
    assert stats["success_rate"] == {"first_try": 0.5, "eventual": pytest.approx(2 / 3)}
    assert stats["duration_ms"]["p50"] == 12.5
    assert stats["latency_ms"]["p99"] > 0
    queue = stats["queue"]
    assert (queue["due"], queue["scheduled"], queue["blocked"], queue["in_flight"]) == (1, 1, 1, 0)
    assert queue["oldest_due_seconds"] >= 0
    assert stats["step"] == "minute"
    assert 15 <= len(stats["series"]) <= 16
    assert sum(point["succeeded"] for point in stats["series"]) == 2
    assert sum(point["failed"] for point in stats["series"]) == 2
    other = await traffic.get("/v1/stats?window=7d&application=other")
    assert (other["totals"]["events"], other["totals"]["attempts"], other["step"]) == (1, 0, "hour")
    assert other["success_rate"] == {"first_try": None, "eventual": None}
    await traffic.get("/v1/stats?window=1y", status=422)
    await traffic.get("/v1/stats?application=none", status=404)
