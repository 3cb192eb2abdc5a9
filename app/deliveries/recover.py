"""Recover: what a lost worker, a passed deadline or a wide fan-out left to be done.

Every worker runs these every few seconds; they skip what another one has locked, so any number may run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import text

from app.core import ids
from app.core.error_classes import ErrorClass, explain
from app.deliveries import ranks
from app.operations.notices import tell_of_dead

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.deliveries.claim import Claimed

MOST_PER_SWEEP = 500
MAX_LOSSES_ALONE = 3

EXPIRED_LEASES = text(
    "SELECT id FROM delivery_queue WHERE state = 1 AND lease_until < now() ORDER BY lease_until LIMIT :most"
)

_LOST_NOTICED = tell_of_dead(
    """
    SELECT l.workspace_id, l.application_id, l.endpoint_id, l.id, l.event_id, d.event_type,
      l.attempt_count + 1 AS attempt_count, 'worker_lost' AS error_class, CAST(:message AS text) AS error_message
    FROM lost l JOIN deliveries d ON d.id = l.id WHERE l.verdict = 'dead' AND l.trigger <> 3
    """
)
# The attempt is on record as `unknown`, the delivery is due at once, and the schedule's place stays.
SWEEP = text(
    f"""
WITH input AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(CAST(:lost AS jsonb)) AS t(id uuid, attempt_id uuid)
), lost AS MATERIALIZED (
  SELECT q.*, i.attempt_id,
    CASE WHEN q.cancel_requested THEN 'cancelled'
         WHEN q.trigger = 3 OR (q.alone AND q.lost_alone_count + 1 >= :most_alone) THEN 'dead'
         ELSE 'pending' END AS verdict
  FROM delivery_queue q JOIN input i ON i.id = q.id
  WHERE q.state = 1 AND q.lease_until < now() ORDER BY q.id FOR UPDATE OF q SKIP LOCKED
), lane AS MATERIALIZED (
  SELECT e.endpoint_id, e.fifo_blocked_by FROM endpoint_runtime e
  WHERE e.endpoint_id IN (SELECT endpoint_id FROM lost) ORDER BY e.endpoint_id FOR UPDATE OF e
), freed AS (
  UPDATE endpoint_runtime e SET in_flight = greatest(0, e.in_flight - s.freed),
    fifo_blocked_by = CASE WHEN e.fifo_blocked_by IS NOT NULL AND NOT s.unblocked THEN e.fifo_blocked_by
                           WHEN e.block_on_dead THEN s.dead_head END
  FROM (
    SELECT endpoint_id, count(*)::int AS freed,
      (array_agg(lost.id) FILTER (WHERE verdict = 'dead' AND trigger <> 3))[1] AS dead_head,
      coalesce(bool_or(lost.id = lane.fifo_blocked_by AND verdict = 'cancelled'), false) AS unblocked
    FROM lost JOIN lane USING (endpoint_id) GROUP BY endpoint_id
  ) s
  WHERE e.endpoint_id = s.endpoint_id
), logged AS (
  INSERT INTO attempts (id, workspace_id, application_id, endpoint_id, event_id, event_type, delivery_id, number,
    trigger, test, outcome, started_at, request_url, error_class, error_message, worker)
  SELECT l.attempt_id, l.workspace_id, l.application_id, l.endpoint_id, l.event_id, d.event_type, l.id,
    l.attempt_count + 1, (ARRAY['scheduled', 'manual', 'replay', 'test'])[l.trigger + 1], l.trigger = 3, 'unknown',
    coalesce(l.leased_at, now()), e.url, 'worker_lost', :message, l.leased_by
  FROM lost l JOIN endpoints e ON e.id = l.endpoint_id
  JOIN deliveries d ON d.id = l.id
), told AS (
  UPDATE deliveries d SET state = l.verdict, attempt_count = l.attempt_count + 1, last_status = NULL,
    last_error_class = 'worker_lost', last_error_message = :message,
    completed_at = CASE WHEN l.verdict = 'pending' THEN NULL ELSE now() END
  FROM lost l WHERE d.id = l.id
), gone AS (
  DELETE FROM delivery_queue q USING lost l WHERE q.id = l.id AND l.verdict <> 'pending'
), again AS (
  UPDATE delivery_queue q SET state = 0, due_at = now(), attempt_count = q.attempt_count + 1,
    lost_count = q.lost_count + 1, lost_alone_count = q.lost_alone_count + CASE WHEN q.alone THEN 1 ELSE 0 END,
    lease_until = NULL, lease_token = NULL, leased_at = NULL, leased_by = NULL, alone = false
  FROM lost l WHERE q.id = l.id AND l.verdict = 'pending'
), noticed AS ({_LOST_NOTICED})
SELECT count(*) FROM lost
"""  # noqa: S608 - Bellwire's own constants
)

_EXPIRED_NOTICED = tell_of_dead(
    """
    SELECT d.workspace_id, d.application_id, d.endpoint_id, d.id, d.event_id, d.event_type, d.attempt_count,
      'expired' AS error_class, CAST(:message AS text) AS error_message
    FROM late JOIN deliveries d ON d.id = late.id WHERE NOT d.test
    """
)
EXPIRE = text(
    f"""
WITH late AS MATERIALIZED (
  SELECT id, workspace_id, application_id, endpoint_id, seq, trigger FROM delivery_queue
  WHERE deadline_at <= now() AND state <> 1
  ORDER BY deadline_at LIMIT :most FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM delivery_queue WHERE id = ANY(ARRAY(SELECT id FROM late))
), lane AS MATERIALIZED (
  SELECT e.endpoint_id, e.workspace_id, e.application_id, e.in_flight, e.block_on_dead,
    -- A wait that began while this statement waited for a lock is none of its business.
    e.held_reason = 'fifo_backoff' AND e.held_until IS NOT DISTINCT FROM seen.held_until AS waits
  FROM endpoint_runtime e JOIN endpoint_runtime seen USING (endpoint_id)
  WHERE e.endpoint_id IN (SELECT endpoint_id FROM late) AND (e.held_reason = 'fifo_backoff' OR e.block_on_dead)
  ORDER BY e.endpoint_id FOR UPDATE OF e
), head AS (
  -- The first of a line's late ones, unless another one is before it: in the line, or being sent.
  SELECT f.endpoint_id, f.id AS dead FROM (
    SELECT DISTINCT ON (late.endpoint_id) late.*, lane.in_flight FROM late JOIN lane USING (endpoint_id)
    WHERE lane.block_on_dead AND late.trigger <> 3 ORDER BY late.endpoint_id, late.seq
  ) f
  WHERE NOT EXISTS (
    SELECT 1 FROM delivery_queue q WHERE q.state = 0 AND q.workspace_id = f.workspace_id
      AND q.application_id = f.application_id AND q.endpoint_id = f.endpoint_id AND q.rank = {ranks.FIFO}
      AND q.seq < f.seq
  ) AND CASE WHEN f.in_flight = 0 THEN true ELSE NOT EXISTS (
    SELECT 1 FROM delivery_queue q WHERE q.endpoint_id = f.endpoint_id AND q.state = 1 AND q.trigger <> 3
  ) END
), free AS (
  -- The wait of a FIFO lane is that of its head; if what is first in line now has none, it may go.
  SELECT lane.endpoint_id FROM lane WHERE lane.waits AND NOT EXISTS (
    SELECT 1 FROM (
      SELECT q.due_at FROM delivery_queue q
      WHERE q.state = 0 AND q.workspace_id = lane.workspace_id AND q.application_id = lane.application_id
        AND q.endpoint_id = lane.endpoint_id AND q.id NOT IN (SELECT id FROM late)
      ORDER BY q.rank, q.seq LIMIT 1
    ) first WHERE first.due_at > now())
), moved_on AS (
  UPDATE endpoint_runtime e SET
    held_until = CASE WHEN free.endpoint_id IS NULL THEN e.held_until END,
    held_reason = CASE WHEN free.endpoint_id IS NULL THEN e.held_reason END,
    fifo_blocked_by = CASE WHEN e.block_on_dead THEN coalesce(e.fifo_blocked_by, head.dead) END
  FROM lane LEFT JOIN head USING (endpoint_id) LEFT JOIN free USING (endpoint_id)
  WHERE e.endpoint_id = lane.endpoint_id
), told AS (
  UPDATE deliveries d SET state = 'dead', completed_at = now(), last_error_class = 'expired',
    last_error_message = :message
  FROM late WHERE d.id = late.id
), noticed AS ({_EXPIRED_NOTICED})
SELECT count(*) FROM late
"""  # noqa: S608 - Bellwire's own constants
)

MARK_ALONE = text(
    "UPDATE delivery_queue SET alone = true,"
    " lease_until = now() + (CAST(:timeout AS float8) + CAST(:margin AS float8)) * interval '1 second'"
    " WHERE id = :id AND lease_token = :token AND state = 1 RETURNING 1"
)

RENEW = text(
    """
UPDATE delivery_queue q
SET lease_until = now() + (w.timeout + CAST(:margin AS float8)) * interval '1 second'
FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[]), CAST(:timeouts AS float8[])) AS w(id, token, timeout)
WHERE q.id = w.id AND q.lease_token = w.token AND q.state = 1
RETURNING q.id
"""
)

# A delivery to an endpoint or application that was deleted while the event was being accepted.
ORPHANS = text(
    """
WITH orphan AS MATERIALIZED (
  SELECT q.id FROM delivery_queue q JOIN endpoints e ON e.id = q.endpoint_id
  WHERE e.deleted_at IS NOT NULL AND q.state <> 1 LIMIT :most FOR UPDATE OF q SKIP LOCKED
), gone AS (
  DELETE FROM delivery_queue q USING orphan WHERE q.id = orphan.id
), told AS (
  UPDATE deliveries d SET state = 'cancelled', completed_at = now() FROM orphan WHERE d.id = orphan.id
)
SELECT count(*) FROM orphan
"""
)

# Counters are kept by claims and records; a difference is a bug, and it is reported as one. Two statements, so that
# the rows are counted by a snapshot that is taken after the runtime rows are locked.
SUSPECT_COUNTERS = text(
    "SELECT e.endpoint_id FROM endpoint_runtime e"
    " LEFT JOIN (SELECT endpoint_id, count(*) AS n FROM delivery_queue WHERE state = 1 GROUP BY 1) l"
    " USING (endpoint_id) WHERE e.in_flight <> coalesce(l.n, 0) ORDER BY e.endpoint_id LIMIT :most"
)
LOCK_COUNTERS = text(
    "SELECT endpoint_id FROM endpoint_runtime WHERE endpoint_id = ANY(CAST(:ids AS uuid[]))"
    " ORDER BY endpoint_id FOR UPDATE"
)
CORRECT_COUNTERS = text(
    """
WITH leased AS (
  SELECT endpoint_id, count(*)::int AS n FROM delivery_queue
  WHERE state = 1 AND endpoint_id = ANY(CAST(:ids AS uuid[])) GROUP BY endpoint_id
), wrong AS (
  SELECT e.endpoint_id, e.in_flight AS was, coalesce(l.n, 0) AS really
  FROM endpoint_runtime e LEFT JOIN leased l USING (endpoint_id)
  WHERE e.endpoint_id = ANY(CAST(:ids AS uuid[])) AND e.in_flight <> coalesce(l.n, 0)
), fixed AS (
  UPDATE endpoint_runtime e SET in_flight = wrong.really FROM wrong WHERE e.endpoint_id = wrong.endpoint_id
)
SELECT endpoint_id, was, really FROM wrong
"""
)


async def sweep_lost_leases(connection: AsyncConnection, *, unix_ms: int, most: int = MOST_PER_SWEEP) -> int:
    """Put deliveries back whose lease ended without a result; return how many.

    The attempt is written as `unknown`. A test, and a delivery whose worker was lost for the third time while
    it was sent alone, are dead.
    """
    found = [row[0] for row in await connection.execute(EXPIRED_LEASES, {"most": most})]
    if not found:
        return 0
    lost: list[dict[str, Any]] = [{"id": item, "attempt_id": ids.uuid7(unix_ms)} for item in found]
    return int(
        (
            await connection.execute(
                SWEEP,
                {
                    "lost": orjson.dumps(lost).decode(),
                    "most_alone": MAX_LOSSES_ALONE,
                    "message": explain(ErrorClass.WORKER_LOST)[0],
                },
            )
        ).scalar_one()
    )


async def expire(connection: AsyncConnection, *, most: int = MOST_PER_SWEEP) -> int:
    """Settle waiting deliveries that are older than their deadline as dead; return how many."""
    message = explain(ErrorClass.EXPIRED)[0]
    return int((await connection.execute(EXPIRE, {"most": most, "message": message})).scalar_one())


async def mark_alone(
    connection: AsyncConnection, *, delivery_id: UUID, token: int, timeout_seconds: int, margin_seconds: float
) -> bool:
    """Note that a delivery is about to be sent alone in its process, with a fresh lease; False: lease lost."""
    marked = await connection.execute(
        MARK_ALONE,
        {"id": delivery_id, "token": token, "timeout": timeout_seconds, "margin": margin_seconds},
    )
    return marked.first() is not None


async def renew_leases(
    connection: AsyncConnection, waiting: Sequence[Claimed], *, margin_seconds: float
) -> set[UUID]:
    """Begin the leases of deliveries anew that wait for their turn to be sent alone; return the ids still ours."""
    renewed = await connection.execute(
        RENEW,
        {
            "ids": [item.id for item in waiting],
            "tokens": [item.token for item in waiting],
            "timeouts": [float(item.timeout_seconds) for item in waiting],
            "margin": margin_seconds,
        },
    )
    return {row[0] for row in renewed}


async def cancel_orphans(connection: AsyncConnection, *, most: int = MOST_PER_SWEEP) -> int:
    """Cancel what waits for endpoints that no longer exist; return how many."""
    return int((await connection.execute(ORPHANS, {"most": most})).scalar_one())


async def reconcile(
    connection: AsyncConnection, *, most: int = MOST_PER_SWEEP
) -> list[tuple[UUID, int, int]]:
    """Set in-flight counters to the number of leased rows; return (endpoint id, was, really) of the wrong ones.

    In the caller's transaction: a first look without locks finds suspects, which are then locked and counted.
    """
    suspects = [row[0] for row in await connection.execute(SUSPECT_COUNTERS, {"most": most})]
    if not suspects:
        return []
    await connection.execute(LOCK_COUNTERS, {"ids": suspects})
    found = await connection.execute(CORRECT_COUNTERS, {"ids": suspects})
    return [(row[0], row[1], row[2]) for row in found]
