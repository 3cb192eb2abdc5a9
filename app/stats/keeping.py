"""The statements that keep the roll-ups. Each replaces what is kept of one step: repeating one changes nothing.

They find attempts by their ids, which carry the time at which the attempt ended, so each reads what it counts and no
more. Upkeep decides when (`workers/upkeep/rollups.py`); all of them work for every workspace at once.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.core.ids import lowest_uuid_at
from app.stats.latency import BOUNDS_MS
from app.stats.spans import MINUTE, SUMS, floor_to

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

_COUNTED = (
    "succeeded", "failed", "unknown", "first_known", "first_succeeded", "delivered", "delivered_late", "dead", "cancelled",
)  # fmt: skip
_KEPT = (*_COUNTED, "buckets", "counts", "failures")
_SUMS = ", ".join(f"sum({name})::bigint AS {name}" for name in _COUNTED)
_BOUNDS = "'{" + ",".join(map(str, BOUNDS_MS)) + "}'::float8[]"

# `part` has rows of counts by scope, `spread` latencies by scope and bucket, `fault` failures by scope and class.
_REPLACE = f"""
INSERT INTO attempt_rollups (scope_id, step_minutes, at, workspace_id, application_id, endpoint_id,
  {", ".join(_COUNTED)}, buckets, counts, failures)
SELECT p.scope_id, :step, :at, p.workspace_id, p.application_id, p.endpoint_id,
  {", ".join(f"p.{name}" for name in _COUNTED)},
  coalesce(h.buckets, '{{}}'), coalesce(h.counts, '{{}}'), f.failures
FROM (SELECT scope_id, workspace_id, application_id, endpoint_id, {_SUMS} FROM part GROUP BY 1, 2, 3, 4) p
LEFT JOIN (
  SELECT scope_id, array_agg(bucket ORDER BY bucket) AS buckets, array_agg(n ORDER BY bucket) AS counts
  FROM (SELECT scope_id, bucket::smallint AS bucket, sum(n)::bigint AS n FROM spread GROUP BY 1, 2) s GROUP BY 1
) h USING (scope_id)
LEFT JOIN (
  SELECT scope_id, jsonb_object_agg(error_class, jsonb_build_array(n, since, last)) AS failures
  FROM (SELECT scope_id, error_class, sum(n)::bigint AS n, min(since)::bigint AS since, max(last)::bigint AS last
        FROM fault GROUP BY 1, 2) s GROUP BY 1
) f USING (scope_id)
ON CONFLICT (scope_id, step_minutes, at) DO UPDATE SET
  {", ".join(f"{name} = excluded.{name}" for name in _KEPT)}
-- Most of what is counted again has not changed.
WHERE ({", ".join(f"attempt_rollups.{name}" for name in _KEPT)})
  IS DISTINCT FROM ({", ".join(f"excluded.{name}" for name in _KEPT)})
"""  # noqa: S608 - constants of this file
# Each attempt counts for its endpoint, its application and its workspace.
_SCOPES = """(VALUES (c.workspace_id, NULL::uuid, NULL::uuid), (c.application_id, c.application_id, NULL),
  (c.endpoint_id, c.application_id, c.endpoint_id)) AS s(scope_id, scope_application, scope_endpoint)"""

_COUNT = text(
    f"""
WITH c AS MATERIALIZED (
  SELECT workspace_id, application_id, endpoint_id, error_class, width_bucket(duration_ms::float8, {_BOUNDS}) AS bucket,
    count(*) AS n,
    count(*) FILTER (WHERE outcome = 'succeeded') AS succeeded,
    count(*) FILTER (WHERE outcome = 'failed') AS failed,
    count(*) FILTER (WHERE outcome = 'unknown') AS unknown,
    count(*) FILTER (WHERE number = 1 AND outcome <> 'unknown') AS first_known,
    count(*) FILTER (WHERE number = 1 AND outcome = 'succeeded') AS first_succeeded,
    -- A result that came after its lease had ended left the delivery alone.
    count(*) FILTER (WHERE outcome = 'succeeded' AND NOT stale) AS delivered,
    count(*) FILTER (WHERE outcome = 'succeeded' AND NOT stale AND number > 1) AS delivered_late,
    0 AS dead, 0 AS cancelled,
    extract(epoch FROM min(started_at))::bigint AS since, extract(epoch FROM max(started_at))::bigint AS last
  FROM attempts WHERE id >= :lowest AND id < :above AND NOT test
  GROUP BY 1, 2, 3, 4, 5
  UNION ALL
  SELECT workspace_id, application_id, endpoint_id, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0,
    count(*) FILTER (WHERE state = 'dead'), count(*) FILTER (WHERE state = 'cancelled'), NULL, NULL
  FROM undelivered WHERE ended_at >= :at AND ended_at < :until
  GROUP BY 1, 2, 3
), part AS (
  SELECT scope_id, workspace_id, scope_application AS application_id, scope_endpoint AS endpoint_id, {", ".join(_COUNTED)}
  FROM c CROSS JOIN LATERAL {_SCOPES}
), spread AS (
  SELECT scope_id, bucket, n FROM c CROSS JOIN LATERAL {_SCOPES} WHERE bucket IS NOT NULL
), fault AS (
  SELECT scope_id, error_class, n, since, last FROM c CROSS JOIN LATERAL {_SCOPES} WHERE error_class IS NOT NULL
)
{_REPLACE}
"""  # noqa: S608 - constants of this file
)
_ADD_UP = text(
    f"""
WITH part AS MATERIALIZED (
  SELECT * FROM attempt_rollups WHERE step_minutes = :finer AND at >= :at AND at < :until
), spread AS (
  SELECT scope_id, u.bucket, u.n FROM part CROSS JOIN LATERAL unnest(buckets, counts) AS u(bucket, n)
), fault AS (
  SELECT scope_id, e.key AS error_class, (e.value->>0)::bigint AS n, (e.value->>1)::bigint AS since,
    (e.value->>2)::bigint AS last
  FROM part CROSS JOIN LATERAL jsonb_each(failures) AS e WHERE failures IS NOT NULL
)
{_REPLACE}
"""  # noqa: S608 - constants of this file
)
# What a closed endpoint, an open circuit or a blocked line keeps is not due: nobody is to be called at night because of it.
WAITING = """
SELECT q.workspace_id, q.application_id, q.due_at, q.state = 1 AS leased,
  q.state <> 1 AND r.open AND q.due_at <= now() AND NOT coalesce(r.held_until > now(), false)
    AND r.circuit_state = 'closed' AND r.fifo_blocked_by IS NULL AS due, r.open
FROM delivery_queue q JOIN endpoint_runtime r ON r.endpoint_id = q.endpoint_id
WHERE q.trigger <> 3
"""
WAITING_FIGURES = """count(*) FILTER (WHERE due) AS due,
  count(*) FILTER (WHERE NOT leased AND open AND NOT due) AS scheduled,
  count(*) FILTER (WHERE NOT leased AND NOT open) AS blocked,
  count(*) FILTER (WHERE leased) AS in_flight,
  extract(epoch FROM now() - min(due_at) FILTER (WHERE due))::float8 AS oldest_due_seconds"""
_SAMPLE = text(
    f"""
INSERT INTO backlog_minutes (scope_id, at, workspace_id, application_id, due, scheduled, blocked, in_flight, oldest_due_seconds)
SELECT coalesce(application_id, workspace_id), date_trunc('minute', now(), 'UTC'), workspace_id, application_id, {WAITING_FIGURES}
FROM ({WAITING}) AS w GROUP BY GROUPING SETS ((workspace_id), (workspace_id, application_id))
ON CONFLICT (scope_id, at) DO UPDATE SET due = excluded.due, scheduled = excluded.scheduled,
  blocked = excluded.blocked, in_flight = excluded.in_flight, oldest_due_seconds = excluded.oldest_due_seconds
"""  # noqa: S608 - constants of this file
)


async def count_minutes(connection: AsyncConnection, minutes: Iterable[datetime]) -> int:
    """Count these minutes again, and the longer steps that they are in; return how many rows have changed."""
    changed = 0
    begins = sorted(set(minutes))
    for at in begins:
        until = at + timedelta(minutes=MINUTE)
        counted = await connection.execute(
            _COUNT,
            {"step": MINUTE, "at": at, "until": until, "lowest": _lowest(at), "above": _lowest(until)},
        )
        changed += counted.rowcount
    for step, finer in SUMS:
        for at in sorted({floor_to(minute, step) for minute in begins}):
            added = await connection.execute(
                _ADD_UP,
                {"step": step, "finer": finer, "at": at, "until": at + timedelta(minutes=step)},
            )
            changed += added.rowcount
    return changed


async def sample_backlog(connection: AsyncConnection) -> int:
    """Note what waits now, by workspace and application; return how many rows that are."""
    return (await connection.execute(_SAMPLE)).rowcount


def _lowest(at: datetime) -> UUID:
    return lowest_uuid_at(int(at.timestamp() * 1000))
