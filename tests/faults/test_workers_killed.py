"""Rows 1 and 2 of the fault tests: worker processes that die with requests in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.core import ids
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.stack import LEASE_SECONDS, Endpoint, monotonic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.faults

ENDPOINTS = 20
CAP = 10  # The cap of an endpoint as shipped.
IN_FLIGHT = ENDPOINTS * CAP
# What the report promises is the lease and 5 s; tests wait ten times as long.
REDELIVERY_SECONDS = 10 * (LEASE_SECONDS + 5)
REQUESTS_SECONDS = 30.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One worker with one child; all endpoints are on one host, so its limit must not be in the way."""
    settings = {"BELLWIRE_WORKER_HOST_LIMIT": "400", "BELLWIRE_WORKER_SLOTS": "400"}
    async with open_scene(settings=settings) as scene:
        yield scene


async def test_killed_child_loses_nothing(scene: Scene) -> None:
    """What a killed worker child had in flight is sent again, and the attempt that it lost is on record."""
    stack, receiver = scene.stack, scene.receiver
    endpoint = await stack.create_endpoint("/child", event_types=["child.*"], max_in_flight=CAP)
    await receiver.behave("/child", hold=True)
    await scene.publisher.publish_many(2 * CAP, event_types=["child.killed"])
    await receiver.wait_for(
        lambda: receiver.in_progress() == CAP, seconds=REQUESTS_SECONDS, what="a full cap"
    )
    lost = scene.checker.leased_events()
    scene.checker.explain(lost)

    (drain,) = stack.drains_of(stack.workers[0])
    drain.kill()
    killed_at = monotonic()
    await receiver.behave("/child")

    await receiver.wait_for(
        lambda: lost <= receiver.succeeded(),
        seconds=REDELIVERY_SECONDS,
        what="the lost deliveries came again",
    )
    await scene.checker.check()
    assert len(lost) == CAP
    assert stack.workers[0].is_running(), "the parent replaces a dead child and stays"
    assert _outcomes(scene, endpoint, lost) == {("unknown", "succeeded")}
    assert all(receiver.of(event)[-1].at > killed_at for event in lost)


async def test_killed_worker_loses_none_of_200(scene: Scene) -> None:
    """A worker that is killed with all its children and 200 requests in flight loses none of them."""
    stack, receiver = scene.stack, scene.receiver
    endpoints = [
        await stack.create_endpoint(f"/many-{n}", event_types=[f"many.{n}"], max_in_flight=CAP)
        for n in range(ENDPOINTS)
    ]
    types = [f"many.{n}" for n in range(ENDPOINTS)]
    for endpoint in endpoints:
        await receiver.behave(endpoint.path, hold=True)
    await scene.publisher.publish_many(IN_FLIGHT, event_types=types, at_once=16)
    await receiver.wait_for(
        lambda: receiver.in_progress() == IN_FLIGHT, seconds=REQUESTS_SECONDS, what="200 requests in flight"
    )
    lost = scene.checker.leased_events()
    scene.checker.explain(lost)

    stack.workers[0].kill_tree()
    for endpoint in endpoints:
        await receiver.behave(endpoint.path)
    await stack.restore_workers()

    await receiver.wait_for(
        lambda: lost <= receiver.succeeded(), seconds=REDELIVERY_SECONDS, what="all 200 came again"
    )
    await scene.checker.check()
    assert len(lost) == IN_FLIGHT
    assert {outcome for endpoint in endpoints for outcome in _outcomes(scene, endpoint, lost)} == {
        ("unknown", "succeeded")
    }


def _outcomes(scene: Scene, endpoint: Endpoint, events: set[str]) -> set[tuple[str, ...]]:
    """Return the different histories of these events' deliveries to an endpoint: outcomes in order."""
    rows = scene.stack.sql(
        "SELECT event_id, array_agg(outcome ORDER BY number) FROM attempts WHERE endpoint_id = %s GROUP BY 1",
        [ids.from_text(ids.ENDPOINT, endpoint.id)],
    )
    return {tuple(outcomes) for event, outcomes in rows if ids.to_text(ids.EVENT, event) in events}
