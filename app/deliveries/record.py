"""Record: write many finished attempts and settle their deliveries, in one statement.

It holds only while the lease is still ours (the token is compared): a worker that was presumed dead cannot
overwrite a newer result. Its attempt is kept all the same, marked `stale`: the request was sent.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from sqlalchemy import text

from app.deliveries import ranks
from app.deliveries.circuit import (
    OPEN_AFTER_FAILURES,
    OPEN_AT_PERCENT,
    OPEN_FROM_RESULTS,
    PROBE_FAILED,
    PROBES_TO_CLOSE,
    WINDOW_MINUTES,
)
from app.operations.notices import tell_of_dead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

TRIGGERS = ("scheduled", "manual", "replay", "test")


class Settle(StrEnum):
    """What a worker asks for a delivery that it held."""

    SUCCEEDED = "succeeded"
    RETRY = "retry"
    DEAD = "dead"
    # Not sent: given back at a stop, or because too little of the lease was left. No attempt.
    RELEASED = "released"
    # Its event was erased: there is nothing to send. No attempt.
    CANCELLED = "cancelled"


class Finished(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """One result: how to settle the delivery, and the attempt's row (none for `released`, `cancelled`)."""

    id: UUID
    token: int
    settle: Settle
    endpoint_id: UUID
    workspace_id: UUID
    application_id: UUID
    event_id: UUID
    event_type: str = ""
    attempt_id: UUID | None = None
    number: int = 0
    trigger: str = "scheduled"
    test: bool = False
    # Seconds from now until the next attempt (settle `retry`; also `released`, after a fault of our own).
    delay_seconds: float | None = None
    # The receiver asked for it: holds the whole endpoint.
    hold_seconds: float | None = None
    # A blocked target moves its own counter; the schedule's place stays.
    blocked: bool = False
    # Counts in the endpoint's health (not tests, 410 and blocked targets).
    counts: bool = True
    # `succeeded` or `failed`; `none` without an attempt.
    outcome: str
    started_at: datetime | None = None
    duration_ms: float | None = None
    queue_ms: float | None = None
    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    send_ms: float | None = None
    wait_ms: float | None = None
    receive_ms: float | None = None
    request_url: str = ""
    request_headers: bytes | None = None
    response_status: int | None = None
    response_headers: bytes | None = None
    response_body: bytes | None = None
    response_body_truncated: bool = False
    error_class: str | None = None
    error_message: str | None = None
    note: str | None = None
    ip: str | None = None
    http_version: str | None = None
    tls_version: str | None = None
    certificate_expires_at: int | None = None
    connection_reused: bool | None = None
    worker: str | None = None
    retry_after_seconds: int | None = None
    # Its place among the results that are recorded together, from 1; set by `encode`.
    ord: int = 0


class Recorded(msgspec.Struct, frozen=True):
    """What a record did: deliveries settled, and results that came after their lease had ended."""

    settled: int
    stale: int
    # Endpoints whose circuit may have to change: see `circuit_changes.settle_circuits`.
    circuits: tuple[UUID, ...] = ()


def _window(column: str, added: str) -> str:
    """Return the SQL of a window's slots with `added` in the slot of this minute, and 0 where a minute has passed."""
    slots = (
        f"CASE WHEN l.minute - e.window_minute + (e.window_minute + {WINDOW_MINUTES} - {slot}) % {WINDOW_MINUTES}"
        f" < {WINDOW_MINUTES} THEN e.{column}[{slot + 1}] ELSE 0 END"
        f" + CASE WHEN l.minute % {WINDOW_MINUTES} = {slot} THEN {added} ELSE 0 END"
        for slot in range(WINDOW_MINUTES)
    )
    return f"ARRAY[{', '.join(slots)}]"


def _total(column: str) -> str:
    """Return the SQL of the sum of a window's slots."""
    return "(" + " + ".join(f"e.{column}[{slot + 1}]" for slot in range(WINDOW_MINUTES)) + ")"


_NOTICED = tell_of_dead(
    """
    SELECT r.workspace_id, r.application_id, r.endpoint_id, r.id, r.event_id, r.event_type,
      o.attempt_count + CASE WHEN o.attempt_id IS NULL THEN 0 ELSE 1 END AS attempt_count,
      r.error_class, r.error_message
    FROM own o JOIN r ON r.ord = o.ord WHERE o.settle = 'dead' AND NOT coalesce(o.test, false)
    """
)
# The joins on ids are nested loops over `own`: each look-up goes to the one partition that its id names.
RECORD = text(
    f"""
WITH r AS MATERIALIZED (
  -- json, not jsonb: each field is read once, so making the binary form costs more than it gains.
  SELECT * FROM json_to_recordset(CAST(:results AS json)) AS t(
    ord int, id uuid, token bigint, settle text, delay_seconds float8, hold_seconds float8, blocked boolean,
    counts boolean, workspace_id uuid, application_id uuid, endpoint_id uuid, event_id uuid, event_type text,
    attempt_id uuid, number int, trigger text, test boolean, outcome text, started_at timestamptz,
    duration_ms real, queue_ms real, dns_ms real, connect_ms real, tls_ms real, send_ms real, wait_ms real,
    receive_ms real, request_url text, request_headers text, response_status smallint, response_headers text,
    response_body text, response_body_truncated boolean, error_class text, error_message text, note text,
    ip text, http_version text, tls_version text, certificate_expires_at bigint, connection_reused boolean,
    worker text, retry_after_seconds int)
), own AS MATERIALIZED (
  SELECT q.id, r.token, q.endpoint_id, q.attempt_count, r.ord, r.attempt_id, r.delay_seconds, r.hold_seconds,
    r.blocked, r.counts, r.test, r.outcome, r.response_status, r.error_class, r.error_message, r.started_at,
    q.leased_at, coalesce(r.counts, true) AND r.outcome = 'succeeded' AS good,
    coalesce(r.counts, true) AND r.outcome = 'failed' AND r.attempt_id IS NOT NULL AS bad,
    CASE WHEN q.cancel_requested THEN 'cancelled' ELSE r.settle END AS settle
  FROM r JOIN delivery_queue q ON q.id = r.id AND q.lease_token = r.token AND q.state = 1
  ORDER BY q.id FOR UPDATE OF q
), lane AS MATERIALIZED (
  SELECT e.endpoint_id, e.fifo, e.block_on_dead, e.fifo_blocked_by, e.half_open_at,
    greatest(e.window_minute, floor(extract(epoch FROM now()) / 60)::int) AS minute
  FROM endpoint_runtime e
  WHERE e.endpoint_id IN (SELECT endpoint_id FROM own) ORDER BY e.endpoint_id FOR UPDATE OF e
), logged AS (
  INSERT INTO attempts (id, workspace_id, application_id, endpoint_id, event_id, event_type, delivery_id, number,
    trigger, test, outcome, stale, started_at, duration_ms, queue_ms, dns_ms, connect_ms, tls_ms, send_ms,
    wait_ms, receive_ms, request_url, request_headers, response_status, response_headers, response_body,
    response_body_truncated, error_class, error_message, note, ip, http_version, tls_version,
    certificate_expires_at, connection_reused, worker, retry_after_seconds)
  SELECT r.attempt_id, r.workspace_id, r.application_id, r.endpoint_id, r.event_id, r.event_type, r.id, r.number,
    coalesce(r.trigger, 'scheduled'), coalesce(r.test, false), coalesce(r.outcome, 'failed'), o.id IS NULL,
    r.started_at, r.duration_ms, r.queue_ms, r.dns_ms, r.connect_ms, r.tls_ms, r.send_ms, r.wait_ms, r.receive_ms,
    r.request_url, decode(r.request_headers, 'base64'), r.response_status, decode(r.response_headers, 'base64'),
    decode(r.response_body, 'base64'), coalesce(r.response_body_truncated, false), r.error_class,
    r.error_message, r.note, r.ip, r.http_version, r.tls_version, to_timestamp(r.certificate_expires_at),
    r.connection_reused, r.worker, r.retry_after_seconds
  FROM r LEFT JOIN own o ON o.id = r.id AND o.token = r.token WHERE r.attempt_id IS NOT NULL
  -- A result whose connection was lost in COMMIT is recorded again.
  ON CONFLICT (id) DO NOTHING
), gone AS (
  DELETE FROM delivery_queue q USING own o
  WHERE q.id = o.id AND o.settle IN ('succeeded', 'dead', 'cancelled')
), waiting AS (
  UPDATE delivery_queue q SET
    -- A FIFO head stays ready and its lane is held, or the next one would overtake it.
    state = CASE WHEN o.delay_seconds IS NULL THEN 0
                 WHEN l.fifo AND NOT (o.settle = 'released' AND q.rank < 0) THEN 0 ELSE 2 END,
    rank = CASE WHEN o.settle = 'released' THEN q.rank WHEN l.fifo THEN {ranks.FIFO} ELSE {ranks.RETRY} END,
    due_at = CASE WHEN o.delay_seconds IS NULL THEN q.due_at
                  ELSE now() + o.delay_seconds * interval '1 second' END,
    trigger = CASE WHEN o.settle = 'released' THEN q.trigger ELSE 0 END,
    attempt_count = q.attempt_count + CASE WHEN o.settle = 'retry' THEN 1 ELSE 0 END,
    schedule_step = q.schedule_step
      + CASE WHEN o.settle = 'retry' AND NOT coalesce(o.blocked, false) THEN 1 ELSE 0 END,
    blocked_count = CASE WHEN o.settle = 'released' THEN q.blocked_count
                         WHEN coalesce(o.blocked, false) THEN q.blocked_count + 1 ELSE 0 END,
    -- A result came: it was not this delivery that ended the earlier workers.
    lost_count = CASE WHEN o.settle = 'released' THEN q.lost_count ELSE 0 END,
    lost_alone_count = CASE WHEN o.settle = 'released' THEN q.lost_alone_count ELSE 0 END,
    lease_until = NULL, lease_token = NULL, leased_at = NULL, leased_by = NULL, alone = false
  FROM own o JOIN lane l USING (endpoint_id)
  WHERE q.id = o.id AND o.settle IN ('retry', 'released')
), told AS (
  UPDATE deliveries d SET
    state = CASE WHEN o.settle = 'retry' THEN 'pending' ELSE o.settle END,
    attempt_count = o.attempt_count + CASE WHEN o.attempt_id IS NULL THEN 0 ELSE 1 END,
    last_status = CASE WHEN o.attempt_id IS NULL THEN d.last_status ELSE o.response_status END,
    last_error_class = CASE WHEN o.attempt_id IS NULL THEN d.last_error_class ELSE o.error_class END,
    last_error_message = CASE WHEN o.attempt_id IS NULL THEN d.last_error_message ELSE o.error_message END,
    completed_at = CASE WHEN o.settle = 'retry' THEN NULL ELSE now() END
  FROM own o WHERE d.id = o.id AND o.settle <> 'released'
), marked AS (
  SELECT o.*, l.half_open_at, l.fifo_blocked_by,
    -- Failures behind the last success are those in a row.
    coalesce(max(o.ord) FILTER (WHERE o.good) OVER (PARTITION BY o.endpoint_id), -1) AS last_good
  FROM own o JOIN lane l USING (endpoint_id)
), sums AS (
  SELECT o.endpoint_id, count(*)::int AS freed,
    count(*) FILTER (WHERE o.good)::int AS good,
    count(*) FILTER (WHERE o.bad)::int AS bad,
    count(*) FILTER (WHERE o.bad AND o.ord > o.last_good)::int AS bad_in_a_row,
    min(o.started_at) FILTER (WHERE o.bad AND o.ord > o.last_good) AS bad_since,
    -- What was leased before the probes began says nothing about how the receiver does now.
    count(*) FILTER (WHERE o.good AND o.leased_at >= o.half_open_at)::int AS good_probes,
    count(*) FILTER (WHERE o.bad AND o.leased_at >= o.half_open_at)::int AS bad_probes,
    max(o.started_at) FILTER (WHERE o.good) AS success_at,
    max(o.started_at) FILTER (WHERE o.bad) AS failure_at,
    max(o.hold_seconds) AS hold_seconds,
    max(o.delay_seconds) FILTER (WHERE o.settle IN ('retry', 'released') AND NOT coalesce(o.test, false))
      AS retry_seconds,
    bool_or(o.settle IN ('succeeded', 'dead', 'cancelled') AND NOT coalesce(o.test, false)) AS moved_on,
    (array_agg(o.id) FILTER (WHERE o.settle = 'dead' AND NOT coalesce(o.test, false)))[1] AS dead_head,
    coalesce(bool_or(o.id = o.fifo_blocked_by AND o.settle IN ('succeeded', 'cancelled')), false) AS unblocked
  FROM marked o GROUP BY o.endpoint_id
), freed AS (
  UPDATE endpoint_runtime e SET
    -- A counter that is wrong is upkeep's to report; it must not cost results.
    in_flight = greatest(0, e.in_flight - s.freed),
    consecutive_failures = CASE WHEN s.good = 0 THEN e.consecutive_failures ELSE 0 END + s.bad_in_a_row,
    failing_since = CASE WHEN s.good = 0 THEN coalesce(e.failing_since, s.bad_since) ELSE s.bad_since END,
    failure_warnings = CASE WHEN s.good = 0 THEN e.failure_warnings ELSE 0 END,
    window_minute = l.minute,
    window_ok = {_window("window_ok", "s.good")},
    window_failed = {_window("window_failed", "s.bad")},
    probes_ok = CASE WHEN e.probes_ok = {PROBE_FAILED} OR s.bad_probes > 0 THEN {PROBE_FAILED}
                     ELSE e.probes_ok + s.good_probes END,
    -- After the circuit has closed, each success makes room for one more, and a failure halves the room.
    ramp = CASE WHEN e.ramp IS NULL THEN NULL WHEN s.bad > 0 THEN greatest(1, e.ramp / 2)
                WHEN e.ramp + s.good < e.max_in_flight THEN e.ramp + s.good END,
    last_success_at = greatest(e.last_success_at, s.success_at),
    last_failure_at = greatest(e.last_failure_at, s.failure_at),
    held_until = CASE
      WHEN s.hold_seconds IS NOT NULL OR (l.fifo AND s.retry_seconds IS NOT NULL) THEN greatest(e.held_until,
        now() + greatest(s.hold_seconds, CASE WHEN l.fifo THEN s.retry_seconds END) * interval '1 second')
      -- What leaves a FIFO lane ends the lane's wait, but nothing that somebody else asked for.
      WHEN s.moved_on AND e.held_reason = 'fifo_backoff' THEN NULL ELSE e.held_until END,
    held_reason = CASE
      WHEN s.hold_seconds IS NOT NULL THEN 'retry_after'
      WHEN l.fifo AND s.retry_seconds IS NOT NULL THEN
        CASE WHEN e.held_reason = 'retry_after' AND e.held_until > now() THEN e.held_reason
             ELSE 'fifo_backoff' END
      WHEN s.moved_on AND e.held_reason = 'fifo_backoff' THEN NULL ELSE e.held_reason END,
    fifo_blocked_by = CASE WHEN e.fifo_blocked_by IS NOT NULL AND NOT s.unblocked THEN e.fifo_blocked_by
                           WHEN l.block_on_dead THEN s.dead_head END
  FROM sums s JOIN lane l USING (endpoint_id) WHERE e.endpoint_id = s.endpoint_id
  RETURNING e.endpoint_id, CASE e.circuit_state
    WHEN 'closed' THEN e.consecutive_failures >= {OPEN_AFTER_FAILURES}
      OR ({_total("window_ok")} + {_total("window_failed")} >= {OPEN_FROM_RESULTS}
        AND {_total("window_failed")} * 100
          >= ({_total("window_ok")} + {_total("window_failed")}) * {OPEN_AT_PERCENT})
    WHEN 'half_open' THEN e.probes_ok = {PROBE_FAILED} OR e.probes_ok >= {PROBES_TO_CLOSE}
    ELSE false END AS circuit_due
), noticed AS ({_NOTICED})
SELECT (SELECT count(*) FROM own), (SELECT count(*) FROM r) - (SELECT count(*) FROM own),
  ARRAY(SELECT endpoint_id FROM freed WHERE circuit_due)
"""  # noqa: S608 - Bellwire's own constants
)


async def record(connection: AsyncConnection, finished: Sequence[Finished]) -> Recorded:
    """Write the attempts and settle the deliveries, queue rows and endpoints of these results.

    On an autocommit connection the return means: committed. After an error nothing of it is there, and
    the same results may be recorded again.
    """
    row = (
        await connection.execute(
            RECORD,
            {"results": encode(finished)},
        )
    ).one()
    return Recorded(settled=row[0], stale=row[1], circuits=tuple(row[2]))


def encode(finished: Sequence[Finished]) -> str:
    """Return the statement's JSON document; what receivers sent travels as base64, never as JSON text."""
    for place, item in enumerate(finished, 1):
        item.ord = place
        if item.error_message is not None:
            item.error_message = _storable(item.error_message)
        if item.note is not None:
            item.note = _storable(item.note)
    # Bytes become base64, and what has its default is left out.
    return _ENCODER.encode(finished).decode()


def _storable(said: str) -> str:
    """Replace what Postgres' text cannot hold: NUL and lone surrogates."""
    return said.replace("\0", "\ufffd").encode(errors="replace").decode()


_ENCODER = msgspec.json.Encoder()
