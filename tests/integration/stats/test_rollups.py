"""Roll-ups: what is read from them is what a count over the rows says."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from app.core import ids
from app.core.db import make_sessions
from app.deliveries.record import Settle
from app.stats.latency import RELATIVE_ERROR
from app.stats.queue_now import read_queue_now
from app.stats.rankings import read_applications, read_endpoint_figures, read_incidents
from app.stats.rollups import read_backlog, read_series
from app.stats.spans import SPAN_NAMES, Span
from workers.upkeep import run_upkeep

if TYPE_CHECKING:
    from app.core.context import Caller
    from tests.integration.engine.making import Workshop


async def test_what_happened_is_in_every_span(shop: Workshop, caller: Caller) -> None:
    """A success, a failure that is tried again, a death and a lost attempt are in the figures of each span."""
    good, bad = await shop.endpoint(), await shop.endpoint(url="https://bad.example.com/")
    await shop.publish(good, 3)
    await shop.publish(bad, 2)
    for claimed in await shop.claim(good):
        await shop.finish(claimed)
    first, second = await shop.claim(bad)
    await shop.finish(first, Settle.RETRY, error_class="read_timeout", response_status=None)
    await shop.finish(second, Settle.DEAD)

    done = await run_upkeep(shop.transactional, settings=shop.settings)

    assert done["minutes_counted"] > 0
    for name in SPAN_NAMES:
        span = Span.ending(name, shop.clock.now())
        async with make_sessions(shop.transactional)() as session:
            series = await read_series(session, caller, span=span)
            backlog = await read_backlog(session, caller, span=span)
            figures = await read_endpoint_figures(session, caller, [good, bad], span=span)
            incidents = await read_incidents(session, caller, span=span, limit=10)
            applications = await read_applications(session, caller, span=span)
            queue = await read_queue_now(session, caller)
        totals = series.totals
        assert (totals.succeeded, totals.failed, totals.unknown, totals.dead) == (3, 2, 0, 1)
        assert totals.first_try_share == pytest.approx(3 / 5)
        assert totals.eventual_share == pytest.approx(3 / 4)
        assert totals.latency is not None
        assert totals.latency.p95 == pytest.approx(12.5, rel=RELATIVE_ERROR)
        assert totals.failures == {"read_timeout": 1, "http_5xx": 1}
        assert sum(point.attempts for point in series.points) == 5
        assert series.preceding.attempts == 0
        assert figures[good].success_share == 1
        assert figures[bad].success_share == 0
        assert sum(spark.failed for spark in figures[bad].sparks) == 2
        assert {(i.endpoint_id, i.error_class, i.count) for i in incidents} == {
            (bad, "read_timeout", 1),
            (bad, "http_5xx", 1),
        }
        assert applications[0].attempts == 5
        assert applications[0].scheduled == 1
        assert max(point.scheduled for point in backlog) == 1
        assert (queue.due, queue.scheduled, queue.in_flight) == (0, 1, 0)


async def test_roll_ups_are_forgotten_with_what_they_count(shop: Workshop) -> None:
    """After the retention roll-ups, samples of the backlog and ends of deliveries go; what is younger stays."""
    endpoint = await shop.endpoint()
    days = {"old": shop.settings.retention_days + 2, "young": shop.settings.retention_days - 1}
    for name, age in days.items():
        at = (shop.clock.now() - timedelta(days=age)).replace(hour=0, minute=0, second=0, microsecond=0)
        values = {"workspace": shop.workspace_id, "endpoint": endpoint, "at": at}
        for step in (1, 1440):
            await shop.sql(
                "INSERT INTO attempt_rollups (scope_id, step_minutes, at, workspace_id, succeeded, failed, unknown, first_known,"
                " first_succeeded, delivered, delivered_late, dead, cancelled, buckets, counts)"
                " VALUES (:endpoint, :step, :at, :workspace, 1, 0, 0, 1, 1, 1, 0, 0, 0, '{}', '{}')",
                **values,
                step=step,
            )
        for scope in (shop.workspace_id, shop.application_id):
            await shop.sql(
                "INSERT INTO backlog_minutes (scope_id, at, workspace_id, due, scheduled, blocked, in_flight)"
                " VALUES (:scope, :at, :workspace, 1, 0, 0, 0)",
                scope=scope,
                at=at,
                workspace=shop.workspace_id,
            )
        await shop.sql(
            "INSERT INTO undelivered (delivery_id, ended_at, state, workspace_id, application_id, endpoint_id, event_id,"
            " event_type, attempt_count) VALUES (:id, :at, 'dead', :workspace, :endpoint, :endpoint, :id, :name, 1)",
            **values,
            id=ids.uuid7(int(at.timestamp() * 1000)),
            name=name,
        )

    done = await run_upkeep(shop.transactional, settings=shop.settings)

    assert done["rollups_forgotten"] == 5
    assert await shop.value("SELECT string_agg(event_type, ',') FROM undelivered") == "young"
    for table, left in (("attempt_rollups", 2), ("backlog_minutes", 2)):
        assert await shop.value(f"SELECT count(*) FROM {table} WHERE at < now() - interval '1 day'") == left  # noqa: S608


async def test_a_delivery_that_dies_is_noted_until_it_is_sent_again(shop: Workshop) -> None:
    """A death is noted with its class; opened again it is no longer undelivered, and a second death is noted, too."""
    endpoint = await shop.endpoint()
    (delivery,) = await shop.publish(endpoint)
    (claimed,) = await shop.claim(endpoint)
    await shop.finish(claimed, Settle.DEAD)
    noted = await shop.sql("SELECT state, error_class, attempt_count, reopened_at IS NULL FROM undelivered")
    await shop.sql("UPDATE deliveries SET state = 'pending', completed_at = NULL WHERE id = :id", id=delivery)
    opened = await shop.sql("SELECT reopened_at IS NULL FROM undelivered")
    await shop.sql(
        "UPDATE deliveries SET state = 'cancelled', completed_at = now() WHERE id = :id", id=delivery
    )
    again = await shop.sql("SELECT state, reopened_at IS NULL FROM undelivered ORDER BY ended_at")

    assert [tuple(row) for row in noted] == [("dead", "http_5xx", 1, True)]
    assert [tuple(row) for row in opened] == [(False,)]
    assert [tuple(row) for row in again] == [("dead", False), ("cancelled", True)]


async def test_only_what_ends_undelivered_is_noted(shop: Workshop) -> None:
    """A success, a failure that is tried again, and the death of a test leave no note."""
    endpoint = await shop.endpoint()
    await shop.publish(endpoint, 3)
    good, bad, tested = await shop.claim(endpoint)
    await shop.sql("UPDATE deliveries SET test = true WHERE id = :id", id=tested.id)
    await shop.finish(good)
    await shop.finish(bad, Settle.RETRY)
    await shop.finish(tested, Settle.DEAD)

    assert await shop.value("SELECT count(*) FROM undelivered") == 0
