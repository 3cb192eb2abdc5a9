"""Accept: one statement writes many publishers' events, their deliveries and their queue rows.

One round trip, one transaction: when it has returned, everything is committed. It refuses an event whose
API key was revoked, whose application is gone, or that was matched against subscriptions that have changed
since; the caller then matches again. See docs/decisions/0006.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from sqlalchemy import text

from app.core import ids
from app.deliveries import ranks
from app.events.envelope import CheckedEvent
from app.events.routing import Route

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession


class Verdict(StrEnum):
    """What became of one event."""

    ACCEPTED = "accepted"
    # The publisher's uid is taken: the first event answers, or 409.
    DUPLICATE = "duplicate"
    # The application's endpoints or subscriptions changed: match again.
    STALE = "stale"
    GONE = "gone"
    REVOKED = "revoked"


class Submission(msgspec.Struct, gc=False, kw_only=True):
    """One event, matched and ready to be written."""

    event: CheckedEvent
    workspace_id: UUID
    application_id: UUID
    application_uid: str | None
    api_key_id: UUID | None
    routing_version: int
    routes: Sequence[Route]
    traceparent: str | None = None
    # Set by `assign_id` or `assign_ids`, kept over retries of the statement.
    id: UUID | None = None
    delivery_ids: list[UUID] = []
    created_ms: int = 0

    def assign_id(self, unix_ms: int) -> None:
        """Give the event its id and its time; a second call changes nothing."""
        assign_ids([self], unix_ms=unix_ms)


def assign_ids(submissions: Sequence[Submission], *, unix_ms: int) -> None:
    """Do the same for many events at once."""
    fresh = [submission for submission in submissions if submission.id is None]
    for submission, event_id in zip(fresh, ids.uuid7s(unix_ms, len(fresh)), strict=True):
        submission.created_ms = unix_ms
        submission.id = event_id


class _EventRow(msgspec.Struct, gc=False, omit_defaults=True):
    """One element of the statement's first document; what is left out is NULL there."""

    n: int
    id: UUID | None
    workspace_id: UUID
    application_id: UUID
    routing_version: int
    type: str
    data_from: int
    data_bytes: int
    created_ms: int
    priority: int
    matched: int
    keep_days: int
    api_key_id: UUID | None = None
    uid: str | None = None
    content_hash: str | None = None
    occurred_at: datetime | None = None
    correlation_id: str | None = None
    metadata: dict[str, str] | None = None
    traceparent: str | None = None
    fanout: list[UUID] | None = None


class _TargetRow(msgspec.Struct, gc=False):
    """One element of the second: a delivery that is written at once."""

    n: int
    id: UUID
    endpoint_id: UUID
    fifo: bool
    max_age: int


# One row of `events` is one publish; one of `targets` is one delivery to be written at once.
ACCEPT = text(
    f"""
WITH input AS MATERIALIZED (
  SELECT * FROM json_to_recordset(CAST(:events AS json)) AS t(
    n int, id uuid, workspace_id uuid, application_id uuid, api_key_id uuid, routing_version bigint,
    type text, uid text, content_hash text, data_from int, data_bytes int, created_ms bigint,
    occurred_at timestamptz, correlation_id text, metadata jsonb, priority smallint, traceparent text,
    matched int, fanout uuid[], keep_days int)
), judged AS MATERIALIZED (
  SELECT i.*, to_timestamp(i.created_ms / 1000.0) AS created_at,
    CASE WHEN a.id IS NULL OR a.deleted_at IS NOT NULL OR a.workspace_id <> i.workspace_id THEN 'gone'
         WHEN i.api_key_id IS NOT NULL AND k.id IS NULL THEN 'revoked'
         WHEN a.routing_version <> i.routing_version THEN 'stale'
         ELSE 'ok' END AS verdict
  FROM input i
  LEFT JOIN applications a ON a.id = i.application_id
  LEFT JOIN api_keys k ON k.id = i.api_key_id AND k.revoked_at IS NULL
    AND (k.expires_at IS NULL OR k.expires_at > now())
), keyed AS (
  -- Sorted, so that two statements with the same keys wait for each other instead of deadlocking.
  INSERT INTO event_keys (application_id, uid, event_id, content_hash, expires_at)
  SELECT application_id, uid, id, decode(content_hash, 'hex'), now() + keep_days * interval '1 day'
  FROM judged WHERE verdict = 'ok' AND uid IS NOT NULL ORDER BY application_id, uid
  ON CONFLICT (application_id, uid) DO NOTHING
  RETURNING event_id
), accepted AS MATERIALIZED (
  SELECT j.* FROM judged j LEFT JOIN keyed k ON k.event_id = j.id
  WHERE j.verdict = 'ok' AND (j.uid IS NULL OR k.event_id IS NOT NULL)
), written AS (
  INSERT INTO events (id, workspace_id, application_id, type, uid, data, occurred_at, correlation_id,
    metadata, priority, traceparent, deliveries, created_at)
  SELECT id, workspace_id, application_id, type, uid,
    substring(CAST(:data AS bytea) FROM data_from + 1 FOR data_bytes), coalesce(occurred_at, created_at),
    correlation_id, metadata, priority, traceparent, matched, created_at
  FROM accepted
), targets AS MATERIALIZED (
  SELECT t.n, t.id, t.endpoint_id, t.fifo, a.workspace_id, a.application_id, a.id AS event_id, a.type,
    a.created_at, a.created_at + t.max_age * interval '1 second' AS deadline_at,
    CASE WHEN t.fifo THEN {ranks.FIFO} ELSE a.priority END AS rank
  FROM json_to_recordset(CAST(:targets AS json)) AS t(
    n int, id uuid, endpoint_id uuid, fifo boolean, max_age int)
  JOIN accepted a ON a.n = t.n
), lanes AS MATERIALIZED (
  -- FIFO promises commit order: whoever takes a lane's numbers holds the lane until its commit.
  SELECT count(pg_advisory_xact_lock(1650813548, hashtext(endpoint_id::text)))
  FROM (SELECT DISTINCT endpoint_id FROM targets WHERE fifo ORDER BY endpoint_id) f
), recorded AS (
  INSERT INTO deliveries (id, workspace_id, application_id, event_id, event_type, endpoint_id, created_at,
    deadline_at)
  SELECT id, workspace_id, application_id, event_id, type, endpoint_id, created_at, deadline_at FROM targets
), queued AS (
  INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, seq, rank, due_at,
    deadline_at)
  SELECT s.id, s.workspace_id, s.application_id, s.endpoint_id, s.event_id, nextval('delivery_queue_seq'),
    s.rank, s.created_at, s.deadline_at
  FROM (SELECT t.* FROM targets t, lanes ORDER BY t.n) s
), fanned AS (
  INSERT INTO fanouts (event_id, workspace_id, application_id, endpoint_ids, rank)
  SELECT id, workspace_id, application_id, fanout, priority FROM accepted WHERE fanout IS NOT NULL
)
SELECT j.n, CASE WHEN j.verdict <> 'ok' THEN j.verdict WHEN a.n IS NULL THEN 'duplicate' ELSE 'accepted' END
FROM judged j LEFT JOIN accepted a ON a.n = j.n
"""  # noqa: S608 - Bellwire's own constants
)

WHICH_ARE_STORED = text("SELECT id FROM events WHERE id = ANY(CAST(:ids AS uuid[]))")

FIRST_OF_UID = text(
    "SELECT application_id, uid, event_id, content_hash FROM event_keys"
    " WHERE (application_id, uid) IN"
    " (SELECT * FROM unnest(CAST(:applications AS uuid[]), CAST(:uids AS text[])))"
)


async def accept(
    connection: AsyncConnection | AsyncSession,
    submissions: Sequence[Submission],
    *,
    inline: int,
    keep_days: int,
) -> list[Verdict]:
    """Write what can be accepted and return one verdict for each submission, in order.

    Each submission has its id (`assign_ids`). An event that matches more than `inline` endpoints gets one
    `fanouts` row instead of deliveries. On an autocommit connection the return means: committed.

    Safe to repeat with the same submissions after an error that left nothing behind.
    """
    rows, targets, data = _encode(submissions, inline=inline, keep_days=keep_days)
    result = await connection.execute(ACCEPT, {"events": rows, "targets": targets, "data": data})
    verdicts: list[Verdict] = [Verdict.GONE] * len(submissions)
    for n, verdict in result:
        verdicts[n] = Verdict(verdict)
    return verdicts


async def stored_among(connection: AsyncConnection, submissions: Sequence[Submission]) -> set[UUID]:
    """Return the ids that are in the database: after a connection was lost in COMMIT, only this can tell."""
    found = await connection.execute(WHICH_ARE_STORED, {"ids": [s.id for s in submissions]})
    return {row[0] for row in found}


async def first_of_uids(
    connection: AsyncConnection | AsyncSession, keys: Sequence[tuple[UUID, str]]
) -> dict[tuple[UUID, str], tuple[UUID, bytes]]:
    """Return, for (application id, uid), the id and content hash of the event that came first."""
    found = await connection.execute(
        FIRST_OF_UID, {"applications": [app for app, _ in keys], "uids": [uid for _, uid in keys]}
    )
    return {(app, uid): (event_id, bytes(digest)) for app, uid, event_id, digest in found}


def _encode(submissions: Sequence[Submission], *, inline: int, keep_days: int) -> tuple[str, str, bytes]:
    """Build the statement's two JSON documents and the blob that holds every event's data."""
    rows: list[_EventRow] = []
    targets: list[_TargetRow] = []
    parts: list[bytes] = []
    offset = 0
    for n, item in enumerate(submissions):
        event = item.event
        # A FIFO endpoint's delivery is always written at once, so that its order is the order of commits.
        wide = len(item.routes) > inline
        at_once = [route for route in item.routes if route.fifo] if wide else item.routes
        later = [route.endpoint_id for route in item.routes if not route.fifo] if wide else []
        rows.append(
            _EventRow(
                n=n,
                id=item.id,
                workspace_id=item.workspace_id,
                application_id=item.application_id,
                api_key_id=item.api_key_id,
                routing_version=item.routing_version,
                type=event.type,
                uid=event.uid,
                content_hash=event.content_hash.hex() if event.uid is not None else None,
                data_from=offset,
                data_bytes=len(event.data),
                created_ms=item.created_ms,
                occurred_at=event.occurred_at,
                correlation_id=event.correlation_id,
                metadata=event.metadata,
                priority=ranks.HIGH if event.high else ranks.NORMAL,
                traceparent=item.traceparent,
                matched=len(item.routes),
                fanout=later or None,
                keep_days=keep_days,
            )
        )
        parts.append(event.data)
        offset += len(event.data)
        if len(item.delivery_ids) != len(at_once):
            item.delivery_ids = ids.uuid7s(item.created_ms, len(at_once))
        targets.extend(
            _TargetRow(n, delivery_id, route.endpoint_id, route.fifo, route.max_age_seconds)
            for route, delivery_id in zip(at_once, item.delivery_ids, strict=True)
        )
    return msgspec.json.encode(rows).decode(), msgspec.json.encode(targets).decode(), b"".join(parts)
