"""Row 8 of the fault tests: Postgres dies under load and comes back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.stack import LEASE_SECONDS, monotonic

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.faults

LOAD_EVENTS = 200
BOUND_SECONDS = 60.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One of each, with durable Postgres settings as shipped."""
    async with open_scene() as scene:
        yield scene


async def test_killed_postgres_costs_time_only(scene: Scene) -> None:
    """While Postgres is away publishing answers 503; all earlier 202s are delivered, and nothing is restarted."""
    stack, publisher, receiver = scene.stack, scene.publisher, scene.receiver
    await stack.create_endpoint("/load", event_types=["test.*"], max_in_flight=50)
    processes = [stack.api, *stack.workers, *stack.beats]
    drains = stack.drains_of(stack.workers[0])
    stop = asyncio.Event()
    load = asyncio.create_task(publisher.publish_until(stop))
    await receiver.wait_for(
        lambda: len(publisher.accepted) > LOAD_EVENTS, seconds=BOUND_SECONDS, what="a running load"
    )

    stack.kill_postgres()
    killed_at = monotonic()
    await receiver.wait_for(lambda: publisher.statuses[503], seconds=BOUND_SECONDS, what="a 503")
    stack.start_postgres()
    back_at = monotonic()
    before = len(publisher.accepted)
    await receiver.wait_for(
        lambda: len(publisher.accepted) > before + LOAD_EVENTS, seconds=BOUND_SECONDS, what="202s again"
    )
    stop.set()
    await load
    await scene.checker.settle()

    receiver.refresh()
    # A request under way when Postgres died, or whose result could not be recorded before its lease ended.
    scene.checker.explain(
        {r.event_id for r in receiver.receipts if killed_at - LEASE_SECONDS < r.at < back_at + LEASE_SECONDS}
    )
    await scene.checker.check()
    assert publisher.statuses.keys() == {202, 503}, publisher.problems[:3]
    assert publisher.unanswered == set()
    assert all('"type"' in problem and '"request_id"' in problem for problem in publisher.problems)
    assert all(process.is_running() for process in processes)
    assert stack.drains_of(stack.workers[0]) == drains, "the same processes went on"
