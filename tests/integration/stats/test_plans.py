"""What the statements of the dashboard's figures read, at size: not much more than what they show, and no partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from app.core.db import make_sessions
from app.stats.queue_now import MOST_COUNTED, read_queue_now
from app.stats.rankings import read_applications, read_endpoint_figures, read_incidents
from app.stats.rollups import read_backlog, read_series
from app.stats.spans import SHAPES, SPAN_NAMES, Span, SpanName
from tests.integration.engine.making import open_workshop
from tests.integration.engine.test_plans import rows_read
from tests.integration.stats.conftest import viewer_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.core.settings import Settings
    from tests.conftest import MakeDatabase
    from tests.integration.engine.making import Workshop

ENDPOINTS = 12
# Of another workspace: whose rows are not to be read.
NEIGHBOURS = 50
DAYS = 8
STEPS_BACK = 500
# Rows of longer steps that percentiles of an endpoint are read from, at most.
COARSE = 20
WAITING = 200_000

# A row for each scope and step of a week; endpoints fail now and then.
FILL_ROLLUPS = """
INSERT INTO attempt_rollups (scope_id, step_minutes, at, workspace_id, application_id, endpoint_id, succeeded, failed, unknown,
  first_known, first_succeeded, delivered, delivered_late, dead, cancelled, buckets, counts, failures)
SELECT s.scope_id, k.step, at, s.workspace_id, s.application_id, s.endpoint_id, 9, 1, 0, 9, 8, 9, 1, 0, 0, '{40,41,50}',
  '{5,4,1}', '{"http_5xx": [1, 1700000000, 1700000060]}'
FROM (VALUES (1), (5), (15), (120), (1440)) AS k(step)
CROSS JOIN generate_series(date_bin('1 day', now(), '2001-01-01') - make_interval(mins => k.step * :steps),
  date_bin('1 day', now(), '2001-01-01') + interval '1 day', make_interval(mins => k.step)) AS at
CROSS JOIN (
  SELECT id AS scope_id, workspace_id, application_id, id AS endpoint_id FROM endpoints
  UNION ALL SELECT id, workspace_id, id, NULL FROM applications
  UNION ALL SELECT id, id, NULL, NULL FROM workspaces
) s
"""
FILL_BACKLOG = """
INSERT INTO backlog_minutes (scope_id, at, workspace_id, application_id, due, scheduled, blocked, in_flight, oldest_due_seconds)
SELECT s.scope_id, at, s.workspace_id, s.application_id, 5, 3, 0, 1, 2.5
FROM generate_series(date_trunc('minute', now()) - make_interval(days => :days), now(), interval '1 minute') AS at
CROSS JOIN (
  SELECT id AS scope_id, workspace_id, id AS application_id FROM applications UNION ALL SELECT id, id, NULL FROM workspaces
) s
"""
FILL_QUEUE = """
INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, deadline_at)
SELECT gen_random_uuid(), workspace_id, application_id, id, id, now() + interval '1 day'
FROM endpoints, generate_series(1, :each) WHERE workspace_id = :workspace
"""


@pytest.fixture
async def full(make_database: MakeDatabase, settings: Settings) -> AsyncIterator[Workshop]:
    """A workspace with a week of roll-ups of every scope, and another one beside it."""
    changed = type(settings)(
        **settings.model_dump() | {"database_url": make_database(), "database_statement_timeout_seconds": 60}
    )
    async with open_workshop(changed) as shop:
        other = await shop.workspace()
        neighbour = await shop.application(workspace_id=other)
        first = await shop.endpoint(secret=None)
        await shop.copies(first, ENDPOINTS - 1)
        second = await shop.endpoint(workspace_id=other, application_id=neighbour, secret=None)
        await shop.copies(second, NEIGHBOURS)
        for _ in range(NEIGHBOURS // 5):
            await shop.application(workspace_id=other)
        await shop.sql(FILL_ROLLUPS, steps=STEPS_BACK)
        await shop.sql(FILL_BACKLOG, days=DAYS)
        await shop.sql(FILL_QUEUE, each=WAITING // ENDPOINTS, workspace=shop.workspace_id)
        await shop.sql("VACUUM ANALYZE")
        yield shop


async def test_figures_read_little_more_than_they_show(full: Workshop) -> None:
    """Rows read by each statement, for each span: those of its steps, once; of attempts and deliveries none at all."""
    caller = viewer_of(full)
    endpoints = [
        row[0]
        for row in await full.sql("SELECT id FROM endpoints WHERE workspace_id = :id", id=full.workspace_id)
    ]
    found = {}
    async with make_sessions(full.transactional)() as session:
        series = await read_series(session, caller, span=Span.ending("7d", full.clock.now()))
    assert series.totals.attempts == 10 * len(series.points)
    for name in SPAN_NAMES:
        span = Span.ending(name, full.clock.now())
        for what, (read, most) in statements(caller, span, endpoints).items():
            rows = await rows_of(full, read)
            found[name, what] = {table: count for table, count in rows.items() if count > most.get(table, 40)}

    assert {key: rows for key, rows in found.items() if rows} == {}


async def test_a_long_queue_is_not_counted_to_its_end(full: Workshop) -> None:
    """With 200,000 waiting, the last sample is shown, or lower bounds where there is none; some 10,000 rows are read."""
    caller = viewer_of(full)
    async with make_sessions(full.transactional)() as session:
        sampled = await read_queue_now(session, caller)
    await full.sql("DELETE FROM backlog_minutes")
    async with make_sessions(full.transactional)() as session:
        counted = await read_queue_now(session, caller)

    assert (sampled.due, sampled.capped, sampled.sampled_at is None) == (5, False, False)
    assert (counted.due, counted.capped, counted.sampled_at) == (MOST_COUNTED + 1, True, None)


def statements(
    caller: Caller, span: Span, endpoints: list[UUID]
) -> dict[str, tuple[Callable[[AsyncSession], Awaitable[Any]], dict[str, int]]]:
    """Return each function with the most rows that it may read, by table; other tables are small."""
    steps = kept_steps(span.name)
    shown = {
        "attempt_rollups": 0,
        "attempts": 0,
        "deliveries": 0,
        "events": 0,
        "delivery_queue": 0,
        "backlog_minutes": 0,
    }
    all_of = len(endpoints) * steps
    return {
        "series": (lambda s: read_series(s, caller, span=span), shown | {"attempt_rollups": 2 * steps + 2}),
        "series of one": (
            lambda s: read_series(s, caller, span=span, endpoint_id=endpoints[0]),
            shown | {"attempt_rollups": 2 * steps + 2},
        ),
        "backlog": (
            lambda s: read_backlog(s, caller, span=span),
            shown | {"backlog_minutes": SHAPES[span.name].length + 2},
        ),
        "endpoints": (
            lambda s: read_endpoint_figures(s, caller, endpoints, span=span),
            shown | {"attempt_rollups": all_of + COARSE * len(endpoints)},
        ),
        # Once for the failures, once for all attempts of the endpoints that are shown.
        "incidents": (
            lambda s: read_incidents(s, caller, span=span, limit=50),
            shown | {"attempt_rollups": 2 * (all_of + 2 * len(endpoints))},
        ),
        "applications": (
            lambda s: read_applications(s, caller, span=span),
            shown | {"attempt_rollups": 2 * steps + 4, "backlog_minutes": 20},
        ),
        "queue": (
            lambda s: read_queue_now(s, caller),
            shown | {"delivery_queue": MOST_COUNTED + 100, "backlog_minutes": 5},
        ),
    }


def kept_steps(name: SpanName) -> int:
    """Return how many kept steps a span has."""
    return SHAPES[name].length // SHAPES[name].step


async def rows_of(shop: Workshop, read: Callable[[AsyncSession], Awaitable[Any]]) -> dict[str, int]:
    """Return how many rows a function has read, by table."""
    async with make_sessions(shop.transactional)() as session:
        connection = await session.connection()
        await session.execute(text("SELECT 1"))
        before = await rows_read(connection)
        await read(session)
        after = await rows_read(connection)
    return {table: after[table] - before.get(table, 0) for table in after}
