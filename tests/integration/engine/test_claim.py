"""The claim: caps, fairness, order, and what stops an endpoint's deliveries."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from app.deliveries import ranks, recover
from app.deliveries.claim import claim, discover, promote
from app.deliveries.record import Settle, record
from tests.integration.engine.making import MARGIN_SECONDS, WORKER

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.engine.making import Workshop


async def test_leases_for_the_timeout_and_the_margin(shop: Workshop) -> None:
    """A claimed delivery is leased under a token, for the endpoint's timeout plus the margin."""
    endpoint = await shop.endpoint(timeout_seconds=20)
    (delivery,) = await shop.publish(endpoint)

    (claimed,) = await shop.claim(endpoint, margin=7.0)

    row = await shop.queue_row(delivery)
    assert (row.state, row.lease_token, row.leased_by) == (1, claimed.token, WORKER)
    assert 25 < row.lease_left <= 27
    assert (claimed.id, claimed.timeout_seconds, claimed.attempt_count) == (delivery, 20, 0)
    assert (await shop.runtime(endpoint)).in_flight == 1


async def test_rank_comes_before_sequence(shop: Workshop) -> None:
    """What a person forces comes first, then high, normal, retries, replays; within a rank the oldest."""
    endpoint = await shop.endpoint(max_in_flight=100)
    made = await shop.publish(endpoint, 6)
    wanted = [ranks.REPLAY, ranks.RETRY, ranks.NORMAL, ranks.NORMAL, ranks.HIGH, ranks.FORCED]
    for delivery, rank in zip(made, wanted, strict=True):
        await shop.sql("UPDATE delivery_queue SET rank = :rank WHERE id = :id", rank=rank, id=delivery)

    claimed = await shop.claim(endpoint)

    assert [item.id for item in claimed] == [made[n] for n in (5, 4, 2, 3, 1, 0)]


async def test_share_bounds_what_one_lane_gets(shop: Workshop) -> None:
    """A lane gets no more than its share, and the others theirs."""
    one, other = await shop.endpoint(), await shop.endpoint()
    await shop.publish(one, 5)
    await shop.publish(other, 5)

    claimed = await shop.claim(one, other, share=2)

    assert Counter(item.endpoint_id for item in claimed) == {one: 2, other: 2}


@pytest.mark.parametrize(("waiting", "more"), [(2, False), (3, True)])
async def test_says_whether_there_is_more(shop: Workshop, *, waiting: int, more: bool) -> None:
    """A claim that used all its room says whether further deliveries are ready in the lane."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint, waiting)

    async with shop.engine.connect() as connection:
        claimed, (lane,) = await claim(
            connection, [(endpoint, 2)], margin_seconds=MARGIN_SECONDS, worker=WORKER
        )

    assert (len(claimed), lane.taken, lane.room, lane.more) == (2, 2, 2, more)


async def test_cap_counts_what_is_in_flight(shop: Workshop) -> None:
    """A claim fills the endpoint up to its cap and no further."""
    endpoint = await shop.endpoint(max_in_flight=3)
    await shop.publish(endpoint, 10)
    await shop.claim(endpoint, share=2)

    second = await shop.claim(endpoint)
    third = await shop.claim(endpoint)

    assert (len(second), third) == (1, [])


async def test_places_of_answered_requests_are_used_again(shop: Workshop) -> None:
    """What the claimer has answered, and not recorded yet, takes up no place; what others hold does."""
    endpoint = await shop.endpoint(max_in_flight=3)
    await shop.publish(endpoint, 10)
    await shop.claim(endpoint)

    async with shop.engine.connect() as connection:
        again, (lane,) = await claim(
            connection, [(endpoint, 10)], margin_seconds=MARGIN_SECONDS, worker=WORKER, answered={endpoint: 2}
        )
    elsewhere = await shop.claim(endpoint)

    assert (len(again), lane.room, elsewhere) == (2, 2, [])
    assert (await shop.runtime(endpoint)).in_flight == 5


@pytest.mark.parametrize(
    ("fifo", "runtime"), [(True, {}), (False, {"circuit_state": "half_open"})], ids=["fifo", "probing"]
)
async def test_who_goes_alone_waits_for_the_record(
    shop: Workshop, *, fifo: bool, runtime: dict[str, object]
) -> None:
    """In a FIFO line, and while a circuit is probed, what was answered keeps its place until it is recorded."""
    endpoint = await shop.endpoint(fifo=fifo, max_in_flight=3, runtime=runtime)
    await shop.publish(endpoint, 3, fifo=fifo)
    (first,) = await shop.claim(endpoint)

    async with shop.engine.connect() as connection:
        meanwhile, _ = await claim(
            connection, [(endpoint, 10)], margin_seconds=MARGIN_SECONDS, worker=WORKER, answered={endpoint: 1}
        )
    await shop.record(shop.result(first))

    assert (meanwhile, len(await shop.claim(endpoint))) == ([], 1)


@pytest.mark.parametrize(("fifo", "cap"), [(False, 5), (True, 1)])
async def test_caps_are_exact_with_eight_claimers(shop: Workshop, *, fifo: bool, cap: int) -> None:
    """Eight claimers that record at once: no cap is passed, nothing is claimed twice, all counters end at 0."""
    endpoints = [await shop.endpoint(fifo=fifo, max_in_flight=cap) for _ in range(6)]
    each = 20 if fifo else 50
    for endpoint in endpoints:
        await shop.publish(endpoint, each, fifo=fifo)
    in_flight: Counter[object] = Counter()
    tokens: list[int] = []
    done: Counter[object] = Counter()

    async def work(worker: int) -> None:
        while sum(done.values()) < each * len(endpoints):
            # Each begins elsewhere, so that they ask for the same lanes in different orders.
            turn = endpoints[worker % 6 :] + endpoints[: worker % 6]
            claimed = await shop.claim(*turn, share=3)
            for item in claimed:
                in_flight[item.endpoint_id] += 1
                assert in_flight[item.endpoint_id] <= cap
                tokens.append(item.token)
            await asyncio.sleep(0)
            if claimed:
                for item in claimed:
                    in_flight[item.endpoint_id] -= 1
                recorded = await shop.record(*(shop.result(item) for item in claimed))
                assert recorded.stale == 0
                done.update(item.endpoint_id for item in claimed)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(n) for n in range(8)))

    assert done == dict.fromkeys(endpoints, each)
    assert len(set(tokens)) == len(tokens) == each * len(endpoints)
    assert await shop.value("SELECT sum(in_flight) FROM endpoint_runtime") == 0
    assert await shop.value("SELECT count(*) FROM delivery_queue") == 0


async def test_fifo_lane_has_one_in_flight(shop: Workshop) -> None:
    """The second of a FIFO lane is not claimed before the first has its result."""
    endpoint = await shop.endpoint(fifo=True, max_in_flight=10)
    made = await shop.publish(endpoint, 3, fifo=True)

    (first,) = await shop.claim(endpoint)
    meanwhile = await shop.claim(endpoint)
    await shop.finish(first)
    (second,) = await shop.claim(endpoint)

    assert [first.id, meanwhile, second.id] == [made[0], [], made[1]]


async def test_fifo_order_holds_while_every_fifth_fails(shop: Workshop) -> None:
    """500 deliveries of FIFO lanes with 20 % failures go out in the order in which they were accepted."""
    lanes = {await shop.endpoint(fifo=True): [] for _ in range(5)}
    made = {lane: await shop.publish(lane, 100, fifo=True) for lane in lanes}
    sent = 0

    async def work() -> None:
        nonlocal sent
        while sum(len(done) for done in lanes.values()) < 500:
            claimed = await shop.claim(*lanes, share=5)
            results = []
            for item in claimed:
                sent += 1
                failed = sent % 5 == 0
                if not failed:
                    lanes[item.endpoint_id].append(item.id)
                settle = Settle.RETRY if failed else Settle.SUCCEEDED
                results.append(shop.result(item, settle, delay_seconds=0.001 if failed else None))
            if results:
                await shop.record(*results)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work() for _ in range(4)))

    assert lanes == made


async def test_fifo_head_that_is_locked_is_not_overtaken(shop: Workshop) -> None:
    """While somebody holds the row of a FIFO head, the next in line waits with it."""
    endpoint = await shop.endpoint(fifo=True)
    head, second = await shop.publish(endpoint, 2, fifo=True)

    async with shop.transaction() as person:
        await person.execute(text("SELECT 1 FROM delivery_queue WHERE id = :id FOR UPDATE"), {"id": head})
        meanwhile = await shop.claim(endpoint)
    (first,) = await shop.claim(endpoint)

    assert (meanwhile, first.id) == ([], head)
    assert (await shop.queue_row(second)).state == 0


@pytest.mark.parametrize("how", ["released", "swept"])
async def test_fifo_head_that_comes_back_during_a_claim_is_not_overtaken(shop: Workshop, how: str) -> None:
    """A claim that waited for the lane, while its head was handed back, does not take the next one."""
    endpoint = await shop.endpoint(fifo=True)
    head, _ = await shop.publish(endpoint, 2, fifo=True)
    (held,) = await shop.claim(endpoint)
    await shop.end_leases()

    async with shop.transaction() as worker:
        # The lane's row is locked first, so that the claim has begun, and waits, when the head comes back.
        await worker.execute(
            text("SELECT 1 FROM endpoint_runtime WHERE endpoint_id = :id FOR UPDATE"), {"id": endpoint}
        )
        claiming = asyncio.ensure_future(shop.claim(endpoint))
        await shop.until_somebody_waits_for_a_lock()
        if how == "released":
            await record(worker, [shop.result(held, Settle.RELEASED)])
        else:
            await recover.sweep_lost_leases(worker, unix_ms=shop.clock.unix_ms())
    overtaking = await claiming
    (next_one,) = await shop.claim(endpoint)

    assert (overtaking, next_one.id) == ([], head)


async def test_claims_that_waited_for_a_lane_are_not_empty(shop: Workshop) -> None:
    """Workers that ask for a lane while a result of it is recorded wait, and each gets its share of what is ready."""
    endpoint = await shop.endpoint(max_in_flight=10)
    made = await shop.publish(endpoint, 9)

    async with shop.transaction() as recording:
        await recording.execute(
            text("SELECT 1 FROM endpoint_runtime WHERE endpoint_id = :id FOR UPDATE"), {"id": endpoint}
        )
        claims = [asyncio.ensure_future(shop.claim(endpoint, share=3)) for _ in range(3)]
        await shop.until_somebody_waits_for_a_lock(many=3)
    taken = [await claiming for claiming in claims]

    assert [len(items) for items in taken] == [3, 3, 3]
    assert {item.id for items in taken for item in items} == set(made)


async def test_waiting_for_one_lane_keeps_the_order_of_locks(shop: Workshop) -> None:
    """Two claims that name the same lanes the other way round, and a record of both, end without a deadlock."""
    one, other = await shop.endpoint(max_in_flight=50), await shop.endpoint(max_in_flight=50)
    for endpoint in (one, other):
        await shop.publish(endpoint, 40)

    async def work(*turn: UUID) -> int:
        done = 0
        while claimed := await shop.claim(*turn, share=2):
            done += len(claimed)
            await shop.record(*(shop.result(item) for item in reversed(claimed)))
        return done

    done = await asyncio.gather(work(one, other), work(other, one), work(one, other), work(other, one))

    assert sum(done) == 80


async def test_hold_stops_all_but_what_is_forced(shop: Workshop) -> None:
    """Before `held_until` nothing is claimed but a delivery that a person forced."""
    endpoint = await shop.endpoint()
    made = await shop.publish(endpoint, 2)
    await shop.sql("UPDATE endpoint_runtime SET held_until = now() + interval '1 minute'")
    before = await shop.claim(endpoint)
    await shop.sql("UPDATE delivery_queue SET rank = -1 WHERE id = :id", id=made[1])

    forced = await shop.claim(endpoint)

    assert (before, [item.id for item in forced]) == ([], [made[1]])


async def test_hold_that_is_over_stops_nothing(shop: Workshop) -> None:
    """A hold ends by itself."""
    endpoint = await shop.endpoint(runtime={"held_reason": "retry_after"})
    await shop.publish(endpoint)
    await shop.sql("UPDATE endpoint_runtime SET held_until = now() - interval '1 second'")

    claimed = await shop.claim(endpoint)

    assert len(claimed) == 1


async def test_closed_endpoint_keeps_its_deliveries(shop: Workshop) -> None:
    """Of a paused or disabled endpoint nothing is claimed but what is forced, such as tests."""
    endpoint = await shop.endpoint(paused=True)
    _, test = await shop.publish(endpoint, 2)
    await shop.sql("UPDATE delivery_queue SET rank = -1, trigger = 3 WHERE id = :id", id=test)

    claimed = await shop.claim(endpoint)

    assert [item.id for item in claimed] == [test]


async def test_rate_limit_gives_a_burst_and_then_its_rate(shop: Workshop) -> None:
    """A full bucket lets a burst through; then a token comes at a time, and the result says when."""
    endpoint = await shop.endpoint(rate_per_second=0.5, rate_burst=4, max_in_flight=100)
    await shop.publish(endpoint, 10)

    burst = await shop.claim(endpoint)
    async with shop.engine.connect() as connection:
        none, (lane,) = await claim(
            connection, [(endpoint, 10)], margin_seconds=MARGIN_SECONDS, worker=WORKER
        )
    await shop.sql("UPDATE endpoint_runtime SET tokens_at = tokens_at - interval '4.2 seconds'")
    later = await shop.claim(endpoint)

    assert (len(burst), none, lane.room) == (4, [], 0)
    assert 0 < lane.wait_seconds <= 2
    assert len(later) == 2


async def test_tokens_never_exceed_the_burst(shop: Workshop) -> None:
    """An idle hour does not save up more than a burst."""
    endpoint = await shop.endpoint(rate_per_second=10, rate_burst=2, max_in_flight=100)
    await shop.publish(endpoint, 10)
    (_, _) = await shop.claim(endpoint)
    await shop.sql("UPDATE endpoint_runtime SET tokens_at = tokens_at - interval '1 hour'")

    claimed = await shop.claim(endpoint)

    assert len(claimed) == 2


async def test_expired_delivery_is_not_taken(shop: Workshop) -> None:
    """What has passed its deadline is left to the sweep; the next in line goes."""
    endpoint = await shop.endpoint()
    late, good = await shop.publish(endpoint, 2)
    await shop.sql("UPDATE delivery_queue SET deadline_at = now() WHERE id = :id", id=late)

    claimed = await shop.claim(endpoint)

    assert [item.id for item in claimed] == [good]


async def test_scheduled_delivery_waits_for_promotion(shop: Workshop) -> None:
    """A retry is claimed when it is due and promoted, not before; the next one's time is told."""
    endpoint = await shop.endpoint()
    due, later = await shop.publish(endpoint, 2)
    for item in await shop.claim(endpoint):
        await shop.finish(item, Settle.RETRY, delay_seconds=0.0 if item.id == due else 30.0)
    before = await shop.claim(endpoint)

    async with shop.engine.connect() as connection:
        promoted, next_due = await promote(connection)
    after = await shop.claim(endpoint)

    assert (before, promoted, [item.id for item in after]) == ([], 1, [due])
    assert 25 < next_due <= 30
    assert (await shop.queue_row(later)).state == 2


async def test_discovery_walks_lanes_in_pieces(shop: Workshop) -> None:
    """The walk finds each lane once, however many rows it has, and goes on where it ended."""
    lanes = [await shop.endpoint() for _ in range(5)]
    idle = await shop.endpoint()
    for lane in lanes:
        await shop.publish(lane, 3)

    async with shop.engine.connect() as connection:
        first = await discover(connection, after=None, hops=3)
        rest = await discover(connection, after=first[-1], hops=3)

    assert [lane.endpoint_id for lane in (*first, *rest)] == sorted(lanes)
    assert idle not in lanes


async def test_lane_without_a_runtime_row_is_reported_as_absent(shop: Workshop) -> None:
    """An endpoint that no longer exists takes part in no claim and gives no result."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    await shop.sql("DELETE FROM endpoints")

    async with shop.engine.connect() as connection:
        found = await claim(connection, [(endpoint, 5)], margin_seconds=1, worker=WORKER)

    assert found == ([], [])


async def test_a_long_lane_costs_no_more_than_a_short_one(shop: Workshop) -> None:
    """With 20,000 rows in one lane and a held head, a claim reads a handful of rows, not the lane."""
    endpoint = await shop.endpoint(fifo=True)
    (head,) = await shop.publish(endpoint, fifo=True)
    await shop.sql(
        "INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, rank, deadline_at)"
        " SELECT gen_random_uuid(), workspace_id, application_id, endpoint_id, event_id, rank, deadline_at"
        " FROM delivery_queue, generate_series(1, 20000)"
    )
    await shop.sql("ANALYZE delivery_queue")

    async with shop.transaction() as person:
        await person.execute(text("SELECT 1 FROM delivery_queue WHERE id = :id FOR UPDATE"), {"id": head})
        before = await _rows_read(shop)
        async with shop.engine.connect() as connection:
            claimed, _ = await claim(connection, [(endpoint, 5)], margin_seconds=1, worker=WORKER)
            await connection.execute(text("SELECT pg_stat_force_next_flush()"))
        read = await _rows_read(shop) - before

    assert claimed == []
    assert read < 1_000


async def _rows_read(shop: Workshop) -> int:
    return await shop.value(
        "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables"
        " WHERE relname = 'delivery_queue'"
    )
