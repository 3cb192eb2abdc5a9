"""Fan-outs too wide for the publish: written by workers, slice by slice, behind the events of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.core import ids
from app.deliveries import ranks

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.clock import DatabaseClock
    from app.core.settings import Settings

SLICE = 1_000

ANY_WAITING = text("SELECT EXISTS (SELECT 1 FROM fanouts)")

# One slice is one transaction: its deliveries and the fan-out's new position are there together or not at all.
EXPAND = text(
    f"""
WITH job AS MATERIALIZED (
  SELECT * FROM fanouts ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED
), slice AS MATERIALIZED (
  SELECT j.event_id, j.workspace_id, j.application_id, j.rank, u.endpoint_id, i.id
  FROM job j
  CROSS JOIN LATERAL unnest(j.endpoint_ids[j.position + 1 : j.position + :slice]) WITH ORDINALITY
    AS u(endpoint_id, n)
  JOIN unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS i(id, n) ON i.n = u.n
), targets AS MATERIALIZED (
  SELECT s.event_id, s.workspace_id, s.application_id, s.endpoint_id, s.id, ev.type,
    -- It may have become FIFO since the event was accepted: then it stands in line with the others.
    CASE WHEN e.ordering = 'fifo' THEN {ranks.FIFO} ELSE s.rank END AS rank,
    to_timestamp(CAST(:now_ms AS float8) / 1000) AS created_at,
    ev.created_at + coalesce(e.max_age_seconds, :max_age) * interval '1 second' AS deadline_at
  FROM slice s JOIN endpoints e ON e.id = s.endpoint_id AND e.deleted_at IS NULL
  JOIN events ev ON ev.id = s.event_id
), recorded AS (
  INSERT INTO deliveries (id, workspace_id, application_id, event_id, event_type, endpoint_id, created_at,
    deadline_at)
  SELECT id, workspace_id, application_id, event_id, type, endpoint_id, created_at, deadline_at FROM targets
), queued AS (
  INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, rank, due_at, deadline_at)
  SELECT id, workspace_id, application_id, endpoint_id, event_id, rank, created_at, deadline_at FROM targets
), moved AS (
  UPDATE fanouts f SET position = f.position + :slice FROM job j
  WHERE f.event_id = j.event_id AND cardinality(j.endpoint_ids) > j.position + :slice
), gone AS (
  DELETE FROM fanouts f USING job j
  WHERE f.event_id = j.event_id AND cardinality(j.endpoint_ids) <= j.position + :slice
)
SELECT count(*) FROM slice
"""  # noqa: S608 - Bellwire's own constants
)


async def expand_next(
    connection: AsyncConnection, *, clock: DatabaseClock, settings: Settings, most: int = SLICE
) -> int:
    """Write the deliveries of one slice of the oldest fan-out; return how many endpoints it had (0: none waits).

    On an autocommit connection. Any number of workers may call it: each takes a fan-out that no other one holds.
    """
    if not (await connection.execute(ANY_WAITING)).scalar_one():
        return 0
    now_ms = clock.unix_ms()
    return int(
        (
            await connection.execute(
                EXPAND,
                {
                    "ids": [ids.uuid7(now_ms) for _ in range(most)],
                    "slice": most,
                    "now_ms": now_ms,
                    "max_age": settings.max_age_seconds,
                },
            )
        ).scalar_one()
    )
