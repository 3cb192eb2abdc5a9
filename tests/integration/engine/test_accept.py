"""The accept statement: what is written, what is refused, and who waits for whom."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.core import ids
from app.deliveries import ranks
from app.events.accept import Verdict, accept, first_of_uids, stored_among
from app.events.envelope import read_event
from app.events.fanout import expand_next
from app.events.routing import Route

if TYPE_CHECKING:
    from uuid import UUID

    from tests.integration.engine.making import Workshop

DAY = 86_400


async def test_event_is_kept_as_it_came(shop: Workshop) -> None:
    """Every field of the event is in its row, `data` byte for byte."""
    data = (
        b'{ "big": 9007199254740993, "price": 1.10, "text": "\\u00e9\\ud83d\\ude00 \xc3\xa9", "a":1, "a":2 }'
    )
    event = read_event(
        b'{"type":"order.placed","uid":"u1","correlation_id":"c1","priority":"high",'
        b'"occurred_at":"2026-01-31T12:00:00.25+02:00","metadata":{"k":"v"},"data":' + data + b"}"
    )
    submission = shop.submission(event=event)
    submission.traceparent = "00-1-2-01"

    (verdict,) = await shop.accept(submission)

    (row,) = await shop.sql("SELECT * FROM events")
    assert verdict is Verdict.ACCEPTED
    assert (row.id, bytes(row.data), row.type, row.uid) == (submission.id, data, "order.placed", "u1")
    assert (row.correlation_id, row.metadata, row.priority, row.traceparent) == (
        "c1",
        {"k": "v"},
        0,
        "00-1-2-01",
    )
    assert row.occurred_at.isoformat() == "2026-01-31T10:00:00.250000+00:00"
    assert (row.workspace_id, row.application_id, row.deliveries) == (
        shop.workspace_id,
        shop.application_id,
        0,
    )
    assert (row.test, row.data_erased_at) == (False, None)
    assert row.created_at.timestamp() == pytest.approx(submission.created_ms / 1000)


async def test_occurred_at_is_the_acceptance_where_nobody_says(shop: Workshop) -> None:
    """Without `occurred_at` the event happened when it was accepted."""
    await shop.accept(shop.submission())

    (row,) = await shop.sql("SELECT * FROM events")
    assert row.occurred_at == row.created_at


async def test_each_route_gets_its_delivery(shop: Workshop) -> None:
    """One delivery and one queue row for each endpoint, ready now, with the endpoint's own deadline."""
    plain, fifo = await shop.endpoint(), await shop.endpoint(fifo=True)
    submission = shop.submission([Route(plain, False, DAY), Route(fifo, True, 2 * DAY)])

    await shop.accept(submission)

    rows = await shop.sql(
        "SELECT d.*, q.state AS place, q.rank, extract(epoch FROM q.deadline_at - q.due_at)::int AS age,"
        " q.deadline_at = d.deadline_at AS same FROM deliveries d JOIN delivery_queue q USING (id)"
        " ORDER BY d.endpoint_id"
    )
    assert [(row.endpoint_id, row.rank, row.age, row.same) for row in rows] == sorted(
        [(plain, ranks.NORMAL, DAY, True), (fifo, ranks.FIFO, 2 * DAY, True)]
    )
    assert {(row.state, row.place, row.event_type, row.event_id) for row in rows} == {
        ("pending", 0, "order.placed", submission.id)
    }
    assert await shop.value("SELECT deliveries FROM events") == 2


async def test_high_priority_goes_first_but_not_in_a_fifo_lane(shop: Workshop) -> None:
    """The event's priority is the rank of its deliveries; FIFO lanes have one rank."""
    plain, fifo = await shop.endpoint(), await shop.endpoint(fifo=True)
    routes = [Route(plain, False, DAY), Route(fifo, True, DAY)]

    await shop.accept(shop.submission(routes, high=True), shop.submission(routes, high=False))

    rows = await shop.sql("SELECT endpoint_id, rank FROM delivery_queue ORDER BY seq")
    assert [row.rank for row in rows if row.endpoint_id == plain] == [ranks.HIGH, ranks.NORMAL]
    assert [row.rank for row in rows if row.endpoint_id == fifo] == [ranks.FIFO, ranks.FIFO]


async def test_events_of_one_statement_keep_their_order(shop: Workshop) -> None:
    """A thousand events of one statement reach the lane in the order in which they were given."""
    endpoint = await shop.endpoint()

    made = await shop.publish(endpoint, 1_000)

    rows = await shop.sql("SELECT id FROM delivery_queue ORDER BY seq")
    assert [row.id for row in rows] == made
    assert await shop.value("SELECT count(*) FROM events") == 1_000


async def test_event_that_was_matched_too_early_is_stale(shop: Workshop) -> None:
    """After a change of subscriptions an event that was matched before leaves nothing behind."""
    endpoint = await shop.endpoint()
    await shop.sql("UPDATE applications SET routing_version = 2")

    verdicts = await shop.accept(
        shop.submission([endpoint], routing_version=1, uid="u1"),
        shop.submission([endpoint], routing_version=2),
    )

    assert verdicts == [Verdict.STALE, Verdict.ACCEPTED]
    counts = await shop.sql(
        "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM deliveries), (SELECT count(*) FROM event_keys)"
    )
    assert tuple(counts[0]) == (1, 1, 0)


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ("revoked_at = now()", Verdict.REVOKED),
        ("expires_at = now() - interval '1 second'", Verdict.REVOKED),
        ("expires_at = now() + interval '1 minute'", Verdict.ACCEPTED),
    ],
)
async def test_key_is_looked_at_when_the_event_is_written(
    shop: Workshop, change: str, verdict: Verdict
) -> None:
    """A key that was revoked or has expired since it was checked stores nothing."""
    key = await shop.api_key()
    await shop.sql(f"UPDATE api_keys SET {change}")  # noqa: S608 - from above

    (found,) = await shop.accept(shop.submission(api_key_id=key))

    assert found is verdict
    assert await shop.value("SELECT count(*) FROM events") == (verdict is Verdict.ACCEPTED)


@pytest.mark.parametrize("how", ["deleted", "of another workspace", "never there"])
async def test_application_that_is_gone(shop: Workshop, how: str) -> None:
    """An event for an application that is not there (any more) stores nothing."""
    other = await shop.workspace()
    application = {
        "deleted": shop.application_id,
        "of another workspace": await shop.application(workspace_id=other),
        "never there": ids.uuid7(5),
    }[how]
    if how == "deleted":
        await shop.sql("UPDATE applications SET deleted_at = now()")

    (verdict,) = await shop.accept(shop.submission(application_id=application))

    assert (verdict, await shop.value("SELECT count(*) FROM events")) == (Verdict.GONE, 0)


async def test_second_of_a_uid_is_a_duplicate(shop: Workshop) -> None:
    """A uid that is taken stores nothing; the first event and its content can be looked up."""
    endpoint = await shop.endpoint()
    first = shop.submission([endpoint], uid="u1", content_hash=b"1" * 32)
    await shop.accept(first)

    (verdict,) = await shop.accept(shop.submission([endpoint], uid="u1", content_hash=b"2" * 32))

    async with shop.engine.connect() as connection:
        found = await first_of_uids(connection, [(shop.application_id, "u1"), (shop.application_id, "u2")])
    assert (verdict, found) == (Verdict.DUPLICATE, {(shop.application_id, "u1"): (first.id, b"1" * 32)})
    assert await shop.value("SELECT count(*) FROM deliveries") == 1


async def test_uid_belongs_to_its_application(shop: Workshop) -> None:
    """Two applications may use the same uid."""
    other = await shop.application()

    verdicts = await shop.accept(shop.submission(uid="u1"), shop.submission(uid="u1", application_id=other))

    assert verdicts == [Verdict.ACCEPTED, Verdict.ACCEPTED]


async def test_one_event_of_many_publishers_with_one_uid(shop: Workshop) -> None:
    """Concurrent statements with the same uids in different orders store each event once."""
    uids = [f"u{n}" for n in range(100)]

    async def publish(n: int) -> list[Verdict]:
        order = random.Random(n).sample(uids, len(uids))  # noqa: S311 - an order
        return await shop.accept(*(shop.submission(uid=uid) for uid in order))

    async with asyncio.timeout(60):
        found = [
            verdict for each in await asyncio.gather(*(publish(n) for n in range(12))) for verdict in each
        ]

    assert set(found) == {Verdict.ACCEPTED, Verdict.DUPLICATE}
    assert found.count(Verdict.ACCEPTED) == await shop.value("SELECT count(*) FROM events") == 100


async def test_who_waits_for_a_uid_holds_none_that_comes_later(shop: Workshop) -> None:
    """Uids are taken in their order, so that two statements with the same ones cannot wait for each other."""
    earlier, later = shop.submission(uid="m"), [f"z{n:03}" for n in range(100)]
    uids = random.Random(1).sample(["m", *later], 101)  # noqa: S311 - an order

    async with shop.transaction() as first:
        await accept(first, [earlier], inline=1_000, keep_days=30)
        waiting = asyncio.ensure_future(shop.accept(*(shop.submission(uid=uid) for uid in uids)))
        await shop.until_somebody_waits_for_a_lock()
        taken = await accept(first, [shop.submission(uid=uid) for uid in later], inline=1_000, keep_days=30)

    assert set(taken) == {Verdict.ACCEPTED}
    assert set(await waiting) == {Verdict.DUPLICATE}


async def test_loser_of_a_race_finds_the_winner(shop: Workshop) -> None:
    """The statement that lost waits for the other's commit; a second look then sees the first event."""
    first = shop.submission(uid="u1")
    async with shop.transaction() as winner:
        await accept(winner, [first], inline=1_000, keep_days=30)
        losing = asyncio.ensure_future(shop.accept(shop.submission(uid="u1")))
        await shop.until_somebody_waits_for_a_lock()
    (verdict,) = await losing

    async with shop.engine.connect() as connection:
        found = await first_of_uids(connection, [(shop.application_id, "u1")])
    assert (verdict, found[shop.application_id, "u1"][0]) == (Verdict.DUPLICATE, first.id)


async def test_uid_of_a_publish_that_was_rolled_back_is_free(shop: Workshop) -> None:
    """When the first one does not commit, the one that waited is accepted."""
    async with shop.transactional.connect() as first:
        await accept(first, [shop.submission(uid="u1")], inline=1_000, keep_days=30)
        waiting = asyncio.ensure_future(shop.accept(shop.submission(uid="u1")))
        await shop.until_somebody_waits_for_a_lock()
        await first.rollback()

    assert await waiting == [Verdict.ACCEPTED]


async def test_fifo_numbers_follow_the_commits(shop: Workshop) -> None:
    """Whoever writes into a FIFO lane holds it until the commit, so a later number is never seen earlier."""
    endpoint = await shop.endpoint(fifo=True)
    route = Route(endpoint, fifo=True, max_age_seconds=DAY)
    slow, fast = shop.submission([route]), shop.submission([route])
    async with shop.transaction() as first:
        await accept(first, [slow], inline=1_000, keep_days=30)
        second = asyncio.ensure_future(shop.accept(fast))
        await shop.until_somebody_waits_for_a_lock()
        seen_before = await shop.claim(endpoint)
    await second
    (claimed,) = await shop.claim(endpoint)

    assert (seen_before, claimed.event_id) == ([], slow.id)


async def test_fifo_lanes_are_taken_in_one_order(shop: Workshop) -> None:
    """Statements that write into the same FIFO lanes in different orders do not deadlock."""
    lanes = [Route(await shop.endpoint(fifo=True), fifo=True, max_age_seconds=DAY) for _ in range(8)]

    async def publish(n: int) -> list[Verdict]:
        order = lanes if n % 2 else lanes[::-1]
        return await shop.accept(*(shop.submission([route]) for route in order))

    async with asyncio.timeout(60):
        verdicts = await asyncio.gather(*(publish(n) for n in range(40)))

    assert {verdict for each in verdicts for verdict in each} == {Verdict.ACCEPTED}
    assert await shop.value("SELECT count(*) FROM delivery_queue") == 320


async def test_ordinary_lanes_wait_for_nobody(shop: Workshop) -> None:
    """Two publishers of one endpoint without FIFO write at the same time."""
    endpoint = await shop.endpoint()
    async with shop.transaction() as first, asyncio.timeout(30):
        await accept(first, [shop.submission([endpoint])], inline=1_000, keep_days=30)

        verdicts = await shop.accept(shop.submission([endpoint]))

    assert verdicts == [Verdict.ACCEPTED]


async def test_wide_fan_out_is_left_to_workers(shop: Workshop) -> None:
    """Above the limit one row names the endpoints; FIFO endpoints get their delivery at once."""
    plain = [await shop.endpoint() for _ in range(4)]
    fifo = await shop.endpoint(fifo=True)
    routes = [Route(endpoint, False, DAY) for endpoint in plain] + [Route(fifo, True, DAY)]
    submission = shop.submission(routes, high=True)

    await shop.accept(submission, inline=4)

    (fanout,) = await shop.sql("SELECT * FROM fanouts")
    assert (fanout.event_id, fanout.endpoint_ids, fanout.rank) == (submission.id, plain, ranks.HIGH)
    assert [row.endpoint_id for row in await shop.sql("SELECT * FROM deliveries")] == [fifo]
    assert await shop.value("SELECT deliveries FROM events") == 5


async def test_fan_out_at_the_limit_is_written_at_once(shop: Workshop) -> None:
    """The limit itself is not above the limit."""
    endpoints = [await shop.endpoint() for _ in range(4)]

    await shop.accept(shop.submission(endpoints), inline=4)

    counts = await shop.sql("SELECT (SELECT count(*) FROM deliveries), (SELECT count(*) FROM fanouts)")
    assert tuple(counts[0]) == (4, 0)


async def expand(shop: Workshop, *, most: int) -> int:
    """Write one slice, as a worker does."""
    async with shop.engine.connect() as connection:
        return await expand_next(connection, clock=shop.clock, settings=shop.settings, most=most)


async def wide_event(shop: Workshop, endpoints: list[UUID]) -> UUID:
    """Accept an event whose deliveries workers must write."""
    submission = shop.submission(endpoints)
    await shop.accept(submission, inline=1)
    assert submission.id is not None
    return submission.id


async def test_fan_out_is_expanded_slice_by_slice(shop: Workshop) -> None:
    """Each slice writes its deliveries and moves on; after the last one the row is gone."""
    endpoints = [await shop.endpoint(max_age_seconds=7200 if n else None) for n in range(5)]
    event = await wide_event(shop, endpoints)

    slices = [await expand(shop, most=2) for _ in range(4)]

    rows = await shop.sql(
        "SELECT d.*, q.rank, q.due_at <= now() AS due, extract(epoch FROM d.deadline_at - d.created_at)::int AS age"
        " FROM deliveries d JOIN delivery_queue q USING (id) ORDER BY d.endpoint_id"
    )
    assert slices == [2, 2, 1, 0]
    assert [(row.endpoint_id, row.event_id, row.event_type, row.rank, row.due) for row in rows] == [
        (endpoint, event, "order.placed", ranks.NORMAL, True) for endpoint in sorted(endpoints)
    ]
    assert sorted(round(row.age, -2) for row in rows) == [7200] * 4 + [shop.settings.max_age_seconds]
    assert await shop.value("SELECT count(*) FROM fanouts") == 0


async def test_workers_share_fan_outs(shop: Workshop) -> None:
    """Six workers that expand three events write each delivery once."""
    endpoints = [await shop.endpoint() for _ in range(40)]
    for _ in range(3):
        await wide_event(shop, endpoints)

    async def work() -> None:
        while await shop.value("SELECT count(*) FROM fanouts"):
            await expand(shop, most=3)

    async with asyncio.timeout(60):
        await asyncio.gather(*(work() for _ in range(6)))

    assert await shop.value("SELECT count(DISTINCT (event_id, endpoint_id)) FROM delivery_queue") == 120
    assert await shop.value("SELECT count(*) FROM deliveries") == 120


async def test_endpoint_that_was_deleted_meanwhile_gets_nothing(shop: Workshop) -> None:
    """Between the publish and the expansion an endpoint may go; the others get theirs."""
    endpoints = [await shop.endpoint() for _ in range(3)]
    await wide_event(shop, endpoints)
    await shop.sql("UPDATE endpoints SET deleted_at = now() WHERE id = :id", id=endpoints[1])

    await expand(shop, most=10)

    rows = await shop.sql("SELECT endpoint_id FROM deliveries ORDER BY endpoint_id")
    assert [row.endpoint_id for row in rows] == sorted([endpoints[0], endpoints[2]])


async def test_endpoint_that_became_fifo_meanwhile_gets_it_in_line(shop: Workshop) -> None:
    """A delivery that is written later stands in a FIFO lane with the rank of that lane."""
    endpoints = [await shop.endpoint() for _ in range(2)]
    await wide_event(shop, endpoints)
    await shop.sql("UPDATE endpoints SET ordering = 'fifo'")

    await expand(shop, most=10)

    rows = await shop.sql("SELECT DISTINCT rank FROM delivery_queue")
    assert [row.rank for row in rows] == [ranks.FIFO]


async def test_refused_statement_leaves_nothing(shop: Workshop) -> None:
    """A value that Postgres refuses sinks its whole statement: the caller halves it."""
    good, bad = shop.submission(uid="u1"), shop.submission(metadata={"k": "\0"})

    with pytest.raises(DBAPIError):
        await shop.accept(good, bad)

    counts = await shop.sql("SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM event_keys)")
    assert tuple(counts[0]) == (0, 0)


async def test_same_submissions_can_be_written_after_a_failure(shop: Workshop) -> None:
    """Ids stay over retries: what was rolled back is written with the same ids."""
    endpoint = await shop.endpoint()
    submission = shop.submission([endpoint], uid="u1")

    async with shop.transactional.connect() as connection:
        await accept(connection, [submission], inline=1_000, keep_days=30)
        await connection.rollback()
    before = (submission.id, list(submission.delivery_ids))

    await shop.accept(submission)

    async with shop.engine.connect() as connection:
        stored = await stored_among(connection, [submission, shop.submission()])
    assert (submission.id, submission.delivery_ids) == before
    assert stored == {submission.id}
    assert await shop.value("SELECT id FROM deliveries") == submission.delivery_ids[0]


async def test_uid_is_kept_for_the_retention(shop: Workshop) -> None:
    """A uid is taken for as long as its event is kept."""
    await shop.accept(shop.submission(uid="u1"))

    days = await shop.value("SELECT extract(epoch FROM expires_at - now()) / 86400 FROM event_keys")
    assert float(days) == pytest.approx(30, abs=0.1)


async def test_event_carries_its_transaction(shop: Workshop) -> None:
    """The feed goes by the transaction that wrote the event."""
    async with shop.transaction() as connection:
        await accept(connection, [shop.submission()], inline=1_000, keep_days=30)
        xid = await connection.scalar(text("SELECT pg_current_xact_id()::text"))

    assert await shop.value("SELECT xid::text FROM events") == xid
