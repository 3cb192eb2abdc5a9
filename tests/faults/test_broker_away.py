"""Rows 4 and 6 of the fault tests: the broker is away, and comes back with nothing in it."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest
import redis.asyncio

from app.core.queue import QUEUE
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.harness.publisher import Accepted

pytestmark = pytest.mark.faults

EVENTS = 500
# The report promises 60 ms and 10 s; tests allow ten times as much.
ADDED_P99_SECONDS = 0.6
RESUME_SECONDS = 100.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """No beat, no notifications: wake-ups come from publishing alone, through the broker."""
    settings = {"BELLWIRE_WORKER_POLL_SECONDS": "2", "BELLWIRE_WAKE_BY_NOTIFY": "false"}
    async with open_scene(beats=0, settings=settings) as scene:
        yield scene


async def test_publishing_goes_on_without_a_broker(scene: Scene) -> None:
    """While the broker refuses connections every publish is a 202, none is slow, and all is delivered."""
    await scene.stack.create_endpoint("/away", event_types=["away.*"], max_in_flight=50)
    usual = await scene.publisher.publish_many(EVENTS, event_types=["away.before"])
    await scene.checker.settle()
    scene.stack.kill_broker()

    without = await scene.publisher.publish_many(EVENTS, event_types=["away.now"])

    await scene.checker.check()
    assert scene.publisher.statuses.keys() == {202}
    assert (len(usual), len(without)) == (EVENTS, EVENTS)
    assert _p99(without) - _p99(usual) < ADDED_P99_SECONDS
    scene.stack.start_broker()


async def test_workers_resume_with_an_empty_broker(scene: Scene) -> None:
    """After the broker was killed and came back empty, wake-ups reach the workers again without a restart."""
    stack = scene.stack
    await stack.create_endpoint("/resume", event_types=["resume.*"])
    await scene.wait_until_woken("resume.before", seconds=RESUME_SECONDS)
    (worker,) = stack.workers
    drains = stack.drains_of(worker)

    stack.kill_broker(forget=True)
    stack.start_broker()

    await scene.wait_until_woken("resume.after", seconds=RESUME_SECONDS)
    await scene.checker.check()
    assert worker.is_running()
    assert stack.drains_of(worker) == drains, "the same processes went on"


async def test_workers_resume_after_the_broker_died_under_a_wake_up(scene: Scene) -> None:
    """A broker that dies while a worker is busy with a wake-up brings later ones again without a restart."""
    stack = scene.stack
    await stack.create_endpoint("/under", event_types=["under.*"])
    await scene.wait_until_woken("under.before", seconds=RESUME_SECONDS)
    (drain,) = stack.drains_of(stack.workers[0])

    drain.suspend()
    try:
        sent = await stack.metric("bellwire_wakes_sent_total")
        await scene.publisher.publish("under.now")
        await _wait_until_taken(scene, sent)
        stack.kill_broker(forget=True)
    finally:
        drain.resume()
    await scene.checker.settle()
    stack.start_broker()

    await scene.wait_until_woken("under.after", seconds=RESUME_SECONDS)
    await scene.checker.check()


async def _wait_until_taken(scene: Scene, sent_before: float) -> None:
    """Wait until the API has sent a wake-up and a worker holds it."""
    broker = redis.asyncio.from_url(scene.stack.broker_url)

    async def taken() -> bool:
        sent = await scene.stack.metric("bellwire_wakes_sent_total") > sent_before
        return sent and await broker.llen(QUEUE) == 0

    try:
        await wait_until(taken, seconds=RESUME_SECONDS, what="a worker takes the wake-up")
    finally:
        await broker.aclose()


def _p99(events: list[Accepted]) -> float:
    return statistics.quantiles([event.seconds for event in events], n=100)[-1]
