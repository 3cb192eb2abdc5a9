"""What Bellwire tells a workspace's operators: noted with what it tells, published exactly once, never of itself."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.core import ids, metrics
from app.core.error_classes import ErrorClass, explain
from app.deliveries import recover
from app.deliveries.record import RECORD, Settle, encode
from app.events import matching
from app.events.accept import accept
from app.operations import outbox as publishing
from app.operations.outbox import Outbox
from tests.integration.engine.making import SECRET
from tests.integration.engine.receiver import answer, open_receiver
from tests.integration.engine.worker import open_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from tests.integration.engine.making import Workshop


@pytest.fixture
async def operations(shop: Workshop) -> UUID:
    """The workspace's application `operations`."""
    return await shop.application(uid="operations")


@pytest.fixture
async def outbox(shop: Workshop) -> AsyncIterator[Outbox]:
    """The publisher of one worker process."""
    made = another_outbox(shop)
    yield made
    made.close()


def another_outbox(shop: Workshop) -> Outbox:
    return Outbox(engine=shop.transactional, clock=shop.clock, settings=shop.settings)


async def put(shop: Workshop, count: int = 1, *, workspace_id: UUID | None = None, **data: Any) -> None:
    """Leave notices in the outbox."""
    await shop.sql(
        "INSERT INTO notices (workspace_id, type, data)"
        " SELECT :workspace, 'delivery.dead', CAST(:data AS jsonb) || jsonb_build_object('n', n)"
        " FROM generate_series(1, :count) n",
        workspace=workspace_id or shop.workspace_id,
        data=orjson.dumps(data).decode(),
        count=count,
    )


async def notices(shop: Workshop) -> list[Row[Any]]:
    """Return what waits in the outbox, oldest first."""
    return await shop.sql("SELECT * FROM notices ORDER BY id")


async def told(shop: Workshop, application: UUID) -> list[tuple[str, dict[str, Any]]]:
    """Return type and data of the events of `operations`, oldest first."""
    rows = await shop.sql(
        "SELECT type, data FROM events WHERE application_id = :id ORDER BY id", id=application
    )
    return [(row.type, orjson.loads(bytes(row.data))) for row in rows]


async def die_by_record(shop: Workshop, endpoint: UUID) -> UUID:
    (delivery,) = await shop.publish(endpoint)
    (claimed,) = await shop.claim(endpoint)
    await shop.finish(claimed, Settle.DEAD)
    return delivery


async def die_alone(shop: Workshop, endpoint: UUID) -> UUID:
    (delivery,) = await shop.publish(endpoint)
    await shop.claim(endpoint)
    await shop.sql("UPDATE delivery_queue SET alone = true, lost_alone_count = 2")
    await sweep(shop)
    return delivery


async def expire(shop: Workshop, endpoint: UUID) -> UUID:
    (delivery,) = await shop.publish(endpoint)
    await shop.sql("UPDATE delivery_queue SET deadline_at = now() - interval '1 second'")
    async with shop.engine.connect() as connection:
        assert await recover.expire(connection) == 1
    return delivery


async def sweep(shop: Workshop) -> None:
    await shop.end_leases()
    async with shop.engine.connect() as connection:
        assert await recover.sweep_lost_leases(connection, unix_ms=shop.clock.unix_ms()) == 1


DEATHS = [
    pytest.param(die_by_record, 1, ("http_5xx", "The receiver failed."), id="record"),
    pytest.param(die_alone, 1, ("worker_lost", explain(ErrorClass.WORKER_LOST)[0]), id="poison"),
    pytest.param(expire, 0, ("expired", explain(ErrorClass.EXPIRED)[0]), id="expired"),
]


@pytest.mark.parametrize(("die", "attempts", "error"), DEATHS)
async def test_dead_delivery_is_told(
    shop: Workshop,
    operations: UUID,
    outbox: Outbox,
    die: Callable[[Workshop, UUID], Awaitable[UUID]],
    attempts: int,
    error: tuple[str, str],
) -> None:
    """However a delivery dies, its operators get one event that names it, and why, with ids as the API has them."""
    endpoint = await shop.endpoint()
    delivery = await die(shop, endpoint)

    turn = await outbox.publish_oldest()

    assert (turn.published, await notices(shop)) == (1, [])
    event_id = (await shop.delivery(delivery)).event_id
    assert await told(shop, operations) == [
        (
            "delivery.dead",
            {
                "delivery": ids.to_text(ids.DELIVERY, delivery),
                "event": {"id": ids.to_text(ids.EVENT, event_id), "type": "order.placed"},
                "endpoint": ids.to_text(ids.ENDPOINT, endpoint),
                "application": ids.to_text(ids.APPLICATION, shop.application_id),
                "application_uid": "default",
                "attempt_count": attempts,
                "error": {"class": error[0], "message": error[1]},
            },
        )
    ]


@pytest.mark.parametrize(("die", "attempts", "error"), DEATHS)
async def test_operations_own_deliveries_are_not_told(
    shop: Workshop,
    operations: UUID,
    die: Callable[[Workshop, UUID], Awaitable[UUID]],
    attempts: int,
    error: tuple[str, str],
) -> None:
    """A receiver of these events that fails causes no further events."""
    delivery = await die(shop, await shop.endpoint(application_id=operations))

    assert (await shop.delivery(delivery)).state == "dead"
    assert await notices(shop) == []


async def test_tests_are_not_told(shop: Workshop, operations: UUID) -> None:
    """A person who sends a test is waiting for its result."""
    endpoint = await shop.endpoint(max_in_flight=10)
    recorded, swept, expired = await shop.publish(endpoint, 3)
    await shop.sql("UPDATE delivery_queue SET trigger = 3")
    await shop.sql("UPDATE deliveries SET test = true")
    await shop.sql(
        "UPDATE delivery_queue SET deadline_at = now() - interval '1 second', state = 2 WHERE id = :id",
        id=expired,
    )
    async with shop.engine.connect() as connection:
        await recover.expire(connection)
    claimed = {item.id: item for item in await shop.claim(endpoint)}
    await shop.finish(claimed[recorded], Settle.DEAD)
    await sweep(shop)

    states = [(await shop.delivery(delivery)).state for delivery in (recorded, swept, expired)]
    assert states == ["dead", "dead", "dead"]
    assert await notices(shop) == []


@pytest.mark.parametrize("settle", [Settle.SUCCEEDED, Settle.RETRY, Settle.RELEASED, Settle.CANCELLED])
async def test_only_death_is_told(shop: Workshop, settle: Settle) -> None:
    """What succeeded, waits for its next attempt, was given back or cancelled is no news."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    (claimed,) = await shop.claim(endpoint)

    await shop.finish(claimed, settle)

    assert await notices(shop) == []


async def test_result_that_came_too_late_is_not_told(shop: Workshop) -> None:
    """The delivery is another worker's by now, and alive; a result recorded twice is told once."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint)
    (late,) = await shop.claim(endpoint)
    await sweep(shop)
    await shop.record(shop.result(late, Settle.DEAD))
    assert await notices(shop) == []
    (claimed,) = await shop.claim(endpoint)
    finished = shop.result(claimed, Settle.DEAD)

    await shop.record(finished)
    await shop.record(finished)

    assert len(await notices(shop)) == 1


async def test_nothing_is_looked_up_where_nothing_died(shop: Workshop) -> None:
    """RECORD's notices cost nothing while all goes well: neither applications nor results are read for them."""
    endpoint = await shop.endpoint(max_in_flight=100)
    await shop.publish(endpoint, 50)
    claimed = await shop.claim(endpoint, share=50)
    results = {"results": encode([shop.result(item) for item in claimed])}

    async with shop.transactional.connect() as connection:
        # As the connections of workers are: see `few_statements` of `app.core.db.make_engine`.
        await connection.execute(text("SET enable_seqscan = off"))
        rows = await connection.execute(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {RECORD.text}"), results)
        plan = rows.scalar_one()[0]["Plan"]

    insert = next(node for node in walk(plan) if node.get("Relation Name") == "notices")
    looked_up = [node for node in walk(insert) if node.get("Relation Name") == "applications"]
    assert insert["Actual Rows"] == 0
    assert [(node["Node Type"], node["Actual Loops"]) for node in looked_up] == [("Index Scan", 0)]


def walk(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a plan's nodes."""
    return [node, *(found for child in node.get("Plans", ()) for found in walk(child))]


async def test_subscriptions_decide_who_hears_it(shop: Workshop, operations: UUID, outbox: Outbox) -> None:
    """Patterns and content filters of endpoints on `operations` work as on any application."""
    by_type = await shop.endpoint(application_id=operations, event_types=["delivery.*"])
    await shop.endpoint(application_id=operations, event_types=["endpoint.*"])
    matched = await shop.endpoint(application_id=operations, content_filter="data.attempt_count > 1")
    await put(shop, attempt_count=1)
    await put(shop, attempt_count=2)

    turn = await outbox.publish_oldest()

    rows = await shop.sql(
        "SELECT q.endpoint_id, e.data, e.deliveries FROM delivery_queue q JOIN events e ON e.id = q.event_id"
        " ORDER BY e.id, q.endpoint_id"
    )
    seen = [(row.endpoint_id, orjson.loads(bytes(row.data))["attempt_count"], row.deliveries) for row in rows]
    assert (turn.published, turn.routed) == (2, True)
    assert seen == [(by_type, 1, 1), *sorted([(by_type, 2, 2), (matched, 2, 2)])]


async def test_filter_that_errs_is_counted_at_its_endpoint(
    shop: Workshop, operations: UUID, outbox: Outbox
) -> None:
    """It matches nothing, the event is there all the same, and the endpoint shows the error."""
    endpoint = await shop.endpoint(application_id=operations, content_filter="data.nothing.of_it > 1")
    await put(shop)

    await outbox.publish_oldest()

    runtime = await shop.runtime(endpoint)
    assert (len(await told(shop, operations)), runtime.filter_errors) == (1, 1)
    assert runtime.last_filter_error


async def test_schema_of_the_workspace_refuses_nothing(
    shop: Workshop, operations: UUID, outbox: Outbox
) -> None:
    """A catalogue that demands something else of `delivery.dead` does not keep operators from hearing of it."""
    await shop.sql(
        "INSERT INTO event_types (id, workspace_id, name, schema, validation) VALUES"
        " (gen_random_uuid(), :id, 'delivery.dead', '{\"type\": \"string\"}', 'reject')",
        id=shop.workspace_id,
    )
    await put(shop)

    await outbox.publish_oldest()

    assert len(await told(shop, operations)) == 1


async def test_event_has_the_time_of_what_it_tells(shop: Workshop, operations: UUID, outbox: Outbox) -> None:
    """`occurred_at` is when it happened, however long the notice waited."""
    await put(shop, failing_since="2026-01-31T13:00:00+01:00")
    await shop.sql("UPDATE notices SET created_at = '2026-01-31T12:00:00Z'")

    await outbox.publish_oldest()

    ((_, data),) = await told(shop, operations)
    assert data["failing_since"] == "2026-01-31T12:00:00.000000Z"
    assert await shop.value("SELECT occurred_at = '2026-01-31T12:00:00Z' FROM events")


async def test_each_workspace_hears_of_its_own(shop: Workshop, operations: UUID, outbox: Outbox) -> None:
    """Notices of two workspaces in one turn go to the application of each."""
    other = await shop.workspace()
    others = await shop.application(workspace_id=other, uid="operations")
    await shop.endpoint(application_id=others, workspace_id=other)
    for name, workspace in (("ours", shop.workspace_id), ("theirs", other), ("ours too", shop.workspace_id)):
        await put(shop, workspace_id=workspace, name=name)

    turn = await outbox.publish_oldest()

    assert turn.published == 3
    assert [data["name"] for _, data in await told(shop, operations)] == ["ours", "ours too"]
    assert [data["name"] for _, data in await told(shop, others)] == ["theirs"]
    assert await shop.value("SELECT workspace_id FROM delivery_queue") == other


async def test_publishers_at_once_publish_each_once(shop: Workshop, operations: UUID) -> None:
    """Four processes that look at the same notices in the same moment write each event once."""
    await shop.endpoint(application_id=operations)
    await put(shop, 600)
    outboxes = [another_outbox(shop) for _ in range(4)]

    async def publish(each: Outbox) -> int:
        published = 0
        while (turn := await each.publish_oldest(most=40)).found:
            published += turn.published
        return published

    published = await asyncio.gather(*map(publish, outboxes))

    for each in outboxes:
        each.close()
    numbers = sorted(data["n"] for _, data in await told(shop, operations))
    assert (sum(published), numbers) == (600, list(range(1, 601)))
    assert await shop.value("SELECT count(DISTINCT event_id) FROM delivery_queue") == 600


async def test_what_another_process_is_publishing_is_left_to_it(
    shop: Workshop, operations: UUID, outbox: Outbox
) -> None:
    """A publisher does not wait for the notices that another one has taken, and publishes the others."""
    await put(shop, 4)

    async with shop.transactional.connect() as busy:
        await busy.execute(text("SELECT 1 FROM notices WHERE data->>'n' IN ('1', '2') FOR UPDATE"))
        async with asyncio.timeout(30):
            turn = await outbox.publish_oldest()
        assert (turn.found, turn.published) == (4, 2)
    await outbox.publish_oldest()

    assert [data["n"] for _, data in await told(shop, operations)] == [3, 4, 1, 2]


async def test_process_that_dies_between_leaves_the_notice(
    shop: Workshop, operations: UUID, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event is written, then the connection is lost before the notice is deleted: neither has happened."""
    await shop.endpoint(application_id=operations)
    await put(shop, 3)

    async def accept_and_die(connection: AsyncConnection, *arguments: Any, **named: Any) -> Any:
        await accept(connection, *arguments, **named)
        await connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    monkeypatch.setattr(publishing, "accept", accept_and_die)
    with pytest.raises(DBAPIError):
        await outbox.publish_oldest()
    left = (len(await notices(shop)), await told(shop, operations))
    monkeypatch.setattr(publishing, "accept", accept)

    turn = await outbox.publish_oldest()

    assert left == (3, [])
    assert (turn.published, await notices(shop)) == (3, [])
    assert [data["n"] for _, data in await told(shop, operations)] == [1, 2, 3]


async def test_subscriptions_that_changed_are_looked_at_again(
    shop: Workshop, operations: UUID, outbox: Outbox
) -> None:
    """Notices that were matched against older subscriptions stay; the next turn knows the new ones."""
    await put(shop)
    await outbox.publish_oldest()
    endpoint = await shop.endpoint(application_id=operations)
    await shop.sql(
        "UPDATE applications SET routing_version = routing_version + 1 WHERE id = :id", id=operations
    )
    await put(shop, 2)

    stale = await outbox.publish_oldest()
    left = len(await notices(shop))
    fresh = await outbox.publish_oldest()

    assert (stale.settled, left, fresh.published) == (0, 2, 2)
    assert await shop.sql("SELECT endpoint_id, count(*) FROM delivery_queue GROUP BY 1") == [(endpoint, 2)]
    assert len(await told(shop, operations)) == 3


async def test_one_workspace_that_changes_holds_up_no_other(
    shop: Workshop, operations: UUID, outbox: Outbox
) -> None:
    """What is stale stays alone."""
    other = await shop.workspace()
    others = await shop.application(workspace_id=other, uid="operations")
    for workspace in (shop.workspace_id, other):
        await put(shop, workspace_id=workspace)
    await outbox.publish_oldest()
    await shop.sql(
        "UPDATE applications SET routing_version = routing_version + 1 WHERE id = :id", id=operations
    )
    for workspace in (shop.workspace_id, other):
        await put(shop, workspace_id=workspace)

    turn = await outbox.publish_oldest()

    assert (turn.found, turn.published) == (2, 1)
    assert (len(await told(shop, operations)), len(await told(shop, others))) == (1, 2)
    assert [row.workspace_id for row in await notices(shop)] == [shop.workspace_id]


async def test_workspace_without_the_application_is_an_alarm(
    shop: Workshop, operations: UUID, outbox: Outbox
) -> None:
    """Its notices are dropped and counted, and those of others behind them are published."""
    other = await shop.workspace()
    await put(shop, 2, workspace_id=other)
    await put(shop)
    before = metrics.NOTICES_DROPPED._value.get()

    turn = await outbox.publish_oldest()

    assert (turn.dropped, turn.published, await notices(shop)) == (2, 1, [])
    assert metrics.NOTICES_DROPPED._value.get() - before == 2
    assert len(await told(shop, operations)) == 1


async def test_odd_data_holds_up_nothing(shop: Workshop, operations: UUID, outbox: Outbox) -> None:
    """What is no id and no time is shown as it is."""
    await put(shop, endpoint="nowhere", failing_since="soon", event={"type": "a"}, delivery=None)

    await outbox.publish_oldest()

    assert await told(shop, operations) == [
        (
            "delivery.dead",
            {
                "endpoint": "nowhere",
                "failing_since": "soon",
                "event": {"type": "a"},
                "delivery": None,
                "n": 1,
            },
        )
    ]


async def test_filters_run_beside_the_loop(
    shop: Workshop, operations: UUID, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a filter computes, the worker's loop goes on."""
    await shop.endpoint(application_id=operations, content_filter="data.n == 1")
    await put(shop)
    computing, may_end = threading.Event(), threading.Event()
    evaluate = matching._evaluate

    def slow(*arguments: Any) -> Any:
        computing.set()
        assert may_end.wait(30)
        return evaluate(*arguments)

    monkeypatch.setattr(matching, "_evaluate", slow)
    monkeypatch.setattr(matching, "MATCH_DEADLINE_SECONDS", 30)
    publish = asyncio.ensure_future(outbox.publish_oldest())
    # On the loop's own thread the filter would never be told that it may end.
    await asyncio.to_thread(computing.wait, 30)

    may_end.set()

    assert (await publish).routed
    assert await shop.value("SELECT count(*) FROM delivery_queue") == 1


async def test_ten_thousand_deaths_at_once_are_told(shop: Workshop, operations: UUID) -> None:
    """A wave of dead deliveries is published to the last one while a healthy endpoint is served."""
    dying = await shop.endpoint(url="http://127.0.0.1:9/", max_in_flight=1_000)
    await shop.publish(dying, 1)
    await shop.sql(
        "WITH made AS (INSERT INTO deliveries (id, workspace_id, application_id, event_id, event_type, endpoint_id,"
        "   deadline_at)"
        "  SELECT overlay(CAST(d.id AS text) PLACING lpad(to_hex(n), 12, '0') FROM 25)::uuid, d.workspace_id,"
        "    d.application_id, d.event_id, d.event_type, d.endpoint_id, now() - interval '1 second'"
        "  FROM deliveries d, generate_series(1, 10000) n RETURNING *)"
        " INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, state, due_at, deadline_at)"
        " SELECT id, workspace_id, application_id, endpoint_id, event_id, 2, now() + interval '1 day', deadline_at FROM made"
    )
    async with open_receiver() as receiver, open_worker(shop):
        await shop.until(
            "SELECT EXISTS (SELECT 1 FROM events WHERE type = 'delivery.dead')", what="it is told"
        )
        await shop.publish(await shop.endpoint(url=receiver.url("/healthy")))
        await receiver.until(lambda: receiver.at("/healthy"))
        await shop.until(
            "SELECT count(*) >= 10000 FROM events WHERE type = 'delivery.dead'",
            what="all are told",
            seconds=300,
        )
        await shop.until("SELECT NOT EXISTS (SELECT 1 FROM notices)", what="the outbox is empty")

    named = [data["delivery"] for _, data in await told(shop, operations)]
    dead = await shop.sql("SELECT id FROM deliveries WHERE state = 'dead'")
    assert sorted(named) == sorted(ids.to_text(ids.DELIVERY, row.id) for row in dead)


async def test_publisher_that_is_stuck_stops_no_delivery(
    shop: Workshop, operations: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims and records do not wait for notices, and a stop does not wait for ever."""
    begun, may_end = asyncio.Event(), asyncio.Event()
    publish = Outbox.publish_oldest

    async def stuck(self: Outbox, **named: Any) -> Any:
        begun.set()
        await may_end.wait()
        return await publish(self, **named)

    monkeypatch.setattr(Outbox, "publish_oldest", stuck)
    await put(shop)
    async with open_receiver() as receiver, open_worker(shop):
        await asyncio.wait_for(begun.wait(), 30)
        await shop.publish(await shop.endpoint(url=receiver.url("/healthy")))
        await receiver.until(lambda: receiver.at("/healthy"))
        meanwhile = await told(shop, operations)
        may_end.set()
        await shop.until("SELECT NOT EXISTS (SELECT 1 FROM notices)", what="the outbox is empty")

    assert meanwhile == []
    assert len(await told(shop, operations)) == 1


async def test_operators_get_a_signed_request(shop: Workshop, operations: UUID) -> None:
    """From a 410 to the receiver on `operations`: the dead delivery and the disabled endpoint, signed."""
    async with open_receiver() as receiver, open_worker(shop):
        receiver.answers("/gone", answer(410))
        await shop.endpoint(application_id=operations, url=receiver.url("/operations"), secret=SECRET)
        endpoint = await shop.endpoint(url=receiver.url("/gone"))
        await shop.publish(endpoint)
        await receiver.until(lambda: len(receiver.at("/operations")) == 2)

    bodies = [orjson.loads(request.body) for request in receiver.at("/operations")]
    assert all(request.verified for request in receiver.at("/operations"))
    assert sorted(body["type"] for body in bodies) == ["delivery.dead", "endpoint.disabled"]
    assert {body["data"]["endpoint"] for body in bodies} == {ids.to_text(ids.ENDPOINT, endpoint)}
    assert next(body["data"]["by"] for body in bodies if body["type"] == "endpoint.disabled") == "gone"


async def test_operators_receiver_that_fails_causes_nothing_further(shop: Workshop, operations: UUID) -> None:
    """Its delivery dies, it is disabled by its 410, and no event tells of either."""
    async with open_receiver() as receiver, open_worker(shop):
        receiver.answers("/operations", answer(410))
        await shop.endpoint(application_id=operations, url=receiver.url("/operations"))
        await put(shop)
        await shop.until("SELECT NOT enabled FROM endpoints", what="it is disabled", seconds=60)
        await shop.until("SELECT NOT EXISTS (SELECT 1 FROM notices)", what="the outbox is empty")

    assert await shop.value("SELECT state FROM deliveries") == "dead"
    assert len(await told(shop, operations)) == 1
