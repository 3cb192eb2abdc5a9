"""Row 14 of the fault tests: one endpoint takes every request and answers none, with a long queue behind it."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest

from app.core import ids
from tests.faults.harness.publisher import Accepted
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.stack import monotonic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.harness.stack import Endpoint

pytestmark = pytest.mark.faults

SLOTS = 256
CAP = 20
BACKLOG = 2_000
BATCH = 500
HEALTHY = 50
EVENTS = 300
# The longest that an endpoint may ask for: nothing that hangs ends while a test looks.
TIMEOUT_SECONDS = 30
BOUND_SECONDS = 60.0
# The report promises twice the time; tests allow ten times as much of both.
FACTOR = 20
ADDED_SECONDS = 1.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One worker process, so that the hanging endpoint has no other to leave in peace."""
    async with open_scene(settings={"BELLWIRE_WORKER_SLOTS": str(SLOTS)}) as scene:
        for n in range(HEALTHY):
            await scene.stack.create_endpoint(f"/healthy-{n}", event_types=[f"healthy.{n}"])
        yield scene


async def test_a_hanging_endpoint_slows_nobody_else(scene: Scene) -> None:
    """With thousands waiting for an endpoint that hangs, it holds exactly its cap, and 50 others go on as before."""
    stack, receiver = scene.stack, scene.receiver
    hanging = await _create_paused(scene, "/hanging", event_type="hanging.one", cap=CAP)
    alone = await _p95_of_the_healthy(scene)
    await _publish_batches(scene, BACKLOG, event_type="hanging.one")
    await _hang(scene, hanging, requests=CAP)

    beside = await _p95_of_the_healthy(scene)

    still_hung, still_waiting = receiver.in_progress(), _waiting(scene, hanging)
    await _end_hanging(scene, hanging)
    await scene.checker.check()
    assert len({receipt.event_id for receipt in receiver.on(hanging.path)}) == BACKLOG
    assert (still_hung, still_waiting) == (CAP, BACKLOG)
    assert max(receipt.concurrent for receipt in receiver.on(hanging.path)) == CAP
    assert beside < FACTOR * alone + ADDED_SECONDS
    rows = stack.sql("SELECT DISTINCT outcome FROM attempts")
    assert rows == [("succeeded",)]


async def test_a_hanging_endpoint_holds_a_tenth_of_a_process_at_most(scene: Scene) -> None:
    """Whatever cap an endpoint has, in one worker process it holds no more than a tenth of the slots."""
    hanging = await _create_paused(scene, "/greedy", event_type="greedy.one", cap=SLOTS)
    await _publish_batches(scene, SLOTS, event_type="greedy.one")
    await _hang(scene, hanging, requests=SLOTS // 10)

    # While these come and go the hanging endpoint is looked at again and again.
    await _p95_of_the_healthy(scene)

    still_hung = scene.receiver.in_progress()
    await _end_hanging(scene, hanging)
    await scene.checker.check()
    assert still_hung == SLOTS // 10
    assert max(receipt.concurrent for receipt in scene.receiver.on(hanging.path)) == SLOTS // 10


async def _create_paused(scene: Scene, path: str, *, event_type: str, cap: int) -> Endpoint:
    endpoint = await scene.stack.create_endpoint(
        path, event_types=[event_type], max_in_flight=cap, timeout_seconds=TIMEOUT_SECONDS
    )
    answer = await scene.stack.client.post(f"/v1/endpoints/{endpoint.id}/pause")
    assert answer.is_success, answer.text
    await scene.receiver.behave(path, hold=True)
    return endpoint


async def _publish_batches(scene: Scene, number: int, *, event_type: str) -> None:
    """Publish many events at once; the publisher knows them as if it had sent each by itself."""
    for start in range(0, number, BATCH):
        marks = [f"{event_type}-{n}" for n in range(start, min(start + BATCH, number))]
        sent_at = monotonic()
        answer = await scene.stack.client.post(
            "/v1/events/batch",
            json={"events": [{"type": event_type, "data": {"mark": mark}} for mark in marks]},
        )
        assert answer.json()["accepted"] == len(marks), answer.text
        scene.publisher.marks.update(marks)
        for mark, result in zip(marks, answer.json()["results"], strict=True):
            event = Accepted(result["id"], mark, sent_at, monotonic(), result["deliveries"])
            scene.publisher.accepted[event.id] = event


async def _hang(scene: Scene, endpoint: Endpoint, *, requests: int) -> None:
    """Let the endpoint have its events, and wait until it holds this many requests."""
    answer = await scene.stack.client.post(f"/v1/endpoints/{endpoint.id}/resume")
    assert answer.is_success, answer.text
    await scene.receiver.wait_for(
        lambda: scene.receiver.in_progress() == requests,
        seconds=BOUND_SECONDS,
        what=f"{requests} requests hang",
    )


async def _end_hanging(scene: Scene, endpoint: Endpoint) -> None:
    await scene.receiver.behave(endpoint.path)
    await scene.receiver.release(endpoint.path)


async def _p95_of_the_healthy(scene: Scene) -> float:
    """Publish to all healthy endpoints; return the 95th percentile of the seconds from publishing to arrival."""
    types = [f"healthy.{n}" for n in range(HEALTHY)]
    published = await scene.publisher.publish_many(EVENTS, event_types=types)
    await scene.receiver.wait_for(
        lambda: {event.id for event in published} <= scene.receiver.succeeded(),
        seconds=BOUND_SECONDS,
        what="all healthy endpoints got their events",
    )
    assert len(published) == EVENTS
    seconds = [scene.receiver.of(event.id)[0].at - event.sent_at for event in published]
    return statistics.quantiles(seconds, n=20)[-1]


def _waiting(scene: Scene, endpoint: Endpoint) -> int:
    return scene.stack.number(
        "SELECT count(*) FROM delivery_queue WHERE endpoint_id = %s",
        [ids.from_text(ids.ENDPOINT, endpoint.id)],
    )
