"""The recorder: results share statements, and one that Postgres refuses holds up nobody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text

from app.core import metrics
from app.deliveries.record import Settle
from tests.faults.harness.waiting import wait_until
from workers.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from app.deliveries.record import Finished
    from tests.integration.engine.making import Workshop


class Desk:
    """A recorder, and what it told of its flushes."""

    def __init__(self, shop: Workshop) -> None:
        self.settled: list[Finished] = []
        self.statements = 0
        event.listen(shop.transactional.sync_engine, "before_cursor_execute", self._count)
        self.recorder = Recorder(
            engine=shop.engine,
            transactions=shop.transactional,
            flush_seconds=0.002,
            settled=self._settled,
        )
        self.recorder.start()

    def _settled(self, finished: Sequence[Finished]) -> None:
        self.settled += finished

    def _count(self, _c: object, _cursor: object, statement: str, *_: object) -> None:
        self.statements += "INSERT INTO attempts" in statement


@pytest.fixture
async def desk(shop: Workshop) -> AsyncIterator[Desk]:
    """A recorder that runs."""
    made = Desk(shop)
    yield made
    await made.recorder.stop()


async def drained(desk: Desk) -> None:
    """Wait until everything is recorded."""
    async with asyncio.timeout(30):
        await desk.recorder.drained()


async def test_results_share_statements(shop: Workshop, desk: Desk) -> None:
    """Three hundred results take a few statements; all of them are told as settled, once."""
    endpoint = await shop.endpoint(max_in_flight=300)
    await shop.publish(endpoint, 300)
    results = [shop.result(item) for item in await shop.claim(endpoint, share=300)]

    for result in results:
        desk.recorder.add(result)
    await drained(desk)

    assert [item.id for item in desk.settled] == [item.id for item in results]
    assert desk.statements <= 3
    assert await shop.value("SELECT count(*) FROM deliveries WHERE state = 'succeeded'") == 300


async def test_refused_result_costs_only_itself(shop: Workshop, desk: Desk) -> None:
    """A row that Postgres refuses is left to its lease; the others of the flush are recorded, every slot is free."""
    endpoint = await shop.endpoint(max_in_flight=20)
    await shop.publish(endpoint, 20)
    results = [shop.result(item) for item in await shop.claim(endpoint, share=20)]
    results[7].trigger = "no such trigger"
    refused_before = metrics.RESULTS_REFUSED._value.get()

    for result in results:
        desk.recorder.add(result)
    await drained(desk)

    assert {item.id for item in desk.settled} == {item.id for item in results}
    assert await shop.value("SELECT count(*) FROM deliveries WHERE state = 'succeeded'") == 19
    assert (await shop.queue_row(results[7].id)).state == 1
    assert metrics.RESULTS_REFUSED._value.get() - refused_before == 1


async def test_slow_statement_loses_no_result(shop: Workshop, desk: Desk) -> None:
    """A flush that Postgres ends for its length is tried again, and not taken for a refused row."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint, 3)
    results = [shop.result(item) for item in await shop.claim(endpoint)]

    async with shop.transaction() as blocker:
        await blocker.execute(text("LOCK TABLE attempts"))
        for result in results:
            desk.recorder.add(result)
        await shop.until_somebody_waits_for_a_lock()
        await shop.sql(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        await wait_until(lambda: desk.statements >= 2, seconds=20, what="it is tried again")
    await drained(desk)

    assert await shop.value("SELECT count(*) FROM deliveries WHERE state = 'succeeded'") == 3
    assert {item.id for item in desk.settled} == {item.id for item in results}


async def test_drained_waits_for_what_is_added_last(shop: Workshop, desk: Desk) -> None:
    """Whoever waits for the recorder sees all results that were added before."""
    endpoint = await shop.endpoint(max_in_flight=10)
    await shop.publish(endpoint, 10)

    for item in await shop.claim(endpoint):
        desk.recorder.add(shop.result(item, Settle.RETRY))
        await drained(desk)
        assert desk.settled[-1].id == item.id

    assert await shop.value("SELECT count(*) FROM attempts") == 10
