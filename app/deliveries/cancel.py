"""Cancelling what waits: of an application, an endpoint, an event, or one delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

# One statement takes about 14 µs for a delivery; a request may not take seconds. What is left belongs to an endpoint
# that is closed, and upkeep cancels it (`cancel_orphans`).
MOST_AT_ONCE = 50_000

# Rows are locked in the order of their ids (settled.md §2). A leased row stays until its result comes, or the
# number in flight would never fall; the record then sees the wish and ends the delivery as cancelled.
_CANCEL = """
WITH locked AS (
  SELECT id, endpoint_id, state FROM delivery_queue WHERE workspace_id = :workspace AND id IN (
    SELECT id FROM delivery_queue WHERE workspace_id = :workspace AND {column} = :id ORDER BY state <> 1, id LIMIT :most
  ) ORDER BY id FOR UPDATE
), flagged AS (
  UPDATE delivery_queue q SET cancel_requested = true
    FROM locked WHERE q.workspace_id = :workspace AND q.id = locked.id AND locked.state = 1 RETURNING q.id
), gone AS (
  DELETE FROM delivery_queue q USING locked
   WHERE q.workspace_id = :workspace AND q.id = locked.id AND locked.state <> 1 RETURNING q.id
), lane AS (
  -- The wait of a FIFO lane is that of its head: if what is first in line now has none, it may go. So it may, when
  -- the dead head that held up the line was asked for again, and is given up now.
  SELECT e.endpoint_id FROM endpoint_runtime e JOIN endpoint_runtime seen USING (endpoint_id)
   WHERE e.workspace_id = :workspace AND seen.workspace_id = :workspace
     AND e.endpoint_id IN (SELECT endpoint_id FROM locked WHERE state <> 1) AND (
     -- A wait that began while this statement waited for a lock is none of its business.
     (e.held_reason = 'fifo_backoff' AND e.held_until IS NOT DISTINCT FROM seen.held_until AND NOT EXISTS (
       SELECT 1 FROM (
         SELECT q.due_at FROM delivery_queue q
          WHERE q.state = 0 AND q.workspace_id = :workspace AND q.application_id = e.application_id
            AND q.endpoint_id = e.endpoint_id AND q.id NOT IN (SELECT id FROM locked WHERE state <> 1)
          ORDER BY q.rank, q.seq LIMIT 1
       ) AS head WHERE head.due_at > now()))
     OR e.fifo_blocked_by IN (SELECT id FROM locked WHERE state <> 1))
   ORDER BY e.endpoint_id FOR UPDATE OF e
), moved_on AS (
  UPDATE endpoint_runtime e SET
    -- A row that holds up the line is its head, so a wait of the line would be its own.
    held_until = CASE WHEN e.held_reason = 'fifo_backoff' THEN NULL ELSE e.held_until END,
    held_reason = CASE WHEN e.held_reason = 'fifo_backoff' THEN NULL ELSE e.held_reason END,
    fifo_blocked_by = CASE WHEN e.fifo_blocked_by IN (SELECT id FROM locked WHERE state <> 1)
                           THEN NULL ELSE e.fifo_blocked_by END
    FROM lane WHERE e.workspace_id = :workspace AND e.endpoint_id = lane.endpoint_id
), settled AS (
  UPDATE deliveries d SET state = 'cancelled', completed_at = now()
    FROM gone WHERE d.workspace_id = :workspace AND d.id = gone.id RETURNING d.id
)
SELECT (SELECT count(*) FROM settled) + (SELECT count(*) FROM flagged)
"""
# What a worker has not yet expanded into deliveries is cancelled by never being made.
_DROP_FANOUTS = "DELETE FROM fanouts WHERE workspace_id = :workspace AND {column} = :id"
_COLUMNS = {
    "application_id": "application_id",
    "endpoint_id": "endpoint_id",
    "event_id": "event_id",
    "delivery_id": "id",
}
_FANOUT_COLUMNS = frozenset({"application_id", "event_id"})


async def cancel_pending(
    session: AsyncSession,
    *,
    workspace_id: UUID,
    application_id: UUID | None = None,
    endpoint_id: UUID | None = None,
    event_id: UUID | None = None,
    delivery_id: UUID | None = None,
) -> int:
    """Cancel all that waits of exactly one of these in a workspace; return how many deliveries end as cancelled.

    Those that are being sent are counted too: they end when their result comes. At most `MOST_AT_ONCE` are cancelled
    here, those being sent first; an endpoint or application with more is deleted or closed by the caller, so that
    upkeep can cancel the rest. Safe to repeat.
    """
    given = {
        "application_id": application_id,
        "endpoint_id": endpoint_id,
        "event_id": event_id,
        "delivery_id": delivery_id,
    }
    ((name, value),) = ((name, value) for name, value in given.items() if value is not None)
    which = {"workspace": workspace_id, "id": value}
    cancelled: int = (
        await session.execute(text(_CANCEL.format(column=_COLUMNS[name])), which | {"most": MOST_AT_ONCE})
    ).scalar_one()
    if name in _FANOUT_COLUMNS:
        await session.execute(text(_DROP_FANOUTS.format(column=name)), which)
    return cancelled
