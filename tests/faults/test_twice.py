"""Row 26 of the fault tests: two beats, two workers and two upkeeps at once have no double effect."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from app.core import ids
from app.core.queue import QUEUE, UPKEEP_TASK, make_celery
from app.core.settings import Settings
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.harness.stack import Endpoint

pytestmark = pytest.mark.faults

# Eight each: ten failures in a row would open an endpoint's circuit.
ENDPOINTS, EVENTS = 25, 200
UPKEEPS = 20
HELD = 10
BOUND_SECONDS = 60.0
# All partitions with their bounds.
PARTITIONS = (
    "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_class c WHERE c.relispartition"
    " AND c.relkind = 'r' ORDER BY 1"
)


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """Two of everything that may run twice."""
    async with open_scene(workers=2, beats=2) as scene:
        yield scene


async def test_two_beats_and_two_workers_make_each_attempt_once(scene: Scene) -> None:
    """With two beats, two workers and upkeep all the while, each delivery has its two attempts and no more."""
    types = [f"twice.{n}" for n in range(ENDPOINTS)]
    endpoints = [
        await scene.stack.create_endpoint(f"/{one}", event_types=[one], retry_schedule=[0, 0, 0])
        for one in types
    ]
    for endpoint in endpoints:
        await scene.receiver.behave(endpoint.path, statuses=[503, 200])
    load = asyncio.create_task(scene.publisher.publish_many(EVENTS, event_types=types))
    for _ in range(UPKEEPS):
        await _ask_for_upkeep(scene)

    published = await load

    await scene.checker.check()
    assert len(published) == EVENTS
    histories = [history for endpoint in endpoints for history in _histories(scene, endpoint)]
    assert histories == [((1, "failed"), (2, "succeeded"))] * EVENTS


async def test_upkeeps_at_once_do_each_duty_once(scene: Scene) -> None:
    """Many upkeeps at once make a missing partition once and correct a wrong counter once, without a failure."""
    stack = scene.stack
    endpoint = await stack.create_endpoint("/upkeep", event_types=["upkeep.*"])
    before = stack.sql(PARTITIONS)
    name = max(partition for partition, _ in before if partition.startswith("events_p"))
    stack.sql(f"DROP TABLE {name}")
    stack.sql(
        "UPDATE endpoint_runtime SET in_flight = 3 WHERE endpoint_id = %s",
        [ids.from_text(ids.ENDPOINT, endpoint.id)],
    )

    await asyncio.gather(*(_ask_for_upkeep(scene) for _ in range(UPKEEPS)))

    await wait_until(
        lambda: stack.sql(PARTITIONS) == before, seconds=BOUND_SECONDS, what="the partition is there again"
    )
    await scene.checker.settle(seconds=BOUND_SECONDS)
    log = "".join(worker.whole_log() for worker in stack.workers)
    assert "upkeep.duty_failed" not in log
    assert log.count("upkeep.counter_wrong") == 1
    scene.checker.expect_wrong_counters(1)


async def test_a_lost_lease_is_swept_once(scene: Scene) -> None:
    """Two workers that see the same leases end take each of them up once, with one attempt `unknown`."""
    stack, receiver = scene.stack, scene.receiver
    # Longer than it takes on a busy machine until all are held and both workers are dead: none may time out before.
    endpoint = await stack.create_endpoint(
        "/swept", event_types=["swept.*"], max_in_flight=HELD, timeout_seconds=15
    )
    await receiver.behave("/swept", hold=True)
    await scene.publisher.publish_many(HELD, event_types=["swept.one"])
    await receiver.wait_for(lambda: receiver.in_progress() == HELD, seconds=BOUND_SECONDS, what="a full cap")
    lost = scene.checker.leased_events()
    scene.checker.explain(lost)

    # The leases are spread over both: both die, and two others sweep.
    for worker in stack.workers:
        worker.kill_tree()
    stack.workers = [stack.start_worker(), stack.start_worker()]
    await receiver.behave("/swept")

    await receiver.wait_for(lambda: lost <= receiver.succeeded(), seconds=BOUND_SECONDS, what="all came")
    await scene.checker.check()
    assert _histories(scene, endpoint) == [((1, "unknown"), (2, "succeeded"))] * HELD


async def _ask_for_upkeep(scene: Scene) -> None:
    """Send what beat sends."""
    celery = make_celery(Settings(broker_url=scene.stack.broker_url))

    def send() -> None:
        celery.send_task(UPKEEP_TASK, queue=QUEUE, ignore_result=True)

    try:
        await asyncio.to_thread(send)
    finally:
        celery.close()


def _histories(scene: Scene, endpoint: Endpoint) -> list[tuple[tuple[int, str], ...]]:
    """Return, for each delivery to an endpoint, its attempts as (number, outcome)."""
    rows = scene.stack.sql(
        "SELECT array_agg(number ORDER BY number), array_agg(outcome ORDER BY number) FROM attempts"
        " WHERE endpoint_id = %s GROUP BY delivery_id",
        [ids.from_text(ids.ENDPOINT, endpoint.id)],
    )
    return [tuple(zip(numbers, outcomes, strict=True)) for numbers, outcomes in rows]
