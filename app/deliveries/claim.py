"""Claim: take due deliveries and lease them. The one place where policy lives.

Two statements. `DISCOVER` walks the distinct lanes (endpoints with ready rows) by hopping over the index;
`CLAIM` takes some rows of each lane that it is given, as far as the endpoint's state, cap and rate allow.
The order of the lanes is the caller's business (`workers/lanes.py`): round robin, so that an endpoint with
a million waiting deliveries gets its turn, not everybody's.

`CLAIM` waits for the runtime rows that a record holds, in the order of ids, and skips queue rows that are
locked: it can overshoot no cap and take part in no deadlock.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

LOWEST = UUID(int=0)
PROBE_REASON = "The time to try again had come: one request at a time goes out, to see how the receiver does."


class Lane(msgspec.Struct, frozen=True):
    """An endpoint that has ready deliveries, and where it stands in the walk."""

    workspace_id: UUID
    application_id: UUID
    endpoint_id: UUID


class LaneResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim found in one lane."""

    endpoint_id: UUID
    settings_version: int
    timeout_seconds: int
    taken: int
    # How many it was allowed to take; 0 with `blocked_until` or a full cap.
    room: int
    # Paused, held or disabled, its circuit not closed, or a FIFO line behind a dead head: only what has the rank FORCED
    # goes (and that head, when it was asked for).
    blocked: bool
    # Seconds until it is worth another look, where that is known.
    wait_seconds: float | None
    # All its room was used, and further deliveries are ready.
    more: bool


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """One leased delivery."""

    id: UUID
    token: int
    endpoint_id: UUID
    workspace_id: UUID
    application_id: UUID
    event_id: UUID
    settings_version: int
    timeout_seconds: int
    fifo: bool
    trigger: int
    attempt_count: int
    schedule_step: int
    blocked_count: int
    lost_count: int
    due_at: datetime
    # Milliseconds between being due and being claimed, by the database's clock.
    queue_ms: float
    # The endpoint's circuit has not been closed for long: retries are spread wider.
    recovering: bool = False


# Row comparison against the lane index: each hop is one probe, whatever the number of rows in a lane.
DISCOVER = text(
    """
WITH RECURSIVE lane AS (
  (SELECT workspace_id, application_id, endpoint_id, 1 AS hop FROM delivery_queue
   WHERE state = 0 AND (workspace_id, application_id, endpoint_id) >
     (CAST(:workspace AS uuid), CAST(:application AS uuid), CAST(:endpoint AS uuid))
   ORDER BY workspace_id, application_id, endpoint_id LIMIT 1)
  UNION ALL
  SELECT n.workspace_id, n.application_id, n.endpoint_id, l.hop + 1 FROM lane l CROSS JOIN LATERAL (
    SELECT workspace_id, application_id, endpoint_id FROM delivery_queue
    WHERE state = 0 AND (workspace_id, application_id, endpoint_id) >
      (l.workspace_id, l.application_id, l.endpoint_id)
    ORDER BY workspace_id, application_id, endpoint_id LIMIT 1) n
  WHERE l.hop < :hops
)
SELECT workspace_id, application_id, endpoint_id FROM lane
"""
)

CLAIM = text(
    """
WITH wanted AS MATERIALIZED (
  SELECT * FROM unnest(CAST(:endpoints AS uuid[]), CAST(:shares AS int[])) AS t(endpoint_id, share)
), pick AS MATERIALIZED (
  -- Waits for rows that a record holds, in the order that every writer of several rows keeps.
  SELECT r.endpoint_id, r.workspace_id, r.application_id, r.settings_version, r.timeout_seconds, r.fifo,
    r.max_in_flight, r.in_flight, r.open, r.held_until, r.rate_per_second, r.rate_burst, r.tokens, r.tokens_at,
    r.circuit_state, r.next_probe_at, r.ramp, r.fifo_blocked_by,
    -- A circuit that is not closed lets one request at a time through, once its probe is due. Without a time it is
    -- never due: a person holds the circuit open.
    NOT r.open OR coalesce(r.held_until > now(), false)
      OR (r.circuit_state <> 'closed' AND r.in_flight > 0)
      OR (r.circuit_state = 'open' AND coalesce(r.next_probe_at > now(), true)) AS blocked
  FROM endpoint_runtime r WHERE r.endpoint_id = ANY(CAST(:endpoints AS uuid[]))
  ORDER BY r.endpoint_id FOR UPDATE OF r
), allowed AS MATERIALIZED (
  SELECT p.*, w.share, NOT p.blocked AND p.circuit_state = 'open' AS probing,
    CASE WHEN p.rate_per_second IS NULL THEN NULL
         ELSE least(p.rate_burst, coalesce(p.tokens, p.rate_burst)
           + greatest(0, extract(epoch FROM now() - coalesce(p.tokens_at, now()))) * p.rate_per_second) END
      AS tokens_now,
    -- Read without a lock, so as old as the queue rows that this statement sees: while it waited for the lock, the
    -- one in flight may have come back to the head of its FIFO lane.
    CASE WHEN p.fifo THEN 1 - greatest(p.in_flight, seen.in_flight)
         WHEN NOT p.blocked AND p.circuit_state <> 'closed' THEN 1
         ELSE least(p.max_in_flight, p.ramp) - p.in_flight END AS free
  FROM pick p JOIN wanted w USING (endpoint_id) JOIN endpoint_runtime seen USING (endpoint_id)
), room AS MATERIALIZED (
  SELECT a.*, greatest(0, least(a.free, a.share, coalesce(floor(a.tokens_now)::int, a.share))) AS room,
    head.rank AS head_rank, head.seq AS head_seq
  FROM allowed a LEFT JOIN LATERAL (
    SELECT q.rank, q.seq FROM delivery_queue q
    WHERE a.fifo AND q.state = 0 AND q.workspace_id = a.workspace_id AND q.application_id = a.application_id
      AND q.endpoint_id = a.endpoint_id ORDER BY q.rank, q.seq LIMIT 1) head ON true
), taken AS MATERIALIZED (
  SELECT r.endpoint_id, r.settings_version, r.timeout_seconds, r.fifo, x.id
  FROM room r CROSS JOIN LATERAL (
    SELECT q.id FROM delivery_queue q
    WHERE q.state = 0 AND q.workspace_id = r.workspace_id AND q.application_id = r.application_id
      AND q.endpoint_id = r.endpoint_id AND q.deadline_at > now()
      AND (q.rank < 0 OR (NOT r.blocked AND coalesce(q.id = r.fifo_blocked_by, true)))
      -- The head of a FIFO lane is overtaken by nobody, also while somebody holds its row.
      AND (q.rank, q.seq) <= (coalesce(r.head_rank, 32767), coalesce(r.head_seq, 9223372036854775807))
    ORDER BY q.rank, q.seq LIMIT r.room FOR UPDATE SKIP LOCKED) x
), counted AS (
  SELECT endpoint_id, count(*)::int AS taken FROM taken GROUP BY endpoint_id
), rest AS MATERIALIZED (
  -- Is there more in the lane? A lane that is known to be empty is not visited again in vain.
  SELECT r.endpoint_id, EXISTS (
    SELECT FROM delivery_queue q
    WHERE q.state = 0 AND q.workspace_id = r.workspace_id AND q.application_id = r.application_id
      AND q.endpoint_id = r.endpoint_id ORDER BY q.rank, q.seq OFFSET c.taken LIMIT 1) AS more
  FROM counted c JOIN room r USING (endpoint_id) WHERE c.taken = r.room
), charged AS (
  UPDATE endpoint_runtime e SET in_flight = e.in_flight + c.taken, tokens = r.tokens_now - c.taken,
    tokens_at = CASE WHEN r.tokens_now IS NULL THEN NULL ELSE greatest(r.tokens_at, now()) END,
    circuit_state = CASE WHEN r.probing THEN 'half_open' ELSE e.circuit_state END,
    half_open_at = CASE WHEN r.probing THEN now() ELSE e.half_open_at END,
    next_probe_at = CASE WHEN r.probing THEN NULL ELSE e.next_probe_at END,
    probes_ok = CASE WHEN r.probing THEN 0 ELSE e.probes_ok END
  FROM counted c JOIN room r USING (endpoint_id) WHERE e.endpoint_id = c.endpoint_id
), noted AS (
  INSERT INTO circuit_transitions (workspace_id, endpoint_id, from_state, to_state, reason)
  SELECT r.workspace_id, r.endpoint_id, 'open', 'half_open', :probe_reason
  FROM counted c JOIN room r USING (endpoint_id) WHERE r.probing
), leased AS (
  UPDATE delivery_queue q SET state = 1, lease_token = nextval('delivery_lease_seq'), leased_at = now(),
    lease_until = now() + (t.timeout_seconds + CAST(:margin AS float8)) * interval '1 second',
    leased_by = :worker, alone = false
  -- The array makes it a look-up by id, also where the plan was made while the queue was empty.
  FROM taken t WHERE q.id = t.id AND q.id = ANY(ARRAY(SELECT id FROM taken))
  RETURNING q.id, q.lease_token, q.endpoint_id, q.workspace_id, q.application_id, q.event_id, q.trigger,
    q.attempt_count, q.schedule_step, q.blocked_count, q.lost_count, q.due_at, q.rank, q.seq
)
SELECT r.endpoint_id, r.settings_version, r.timeout_seconds, r.fifo, r.room,
  r.blocked OR r.fifo_blocked_by IS NOT NULL,
  extract(epoch FROM CASE
    WHEN r.open AND r.blocked THEN
      nullif(greatest(r.held_until, CASE WHEN r.circuit_state = 'open' THEN r.next_probe_at END, now()), now()) - now()
    WHEN r.tokens_now < 1 THEN (1 - r.tokens_now) / r.rate_per_second * interval '1 second' END)::float8,
  l.id, l.lease_token, l.workspace_id, l.application_id, l.event_id, l.trigger, l.attempt_count,
  l.schedule_step, l.blocked_count, l.lost_count, l.due_at,
  greatest(0, extract(epoch FROM clock_timestamp() - l.due_at) * 1000)::float8,
  r.circuit_state <> 'closed' OR r.ramp IS NOT NULL, coalesce(m.more, false)
FROM room r LEFT JOIN leased l USING (endpoint_id) LEFT JOIN rest m USING (endpoint_id) ORDER BY r.endpoint_id, l.rank, l.seq
"""
)

PROMOTE = text(
    """
WITH due AS MATERIALIZED (
  SELECT id FROM delivery_queue WHERE state = 2 AND due_at <= now()
  ORDER BY due_at LIMIT :most FOR UPDATE SKIP LOCKED
), moved AS (
  UPDATE delivery_queue SET state = 0 WHERE id = ANY(ARRAY(SELECT id FROM due)) RETURNING 1
)
SELECT (SELECT count(*) FROM moved),
  (SELECT extract(epoch FROM min(due_at) - now())::float8 FROM delivery_queue
   WHERE state = 2 AND due_at > now())
"""
)


async def discover(connection: AsyncConnection, *, after: Lane | None, hops: int) -> list[Lane]:
    """Return up to `hops` lanes that come after `after` in the order of the index."""
    start = after or Lane(LOWEST, LOWEST, LOWEST)
    rows = await connection.execute(
        DISCOVER,
        {
            "workspace": start.workspace_id,
            "application": start.application_id,
            "endpoint": start.endpoint_id,
            "hops": hops,
        },
    )
    return [Lane(*row) for row in rows]


async def claim(
    connection: AsyncConnection, lanes: Sequence[tuple[UUID, int]], *, margin_seconds: float, worker: str
) -> tuple[list[Claimed], list[LaneResult]]:
    """Lease deliveries of these (endpoint id, share) pairs: at most `share` of each.

    A lease is the endpoint's timeout plus `margin_seconds`, by the database's clock. Returns the leased
    deliveries, first in line first, and what was found in each lane.
    """
    rows = await connection.execute(
        CLAIM,
        {
            "endpoints": [endpoint_id for endpoint_id, _ in lanes],
            "shares": [share for _, share in lanes],
            "margin": margin_seconds,
            "worker": worker,
            "probe_reason": PROBE_REASON,
        },
    )
    claimed: list[Claimed] = []
    found: list[LaneResult] = []
    endpoint, began, lane = None, 0, None
    for row in rows:
        (endpoint_id, version, timeout, fifo, room, blocked, wait, delivery_id, token, workspace_id,
         application_id, event_id, trigger, attempts, step, blocked_count, lost, due_at, queue_ms,
         recovering, more) = row  # fmt: skip
        if endpoint_id != endpoint:
            # A lane's rows follow each other.
            if lane is not None:
                found.append(_lane_result(lane, taken=len(claimed) - began))
            endpoint, began, lane = (
                endpoint_id,
                len(claimed),
                (endpoint_id, version, timeout, room, blocked, wait, more),
            )
        if delivery_id is not None:
            claimed.append(
                Claimed(
                    id=delivery_id,
                    token=token,
                    endpoint_id=endpoint_id,
                    workspace_id=workspace_id,
                    application_id=application_id,
                    event_id=event_id,
                    settings_version=version,
                    timeout_seconds=timeout,
                    fifo=fifo,
                    trigger=trigger,
                    attempt_count=attempts,
                    schedule_step=step,
                    blocked_count=blocked_count,
                    lost_count=lost,
                    due_at=due_at,
                    queue_ms=queue_ms,
                    recovering=recovering,
                )
            )
    if lane is not None:
        found.append(_lane_result(lane, taken=len(claimed) - began))
    return claimed, found


def _lane_result(lane: tuple[UUID, int, int, int, bool, float | None, bool], *, taken: int) -> LaneResult:
    endpoint_id, version, timeout, room, blocked, wait, more = lane
    return LaneResult(
        endpoint_id=endpoint_id,
        settings_version=version,
        timeout_seconds=timeout,
        taken=taken,
        room=room,
        blocked=blocked,
        wait_seconds=wait,
        more=more,
    )


async def promote(connection: AsyncConnection, *, most: int = 1_000) -> tuple[int, float | None]:
    """Make scheduled deliveries ready that are due; return how many, and the seconds until the next one."""
    row = (await connection.execute(PROMOTE, {"most": most})).one()
    return row[0], row[1]
