"""Recovery: lost leases, poison, deadlines, orphans, and counters that are wrong."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from app.deliveries import recover
from app.deliveries.cancel import cancel_pending
from app.deliveries.record import Recorded, Settle

if TYPE_CHECKING:
    from uuid import UUID

    from app.deliveries.claim import Claimed
    from tests.integration.engine.making import Workshop


async def sweep(shop: Workshop) -> int:
    """Sweep once, as each worker does every few seconds."""
    async with shop.engine.connect() as connection:
        return await recover.sweep_lost_leases(connection, unix_ms=shop.clock.unix_ms())


async def lose(shop: Workshop, claimed: Claimed, *, alone: bool = False) -> None:
    """Let a worker die that had this delivery, and sweep."""
    if alone:
        async with shop.engine.connect() as connection:
            ours = await recover.mark_alone(
                connection, delivery_id=claimed.id, token=claimed.token, timeout_seconds=15, margin_seconds=10
            )
        assert ours
    await shop.end_leases()
    assert await sweep(shop) == 1


async def test_lost_lease_is_due_at_once_and_on_record(shop: Workshop) -> None:
    """The delivery is ready again, its schedule's place stays, and an attempt says `unknown`."""
    endpoint = await shop.endpoint()
    (delivery,) = await shop.publish(endpoint)
    await shop.sql("UPDATE delivery_queue SET schedule_step = 3, attempt_count = 4, rank = 2, trigger = 1")
    (claimed,) = await shop.claim(endpoint)

    await lose(shop, claimed)

    row = await shop.queue_row(delivery)
    assert (row.state, row.schedule_step, row.attempt_count, row.lost_count) == (0, 3, 5, 1)
    assert (row.lease_token, row.lease_until, row.leased_by, row.rank) == (None, None, None, 2)
    assert row.due_in <= 0
    (attempt,) = await shop.attempts(delivery)
    assert (attempt.outcome, attempt.error_class, attempt.number) == ("unknown", "worker_lost", 5)
    assert (attempt.worker, attempt.trigger, attempt.event_type) == ("test:1", "manual", "order.placed")
    recorded = await shop.delivery(delivery)
    assert (recorded.state, recorded.attempt_count, recorded.last_error_class) == (
        "pending",
        5,
        "worker_lost",
    )
    assert (await shop.runtime(endpoint)).in_flight == 0


async def test_living_lease_is_left_alone(shop: Workshop) -> None:
    """A sweep touches nothing whose lease has not ended."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    (claimed,) = await shop.claim(endpoint)

    swept = await sweep(shop)

    assert swept == 0
    assert (await shop.queue_row(claimed.id)).lease_token == claimed.token


async def test_result_after_the_sweep_is_stale(shop: Workshop) -> None:
    """A worker that was presumed dead cannot settle what was swept; its attempt is kept beside the `unknown` one."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    (claimed,) = await shop.claim(endpoint)
    await lose(shop, claimed)

    recorded = await shop.record(shop.result(claimed))

    assert recorded == Recorded(settled=0, stale=1)
    assert [(item.outcome, item.stale) for item in await shop.attempts(claimed.id)] == [
        ("unknown", False),
        ("succeeded", True),
    ]
    assert (await shop.queue_row(claimed.id)).state == 0


async def test_losses_in_company_never_kill(shop: Workshop) -> None:
    """However often a worker dies with many in flight, none of them is taken for the culprit."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)

    for _ in range(5):
        (claimed,) = await shop.claim(endpoint)
        await lose(shop, claimed)

    row = await shop.queue_row(claimed.id)
    assert (row.state, row.lost_count, row.lost_alone_count) == (0, 5, 0)


async def test_third_loss_alone_is_the_last(shop: Workshop) -> None:
    """A delivery that took three workers with it while it was sent alone is dead, with each attempt on record."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    states = []

    for _ in range(3):
        (claimed,) = await shop.claim(endpoint)
        await lose(shop, claimed, alone=True)
        states.append((await shop.delivery(claimed.id)).state)

    assert states == ["pending", "pending", "dead"]
    assert await shop.queue_row(claimed.id) is None
    assert [item.number for item in await shop.attempts(claimed.id)] == [1, 2, 3]
    assert (await shop.runtime(endpoint)).in_flight == 0


async def test_claim_ends_being_alone(shop: Workshop) -> None:
    """Being sent alone belongs to one lease; the next one begins in company until it is marked again."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    (claimed,) = await shop.claim(endpoint)
    await lose(shop, claimed, alone=True)

    (again,) = await shop.claim(endpoint)

    row = await shop.queue_row(again.id)
    assert (row.alone, row.lost_alone_count) == (False, 1)


async def test_test_delivery_is_sent_once(shop: Workshop) -> None:
    """A test whose worker was lost is dead: a person waits for it and can send another one."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    await shop.sql("UPDATE delivery_queue SET trigger = 3, rank = -1")
    (claimed,) = await shop.claim(endpoint)

    await lose(shop, claimed)

    (attempt,) = await shop.attempts(claimed.id)
    assert ((await shop.delivery(claimed.id)).state, attempt.test, attempt.trigger) == ("dead", True, "test")


async def test_cancelled_while_its_worker_died(shop: Workshop) -> None:
    """What was cancelled while it was sent is cancelled by the sweep, too."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    (claimed,) = await shop.claim(endpoint)
    async with shop.transaction() as connection:
        await cancel_pending(connection, workspace_id=shop.workspace_id, delivery_id=claimed.id)

    await lose(shop, claimed)

    assert (await shop.delivery(claimed.id)).state == "cancelled"
    assert await shop.queue_row(claimed.id) is None


async def test_lost_fifo_head_goes_first(shop: Workshop) -> None:
    """The head of a FIFO lane whose worker died is sent again before the next in line."""
    endpoint = await shop.endpoint(fifo=True)
    head, _ = await shop.publish(endpoint, 2, fifo=True)
    (claimed,) = await shop.claim(endpoint)

    await lose(shop, claimed)
    (again,) = await shop.claim(endpoint)

    assert again.id == head


async def test_two_sweeps_at_once_write_one_attempt(shop: Workshop) -> None:
    """Sweeps of several workers share the work; nothing is swept twice."""
    endpoints = [await shop.endpoint(max_in_flight=50) for _ in range(4)]
    for endpoint in endpoints:
        await shop.publish(endpoint, 50)
    await shop.claim(*endpoints, share=50)
    await shop.end_leases()

    swept = await asyncio.gather(*(sweep(shop) for _ in range(6)))

    swept.append(await sweep(shop))
    assert (sum(swept), await shop.value("SELECT count(*) FROM attempts")) == (200, 200)
    assert await shop.value("SELECT sum(in_flight) FROM endpoint_runtime") == 0


async def test_sweeps_claims_and_records_take_part_in_no_deadlock(shop: Workshop) -> None:
    """With leases that end at once, workers claim, record and sweep against each other and all comes to its end."""
    endpoints = [await shop.endpoint(max_in_flight=5, fifo=n % 2 == 0) for n in range(6)]
    for n, endpoint in enumerate(endpoints):
        await shop.publish(endpoint, 15, fifo=n % 2 == 0)

    async def work(worker: int) -> None:
        turn = endpoints[worker:] + endpoints[:worker]
        while await shop.value("SELECT count(*) FROM delivery_queue"):
            claimed = await shop.claim(*turn, share=3, margin=-15.0 if worker % 2 else 10.0)
            await sweep(shop)
            if claimed:
                await shop.record(*(shop.result(item) for item in claimed))

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(n) for n in range(5)))

    assert await shop.value("SELECT count(*) FROM deliveries WHERE state = 'succeeded'") == 90
    assert await shop.value("SELECT sum(in_flight) FROM endpoint_runtime") == 0


async def test_renewed_lease_lives_on(shop: Workshop) -> None:
    """Leases of deliveries that wait for their turn begin anew; one that is not ours any more is not among them."""
    endpoint = await shop.endpoint(timeout_seconds=20)
    await shop.publish(endpoint, 2)
    ours, lost = await shop.claim(endpoint)
    await shop.sql(
        "UPDATE delivery_queue SET lease_token = nextval('delivery_lease_seq') WHERE id = :id", id=lost.id
    )
    await shop.end_leases()

    async with shop.engine.connect() as connection:
        renewed = await recover.renew_leases(connection, [ours, lost], margin_seconds=10)

    assert renewed == {ours.id}
    assert 25 < (await shop.queue_row(ours.id)).lease_left <= 30
    assert (await shop.queue_row(lost.id)).lease_left < 0


async def test_alone_needs_the_lease(shop: Workshop) -> None:
    """A delivery whose lease went to somebody else cannot be marked."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    (claimed,) = await shop.claim(endpoint)
    await lose(shop, claimed)

    async with shop.engine.connect() as connection:
        ours = await recover.mark_alone(
            connection, delivery_id=claimed.id, token=claimed.token, timeout_seconds=15, margin_seconds=10
        )

    assert not ours


async def expire(shop: Workshop) -> int:
    """Expire once, as each worker does every few seconds."""
    async with shop.engine.connect() as connection:
        return await recover.expire(connection)


@pytest.mark.parametrize("state", ["ready", "scheduled", "paused"])
async def test_deadline_ends_what_waits(shop: Workshop, state: str) -> None:
    """A delivery that is older than its deadline is dead, whatever it waits for; its last answer stays on record."""
    endpoint = await shop.endpoint(paused=state == "paused")
    (delivery,) = await shop.publish(endpoint)
    await shop.sql("UPDATE deliveries SET last_status = 503, attempt_count = 1")
    if state == "scheduled":
        await shop.sql("UPDATE delivery_queue SET state = 2, due_at = now() + interval '1 hour'")
    await shop.sql("UPDATE delivery_queue SET deadline_at = now()")

    expired = await expire(shop)

    record = await shop.delivery(delivery)
    assert (expired, record.state, record.last_error_class) == (1, "dead", "expired")
    assert (record.last_status, record.attempt_count, record.completed_at is not None) == (503, 1, True)
    assert await shop.queue_row(delivery) is None


async def test_deadline_waits_for_a_request_under_way(shop: Workshop) -> None:
    """What is being sent has its result first."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    (claimed,) = await shop.claim(endpoint)
    await shop.sql("UPDATE delivery_queue SET deadline_at = now()")

    expired = await expire(shop)

    assert (expired, (await shop.queue_row(claimed.id)).state) == (0, 1)


async def test_expired_fifo_head_ends_its_lanes_wait(shop: Workshop) -> None:
    """When the head of a FIFO lane expires during its backoff, the next in line need not wait for the rest of it."""
    endpoint = await shop.endpoint(fifo=True)
    head, second = await shop.publish(endpoint, 2, fifo=True)
    (claimed,) = await shop.claim(endpoint)
    await shop.finish(claimed, Settle.RETRY, delay_seconds=3600.0)
    await shop.sql("UPDATE delivery_queue SET deadline_at = now() WHERE id = :id", id=head)

    await expire(shop)
    (next_one,) = await shop.claim(endpoint)

    assert next_one.id == second


async def test_expired_follower_leaves_the_wait_of_the_head(shop: Workshop) -> None:
    """When another one of the lane expires, the head goes on waiting; so does an endpoint that asked for it."""
    endpoint = await shop.endpoint(fifo=True)
    _, second = await shop.publish(endpoint, 2, fifo=True)
    (claimed,) = await shop.claim(endpoint)
    await shop.finish(claimed, Settle.RETRY, delay_seconds=3600.0)
    await shop.sql("UPDATE delivery_queue SET deadline_at = now() WHERE id = :id", id=second)

    await expire(shop)

    assert (await shop.runtime(endpoint)).held_for > 3500


async def hold_of_a_fifo_lane_after_cancelling(shop: Workshop, which: int) -> float | None:
    """Return for how long a lane is held after the head (0) or the second (1) was cancelled."""
    endpoint = await shop.endpoint(fifo=True)
    made = await shop.publish(endpoint, 3, fifo=True)
    (claimed,) = await shop.claim(endpoint)
    await shop.finish(claimed, Settle.RETRY, delay_seconds=3600.0)
    async with shop.transaction() as connection:
        assert await cancel_pending(connection, workspace_id=shop.workspace_id, delivery_id=made[which]) == 1
    held: float | None = (await shop.runtime(endpoint)).held_for
    return held


async def test_cancelled_fifo_head_ends_its_lanes_wait(shop: Workshop) -> None:
    """With its head the reason for the wait has gone."""
    assert await hold_of_a_fifo_lane_after_cancelling(shop, 0) is None


async def test_cancelling_another_one_leaves_the_wait_of_the_head(shop: Workshop) -> None:
    """The receiver gets no request earlier because somebody further back in line was cancelled."""
    assert await hold_of_a_fifo_lane_after_cancelling(shop, 1) > 3500


async def test_cancelled_head_that_was_given_back_ends_its_lanes_wait(shop: Workshop) -> None:
    """A head that waits for a fault of our own holds its lane no longer than it is there."""
    endpoint = await shop.endpoint(fifo=True)
    head, _ = await shop.publish(endpoint, 2, fifo=True)
    (claimed,) = await shop.claim(endpoint)
    await shop.finish(claimed, Settle.RELEASED, delay_seconds=3600.0)

    async with shop.transaction() as connection:
        await cancel_pending(connection, workspace_id=shop.workspace_id, delivery_id=head)

    assert (await shop.runtime(endpoint)).held_for is None


async def test_cancel_that_waited_leaves_a_wait_that_began_meanwhile(shop: Workshop) -> None:
    """While a cancel waits for its row, the head may fail again: that wait is not the one that it looked at."""
    endpoint = await shop.endpoint(fifo=True)
    _, second, _ = await shop.publish(endpoint, 3, fifo=True)
    (claimed,) = await shop.claim(endpoint)
    await shop.finish(claimed, Settle.RETRY, delay_seconds=0.0)
    (claimed,) = await shop.claim(endpoint)

    async def cancel() -> None:
        async with shop.transaction() as connection:
            await cancel_pending(connection, workspace_id=shop.workspace_id, delivery_id=second)

    async with shop.transaction() as person:
        await person.execute(text("SELECT 1 FROM delivery_queue WHERE id = :id FOR UPDATE"), {"id": second})
        cancelling = asyncio.ensure_future(cancel())
        await shop.until_somebody_waits_for_a_lock()
        await shop.finish(claimed, Settle.RETRY, delay_seconds=3600.0)
    await cancelling

    assert (await shop.runtime(endpoint)).held_for > 3500


async def test_orphans_are_cancelled(shop: Workshop) -> None:
    """What was accepted for an endpoint in the moment of its deletion is cancelled; what is being sent waits."""
    gone, there = await shop.endpoint(max_in_flight=1), await shop.endpoint()
    for endpoint in (gone, there):
        await shop.publish(endpoint, 2)
    (sending,) = await shop.claim(gone)
    await shop.sql("UPDATE endpoints SET deleted_at = now() WHERE id = :id", id=gone)

    async with shop.engine.connect() as connection:
        cancelled = await recover.cancel_orphans(connection)

    states = await shop.sql("SELECT endpoint_id, state, count(*) FROM deliveries GROUP BY 1, 2")
    assert cancelled == 1
    assert {tuple(row) for row in states} == {
        (gone, "cancelled", 1),
        (gone, "pending", 1),
        (there, "pending", 2),
    }
    assert (await shop.queue_row(sending.id)).state == 1


async def reconcile(shop: Workshop) -> list[tuple[UUID, int, int]]:
    """Reconcile the counters once, as upkeep does."""
    async with shop.transaction() as connection:
        return await recover.reconcile(connection)


async def test_reconcile_finds_nothing_while_all_is_well(shop: Workshop) -> None:
    """Counters that agree with the leased rows are not touched, and not locked."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint, 3)
    await shop.claim(endpoint, share=2)

    async with shop.transaction() as busy:
        await busy.execute(text("SELECT 1 FROM endpoint_runtime FOR UPDATE"))
        found = await reconcile(shop)

    assert found == []


async def test_reconcile_corrects_both_ways(shop: Workshop) -> None:
    """A counter that is too high or too low is set to the number of leased rows, and the difference is told."""
    high, low = await shop.endpoint(), await shop.endpoint()
    await shop.publish(low, 2)
    await shop.claim(low)
    await shop.sql("UPDATE endpoint_runtime SET in_flight = 7 WHERE endpoint_id = :id", id=high)
    await shop.sql("UPDATE endpoint_runtime SET in_flight = 1 WHERE endpoint_id = :id", id=low)

    found = await reconcile(shop)

    assert sorted(found) == sorted([(high, 7, 0), (low, 1, 2)])
    assert ((await shop.runtime(high)).in_flight, (await shop.runtime(low)).in_flight) == (0, 2)


async def test_reconcile_believes_no_difference_that_a_claim_is_just_making(shop: Workshop) -> None:
    """While workers claim and record, the counters never differ from the rows."""
    endpoints = [await shop.endpoint(max_in_flight=5) for _ in range(4)]
    for endpoint in endpoints:
        await shop.publish(endpoint, 60)
    found = []

    async def work() -> None:
        while await shop.value("SELECT count(*) FROM delivery_queue"):
            claimed = await shop.claim(*endpoints, share=3)
            if claimed:
                await shop.record(*(shop.result(item) for item in claimed))

    async def watch(workers: asyncio.Future[object]) -> None:
        while not workers.done():
            found.extend(await reconcile(shop))

    workers = asyncio.gather(*(work() for _ in range(4)))
    async with asyncio.timeout(60):
        await asyncio.gather(workers, watch(workers))

    assert found == []
