"""Row 12 of the fault tests: workers whose clocks are wrong, one ten minutes ahead, one two days behind.

`startup/clock` shifts the time of day of these two processes; their monotonic clocks are right, as on any machine.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.core import ids
from app.core.partitions import name_of
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.stack import ROOT
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.harness.processes import ManagedProcess

pytestmark = pytest.mark.faults

STARTUP = ROOT / "tests" / "faults" / "startup" / "clock"
SHIFTS = (600.0, -172_800.0)
HELD = 5
# So long that no lease ends while the test runs, but far shorter than either clock is wrong.
TIMEOUT_SECONDS, MARGIN_SECONDS = 30, 60
LEASE = timedelta(seconds=TIMEOUT_SECONDS + MARGIN_SECONDS)
# Far less than either clock is wrong, far more than anything here takes.
TOLERANCE = timedelta(seconds=120)
BOUND_SECONDS = 60.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """Two workers with wrong clocks, and no other: each sweeps what the other one has leased, if its clock counts."""
    settings = {"BELLWIRE_LEASE_MARGIN_SECONDS": str(MARGIN_SECONDS)}
    async with open_scene(workers=0, beats=0, settings=settings) as scene:
        stack = scene.stack
        stack.workers = [_start_worker(scene, shift=shift) for shift in SHIFTS]
        for worker in stack.workers:
            await stack.wait_for_worker(worker)
        yield scene


async def test_leases_ids_and_timestamps_go_by_the_databases_clock(scene: Scene) -> None:
    """What workers with wrong clocks lease, write and sign has the right time, and neither takes from the other."""
    stack, receiver = scene.stack, scene.receiver
    await receiver.behave("/clock", hold=True)
    await stack.create_endpoint(
        "/clock", event_types=["clock.*"], max_in_flight=2 * HELD, timeout_seconds=TIMEOUT_SECONDS
    )
    ahead, behind = stack.workers
    await _publish_to(scene, ahead, asleep=behind)
    await _publish_to(scene, behind, asleep=ahead)
    leases = stack.sql("SELECT leased_by, leased_at, lease_until FROM delivery_queue WHERE state = 1")
    now = stack.sql("SELECT now()")[0][0]

    await _wait_for_sweeps(scene)
    await receiver.release("/clock")

    await scene.checker.check()
    names = {_name_of(scene, worker) for worker in stack.workers}
    assert {worker for worker, *_ in leases} == names
    assert all(now - TOLERANCE < leased_at <= now for _, leased_at, _ in leases)
    assert {until - leased_at for _, leased_at, until in leases} == {LEASE}
    received = {receipt.event_id: receipt for receipt in receiver.on("/clock")}
    assert all(abs(receipt.timestamp - receipt.unix) < TOLERANCE.seconds for receipt in received.values())
    attempts = stack.sql(
        "SELECT id, event_id, number, outcome, started_at, worker, tableoid::regclass::text FROM attempts"
    )
    assert {worker for *_, worker, _ in attempts} == names
    assert [(number, outcome) for _, _, number, outcome, *_ in attempts] == [(1, "succeeded")] * 2 * HELD
    for attempt, event, _, _, started_at, _, partition in attempts:
        sent_at = datetime.fromtimestamp(received[ids.to_text(ids.EVENT, event)].unix, UTC)
        made_at = datetime.fromtimestamp((attempt.int >> 80) / 1000, UTC)
        assert abs(started_at - sent_at) < TOLERANCE
        assert abs(made_at - sent_at) < TOLERANCE
        assert partition == name_of("attempts", made_at.date())


async def test_wrong_clocks_are_reported(scene: Scene) -> None:
    """The signs of life hold each worker's skew, its log warns once, and `bellwire doctor` names both."""
    stack = scene.stack
    skews = dict(stack.sql("SELECT name, skew_seconds FROM worker_heartbeats"))

    report = await _doctor(scene)

    for worker, shift in zip(stack.workers, SHIFTS, strict=True):
        name = _name_of(scene, worker)
        assert abs(skews[name] - shift) < TOLERANCE.seconds
        assert worker.whole_log().count("worker.clock_wrong") == 1
        assert name in report["workers"]["detail"]
    assert report["workers"]["ok"] is False
    assert "NTP" in report["workers"]["advice"]
    assert report["clock"]["ok"] is True, "the clock of doctor's own machine is right"


def _start_worker(scene: Scene, *, shift: float) -> ManagedProcess:
    return scene.stack.start_worker(PYTHONPATH=str(STARTUP), CLOCK_SHIFT_SECONDS=str(shift))


async def _publish_to(scene: Scene, worker: ManagedProcess, *, asleep: ManagedProcess) -> None:
    """Publish events that this worker has in flight afterwards; the other one is frozen meanwhile."""
    before = scene.receiver.in_progress()
    asleep.freeze()
    await scene.publisher.publish_many(HELD, event_types=["clock.one"])
    await scene.receiver.wait_for(
        lambda: scene.receiver.in_progress() == before + HELD,
        seconds=BOUND_SECONDS,
        what=f"{worker.name} sends",
    )
    asleep.thaw()


async def _wait_for_sweeps(scene: Scene) -> None:
    """Wait for a sign of life of each worker that began after now: it looks for lost leases more often than that."""
    beats = "SELECT count(*) FROM worker_heartbeats WHERE beat_at > %s"
    for _ in range(2):
        since = scene.stack.sql("SELECT now()")[0][0]
        await wait_until(
            lambda since=since: scene.stack.number(beats, [since]) == len(SHIFTS),
            seconds=BOUND_SECONDS,
            what="both workers are at work",
        )


def _name_of(scene: Scene, worker: ManagedProcess) -> str:
    """Return the name of a worker's one process, as leases and attempts have it."""
    (drain,) = scene.stack.drains_of(worker)
    (name,) = scene.stack.sql("SELECT name FROM worker_heartbeats WHERE name LIKE %s", [f"%:{drain.pid}"])[0]
    return str(name)


async def _doctor(scene: Scene) -> dict[str, Any]:
    """Return what `bellwire doctor` finds, by the names of its checks."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("bellwire")),
        "doctor",
        "--json",
        env={**scene.stack.environment, "BELLWIRE_URL": scene.stack.base_url},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(process.communicate(), BOUND_SECONDS)
    return {check["name"]: check for check in json.loads(out)["checks"]}
