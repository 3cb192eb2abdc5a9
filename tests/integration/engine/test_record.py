"""The record: what becomes of a delivery, its queue row, its endpoint, and its attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from app.deliveries import ranks
from app.deliveries.cancel import cancel_pending
from app.deliveries.record import Recorded, Settle, record

if TYPE_CHECKING:
    from uuid import UUID

    from app.deliveries.claim import Claimed
    from tests.integration.engine.making import Workshop


TABLES = ("deliveries", "delivery_queue", "attempts", "endpoint_runtime")


async def claimed_one(shop: Workshop, endpoint: UUID, *, fifo: bool = False) -> Claimed:
    """Publish one event to an endpoint and lease its delivery."""
    await shop.publish(endpoint, fifo=fifo)
    (claimed,) = await shop.claim(endpoint)
    return claimed


@pytest.mark.parametrize(
    ("settle", "state"),
    [(Settle.SUCCEEDED, "succeeded"), (Settle.DEAD, "dead"), (Settle.CANCELLED, "cancelled")],
)
async def test_final_results_end_the_delivery(shop: Workshop, settle: Settle, state: str) -> None:
    """The queue row goes, the record is final, and the slot is free."""
    endpoint = await shop.endpoint()
    claimed = await claimed_one(shop, endpoint)

    await shop.finish(claimed, settle)

    delivery = await shop.delivery(claimed.id)
    assert (delivery.state, delivery.completed_at is not None) == (state, True)
    assert delivery.attempt_count == len(await shop.attempts(claimed.id)) == (settle is not Settle.CANCELLED)
    assert await shop.queue_row(claimed.id) is None
    assert (await shop.runtime(endpoint)).in_flight == 0


async def test_attempt_keeps_everything(shop: Workshop) -> None:
    """Each column of the attempt is what the worker gave."""
    claimed = await claimed_one(shop, await shop.endpoint())
    given = {
        "started_at": shop.clock.now(),
        "duration_ms": 12.5,
        "queue_ms": 1.5,
        "dns_ms": 2.5,
        "connect_ms": 3.5,
        "tls_ms": 4.5,
        "send_ms": 5.5,
        "wait_ms": 6.5,
        "receive_ms": 7.5,
        "request_url": "https://receiver.example.com/hooks?x=1",
        "request_headers": b'[["webhook-id","evt_1"]]',
        "response_status": 503,
        "response_headers": b'[["retry-after","5"]]',
        "response_body": b"try later",
        "response_body_truncated": True,
        "error_class": "http_5xx",
        "error_message": "The receiver failed.",
        "note": "The body broke off.",
        "ip": "192.0.2.7",
        "http_version": "1.1",
        "tls_version": "TLSv1.3",
        "connection_reused": False,
        "worker": "host:1",
        "retry_after_seconds": 5,
    }

    await shop.finish(claimed, Settle.RETRY, certificate_expires_at=1_900_000_000, **given)

    (attempt,) = await shop.attempts(claimed.id)
    assert {name: getattr(attempt, name) for name in given} == given
    assert attempt.certificate_expires_at.timestamp() == 1_900_000_000
    assert (attempt.number, attempt.trigger, attempt.outcome, attempt.stale) == (
        1,
        "scheduled",
        "failed",
        False,
    )
    assert (attempt.event_id, attempt.endpoint_id) == (claimed.event_id, claimed.endpoint_id)


@pytest.mark.parametrize("body", [b"\x00", b"\xff\xfe\x00\x80", b"a\x00b" * 1000, "\u2028é".encode()])
async def test_receivers_bytes_are_kept_as_they_came(shop: Workshop, body: bytes) -> None:
    """NUL bytes and invalid UTF-8 in bodies and headers reach the log unchanged."""
    claimed = await claimed_one(shop, await shop.endpoint())
    headers = orjson.dumps([["x", body.decode("latin-1")]])

    await shop.finish(claimed, Settle.RETRY, response_body=body, response_headers=headers)

    (attempt,) = await shop.attempts(claimed.id)
    assert (bytes(attempt.response_body), bytes(attempt.response_headers)) == (body, headers)


@pytest.mark.parametrize("said", ["a\0b", "\ud800", "\0" * 500])
async def test_messages_that_text_cannot_hold_are_made_harmless(shop: Workshop, said: str) -> None:
    """A NUL or half a surrogate pair in a message costs that character, not the result."""
    claimed = await claimed_one(shop, await shop.endpoint())

    await shop.finish(claimed, Settle.RETRY, error_message=said, note=said)

    (attempt,) = await shop.attempts(claimed.id)
    assert len(attempt.error_message) == len(said)


async def test_retry_waits_for_its_delay(shop: Workshop) -> None:
    """A failure with delays left is scheduled behind first attempts, one step on in its schedule."""
    endpoint = await shop.endpoint()
    claimed = await claimed_one(shop, endpoint)

    await shop.finish(claimed, Settle.RETRY, delay_seconds=30.0)

    row = await shop.queue_row(claimed.id)
    assert (row.state, row.rank, row.trigger) == (2, ranks.RETRY, 0)
    assert (row.attempt_count, row.schedule_step, row.blocked_count) == (1, 1, 0)
    assert (row.lease_token, row.lease_until, row.leased_by) == (None, None, None)
    assert 25 < row.due_in <= 30
    delivery = await shop.delivery(claimed.id)
    assert (delivery.state, delivery.attempt_count, delivery.completed_at) == ("pending", 1, None)
    assert (delivery.last_status, delivery.last_error_class) == (503, "http_5xx")
    assert (await shop.runtime(endpoint)).held_until is None


async def test_blocked_target_keeps_its_place_in_the_schedule(shop: Workshop) -> None:
    """A forbidden target has a count of its own; another failure begins it anew."""
    endpoint = await shop.endpoint()
    claimed = await claimed_one(shop, endpoint)
    await shop.finish(claimed, Settle.RETRY, blocked=True, counts=False, delay_seconds=0.0)
    after_block = await shop.queue_row(claimed.id)
    await shop.sql("UPDATE delivery_queue SET state = 0")
    (again,) = await shop.claim(endpoint)

    await shop.finish(again, Settle.RETRY)

    after_failure = await shop.queue_row(claimed.id)
    assert (after_block.blocked_count, after_block.schedule_step) == (1, 0)
    assert (after_failure.blocked_count, after_failure.schedule_step, after_failure.attempt_count) == (
        0,
        1,
        2,
    )


async def test_result_clears_the_suspicion(shop: Workshop) -> None:
    """A delivery that was sent and has a result did not end its earlier workers."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    await shop.sql("UPDATE delivery_queue SET lost_count = 2, lost_alone_count = 1")
    (claimed,) = await shop.claim(endpoint)

    await shop.finish(claimed, Settle.RETRY)

    row = await shop.queue_row(claimed.id)
    assert (claimed.lost_count, row.lost_count, row.lost_alone_count) == (2, 0, 0)


async def test_released_delivery_is_as_if_never_claimed(shop: Workshop) -> None:
    """What is handed back is ready at once, with its rank and counts, and without an attempt."""
    endpoint = await shop.endpoint()
    (delivery,) = await shop.publish(endpoint)
    await shop.sql("UPDATE delivery_queue SET rank = -1, trigger = 1, lost_count = 1, schedule_step = 2")
    before = await shop.queue_row(delivery)
    (claimed,) = await shop.claim(endpoint)

    await shop.finish(claimed, Settle.RELEASED)

    after = await shop.queue_row(delivery)
    kept = ("state", "rank", "seq", "trigger", "due_at", "attempt_count", "schedule_step", "lost_count")
    assert [getattr(after, name) for name in kept] == [getattr(before, name) for name in kept]
    assert await shop.attempts(delivery) == []
    assert (await shop.runtime(endpoint)).in_flight == 0


@pytest.mark.parametrize("fifo", [False, True])
async def test_fault_of_our_own_waits_before_it_is_tried_again(shop: Workshop, *, fifo: bool) -> None:
    """A release with a delay is not claimed at once, uses up nothing, and keeps its place in a FIFO lane."""
    endpoint = await shop.endpoint(fifo=fifo)
    claimed = await claimed_one(shop, endpoint, fifo=fifo)

    await shop.finish(claimed, Settle.RELEASED, delay_seconds=15.0)
    again = await shop.claim(endpoint)

    row = await shop.queue_row(claimed.id)
    assert (again, row.state, row.schedule_step, row.attempt_count) == ([], 0 if fifo else 2, 0, 0)
    assert 10 < row.due_in <= 15


async def test_test_that_is_released_with_a_delay_holds_no_lane(shop: Workshop) -> None:
    """A test delivery that we could not send waits for itself; the FIFO lane behind it goes on."""
    endpoint = await shop.endpoint(fifo=True)
    test, normal = await shop.publish(endpoint, 2, fifo=True)
    await shop.sql("UPDATE delivery_queue SET rank = -1, trigger = 3 WHERE id = :id", id=test)
    (claimed,) = await shop.claim(endpoint)

    await shop.finish(claimed, Settle.RELEASED, delay_seconds=15.0, test=True)
    (next_one,) = await shop.claim(endpoint)

    assert (claimed.id, next_one.id) == (test, normal)
    assert (await shop.queue_row(test)).state == 2


async def test_late_result_is_kept_but_changes_nothing(shop: Workshop) -> None:
    """After the lease went to another worker, a result is logged as stale and the delivery left alone."""
    endpoint = await shop.endpoint()
    first = await claimed_one(shop, endpoint)
    await shop.sql("UPDATE delivery_queue SET state = 0, lease_token = NULL")
    await shop.sql("UPDATE endpoint_runtime SET in_flight = 0")
    (second,) = await shop.claim(endpoint)

    recorded = await shop.record(shop.result(first, Settle.DEAD))

    (attempt,) = await shop.attempts(first.id)
    row = await shop.queue_row(first.id)
    assert (recorded, attempt.stale) == (Recorded(settled=0, stale=1), True)
    assert (row.state, row.lease_token) == (1, second.token)
    assert (await shop.delivery(first.id)).state == "pending"
    assert (await shop.runtime(endpoint)).in_flight == 1


async def test_stale_and_live_result_of_one_delivery_in_one_flush(shop: Workshop) -> None:
    """Of two results of a delivery the one under the living lease settles it; the other is marked stale."""
    endpoint = await shop.endpoint()
    first = await claimed_one(shop, endpoint)
    await shop.sql("UPDATE delivery_queue SET state = 0, lease_token = NULL")
    await shop.sql("UPDATE endpoint_runtime SET in_flight = 0")
    (second,) = await shop.claim(endpoint)

    recorded = await shop.record(shop.result(first, Settle.DEAD), shop.result(second, number=2))

    attempts = await shop.attempts(first.id)
    assert recorded == Recorded(settled=1, stale=1)
    assert [(attempt.number, attempt.stale) for attempt in attempts] == [(1, True), (2, False)]
    assert (await shop.delivery(first.id)).state == "succeeded"


async def test_recording_again_after_a_lost_commit_writes_nothing_twice(shop: Workshop) -> None:
    """The same results a second time: no second attempt, no change, no counter moved."""
    endpoint = await shop.endpoint(max_in_flight=10)
    await shop.publish(endpoint, 3)
    claimed = await shop.claim(endpoint)
    results = [
        shop.result(item, settle)
        for item, settle in zip(claimed, (Settle.SUCCEEDED, Settle.RETRY, Settle.RELEASED), strict=True)
    ]
    await shop.record(*results)
    before = [await shop.sql(f"SELECT * FROM {table} ORDER BY 1") for table in TABLES]  # noqa: S608 - from below

    recorded = await shop.record(*results)

    after = [await shop.sql(f"SELECT * FROM {table} ORDER BY 1") for table in TABLES]  # noqa: S608 - from below
    assert (recorded.settled, after) == (0, before)


@pytest.mark.parametrize("settle", [Settle.SUCCEEDED, Settle.RETRY, Settle.DEAD, Settle.RELEASED])
async def test_cancel_meanwhile_ends_the_delivery(shop: Workshop, settle: Settle) -> None:
    """What a person cancelled while it was sent is cancelled by its result; the attempt is kept."""
    endpoint = await shop.endpoint()
    claimed = await claimed_one(shop, endpoint)
    async with shop.transaction() as connection:
        await cancel_pending(connection, workspace_id=shop.workspace_id, delivery_id=claimed.id)
    meanwhile = await shop.queue_row(claimed.id)

    await shop.finish(claimed, settle)

    delivery = await shop.delivery(claimed.id)
    assert (meanwhile.state, meanwhile.cancel_requested) == (1, True)
    assert (delivery.state, await shop.queue_row(claimed.id)) == ("cancelled", None)
    assert len(await shop.attempts(claimed.id)) == (settle is not Settle.RELEASED)
    assert (await shop.runtime(endpoint)).in_flight == 0


async def test_fifo_retry_stays_at_the_head_and_holds_its_lane(shop: Workshop) -> None:
    """A FIFO head that failed is not overtaken: it stays ready, and the lane is held for its delay."""
    endpoint = await shop.endpoint(fifo=True)
    head, _ = await shop.publish(endpoint, 2, fifo=True)
    (claimed,) = await shop.claim(endpoint)

    await shop.finish(claimed, Settle.RETRY, delay_seconds=30.0)
    meanwhile = await shop.claim(endpoint)
    await shop.sql("UPDATE endpoint_runtime SET held_until = now()")
    (again,) = await shop.claim(endpoint)

    runtime = await shop.runtime(endpoint)
    assert (meanwhile, again.id, again.schedule_step) == ([], head, 1)
    assert runtime.held_reason == "fifo_backoff"


async def test_forced_fifo_head_that_fails_again_waits(shop: Workshop) -> None:
    """A retry that a person forced passes the hold once; when it fails, it waits like any other."""
    endpoint = await shop.endpoint(fifo=True)
    head, _ = await shop.publish(endpoint, 2, fifo=True)
    await shop.sql("UPDATE delivery_queue SET rank = -1, trigger = 1 WHERE id = :id", id=head)
    (claimed,) = await shop.claim(endpoint)

    await shop.finish(claimed, Settle.RETRY, delay_seconds=30.0)

    row = await shop.queue_row(head)
    assert (claimed.trigger, row.rank, row.trigger) == (1, ranks.FIFO, 0)
    assert await shop.claim(endpoint) == []


@pytest.mark.parametrize("settle", [Settle.SUCCEEDED, Settle.DEAD])
async def test_fifo_head_that_leaves_ends_the_lanes_wait(shop: Workshop, settle: Settle) -> None:
    """When a forced head is final, the next in line need not wait for the rest of the hold."""
    endpoint = await shop.endpoint(fifo=True)
    head, second = await shop.publish(endpoint, 2, fifo=True)
    (first_try,) = await shop.claim(endpoint)
    await shop.finish(first_try, Settle.RETRY, delay_seconds=600.0)
    await shop.sql("UPDATE delivery_queue SET rank = -1 WHERE id = :id", id=head)
    (forced,) = await shop.claim(endpoint)

    await shop.finish(forced, settle)
    (next_one,) = await shop.claim(endpoint)

    assert next_one.id == second


async def test_test_delivery_does_not_end_a_fifo_lanes_wait(shop: Workshop) -> None:
    """A test that goes past a held FIFO lane leaves the hold alone."""
    endpoint = await shop.endpoint(fifo=True)
    _, test = await shop.publish(endpoint, 2, fifo=True)
    (head,) = await shop.claim(endpoint)
    await shop.finish(head, Settle.RETRY, delay_seconds=600.0)
    await shop.sql("UPDATE delivery_queue SET rank = -1, trigger = 3 WHERE id = :id", id=test)
    (claimed,) = await shop.claim(endpoint)

    await shop.finish(claimed, Settle.SUCCEEDED, counts=False)

    assert (await shop.runtime(endpoint)).held_for > 500


async def test_retry_after_holds_the_endpoint(shop: Workshop) -> None:
    """What one delivery was told holds all of its endpoint's, and no other endpoint's."""
    endpoint, other = await shop.endpoint(), await shop.endpoint()
    await shop.publish(endpoint, 2)
    await shop.publish(other)
    (claimed,) = await shop.claim(endpoint, share=1)

    await shop.finish(claimed, Settle.RETRY, delay_seconds=90.0, hold_seconds=90.0)
    meanwhile = await shop.claim(endpoint, other)

    runtime = await shop.runtime(endpoint)
    assert [item.endpoint_id for item in meanwhile] == [other]
    assert (runtime.held_reason, 80 < runtime.held_for <= 90) == ("retry_after", True)


async def test_success_does_not_end_a_retry_after(shop: Workshop) -> None:
    """A request that was under way and succeeds leaves the receiver's wish alone."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint, 2)
    told, good = await shop.claim(endpoint)
    await shop.finish(told, Settle.RETRY, hold_seconds=90.0)

    await shop.finish(good)

    runtime = await shop.runtime(endpoint)
    assert (runtime.held_reason, runtime.held_for > 80) == ("retry_after", True)


async def test_shorter_retry_after_does_not_shorten_a_hold(shop: Workshop) -> None:
    """Of two wishes the later moment holds."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint, 2)
    first, second = await shop.claim(endpoint)
    await shop.finish(first, Settle.RETRY, hold_seconds=90.0)

    await shop.finish(second, Settle.RETRY, hold_seconds=5.0)

    assert (await shop.runtime(endpoint)).held_for > 80


async def test_fifo_backoff_does_not_hide_a_retry_after(shop: Workshop) -> None:
    """A FIFO head that fails while its endpoint is held by the receiver's wish keeps that reason."""
    endpoint = await shop.endpoint(fifo=True)
    await shop.publish(endpoint, 2, fifo=True)
    (claimed,) = await shop.claim(endpoint)
    await shop.sql(
        "UPDATE endpoint_runtime SET held_until = now() + interval '90 s', held_reason = 'retry_after'"
    )

    await shop.finish(claimed, Settle.RETRY, delay_seconds=5.0)

    runtime = await shop.runtime(endpoint)
    assert (runtime.held_reason, runtime.held_for > 80) == ("retry_after", True)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [("fff", 5), ("sff", 2), ("ffs", 0), ("fsf", 1), ("s", 0), ("fx", 3), ("xsx", 0), ("r", 2)],
)
async def test_consecutive_failures_go_by_the_order_of_results(
    shop: Workshop, outcomes: str, expected: int
) -> None:
    """After two failures: each failure counts, a success begins anew, what does not count (x) changes nothing."""
    endpoint = await shop.endpoint(max_in_flight=10, runtime={"consecutive_failures": 2})
    await shop.publish(endpoint, len(outcomes))
    settles = {"f": Settle.RETRY, "s": Settle.SUCCEEDED, "x": Settle.RETRY, "r": Settle.RELEASED}

    await shop.record(
        *(
            shop.result(item, settles[outcome], **({"counts": False} if outcome == "x" else {}))
            for item, outcome in zip(await shop.claim(endpoint), outcomes, strict=True)
        )
    )

    assert (await shop.runtime(endpoint)).consecutive_failures == expected


async def test_health_times_are_those_of_the_attempts(shop: Workshop) -> None:
    """The endpoint's last success and failure are when those attempts began; a late flush does not turn them back."""
    endpoint = await shop.endpoint(max_in_flight=10)
    await shop.publish(endpoint, 3)
    first, second, third = await shop.claim(endpoint)
    now = shop.clock.now()

    await shop.record(
        shop.result(first, started_at=now),
        shop.result(second, Settle.RETRY, started_at=now.replace(year=2020)),
    )
    await shop.record(shop.result(third, started_at=now.replace(year=2021)))

    runtime = await shop.runtime(endpoint)
    assert (runtime.last_success_at, runtime.last_failure_at) == (now, now.replace(year=2020))


async def test_many_endpoints_in_one_flush(shop: Workshop) -> None:
    """One statement settles deliveries of many endpoints, each for itself."""
    endpoints = [await shop.endpoint() for _ in range(10)]
    for endpoint in endpoints:
        await shop.publish(endpoint, 4)
    claimed = await shop.claim(*endpoints)

    recorded = await shop.record(
        *(
            shop.result(item, Settle.SUCCEEDED if n % 2 else Settle.RETRY)
            for n, item in enumerate(sorted(claimed, key=lambda item: item.token))
        )
    )

    states = await shop.sql("SELECT endpoint_id, state, count(*) FROM deliveries GROUP BY 1, 2")
    assert (recorded.settled, {tuple(row) for row in states}) == (
        40,
        {(endpoint, state, 2) for endpoint in endpoints for state in ("succeeded", "pending")},
    )
    assert await shop.value("SELECT sum(in_flight) FROM endpoint_runtime") == 0


async def test_nothing_of_a_flush_stays_when_it_fails(shop: Workshop) -> None:
    """A flush that is rolled back leaves lease and counters as they were, and can be recorded again."""
    endpoint = await shop.endpoint()
    claimed = await claimed_one(shop, endpoint)
    result = shop.result(claimed)
    async with shop.transactional.connect() as connection:
        await record(connection, [result])
        await connection.rollback()
    between = await shop.queue_row(claimed.id)

    recorded = await shop.record(result)

    assert (between.state, recorded.settled) == (1, 1)
    assert len(await shop.attempts(claimed.id)) == 1


async def test_counter_that_is_wrong_costs_no_result(shop: Workshop) -> None:
    """If a counter were too low, the results would be recorded all the same; upkeep reports the difference."""
    endpoint = await shop.endpoint()
    claimed = await claimed_one(shop, endpoint)
    await shop.sql("UPDATE endpoint_runtime SET in_flight = 0")

    await shop.finish(claimed)

    assert (await shop.runtime(endpoint)).in_flight == 0
    assert (await shop.delivery(claimed.id)).state == "succeeded"


async def test_endpoint_that_becomes_fifo_keeps_its_retries_in_line(shop: Workshop) -> None:
    """What was in flight when the endpoint became FIFO goes back into the line and not beside it."""
    endpoint = await shop.endpoint()
    claimed = await claimed_one(shop, endpoint)
    await shop.sql("UPDATE endpoint_runtime SET fifo = true")

    await shop.finish(claimed, Settle.RETRY, delay_seconds=30.0)

    row = await shop.queue_row(claimed.id)
    assert (row.state, row.rank) == (0, ranks.FIFO)
    assert (await shop.runtime(endpoint)).held_reason == "fifo_backoff"
