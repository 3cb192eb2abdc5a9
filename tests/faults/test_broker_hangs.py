"""Row 5 of the fault tests: the broker hangs. It takes connections and bytes, and answers nothing."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
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
# Enough wake-ups that fail by their time limit to tell a leak of one thread or connection each from chance.
FAILURES = 3
# The report promises 60 ms; tests allow ten times as much.
ADDED_P99_SECONDS = 0.6
BOUND_SECONDS = 100.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """No beat: wake-ups come from publishing alone."""
    async with open_scene(beats=0) as scene:
        yield scene


async def test_hanging_broker_costs_neither_events_nor_threads(scene: Scene) -> None:
    """While the broker hangs every publish is a 202, all is delivered, nothing piles up, and wake-ups resume after."""
    stack, publisher = scene.stack, scene.publisher
    await stack.create_endpoint("/hangs", event_types=["hangs.*"], max_in_flight=50)
    usual = await publisher.publish_many(EVENTS, event_types=["hangs.before"])
    await scene.checker.settle()
    threads, connections = _held(scene)
    failed_before = await stack.metric("bellwire_wakes_failed_total")

    stack.freeze_broker()
    try:
        hanging = await publisher.publish_many(EVENTS, event_types=["hangs.now"])
        seen: list[tuple[int, int]] = []

        async def failed_often() -> bool:
            await publisher.publish("hangs.now")
            seen.append(_held(scene))
            return await stack.metric("bellwire_wakes_failed_total") >= failed_before + FAILURES

        await wait_until(
            failed_often, seconds=BOUND_SECONDS, what="wake-ups that fail", state=lambda: seen[-3:]
        )
        await scene.checker.settle()
    finally:
        stack.thaw_broker()

    await scene.wait_until_woken("hangs.after", seconds=BOUND_SECONDS)
    sent_before = await stack.metric("bellwire_wakes_sent_total")
    await _wait_until_sent_and_taken(scene, sent_before)
    await scene.checker.check()
    assert (len(usual), len(hanging)) == (EVENTS, EVENTS)
    assert publisher.statuses.keys() == {202}
    assert publisher.unanswered == set()
    assert _p99(hanging) - _p99(usual) < ADDED_P99_SECONDS
    # One connection may be closing while the next one is opened; each failure would leave one more if it leaked.
    assert max(number for number, _ in seen) <= threads + 1
    assert max(number for _, number in seen) <= connections + 1
    threads_after, connections_after = _held(scene)
    assert threads_after <= threads + 1
    assert connections_after <= connections + 1
    assert stack.api.is_running()


async def _wait_until_sent_and_taken(scene: Scene, sent_before: float) -> None:
    """Publish until the broker has taken a wake-up from the API, and the workers have taken all from the broker."""
    async with redis.asyncio.from_url(scene.stack.broker_url) as broker:

        async def resumed() -> bool:
            await scene.publisher.publish("hangs.after")
            sent = await scene.stack.metric("bellwire_wakes_sent_total")
            return sent > sent_before and await broker.llen(QUEUE) == 0

        await wait_until(resumed, seconds=BOUND_SECONDS, what="wake-ups go through the broker again")


def _held(scene: Scene) -> tuple[int, int]:
    """Return how many threads the API has, and how many connections to the broker."""
    api, broker = psutil.Process(scene.stack.api.pid), scene.stack.broker
    assert broker is not None
    ports = [connection.raddr.port for connection in api.net_connections("tcp") if connection.raddr]
    return api.num_threads(), ports.count(broker.port)


def _p99(events: list[Accepted]) -> float:
    return statistics.quantiles([event.seconds for event in events], n=100)[-1]
