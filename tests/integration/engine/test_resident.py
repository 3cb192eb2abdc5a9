"""The resident thread of a worker process."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from app.core import partitions
from tests.faults.harness.proxy import TcpProxy
from workers.guard import EgressGuard
from workers.resident import Resident
from workers.transport import GuardNotInForce
from workers.upkeep import unasked

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from tests.integration.engine.making import Workshop


def test_guard_that_is_not_in_force_stops_the_worker(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose loop cannot run says so to its worker, instead of taking wake-ups and doing nothing."""

    def unguarded(*_: Any, **__: Any) -> None:
        raise GuardNotInForce("The egress guard let 127.0.0.1 pass.")

    monkeypatch.setattr("workers.resident.make_sender", unguarded)
    failed = threading.Event()
    resident = Resident(shop.settings, failed=failed.set)

    resident.start()

    assert failed.wait(timeout=30)
    resident.stop()


@pytest.mark.parametrize("transport", ["engine", "stock"])
def test_worker_proves_its_guard_before_it_claims(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """With a guard that lets everything pass, the process ends before its first claim: it says no sign of life."""

    class ForgetfulGuard(EgressGuard):
        async def vet(self, host: str, *, port: int, deadline: float) -> list[str]:  # noqa: ARG002
            return ["127.0.0.1"]

        def probes(self) -> list[tuple[EgressGuard, str, int]]:
            return [(self, host, port) for _, host, port in super().probes()]

    monkeypatch.setattr("workers.resident.EgressGuard", ForgetfulGuard)
    served = []
    monkeypatch.setattr(Resident, "_serve", lambda *_: served.append("served"))
    failed = threading.Event()
    settings = type(shop.settings)(**shop.settings.model_dump() | {"worker_transport": transport})
    resident = Resident(settings, failed=failed.set)

    resident.start()

    assert failed.wait(timeout=30)
    resident.stop()
    assert served == []


async def test_start_does_not_wait_for_the_database(shop: Workshop) -> None:
    """A child of Celery that is silent for four seconds is killed: the loop begins whether Postgres answers or not."""
    address = shop.transactional.url
    proxy = await TcpProxy(address.host, address.port).start()
    proxy.stall()
    url = address.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
    resident = Resident(type(shop.settings)(**shop.settings.model_dump() | {"database_url": url}))

    # On the loop that the proxy needs: a start that waited for an answer would wait for ever.
    resident.start()
    resident.kick()
    before = await shop.value("SELECT count(*) FROM worker_heartbeats")
    proxy.flow()
    await shop.until("SELECT count(*) = 1 FROM worker_heartbeats", what="it has connected, and claims")
    await asyncio.to_thread(resident.stop)
    await proxy.stop()

    assert before == 0


async def test_wrong_clock_chooses_no_partition(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker on a machine that is a month ahead makes the partitions, and writes the ids, of the database's days."""
    there = (
        "SELECT array_agg(c.relname ORDER BY 1) FROM pg_class c WHERE c.relispartition AND c.relkind = 'r'"
    )
    before = await shop.value(there)
    monkeypatch.setattr("time.time", lambda now=time.time: now() + 31 * 86_400)
    endpoint = await shop.endpoint(url="http://127.0.0.1:1/nobody", retry_schedule=[3_600])
    await shop.publish(endpoint)
    resident = Resident(shop.settings)

    resident.start()
    await shop.until("SELECT count(*) = 1 FROM attempts", what="an attempt is on record")
    await asyncio.to_thread(resident.stop)

    today = await shop.value("SELECT (now() AT TIME ZONE 'UTC')::date")
    rows = await shop.sql("SELECT tableoid::regclass::text FROM attempts")
    assert [row[0] for row in rows] == [partitions.name_of("attempts", today)]
    assert await shop.value(there) == before


@pytest.mark.parametrize(("minutes", "runs"), [(None, True), (6, True), (1, False)])
async def test_upkeep_runs_unasked(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, *, minutes: int | None, runs: bool
) -> None:
    """Without a message from beat for five minutes, a worker runs upkeep by itself; before that it leaves it alone."""
    if minutes is not None:
        await shop.sql(
            "INSERT INTO rollup_progress (name, at) VALUES ('fresh', now() - make_interval(mins => :minutes))",
            minutes=minutes,
        )
    looked = asyncio.Event()
    loop = asyncio.get_running_loop()
    ran: list[bool] = []

    async def look(engine: AsyncEngine) -> bool:
        ran.append(await is_overdue(engine))
        loop.call_soon_threadsafe(looked.set)
        return ran[-1]

    is_overdue = unasked.is_overdue
    monkeypatch.setattr(unasked, "FIRST_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(unasked, "is_overdue", look)
    resident = Resident(shop.settings)

    resident.start()
    try:
        async with asyncio.timeout(30):
            await looked.wait()
        if runs:
            await shop.until(
                "SELECT count(*) = 1 FROM rollup_progress WHERE name = 'fresh' AND at > now() - interval '3 min'",
                what="it was run",
            )
    finally:
        await asyncio.to_thread(resident.stop)

    assert ran[0] is runs
    if not runs:
        assert await shop.value("SELECT at < now() - interval '1 min' FROM rollup_progress")
