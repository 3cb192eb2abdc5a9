"""Enable, disable, pause, resume; test deliveries; statistics of an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest
from sqlalchemy import text

from app.deliveries.record import Settle
from tests.integration.api.traffic import Traffic, uuid_of

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def is_open(traffic: Traffic, endpoint: dict[str, Any]) -> bool:
    """Tell whether claims take anything of the endpoint."""
    async with traffic.app.state.runtime.engine.connect() as connection:
        return await connection.scalar(
            text("SELECT open FROM endpoint_runtime WHERE endpoint_id = :id"), {"id": uuid_of(endpoint)}
        )


async def test_disabled_endpoint_gets_nothing_new_and_keeps_what_waits(traffic: Traffic) -> None:
    """What waited stays pending without a time, until the endpoint is enabled again."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    event = await traffic.publish()
    disabled = await traffic.post(f"{path}/disable", status=200)
    assert (disabled["enabled"], disabled["backlog"]) == (False, 1)
    assert disabled["disabled_reason"].startswith("Disabled by the API key ")
    assert (await traffic.publish())["deliveries"] == 0
    assert await traffic.claim(made) == []
    waiting = await traffic.delivery_of(event)
    assert waiting["state"] == "pending"
    assert waiting["next_attempt_at"] is None
    assert waiting["waiting"] == {"reason": "endpoint_disabled", "until": None}
    enabled = await traffic.post(f"{path}/enable", status=200)
    assert (enabled["enabled"], enabled["disabled_reason"]) == (True, None)
    assert (await traffic.publish())["deliveries"] == 1
    assert len(await traffic.claim(made)) == 2


async def test_paused_endpoint_collects(traffic: Traffic) -> None:
    """Events go on collecting while nothing is sent; resuming sends them."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    assert (await traffic.post(f"{path}/pause", status=200))["paused"] is True
    event = await traffic.publish()
    assert event["deliveries"] == 1
    assert await traffic.claim(made) == []
    assert (await traffic.delivery_of(event))["waiting"] == {"reason": "endpoint_paused", "until": None}
    assert (await traffic.post(f"{path}/resume", status=200))["paused"] is False
    assert len(await traffic.claim(made)) == 1


async def test_switches_are_independent(traffic: Traffic) -> None:
    """Claims take from an endpoint that is both enabled and not paused."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    seen = [await is_open(traffic, made)]
    for switch in ("pause", "disable", "resume", "enable", "enable"):
        await traffic.post(f"{path}/{switch}", status=200)
        seen.append(await is_open(traffic, made))
    assert seen == [True, False, False, False, True, True]


async def test_closing_an_endpoint_takes_back_retries_that_were_asked_for(traffic: Traffic) -> None:
    """A retry that nobody has claimed yet does not slip out of an endpoint that was disabled after it."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.post(f"/v1/deliveries/{delivery['id']}/retry", status=202)
    await traffic.post(f"/v1/endpoints/{made['id']}/disable", status=200)
    assert await traffic.claim(made) == []


@pytest.mark.parametrize("switch", ["disable", "pause"])
async def test_test_delivery_goes_to_a_closed_endpoint(traffic: Traffic, switch: str) -> None:
    """A test ignores that the endpoint is closed, and the rest stays where it is."""
    made = await traffic.endpoint()
    await traffic.publish()
    await traffic.post(f"/v1/endpoints/{made['id']}/{switch}", status=200)
    delivery = await traffic.post(f"/v1/endpoints/{made['id']}/test", status=202)
    assert delivery["event"]["type"] == "bellwire.test"
    assert (delivery["state"], delivery["test"], delivery["waiting"]["reason"]) == ("pending", True, "queued")
    (claimed,) = await traffic.claim(made)
    assert claimed.id == uuid_of(delivery)
    await traffic.finish(claimed, event_type="bellwire.test")
    shown = await traffic.get(f"/v1/deliveries/{delivery['id']}")
    assert (shown["state"], shown["attempt_count"], shown["last_status"]) == ("succeeded", 1, 200)
    (attempt,) = (await traffic.get(f"/v1/deliveries/{delivery['id']}/attempts"))["data"]
    assert attempt["trigger"] == "test"


async def test_test_delivery_is_outside_all_figures(traffic: Traffic) -> None:
    """It is in no list of events, no statistics, no backlog, and changes no health."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}"
    await traffic.post(f"{path}/test", status=202)
    assert (await traffic.get(path))["backlog"] == 0
    await traffic.attempt(made, Settle.DEAD)
    assert (await traffic.get("/v1/events"))["data"] == []
    assert (await traffic.get(path))["health"]["consecutive_failures"] == 0
    stats = await traffic.get(f"{path}/stats")
    assert stats["attempts"] == {"succeeded": 0, "failed": 0, "unknown": 0}
    totals = (await traffic.get("/v1/stats"))["totals"]
    assert set(totals.values()) == {0}


@pytest.mark.parametrize(
    "data", [b"1.10", b"123456789012345678901234567890", b'{"a":1, "a":2}', rb'"\u0041"']
)
async def test_test_delivery_carries_the_very_bytes(traffic: Traffic, data: bytes) -> None:
    """A test shows what an event would do, so its data is not written anew."""
    made = await traffic.endpoint()
    answer = await traffic.client.post(
        f"/v1/endpoints/{made['id']}/test",
        content=b'{ "data" : ' + data + b" }",
        headers=traffic.headers | {"Content-Type": "application/json"},
    )
    assert answer.status_code == 202, answer.text
    event = await traffic.client.get(f"/v1/events/{answer.json()['event']['id']}", headers=traffic.headers)
    assert event.content.endswith(b'"data":' + data + b"}")


async def test_test_delivery_carries_what_was_given(traffic: Traffic) -> None:
    """Type and data of the request are what the receiver gets; null is data, too."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}/test"
    given = await traffic.post(path, {"type": "order.placed", "data": {"id": 42}}, status=202)
    null = await traffic.post(path, {"data": None}, status=202)
    greeting = await traffic.post(path, status=202)
    stored = []
    async with traffic.app.state.runtime.engine.connect() as connection:
        for delivery in (given, null, greeting):
            event_id = uuid_of(delivery["event"])
            raw = await connection.scalar(text("SELECT data FROM events WHERE id = :id"), {"id": event_id})
            stored.append(orjson.loads(bytes(raw)))
    assert stored[:2] == [{"id": 42}, None]
    assert "test" in stored[2]["message"]
    refused = await traffic.post(path, {"type": "order.*"}, status=422)
    assert refused["errors"][0]["pointer"] == "/type"


async def test_statistics_count_attempts(traffic: Traffic) -> None:
    """Counts by outcome, the success rate, percentiles of the duration, and what waits."""
    made = await traffic.endpoint()
    for _ in range(5):
        await traffic.publish()
    for settle, duration in (
        (Settle.SUCCEEDED, 10.0),
        (Settle.SUCCEEDED, 20.0),
        (Settle.SUCCEEDED, 30.0),
        (Settle.RETRY, 40.0),
    ):
        await traffic.attempt(made, settle, duration_ms=duration)
    stats = await traffic.get(f"/v1/endpoints/{made['id']}/stats?window=1h")
    assert stats["attempts"] == {"succeeded": 3, "failed": 1, "unknown": 0}
    assert stats["success_rate"] == 0.75
    assert stats["duration_ms"]["p50"] == 25.0
    assert 39.0 < stats["duration_ms"]["p99"] <= 40.0
    assert (stats["backlog"], stats["backlog_capped"]) == (2, False)
    assert stats["oldest_due_seconds"] >= 0
    await traffic.get(f"/v1/endpoints/{made['id']}/stats?window=15m", status=422)


async def test_statistics_of_a_quiet_endpoint_are_empty(traffic: Traffic) -> None:
    """Without attempts there is no rate and no percentile, rather than a zero."""
    made = await traffic.endpoint()
    stats = await traffic.get(f"/v1/endpoints/{made['id']}/stats")
    assert stats["window"] == "24h"
    assert stats["success_rate"] is None
    assert stats["duration_ms"] == {"p50": None, "p95": None, "p99": None}
    assert stats["oldest_due_seconds"] is None


async def test_backlog_is_counted_up_to_a_limit(traffic: Traffic) -> None:
    """It is exact up to 10,000; above it the answer says that it stopped counting."""
    made = await traffic.endpoint()
    runtime = traffic.app.state.runtime
    fill = text(
        "INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, deadline_at)"
        " SELECT gen_random_uuid(), workspace_id, application_id, endpoint_id, gen_random_uuid(),"
        " now() + interval '1 day' FROM endpoint_runtime, generate_series(1, :count)"
    )
    async with runtime.engine.begin() as connection:
        await connection.execute(fill, {"count": 10_000})
    exact = await traffic.get(f"/v1/endpoints/{made['id']}")
    async with runtime.engine.begin() as connection:
        await connection.execute(fill, {"count": 1})
    capped = await traffic.get(f"/v1/endpoints/{made['id']}")
    assert (exact["backlog"], exact["backlog_capped"]) == (10_000, False)
    assert (capped["backlog"], capped["backlog_capped"]) == (10_000, True)
