"""What waits at this moment, fast also where hundreds of thousands wait. One statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.stats.rollups import scope_of

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

# So many rows are counted; where more wait, the last sample of upkeep is shown.
MOST_COUNTED = 10_000
# An older sample says less than the first rows that were counted.
SAMPLE_SECONDS = 180

# Goes through the workspace's own endpoints, so that other workspaces' backlogs cost nothing here.
QUEUE_NOW = text("""
WITH counted AS MATERIALIZED (
  SELECT q.state, q.due_at, r.open,
    q.state <> 1 AND r.open AND q.due_at <= now() AND NOT coalesce(r.held_until > now(), false)
      AND r.circuit_state = 'closed' AND r.fifo_blocked_by IS NULL AS due
  FROM endpoints e
  JOIN endpoint_runtime r ON r.endpoint_id = e.id
  CROSS JOIN LATERAL (
    SELECT state, due_at FROM delivery_queue q
    WHERE q.workspace_id = :workspace AND q.endpoint_id = e.id AND q.trigger <> 3 LIMIT :most + 1
  ) q
  WHERE e.workspace_id = :workspace AND r.workspace_id = :workspace
    AND (CAST(:application AS uuid) IS NULL OR e.application_id = CAST(:application AS uuid))
  LIMIT :most + 1
), live AS (
  SELECT count(*) FILTER (WHERE due) AS due, count(*) FILTER (WHERE state <> 1 AND open AND NOT due) AS scheduled,
    count(*) FILTER (WHERE state <> 1 AND NOT open) AS blocked, count(*) FILTER (WHERE state = 1) AS in_flight,
    extract(epoch FROM now() - min(due_at) FILTER (WHERE due))::float8 AS oldest_due_seconds, count(*) > :most AS capped
  FROM counted
)
SELECT coalesce(s.due, l.due), coalesce(s.scheduled, l.scheduled), coalesce(s.blocked, l.blocked),
  coalesce(s.in_flight, l.in_flight), CASE WHEN s.at IS NULL THEN l.oldest_due_seconds ELSE s.oldest_due_seconds END,
  l.capped AND s.at IS NULL, s.at
FROM live l LEFT JOIN LATERAL (
  SELECT * FROM backlog_minutes b
  WHERE l.capped AND b.workspace_id = :workspace AND b.scope_id = :scope
    AND b.at > now() - make_interval(secs => :sample)
  ORDER BY b.at DESC LIMIT 1
) s ON true
""")


@dataclass(frozen=True, slots=True)
class QueueNow:
    """Deliveries that wait: due at once, for their time, for a closed endpoint; those in flight; the oldest due one.

    `sampled_at` is when upkeep counted them, where there are too many to count now; None: just now. `capped`: there are
    more than were counted, and no sample: the numbers are lower bounds.
    """

    due: int
    scheduled: int
    blocked: int
    in_flight: int
    oldest_due_seconds: float | None
    capped: bool
    sampled_at: datetime | None


async def read_queue_now(
    session: AsyncSession, caller: Caller, *, application_id: UUID | None = None
) -> QueueNow:
    """Return what waits in the workspace, or in one application of it. Tests are not counted."""
    named = scope_of(caller, application_id=application_id)
    application = application_id or caller.application_id
    if None not in {application_id, caller.application_id} and application_id != caller.application_id:
        return QueueNow(0, 0, 0, 0, None, capped=False, sampled_at=None)
    row = (
        await session.execute(
            QUEUE_NOW,
            {
                "workspace": named["workspace"],
                "scope": named["scope"],
                "application": application,
                "most": MOST_COUNTED,
                "sample": SAMPLE_SECONDS,
            },
        )
    ).one()
    return QueueNow(*row)
