"""What happens when several do something to one endpoint or delivery at the same moment."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app.deliveries import cancel
from app.deliveries.record import Settle
from tests.integration.api.traffic import Traffic
from workers.upkeep.orphans import cancel_orphans

if TYPE_CHECKING:
    import httpx2
    from fastapi import FastAPI

WAITING_FOR_A_LOCK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
# A pending delivery has a queue row, and no other has one.
OUT_OF_STEP = (
    "SELECT count(*) FROM deliveries d LEFT JOIN delivery_queue q ON q.id = d.id"
    " WHERE (d.state = 'pending') <> (q.id IS NOT NULL)"
)


@pytest.fixture
def traffic(app: FastAPI, client: httpx2.AsyncClient, admin: dict[str, str]) -> Traffic:
    """The application, seen by an admin."""
    return Traffic(app=app, client=client, headers=admin)


async def scalar(traffic: Traffic, query: str) -> Any:
    """Read one value from the database."""
    async with traffic.app.state.runtime.engine.connect() as connection:
        return await connection.scalar(text(query))


async def statuses(traffic: Traffic, path: str, *, times: int, body: Any = None) -> Counter[int]:
    """POST the same several times at once and count the statuses."""
    calls = [traffic.client.post(path, json=body, headers=traffic.headers) for _ in range(times)]
    return Counter(answer.status_code for answer in await asyncio.gather(*calls))


async def test_rotations_at_once_leave_one_current_secret(traffic: Traffic) -> None:
    """They follow each other: one secret is current, and each of the others was retired."""
    made = await traffic.endpoint()
    path = f"/v1/endpoints/{made['id']}/secret/rotate"
    assert await statuses(traffic, path, times=6, body={"grace_seconds": 0}) == {200: 6}
    assert await scalar(traffic, "SELECT count(*) FROM endpoint_secrets WHERE expires_at IS NULL") == 1
    assert await scalar(traffic, "SELECT count(*) FROM endpoint_secrets") == 7
    assert await scalar(traffic, "SELECT settings_version FROM endpoint_runtime") == 7


async def test_retries_at_once_open_a_delivery_once(traffic: Traffic) -> None:
    """Several people press the button: there is one queue row, and the receiver gets it once."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    await traffic.attempt(made, Settle.DEAD)
    assert await statuses(traffic, f"/v1/deliveries/{delivery['id']}/retry", times=6) == {202: 6}
    assert len(await traffic.claim(made)) == 1


async def test_one_of_several_cancels_wins(traffic: Traffic) -> None:
    """The first one cancels; for the others there is nothing left to cancel."""
    await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    assert await statuses(traffic, f"/v1/deliveries/{delivery['id']}/cancel", times=4) == {200: 1, 409: 3}


async def test_cancel_waits_for_the_record_of_a_result(traffic: Traffic) -> None:
    """A cancel that comes while a result is being recorded sees that result: the delivery is final, 409."""
    made = await traffic.endpoint()
    delivery = await traffic.delivery_of(await traffic.publish())
    (claimed,) = await traffic.claim(made)
    engine = traffic.app.state.runtime.engine
    async with engine.begin() as recording:
        await recording.execute(text("SELECT 1 FROM delivery_queue FOR UPDATE"))
        path = f"/v1/deliveries/{delivery['id']}/cancel"
        asked = asyncio.create_task(traffic.client.post(path, headers=traffic.headers))
        async with asyncio.timeout(20):
            while not await scalar(traffic, WAITING_FOR_A_LOCK):
                pass
        await recording.execute(text("UPDATE deliveries SET state = 'succeeded', completed_at = now()"))
        await recording.execute(text("DELETE FROM delivery_queue WHERE id = :id"), {"id": claimed.id})
    assert (await asked).status_code == 409
    assert (await traffic.get(f"/v1/deliveries/{delivery['id']}"))["state"] == "succeeded"


async def test_everything_at_once_ends_well(traffic: Traffic) -> None:
    """Publishing, claiming, recording, changing and retrying at once: no error, no deadlock, counters right."""
    endpoints = [await traffic.endpoint() for _ in range(3)]
    await asyncio.gather(
        publish_many(traffic),
        publish_many(traffic),
        repair_many(traffic),
        *(work(traffic, endpoint) for endpoint in endpoints),
        *(change_many(traffic, endpoint) for endpoint in endpoints),
    )
    await call(traffic, "DELETE", f"/v1/endpoints/{endpoints[0]['id']}", allowed={204})
    for endpoint in endpoints[1:]:
        for claimed in await traffic.claim(endpoint, most=100):
            await traffic.finish(claimed)
    assert await scalar(traffic, "SELECT sum(in_flight) FROM endpoint_runtime") == 0
    assert await scalar(traffic, OUT_OF_STEP) == 0


async def test_long_backlog_of_a_deleted_endpoint_is_cancelled_by_upkeep(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request cancels so much and no more, what is being sent first; upkeep does the rest."""
    monkeypatch.setattr(cancel, "MOST_AT_ONCE", 2)
    made = await traffic.endpoint()
    for _ in range(4):
        await traffic.publish()
    last = (await traffic.claim(made))[-1]
    await traffic.finish(last)
    for _ in range(3):
        await traffic.publish()
    answer = await traffic.client.delete(f"/v1/endpoints/{made['id']}", headers=traffic.headers)
    assert answer.status_code == 204
    assert await scalar(traffic, "SELECT count(*) FROM delivery_queue WHERE cancel_requested") == 2
    runtime = traffic.app.state.runtime
    async with runtime.engine.begin() as connection:
        assert await cancel_orphans(connection, settings=runtime.settings) == 3
    states = (await traffic.get("/v1/deliveries"))["data"]
    assert Counter(row["state"] for row in states) == {"sending": 3, "succeeded": 1, "cancelled": 3}


async def call(traffic: Traffic, method: str, path: str, *, allowed: set[int], body: Any = None) -> None:
    """Call the API; any other status than these fails the test."""
    answer = await traffic.client.request(method, path, json=body, headers=traffic.headers)
    assert answer.status_code in allowed, f"{method} {path}: {answer.status_code} {answer.text}"


async def publish_many(traffic: Traffic) -> None:
    """Publish events one after another."""
    for _ in range(10):
        await call(traffic, "POST", "/v1/events", body={"type": "order.placed", "data": {}}, allowed={202})


async def work(traffic: Traffic, endpoint: dict[str, Any]) -> None:
    """Claim and record like a worker, with every kind of result."""
    for settle in (Settle.SUCCEEDED, Settle.RETRY, Settle.DEAD) * 4:
        for claimed in await traffic.claim(endpoint, most=3):
            await traffic.finish(claimed, settle)


async def change_many(traffic: Traffic, endpoint: dict[str, Any]) -> None:
    """Change an endpoint in every way that workers or publishers must see."""
    path = f"/v1/endpoints/{endpoint['id']}"
    for number in range(5):
        await call(traffic, "PATCH", path, body={"max_in_flight": 5 + number}, allowed={200})
        await call(traffic, "POST", f"{path}/disable", allowed={200})
        await call(traffic, "POST", f"{path}/secret/rotate", body={"grace_seconds": 0}, allowed={200})
        await call(traffic, "POST", f"{path}/enable", allowed={200})


async def repair_many(traffic: Traffic) -> None:
    """Retry and cancel whatever is newest."""
    for _ in range(5):
        for row in (await traffic.get("/v1/deliveries?limit=5"))["data"]:
            await call(traffic, "POST", f"/v1/deliveries/{row['id']}/retry", allowed={202, 409})
            await call(traffic, "POST", f"/v1/deliveries/{row['id']}/cancel", allowed={200, 202, 409})
