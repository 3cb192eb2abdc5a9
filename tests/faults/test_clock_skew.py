"""Row 12 of the fault tests: workers whose clocks are wrong, one ten minutes ahead, one two days behind.

`startup/clock` shifts the time of day of these two processes; their monotonic clocks are right, as on any machine.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.core import ids
from app.core.partitions import name_of
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.stack import LEASE_SECONDS, ROOT
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.harness.processes import ManagedProcess

pytestmark = pytest.mark.faults

STARTUP = ROOT / "tests" / "faults" / "startup" / "clock"
AHEAD_SECONDS, BEHIND_SECONDS = 600.0, -172_800.0
HELD = 5
# Far less than either clock is wrong, far more than anything here takes.
TOLERANCE_SECONDS = 120.0
BOUND_SECONDS = 60.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """Two workers with wrong clocks, and no other: each sweeps what the other one has leased, if its clock counts."""
    async with open_scene(workers=0, beats=0) as scene:
        stack = scene.stack
        stack.workers = [_start_worker(scene, shift=shift) for shift in (AHEAD_SECONDS, BEHIND_SECONDS)]
        for worker in stack.workers:
            await stack.wait_for_worker(worker)
        yield scene


async def test_leases_ids_and_timestamps_go_by_the_databases_clock(scene: Scene) -> None:
    """What workers with wrong clocks lease, write and sign has the right time, and neither takes from the other."""
    stack, receiver = scene.stack, scene.receiver
    await receiver.behave("/clock", hold=True)
    await stack.create_endpoint("/clock", event_types=["clock.*"], max_in_flight=2 * HELD)

    # One after the other, so that each of them has leases while both look for lost ones.
    ahead, behind = stack.workers
    for turn, (asleep, awake) in enumerate(((behind, ahead), (ahead, behind)), start=1):
        asleep.freeze()
        await scene.publisher.publish_many(HELD, event_types=["clock.one"])
        await receiver.wait_for(
            lambda turn=turn: receiver.in_progress() == turn * HELD,
            seconds=BOUND_SECONDS,
            what=f"{awake.name} sends",
        )
        asleep.thaw()
    leases = stack.sql(
        "SELECT leased_by, extract(epoch FROM leased_at)::float8, extract(epoch FROM lease_until)::float8"
        " FROM delivery_queue WHERE state = 1"
    )
    await receiver.release("/clock")

    await scene.checker.check()
    assert {by for by, *_ in leases} == {_name_of(scene, worker) for worker in stack.workers}
