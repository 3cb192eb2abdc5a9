"""The recorder: results share statements, and one that Postgres refuses holds up nobody."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event, text

from app.core import metrics
from app.deliveries.record import Settle
from tests.faults.harness.waiting import wait_until
from workers.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

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


async def in_hand(shop: Workshop, desk: Desk, *settles: Settle) -> tuple[UUID, list[Finished]]:
    """Put results of one endpoint into the recorder's hands, before it has begun to flush them."""
    endpoint = await shop.endpoint(max_in_flight=20)
    await shop.publish(endpoint, len(settles))
    claimed = await shop.claim(endpoint, share=20)
    results = [shop.result(item, settle) for item, settle in zip(claimed, settles, strict=True)]
    for result in results:
        desk.recorder.add(result, lease_ends=time.monotonic() + 60)
    return endpoint, results


async def test_what_a_claim_counts_on_is_recorded_after_it(shop: Workshop, desk: Desk) -> None:
    """Successes that are kept wait for the end of the block; results that nobody counts on do not."""
    endpoint, (first, second) = await in_hand(shop, desk, Settle.SUCCEEDED, Settle.SUCCEEDED)

    with desk.recorder.keeping(seconds=20) as kept:
        other, (result,) = await in_hand(shop, desk, Settle.SUCCEEDED)
        await wait_until(lambda: desk.settled, seconds=20, what="the other one is recorded")
        assert (kept, desk.settled) == ({endpoint: 2}, [result])
        assert desk.recorder.answered(seconds=20).get(other) is None
    await drained(desk)

    assert desk.settled == [result, first, second]


async def test_results_of_an_endpoint_keep_their_order(shop: Workshop, desk: Desk) -> None:
    """A failure that comes while a success before it is kept is recorded behind it: failures in a row are counted."""
    endpoint = await shop.endpoint(max_in_flight=20, runtime={"consecutive_failures": 8})
    await shop.publish(endpoint, 2)
    first, second = await shop.claim(endpoint)
    desk.recorder.add(shop.result(first), lease_ends=time.monotonic() + 60)

    with desk.recorder.keeping([endpoint], seconds=1):
        desk.recorder.add(shop.result(second, Settle.RETRY))
        await in_hand(shop, desk, Settle.SUCCEEDED)
        await wait_until(lambda: desk.settled, seconds=20, what="another endpoint's result is recorded")
    await drained(desk)

    assert [item.id for item in desk.settled[1:]] == [first.id, second.id]
    assert (await shop.runtime(endpoint)).consecutive_failures == 1


async def test_a_result_is_kept_for_a_moment_only(
    shop: Workshop, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside claims that follow each other without a pause a result is recorded all the same."""
    monkeypatch.setattr("workers.recorder.MOST_WAIT_SECONDS", 0.0)

    endpoint, _ = await in_hand(shop, desk, Settle.SUCCEEDED)

    with desk.recorder.keeping([endpoint], seconds=1) as kept:
        assert kept == {}
        await drained(desk)


async def test_a_claim_that_hangs_holds_up_no_result_for_long(shop: Workshop, desk: Desk) -> None:
    """After the time that a claim may take, what it counted on is recorded, whether it is back or not."""
    endpoint, results = await in_hand(shop, desk, Settle.SUCCEEDED)

    with desk.recorder.keeping(seconds=0.0) as kept:
        assert kept == {endpoint: 1}
        await drained(desk)

    assert desk.settled == results


@pytest.mark.parametrize("settle", [Settle.RETRY, Settle.DEAD, Settle.RELEASED])
async def test_only_successes_free_places_before_their_record(
    shop: Workshop, desk: Desk, settle: Settle
) -> None:
    """With any other result of the endpoint in hand (it may ask to be left alone) no place of it is used again."""
    endpoint, results = await in_hand(shop, desk, *[Settle.SUCCEEDED] * 9, settle)
    before = desk.recorder.answered(seconds=1)
    meanwhile = desk.recorder.add(results[0], lease_ends=time.monotonic() + 60)
    other, _ = await in_hand(shop, desk, Settle.SUCCEEDED)
    await drained(desk)

    # Afterwards it decides nothing any more.
    again = desk.recorder.add(results[0], lease_ends=time.monotonic() + 60)

    assert (before, endpoint != other, meanwhile, again) == ({}, True, False, True)


async def test_places_of_short_leases_are_not_used_again(shop: Workshop, desk: Desk) -> None:
    """A lease that would end before the claim is through and the result recorded keeps its place."""
    endpoint, _ = await in_hand(shop, desk, Settle.SUCCEEDED)

    assert desk.recorder.answered(seconds=29) == {endpoint: 1}
    assert desk.recorder.answered(seconds=31) == {}
