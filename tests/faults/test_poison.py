"""Row 20 of the fault tests: a payload that makes every worker process die that is about to send it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from app.core import ids
from app.deliveries.recover import MAX_LOSSES_ALONE
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.stack import ROOT
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.faults

STARTUP = ROOT / "tests" / "faults" / "startup" / "poison"
POISON = f"poison-{uuid4()}"
NEIGHBOURS = 20
# Four leases of 2 s, each with the start of a new process; ten times as wide.
DEAD_SECONDS = 100.0
BOUND_SECONDS = 60.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One worker with one child, which dies of the poison; its leases are as short as can be."""
    settings = {"BELLWIRE_LEASE_MARGIN_SECONDS": "1", "PYTHONPATH": str(STARTUP), "POISON": POISON}
    async with open_scene(workers=0, beats=0) as scene:
        scene.stack.workers = [scene.stack.start_worker(**settings)]
        await scene.stack.wait_for_worker(scene.stack.workers[0])
        yield scene


async def test_poison_is_dead_after_three_losses_alone_and_the_rest_flows(scene: Scene) -> None:
    """A payload that kills its process is dead after it was lost once among others and three times alone."""
    stack, receiver, publisher = scene.stack, scene.receiver, scene.publisher
    await stack.create_endpoint("/shared", event_types=["shared.*"], timeout_seconds=10, max_in_flight=50)
    await stack.create_endpoint("/after", event_types=["after.*"], max_in_flight=50)
    poisoned = await stack.create_endpoint("/poison", event_types=["poison.*"], timeout_seconds=1)
    (worker,) = stack.workers
    (first,) = stack.drains_of(worker)
    await receiver.behave("/shared", hold=True)
    shared = {event.id for event in await publisher.publish_many(NEIGHBOURS, event_types=["shared.one"])}
    await receiver.wait_for(
        lambda: receiver.in_progress() == NEIGHBOURS, seconds=BOUND_SECONDS, what="neighbours in flight"
    )
    scene.checker.explain(shared)

    poison = await publisher.publish("poison.one", mark=POISON)
    await wait_until(lambda: not first.is_running(), seconds=BOUND_SECONDS, what="the process dies of it")
    await receiver.behave("/shared")
    after = {event.id for event in await publisher.publish_many(NEIGHBOURS, event_types=["after.one"])}

    await scene.checker.check(settle_seconds=DEAD_SECONDS)
    assert poison is not None
    assert receiver.of(poison.id) == [], "the process died before it sent anything"
    assert _histories(scene, {poison.id}) == [("unknown",) * (1 + MAX_LOSSES_ALONE)]
    assert _histories(scene, shared) == [("unknown", "succeeded")] * NEIGHBOURS
    assert _histories(scene, after) == [("succeeded",)] * NEIGHBOURS
    assert worker.is_running(), "the parent replaces its dead children and stays"
    (shown,) = await stack.list_all("/v1/deliveries", endpoint=poisoned.id)
    assert (shown["state"], shown["attempt_count"]) == ("dead", 1 + MAX_LOSSES_ALONE)
    assert shown["last_error"]["class"] == "worker_lost"


def _histories(scene: Scene, events: set[str]) -> list[tuple[str, ...]]:
    """Return the outcomes of each of these events' deliveries, in the order of the attempts."""
    rows = scene.stack.sql(
        "SELECT array_agg(outcome ORDER BY number) FROM attempts WHERE event_id = ANY(%s) GROUP BY delivery_id",
        [[ids.from_text(ids.EVENT, event) for event in events]],
    )
    return [tuple(outcomes) for (outcomes,) in rows]
