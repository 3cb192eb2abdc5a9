"""Row 13 of the fault tests: a lease runs out while its request is still under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app.core import ids
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.stack import LEASE_SECONDS
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.harness.stack import Endpoint

pytestmark = pytest.mark.faults

HELD = 5
SWEPT_SECONDS = 10 * LEASE_SECONDS
BOUND_SECONDS = 60.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One of each but beat."""
    async with open_scene(beats=0) as scene:
        yield scene


@pytest.mark.parametrize(("status", "outcome"), [(200, "succeeded"), (410, "failed")])
async def test_late_result_changes_nothing_and_is_kept(scene: Scene, status: int, outcome: str) -> None:
    """An answer that comes after the lease is an attempt and nothing else: no success, and no goodbye of the receiver."""
    stack, receiver = scene.stack, scene.receiver
    path = f"/late-{status}"
    endpoint = await stack.create_endpoint(path, event_types=[f"late.{status}"], timeout_seconds=30)
    await receiver.behave(path, hold=True)
    event = await scene.publisher.publish(f"late.{status}")
    assert event is not None
    await receiver.wait_for(lambda: receiver.of(event.id), seconds=BOUND_SECONDS, what="the request")

    # As if it had taken longer than the lease: thirty seconds and more.
    stack.sql("UPDATE delivery_queue SET lease_until = now() WHERE state = 1")
    await wait_until(
        lambda: _history(scene, endpoint), seconds=SWEPT_SECONDS, what="the sweep has given the lease up"
    )
    await receiver.release(path, status=status)
    await wait_until(
        lambda: len(_history(scene, endpoint)) == 2, seconds=BOUND_SECONDS, what="the late result is kept"
    )

    await receiver.wait_for(
        lambda: len(receiver.of(event.id)) == 2, seconds=BOUND_SECONDS, what="it is sent again"
    )
    late = [(1, outcome, True), (1, "unknown", False)]
    assert _history(scene, endpoint) == late
    (shown,) = await stack.list_all("/v1/deliveries", endpoint=endpoint.id)
    assert (shown["state"], shown["attempt_count"], shown["last_status"]) == ("sending", 1, None)
    await receiver.behave(path)
    await receiver.release(path, status=500)
    scene.checker.explain({event.id})
    await scene.checker.check()
    assert _history(scene, endpoint) == [*late, (2, "failed", False), (3, "succeeded", False)]
    shown = (await stack.client.get(f"/v1/endpoints/{endpoint.id}")).json()
    assert shown["enabled"] is True
    assert "record.stale_results" in stack.workers[0].whole_log()


async def test_worker_frozen_past_its_leases_overwrites_nothing(scene: Scene) -> None:
    """What a frozen worker held is sent again by another; when it wakes up, its results are kept as stale attempts."""
    stack, receiver = scene.stack, scene.receiver
    # Twice as many may be in flight: what a frozen worker has left behind still occupies the receiver.
    endpoint = await stack.create_endpoint("/frozen", event_types=["frozen.*"], max_in_flight=2 * HELD)
    await receiver.behave("/frozen", hold=True)
    frozen = stack.workers[0]
    published = await scene.publisher.publish_many(HELD, event_types=["frozen.one"])
    events = {event.id for event in published}
    await receiver.wait_for(
        lambda: events <= receiver.received(), seconds=BOUND_SECONDS, what="the requests arrive"
    )
    frozen.freeze()
    # What was in flight at that moment; a request may have timed out in a process that was slow to freeze.
    lost = scene.checker.leased_events()
    scene.checker.explain(events)
    await receiver.behave("/frozen")

    stack.workers.append(stack.start_worker())
    await receiver.wait_for(
        lambda: events <= receiver.succeeded(), seconds=SWEPT_SECONDS, what="another worker sends them"
    )
    await wait_until(
        lambda: _states(scene, endpoint) == ["succeeded"] * HELD, seconds=BOUND_SECONDS, what="all recorded"
    )
    await receiver.release("/frozen")
    frozen.thaw()

    await wait_until(
        lambda: len(_history(scene, endpoint)) == 3 * HELD,
        seconds=BOUND_SECONDS,
        what="late results are kept",
    )
    await scene.checker.check()
    assert len(lost) == HELD
    assert _states(scene, endpoint) == ["succeeded"] * HELD
    history = _history(scene, endpoint)
    # Whether it reads the answer first or sees first that its time is over is the woken process's affair.
    assert [number for number, _, stale in history if stale] == [1] * HELD
    kept = [(number, outcome) for number, outcome, stale in history if not stale]
    assert kept == [(1, "unknown")] * HELD + [(2, "succeeded")] * HELD


def _history(scene: Scene, endpoint: Endpoint) -> list[tuple[int, str, bool]]:
    """Return all attempts at an endpoint as (number, outcome, stale), sorted."""
    return [
        tuple(row)
        for row in scene.stack.sql(
            "SELECT number, outcome, stale FROM attempts WHERE endpoint_id = %s ORDER BY number, outcome, stale",
            [ids.from_text(ids.ENDPOINT, endpoint.id)],
        )
    ]


def _states(scene: Scene, endpoint: Endpoint) -> list[str]:
    rows = scene.stack.sql(
        "SELECT state FROM deliveries WHERE endpoint_id = %s", [ids.from_text(ids.ENDPOINT, endpoint.id)]
    )
    return [state for (state,) in rows]
