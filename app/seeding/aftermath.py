"""What follows from the rows: the queue, undelivered ones, endpoints' runtime rows, transitions, and the roll-ups."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from app.core.db import make_engine
from app.seeding.scratch import SCHEMA
from app.stats.keeping import count_minutes, sample_backlog
from app.stats.spans import DAY, floor_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.core.settings import Settings

CONNECTIONS = 2
STATEMENT_SECONDS = 600.0

_ID = f"{SCHEMA}.uuid(d.at_ms, md5(%(seed)s || '.delivery.' || d.n))"
_QUEUE = f"""
INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, state, rank, due_at, deadline_at,
  attempt_count, schedule_step)
SELECT {_ID}, %(workspace)s, e.application_id, r.endpoint_id, e.id,
  CASE WHEN x.next_ms > %(ends)s THEN 2 ELSE 0 END, CASE WHEN x.n IS NULL THEN 1 ELSE 2 END,
  to_timestamp(coalesce(x.next_ms, d.at_ms) / 1000.0), to_timestamp(d.at_ms / 1000.0) + interval '5 days',
  coalesce(x.tries, 0), coalesce(x.tries, 0)
FROM {SCHEMA}.deliveries d JOIN {SCHEMA}.events e USING (key) JOIN {SCHEMA}.receivers r ON r.place = d.receiver
LEFT JOIN {SCHEMA}.ends x ON x.n = d.n
LEFT JOIN {SCHEMA}.tries t ON t.n = d.n AND t.k = 1
WHERE x.state = 'pending' OR t.n IS NULL
ORDER BY d.n
"""  # noqa: S608 - constants of this file
_UNDELIVERED = f"""
INSERT INTO undelivered (delivery_id, ended_at, state, workspace_id, application_id, endpoint_id, event_id, event_type,
  error_class, last_status, attempt_count)
SELECT {_ID}, to_timestamp(CASE WHEN x.state = 'cancelled' THEN least(x.ended_ms + 60000, %(ends)s) ELSE x.ended_ms + 2 END / 1000.0),
  x.state, %(workspace)s, e.application_id, r.endpoint_id, e.id, e.type, f.error_class, f.status, x.tries
FROM {SCHEMA}.ends x JOIN {SCHEMA}.deliveries d USING (n) JOIN {SCHEMA}.events e USING (key)
JOIN {SCHEMA}.receivers r ON r.place = d.receiver JOIN {SCHEMA}.faults f ON f.place = x.fault
WHERE x.state IN ('dead', 'cancelled')
"""  # noqa: S608 - constants of this file
_RUNTIME = f"""
UPDATE endpoint_runtime q SET last_success_at = to_timestamp(s.good / 1000.0), last_failure_at = to_timestamp(s.bad / 1000.0),
  failing_since = CASE WHEN q.circuit_state = 'open' THEN q.circuit_opened_at END
FROM (
  SELECT receiver, max(at_ms) FILTER (WHERE fault IS NULL) AS good, max(at_ms) FILTER (WHERE fault IS NOT NULL) AS bad
  FROM {SCHEMA}.tries GROUP BY 1
) s JOIN {SCHEMA}.receivers r ON r.place = s.receiver
WHERE q.endpoint_id = r.endpoint_id
"""  # noqa: S608 - constants of this file
# Where everything failed for a while and does no more, a circuit opened soon after the beginning and closed at the end.
_TRANSITIONS = f"""
INSERT INTO circuit_transitions (workspace_id, endpoint_id, at, from_state, to_state, reason)
SELECT %(workspace)s, endpoint_id, to_timestamp(at_ms / 1000.0), from_state, to_state, reason FROM (
  SELECT r.endpoint_id, f.since_ms + 9000 AS at_ms, 'closed' AS from_state, 'open' AS to_state,
    '10 requests in a row failed.' AS reason
  FROM {SCHEMA}.faults f JOIN {SCHEMA}.receivers r ON r.place = f.receiver WHERE f.share >= 0.9
  UNION ALL
  SELECT r.endpoint_id, f.until_ms + step.after, step.before, step.behind, step.reason
  FROM {SCHEMA}.faults f JOIN {SCHEMA}.receivers r ON r.place = f.receiver
  CROSS JOIN (VALUES (4000, 'open', 'half_open', 'A probe is due.'),
    (9000, 'half_open', 'closed', '3 probes in a row succeeded.')) AS step(after, before, behind, reason)
  WHERE f.share >= 0.9
) t WHERE at_ms < %(ends)s ORDER BY at_ms
"""  # noqa: S608 - constants of this file
# By the minute: what was made and not yet ended is scheduled; a part of what was made just then was due.
_BACKLOG = f"""
INSERT INTO backlog_minutes (scope_id, at, workspace_id, application_id, due, scheduled, blocked, in_flight, oldest_due_seconds)
SELECT coalesce(application_id, %(workspace)s), to_timestamp(minute * 60), %(workspace)s, application_id,
  made / 12, greatest(0, waiting), 0, least(40, made / 20), CASE WHEN made >= 12 THEN 0.05 + (minute %% 17) / 40.0 END
FROM (
  SELECT application_id, minute, sum(made)::int AS made,
    sum(sum(delta)) OVER (PARTITION BY application_id, grouping(application_id) ORDER BY minute)::int AS waiting
  FROM (
    SELECT e.application_id, minutes.minute, 0 AS made, 0 AS delta
    FROM (SELECT DISTINCT application_id FROM {SCHEMA}.kinds) e
    CROSS JOIN generate_series(%(begins)s::bigint / 60000, %(ends)s::bigint / 60000) AS minutes(minute)
    UNION ALL
    SELECT e.application_id, d.at_ms / 60000, count(*), 0 FROM {SCHEMA}.deliveries d JOIN {SCHEMA}.events e USING (key) GROUP BY 1, 2
    UNION ALL
    SELECT e.application_id, d.at_ms / 60000, 0, 1 FROM {SCHEMA}.ends x JOIN {SCHEMA}.deliveries d USING (n) JOIN {SCHEMA}.events e USING (key)
    UNION ALL
    SELECT e.application_id, x.ended_ms / 60000, 0, -1
    FROM {SCHEMA}.ends x JOIN {SCHEMA}.deliveries d USING (n) JOIN {SCHEMA}.events e USING (key) WHERE x.state <> 'pending'
  ) moves
  GROUP BY GROUPING SETS ((minute), (application_id, minute))
) m
WHERE minute * 60000 < %(ends)s AND (waiting > 0 OR made >= 12)
ON CONFLICT (scope_id, at) DO NOTHING
"""  # noqa: S608 - constants of this file

_MINUTES = f"""
SELECT DISTINCT to_timestamp(ms / 60000 * 60) FROM (
  SELECT at_ms + duration::bigint AS ms FROM {SCHEMA}.tries
  UNION ALL
  SELECT CASE WHEN state = 'cancelled' THEN least(ended_ms + 60000, %(ends)s) ELSE ended_ms + 2 END FROM {SCHEMA}.ends
) e
"""  # noqa: S608 - constants of this file


def write(connection: Connection[Any], values: Mapping[str, object]) -> tuple[int, int]:
    """Write all but the roll-ups; return how many deliveries wait, and how many ended undelivered."""
    waiting = connection.execute(_QUEUE, values).rowcount
    undelivered = connection.execute(_UNDELIVERED, values).rowcount
    for statement in (_RUNTIME, _TRANSITIONS, _BACKLOG):
        connection.execute(statement, values)
    for table in ("delivery_queue", "undelivered", "backlog_minutes", "endpoint_runtime"):
        connection.execute(f"ANALYZE {table}")
    return waiting, undelivered


def minutes_of(connection: Connection[Any], values: Mapping[str, object]) -> list[datetime]:
    """Return the minutes in which an attempt or a delivery ended."""
    return [row[0] for row in connection.execute(_MINUTES, values)]


def add_up(settings: Settings, minutes: Sequence[datetime]) -> None:
    """Keep the roll-ups of these minutes, as upkeep does."""
    asyncio.run(_add_up(settings, minutes))


async def _add_up(settings: Settings, minutes: Sequence[datetime]) -> None:
    engine = make_engine(
        settings,
        name="seed",
        pool_size=CONNECTIONS,
        few_statements=True,
        statement_timeout_seconds=STATEMENT_SECONDS,
    )
    # The minutes of the longest step are counted by one connection, as their sums are the same rows.
    together: dict[datetime, list[datetime]] = {}
    for minute in minutes:
        together.setdefault(floor_to(minute, DAY), []).append(minute)
    left = list(together.values())
    try:
        await asyncio.gather(*(_add_up_each(engine, left) for _ in range(CONNECTIONS)))
        async with engine.begin() as connection:
            await sample_backlog(connection)
    finally:
        await engine.dispose()


async def _add_up_each(engine: AsyncEngine, left: list[list[datetime]]) -> None:
    while left:
        minutes = left.pop()
        async with engine.begin() as connection:
            await count_minutes(connection, minutes)
