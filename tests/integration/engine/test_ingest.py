"""The ingest buffer: group commit, its bounds, and what publishers are told when something fails."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event as sqlalchemy_event
from sqlalchemy import text

from app.core.db import make_engine
from app.core.errors import (
    Conflict,
    DatabaseUnavailable,
    Invalid,
    NotFound,
    RequestError,
    TooBusy,
    Unauthenticated,
)
from app.core.settings import Settings
from app.events.envelope import read_event
from app.events.ingest import IngestBuffer
from app.events.matching import EventMatcher
from app.events.published import Published
from app.events.routing import RoutingCache
from tests.faults.harness.proxy import TcpProxy
from tests.faults.harness.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.events.envelope import CheckedEvent
    from tests.integration.engine.making import Workshop


class Desk:
    """An ingest buffer with its own pool, and what it did: its wake-ups and its statements."""

    def __init__(self, shop: Workshop, engine: AsyncEngine, **settings: Any) -> None:
        self.shop = shop
        self.wakes = 0
        self.accepts = 0
        sqlalchemy_event.listen(engine.sync_engine, "before_cursor_execute", self._count)
        self.matcher = EventMatcher(routing=RoutingCache(shop.transactional, max_age_seconds=86_400))
        self.buffer = IngestBuffer(
            engine=engine,
            clock=shop.clock,
            matcher=self.matcher,
            settings=shop.settings.model_copy(update=settings),
            wake=self._wake,
        )

    async def publish(self, event: CheckedEvent | bytes, *, key: UUID | None = None) -> Published:
        """Publish one event."""
        checked = read_event(event) if isinstance(event, bytes) else event
        return await self.buffer.publish(checked, workspace_id=self.shop.workspace_id, api_key_id=key)

    def soon(self, event: CheckedEvent | bytes, *, key: UUID | None = None) -> asyncio.Task[Published]:
        """Publish in a task."""
        return asyncio.get_running_loop().create_task(self.publish(event, key=key))

    async def batch(self, events: Sequence[CheckedEvent | RequestError]) -> list[Published | RequestError]:
        """Publish several events with one request."""
        return await self.buffer.publish_many(events, workspace_id=self.shop.workspace_id, api_key_id=None)

    def _wake(self) -> None:
        self.wakes += 1

    def _count(self, _c: object, _cursor: object, statement: str, *_: object) -> None:
        self.accepts += "INSERT INTO event_keys" in statement


@asynccontextmanager
async def open_desk(shop: Workshop, *, url: str | None = None, **settings: Any) -> AsyncIterator[Desk]:
    """Open a desk, on the database or on what stands before it."""
    # Not a copy: that would keep the address which the original has worked out already.
    changed = Settings(
        **shop.settings.model_dump()
        | {"database_connect_timeout_seconds": 2.0, "database_url": url or shop.url}
    )
    engine = make_engine(changed, name="test-publish", pool_size=3)
    desk = Desk(shop, engine, **settings)
    try:
        yield desk
        await desk.buffer.close()
    finally:
        desk.matcher.close()
        await engine.dispose()


@pytest.fixture
async def desk(shop: Workshop) -> AsyncIterator[Desk]:
    """A desk with the usual bounds."""
    async with open_desk(shop) as made:
        yield made


@pytest.fixture
async def proxy(shop: Workshop) -> AsyncIterator[TcpProxy]:
    """Stands between a desk and Postgres."""
    address = shop.transactional.url
    made = await TcpProxy(address.host, address.port).start()
    yield made
    await made.stop()


def through(proxy: TcpProxy, shop: Workshop) -> str:
    """Return the database's address by way of the proxy."""
    address = shop.transactional.url.set(host="127.0.0.1", port=proxy.port)
    return address.render_as_string(hide_password=False)


def order(uid: str | None = None, *, data: str = "1", **fields: str) -> CheckedEvent:
    """Return an event."""
    known = ({"uid": uid} if uid else {}) | fields
    rest = "".join(f',"{name}":"{value}"' for name, value in known.items())
    return read_event(f'{{"type":"order.placed","data":{data}{rest}}}'.encode())


async def test_answer_means_committed(shop: Workshop, desk: Desk) -> None:
    """When a publish returns, another connection sees the event and its deliveries."""
    await shop.endpoint()

    published = await desk.publish(order())

    assert (published.deliveries, published.replayed, desk.wakes) == (1, False, 1)
    assert await shop.value("SELECT id FROM events") == published.id
    assert await shop.value("SELECT count(*) FROM delivery_queue") == 1


async def test_event_for_nobody_wakes_nobody(desk: Desk) -> None:
    """Without a matching endpoint there is nothing to send."""
    published = await desk.publish(order())

    assert (published.deliveries, desk.wakes) == (0, 0)


async def test_publishes_that_arrive_together_share_statements(shop: Workshop, desk: Desk) -> None:
    """Two hundred concurrent publishes take a handful of statements, and each gets its own event."""
    await shop.endpoint()
    await desk.publish(order())

    published = await asyncio.gather(*(desk.publish(order(data=str(n))) for n in range(200)))

    rows = await shop.sql("SELECT id, data FROM events WHERE data <> '1' OR id = :id", id=published[1].id)
    by_id = {row.id: bytes(row.data) for row in rows}
    assert [by_id[each.id] for each in published] == [str(n).encode() for n in range(200)]
    assert desk.accepts <= 6


async def test_flush_is_bounded_by_events_and_bytes(shop: Workshop) -> None:
    """One statement takes no more events, and no more bytes, than its bounds; a larger event goes alone."""
    async with open_desk(shop, ingest_flush_events=5, ingest_flush_bytes=2_000) as desk:
        large = [order(data='"' + "x" * 1_500 + '"') for _ in range(4)]
        small = [order() for _ in range(20)]

        await asyncio.gather(*(desk.publish(event) for event in (*large, *small)))

    counts = await shop.sql("SELECT count(*), sum(length(data)) FROM events GROUP BY xid")
    assert sum(row[0] for row in counts) == 24
    assert max(row[0] for row in counts) <= 5
    assert max(row[1] for row in counts) <= 2_000


async def test_uid_in_one_flush_gives_one_event(shop: Workshop, desk: Desk) -> None:
    """Fifty concurrent publishes with one uid: one event, one publisher who made it, the others are told."""
    await shop.endpoint()

    published = await asyncio.gather(*(desk.publish(order("u1")) for _ in range(50)))

    assert len({each.id for each in published}) == 1
    assert sorted(each.replayed for each in published) == [False] + [True] * 49
    assert await shop.value("SELECT count(*) FROM delivery_queue") == 1


async def test_uid_with_other_content_in_one_flush_is_refused(shop: Workshop, desk: Desk) -> None:
    """The first content wins, whoever comes in the same flush."""
    outcomes = await asyncio.gather(
        *(desk.publish(order("u1", data=str(n % 2))) for n in range(10)), return_exceptions=True
    )

    stored = await shop.value("SELECT data FROM events")
    assert bytes(stored) == b"0"
    assert [isinstance(outcome, Conflict) for outcome in outcomes] == [False, True] * 5


async def test_uid_that_was_used_before(shop: Workshop, desk: Desk) -> None:
    """A repeat returns the first event, other content is refused; neither stores anything."""
    first = await desk.publish(order("u1"))

    again = await desk.publish(order("u1"))
    with pytest.raises(Conflict, match="u1"):
        await desk.publish(order("u1", data="2"))

    assert (again.id, again.replayed) == (first.id, True)
    assert await shop.value("SELECT count(*) FROM events") == 1


async def test_content_is_type_data_and_fields(desk: Desk) -> None:
    """Whatever differs between two publishes of one uid makes it other content."""
    await desk.publish(order("u1"))

    for other in (order("u1", data="1.0"), order("u1", correlation_id="c"), order("u1", priority="high")):
        with pytest.raises(Conflict):
            await desk.publish(other)


async def test_repeat_of_a_publisher_with_a_revoked_key_is_judged_for_itself(
    shop: Workshop, desk: Desk
) -> None:
    """In one flush the refusal of the first one's key says nothing about the next one's."""
    good, revoked = await shop.api_key(), await shop.api_key(revoked_at=shop.clock.now())
    blocker = desk.soon(order())

    refused, accepted = desk.soon(order("u1"), key=revoked), desk.soon(order("u1"), key=good)

    await blocker
    with pytest.raises(Unauthenticated):
        await refused
    assert (await accepted).replayed is False


async def test_change_of_subscriptions_is_seen_by_the_next_event(shop: Workshop, desk: Desk) -> None:
    """A publish that was matched against an old table is matched again, and reaches the new endpoint."""
    await desk.publish(order())
    await shop.endpoint(event_types=["order.*"])
    await shop.sql("UPDATE applications SET routing_version = routing_version + 1")

    published = await desk.publish(order())

    assert published.deliveries == 1


async def test_subscriptions_that_never_rest_make_the_publisher_wait(
    shop: Workshop, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When every match is stale at once, the publisher is asked to come back and nothing is stored."""
    match = desk.matcher.match

    async def and_change(event: CheckedEvent, **where: Any) -> Any:
        matched = await match(event, **where)
        await shop.sql("UPDATE applications SET routing_version = routing_version + 1")
        return matched

    monkeypatch.setattr(desk.matcher, "match_remembered", lambda *_, **__: None)
    monkeypatch.setattr(desk.matcher, "match", and_change)

    with pytest.raises(TooBusy):
        await desk.publish(order())

    assert await shop.value("SELECT count(*) FROM events") == 0


async def test_unknown_and_deleted_applications(shop: Workshop, desk: Desk) -> None:
    """An application that is not there is told, also when it goes between match and write."""
    with pytest.raises(NotFound):
        await desk.publish(order(application="shop-1"))
    await shop.application(uid="shop-1")
    await desk.publish(order(application="shop-1"))
    await shop.sql("UPDATE applications SET deleted_at = now() WHERE uid = 'shop-1'")

    with pytest.raises(NotFound):
        await desk.publish(order(application="shop-1"))


async def test_one_bad_row_is_refused_alone(
    shop: Workshop, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value that only Postgres refuses costs its own publisher an answer, not the strangers in the flush."""
    bad = read_event(b'{"type":"order.placed","data":"bad","metadata":{"k":"v"}}')
    bad.metadata["k"] = "\0"
    blocker = desk.soon(order())

    outcomes = await asyncio.gather(
        *(desk.publish(bad if n == 7 else order(data=str(n))) for n in range(20)), return_exceptions=True
    )

    await blocker
    assert [n for n, outcome in enumerate(outcomes) if not isinstance(outcome, Published)] == [7]
    assert isinstance(outcomes[7], Invalid)
    assert await shop.value("SELECT count(*) FROM events") == 20


async def test_follower_of_a_refused_row_is_judged_for_itself(shop: Workshop, desk: Desk) -> None:
    """The repeat of a uid whose first row Postgres refused is written, when it is good itself."""
    bad = read_event(b'{"type":"order.placed","uid":"u1","data":1,"metadata":{"k":"v"}}')
    bad.metadata["k"] = "\0"
    blocker = desk.soon(order())

    refused, accepted = desk.soon(bad), desk.soon(order("u1"))

    await blocker
    with pytest.raises(Invalid):
        await refused
    assert (await accepted).replayed is False


async def test_too_many_waiting_publishes_are_refused(shop: Workshop) -> None:
    """Above the bound a publisher is told to come back, nothing of it is stored, and those who wait are not hurt."""
    async with open_desk(shop, ingest_max_waiting=3) as desk, shop.transaction() as blocker:
        await blocker.execute(text("LOCK TABLE events"))
        first = desk.soon(order())
        await shop.until_somebody_waits_for_a_lock()
        waiting = [desk.soon(order()) for _ in range(3)]
        await wait_until(lambda: len(desk.buffer._waiting) == 3, seconds=10, what="three wait")

        with pytest.raises(TooBusy) as refused:
            await desk.publish(order())

        await blocker.rollback()
        await asyncio.gather(first, *waiting)

    assert refused.value.retry_after_seconds
    assert await shop.value("SELECT count(*) FROM events") == 4


async def test_waiting_bytes_are_bounded(shop: Workshop) -> None:
    """Few large publishes fill the buffer as well as many small ones."""
    async with open_desk(shop, ingest_flush_bytes=1_024) as desk, shop.transaction() as blocker:
        await blocker.execute(text("LOCK TABLE events"))
        first = desk.soon(order())
        await shop.until_somebody_waits_for_a_lock()
        large = order(data='"' + "x" * 4_000 + '"')
        waiting = [desk.soon(large) for _ in range(2)]
        await wait_until(lambda: len(desk.buffer._waiting) == 2, seconds=10, what="two wait")

        with pytest.raises(TooBusy):
            await desk.publish(large)

        await blocker.rollback()
        await asyncio.gather(first, *waiting)


async def test_client_that_left_before_the_flush_stores_nothing(shop: Workshop, desk: Desk) -> None:
    """A publish whose client has gone is dropped while it waits."""
    async with shop.transaction() as blocker:
        await blocker.execute(text("LOCK TABLE events"))
        first = desk.soon(order())
        await shop.until_somebody_waits_for_a_lock()
        stays, leaves = desk.soon(order(data='"stays"')), desk.soon(order(data='"leaves"'))
        await wait_until(lambda: len(desk.buffer._waiting) == 2, seconds=10, what="both wait")
        leaves.cancel()
        await asyncio.wait([leaves])
    await asyncio.gather(first, stays)

    rows = await shop.sql("SELECT data FROM events")
    assert {bytes(row.data) for row in rows} == {b"1", b'"stays"'}


async def test_leader_that_left_does_not_take_its_followers_along(shop: Workshop, desk: Desk) -> None:
    """The repeat of a uid whose first publisher left during the flush gets the event that was stored."""
    async with shop.transaction() as blocker:
        await blocker.execute(text("LOCK TABLE events"))
        first = desk.soon(order())
        await shop.until_somebody_waits_for_a_lock()
        leaves, stays = desk.soon(order("u1")), desk.soon(order("u1"))
        await wait_until(lambda: len(desk.buffer._waiting) == 2, seconds=10, what="both wait")
        await blocker.execute(text("SAVEPOINT s"))
    await first
    leaves.cancel()
    published = await stays

    await asyncio.wait([leaves])
    assert await shop.value("SELECT id FROM events WHERE uid = 'u1'") == published.id
    assert await shop.value("SELECT count(*) FROM events") == 2


async def test_publish_that_waits_too_long_is_answered(shop: Workshop) -> None:
    """A publish that is not committed within its time is answered with 503, and what waited is not stored later."""
    async with open_desk(shop, ingest_deadline_seconds=0.3) as desk, shop.transaction() as blocker:
        await blocker.execute(text("LOCK TABLE events"))
        first = desk.soon(order(data='"first"'))
        await shop.until_somebody_waits_for_a_lock()
        second = desk.soon(order(data='"second"'))

        outcomes = await asyncio.gather(first, second, return_exceptions=True)

        await blocker.rollback()
    assert [type(outcome) for outcome in outcomes] == [DatabaseUnavailable, DatabaseUnavailable]
    assert await shop.value("SELECT count(*) FROM events") == 0


async def test_database_away_stores_nothing_and_says_so(shop: Workshop, proxy: TcpProxy) -> None:
    """While Postgres refuses connections publishers get 503; when it is back, publishing goes on."""
    async with open_desk(shop, url=through(proxy, shop)) as desk:
        await desk.publish(order())
        await proxy.refuse()
        proxy.reset()

        outcomes = await asyncio.gather(*(desk.publish(order()) for _ in range(5)), return_exceptions=True)
        await proxy.accept()
        after = await desk.publish(order())

    assert {type(outcome) for outcome in outcomes} == {DatabaseUnavailable}
    assert isinstance(after, Published)
    assert await shop.value("SELECT count(*) FROM events") == 2


async def test_answer_lost_after_the_commit_is_looked_up(shop: Workshop, proxy: TcpProxy) -> None:
    """When the connection breaks after the commit, the publisher learns that its event is stored."""
    async with open_desk(shop, url=through(proxy, shop)) as desk:
        await desk.publish(order())
        async with shop.transaction() as blocker:
            await blocker.execute(text("LOCK TABLE events"))
            publishing = [desk.soon(order(f"u{n}")) for n in range(3)]
            await shop.until_somebody_waits_for_a_lock()
            # From now on the answer does not come through, while the statement is committed.
            proxy.stall()
        await shop.until("SELECT count(*) >= 2 FROM events", what="the flush is committed")
        proxy.reset()
        proxy.flow()

        published = await asyncio.gather(*publishing)

    rows = await shop.sql("SELECT id FROM events WHERE uid IS NOT NULL")
    assert {row.id for row in rows} == {each.id for each in published}
    assert [each.replayed for each in published] == [False] * 3


async def test_closing_writes_what_waits_and_takes_no_more(shop: Workshop) -> None:
    """A stop loses nothing that was taken, and refuses what comes after."""
    async with open_desk(shop) as desk:
        publishing = [desk.soon(order()) for _ in range(10)]
        await wait_until(lambda: desk.buffer._flusher is not None, seconds=10, what="the first is written")

        await desk.buffer.close()

        with pytest.raises(TooBusy):
            await desk.publish(order())
        await asyncio.gather(*publishing)

    assert await shop.value("SELECT count(*) FROM events") == 10


async def test_batch_answers_each_for_itself(shop: Workshop, desk: Desk) -> None:
    """In a batch what was an error stays one, repeats are told, and the others are stored, in their order."""
    malformed = Invalid("This one is wrong.")
    events = [
        order("u1"),
        malformed,
        order("u1"),
        order("u1", data="2"),
        order(application="nobody"),
        order(),
    ]

    results = await desk.batch(events)

    kinds = [type(result) for result in results]
    assert kinds == [Published, Invalid, Published, Conflict, NotFound, Published]
    assert (results[1], results[2].replayed, results[2].id) == (malformed, True, results[0].id)
    assert await shop.value("SELECT count(*) FROM events") == 2


async def test_batch_is_one_statement(shop: Workshop, desk: Desk) -> None:
    """The events of a batch join the buffer together, so that one statement writes them all, in their order."""
    await desk.publish(order())
    before = desk.accepts

    results = await desk.batch([order(data=str(n)) for n in range(200)])

    assert desk.accepts == before + 1
    stored = await shop.sql("SELECT id, data FROM events")
    data = {row.id: bytes(row.data) for row in stored}
    assert [data[result.id] for result in results if isinstance(result, Published)] == [
        b"%d" % n for n in range(200)
    ]


async def test_batch_that_was_matched_too_early_is_matched_again(shop: Workshop, desk: Desk) -> None:
    """A change of subscriptions between two batches costs no event of the second its new endpoint."""
    await desk.publish(order())
    await shop.endpoint(event_types=["order.*"])
    await shop.sql("UPDATE applications SET routing_version = routing_version + 1")

    results = await desk.batch([order("u1"), order(), order("u1")])

    assert [result.deliveries for result in results if isinstance(result, Published)] == [1, 1, 1]
    assert await shop.value("SELECT count(*) FROM deliveries") == 2


async def test_batch_that_is_too_much_is_taken_in_part(shop: Workshop) -> None:
    """What finds no room in the buffer is refused for itself, with the time to come back; the rest is stored."""
    async with open_desk(shop, ingest_max_waiting=3) as desk:
        await desk.publish(order())

        results = await desk.batch([order(data=str(n)) for n in range(5)])

    assert [type(result) for result in results] == [Published] * 3 + [TooBusy] * 2
    assert await shop.value("SELECT count(*) FROM events") == 4


async def test_batch_whose_client_left_before_the_flush_stores_nothing(shop: Workshop, desk: Desk) -> None:
    """All events of a batch are dropped with its request, those whose filters are still evaluated too."""
    await shop.endpoint(event_types=["slow.one"], content_filter="data == 1")
    await desk.publish(order())
    async with shop.transaction() as blocker:
        await blocker.execute(text("LOCK TABLE events"))
        first = desk.soon(order())
        await shop.until_somebody_waits_for_a_lock()
        batch = [order("u1"), order(), read_event(b'{"type":"slow.one","data":1}')]
        leaves = asyncio.get_running_loop().create_task(desk.batch(batch))
        await wait_until(lambda: len(desk.buffer._waiting) == 3, seconds=10, what="the batch waits")
        leaves.cancel()
        await asyncio.wait([leaves])
    await first
    await desk.buffer.close()

    assert leaves.cancelled()
    assert await shop.value("SELECT count(*) FROM events") == 2


async def test_batch_without_a_database_fails_as_a_whole(shop: Workshop, proxy: TcpProxy) -> None:
    """Where no event of a batch could be stored, the answer is 503 and not a list of failures."""
    async with open_desk(shop, url=through(proxy, shop)) as desk:
        await proxy.refuse()

        with pytest.raises(DatabaseUnavailable):
            await desk.batch([order(), order()])


@pytest.mark.parametrize("number", ["9" * 5_000, "1e400", "-" + "9" * 4_301, "9007199254740993"])
async def test_huge_numbers_pass_filters(shop: Workshop, desk: Desk, number: str) -> None:
    """A filter sees a number that no Python integer reads as a very large one; the data stays as it came."""
    await shop.endpoint(content_filter="data.n != 1")

    published = await desk.publish(f'{{"type":"order.placed","data":{{"n":{number}}}}}'.encode())

    assert bytes(await shop.value("SELECT data FROM events")) == f'{{"n":{number}}}'.encode()
    assert published.deliveries in {0, 1}


async def test_filter_that_errs_is_no_match_and_counted(shop: Workshop, desk: Desk) -> None:
    """The event is stored, the endpoint does not get it, and the error is there to be reported."""
    endpoint = await shop.endpoint(content_filter="data.missing == 1")

    published = await desk.publish(order(data='{"n":1}'))

    errors = desk.matcher.collect_errors()
    assert (published.deliveries, errors[endpoint][0]) == (0, 1)
