"""The feed: one application's events in the order in which a consumer can read them without missing any.

The order is (writing transaction, id), and only transactions below the oldest one still running are shown: a
slow publisher's events come later, never behind a reader's back. A cursor names the last event seen, and the
epoch of the database: after a restore transaction ids may come again, and then an old cursor would skip events.
"""

from __future__ import annotations

import base64
import binascii
import struct
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

import msgspec
from sqlalchemy import text

from app.core.errors import FieldError, Invalid
from app.endpoints.patterns import EVERYTHING, pattern_fault

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

LATEST = "latest"
MAX_PATTERNS = 100
# Payload bytes of one page; the event that passes them is still in it.
PAGE_BYTES = 8 * 1024 * 1024
# Rows looked at by one statement where only some types are wanted, and how long one request looks.
SCAN_ROWS = 2_000
SCAN_SECONDS = 1.0

_VERSION = 1
# Version, system identifier, timeline, application, transaction, event.
_CURSOR = struct.Struct(">BQI16sQ16s")


class Epoch(NamedTuple):
    """One uninterrupted history of transaction ids: a restore or a promoted standby begins another."""

    system: int
    timeline: int


class Position(NamedTuple):
    """A place in the feed: after this transaction's event, in the order of transactions."""

    xid: int
    event_id: UUID


class FeedEvent(msgspec.Struct, frozen=True):
    """An event as the feed shows it. `data` is the published bytes, None after an erasure."""

    id: UUID
    application_id: UUID
    type: str
    uid: str | None
    data: bytes | None
    occurred_at: datetime
    correlation_id: str | None
    custom: dict[str, str] | None
    priority: int
    deliveries: int
    data_erased_at: datetime | None
    created_at: datetime


class Horizon(msgspec.Struct, frozen=True):
    """The epoch, and the transaction below which everything is over: committed and visible, or gone."""

    epoch: Epoch
    xid: int


class FeedPage(msgspec.Struct, frozen=True):
    """Events in their order, and the place to go on from."""

    events: Sequence[FeedEvent]
    position: Position


BEGINNING = Position(0, UUID(int=0))

HORIZON = text(
    "SELECT system_identifier, left(pg_walfile_name(pg_current_wal_lsn()), 8),"
    " CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) FROM pg_control_system()"
)

# Reads ix_events_feed of each partition in step (Merge Append), from the position on, and no further than :most
# rows. One row without an event says that rows were seen, but none was wanted.
PAGE = text("""
WITH seen AS MATERIALIZED (
  SELECT e.xid, e.id, coalesce(octet_length(e.data), 0) AS bytes,
    NOT e.test AND (CAST(:types AS text[]) IS NULL OR e.type LIKE ANY (CAST(:types AS text[]))) AS wanted
  FROM events e
  WHERE e.application_id = :application AND e.workspace_id = :workspace
    AND (e.xid, e.id) > (CAST(CAST(:xid AS text) AS xid8), CAST(:event_id AS uuid))
    AND e.xid < CAST(CAST(:horizon AS text) AS xid8)
  ORDER BY e.xid, e.id LIMIT :most
), ranked AS (
  SELECT xid, id, row_number() OVER w AS n, sum(bytes) OVER w - bytes AS bytes_before
  FROM seen WHERE wanted WINDOW w AS (ORDER BY xid, id)
), page AS (
  SELECT xid, id FROM ranked WHERE n <= :limit AND bytes_before < :bytes
), reached AS (
  SELECT xid, id, (SELECT count(*) FROM seen) AS rows_seen FROM (
    -- A page that was cut ends at its last event; else all that was seen is behind the reader.
    SELECT xid, id FROM page WHERE (SELECT count(*) FROM page) < (SELECT count(*) FROM ranked)
    UNION ALL
    SELECT xid, id FROM seen WHERE (SELECT count(*) FROM page) = (SELECT count(*) FROM ranked)
  ) r ORDER BY xid DESC, id DESC LIMIT 1
)
SELECT CAST(reached.xid AS text), reached.id, reached.rows_seen,
  e.id, e.application_id, e.type, e.uid, e.data, e.occurred_at, e.correlation_id, e.metadata, e.priority, e.deliveries,
  e.data_erased_at, e.created_at
FROM reached LEFT JOIN (page CROSS JOIN LATERAL (
  -- OFFSET 0 keeps this a look-up by id in one partition: a join could read them all.
  SELECT * FROM events WHERE events.id = page.id AND workspace_id = :workspace OFFSET 0) e) ON true
ORDER BY page.xid, page.id
""")


async def find_horizon(connection: AsyncConnection) -> Horizon:
    """Ask how far the feed may be read now."""
    system, timeline, xid = (await connection.execute(HORIZON)).one()
    # The identifier is an unsigned number that Postgres shows as a signed one.
    return Horizon(epoch=Epoch(system % 2**64, int(timeline, 16)), xid=int(xid))


def start_of(cursor: str | None, *, application_id: UUID, horizon: Horizon) -> Position:
    """Return the place that a request's cursor means: none is the oldest event kept, `latest` is now.

    Raises:
        Invalid: it is no cursor, another application's, or from before the database was restored.

    """
    if cursor is None:
        return BEGINNING
    if cursor == LATEST:
        return Position(horizon.xid, UUID(int=0))
    return decode_cursor(cursor, application_id=application_id, epoch=horizon.epoch)


def encode_cursor(position: Position, *, application_id: UUID, epoch: Epoch) -> str:
    """Return a place as the text that a consumer stores."""
    packed = _CURSOR.pack(_VERSION, *epoch, application_id.bytes, position.xid, position.event_id.bytes)
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode_cursor(cursor: str, *, application_id: UUID, epoch: Epoch) -> Position:
    """Return the place that a stored cursor means.

    Raises:
        Invalid: as `start_of`.

    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        version, system, timeline, application, xid, event = _CURSOR.unpack(raw)
    except (binascii.Error, ValueError, struct.error):
        version = None
    if version != _VERSION:
        raise Invalid.at(
            "/cursor",
            "This is not a cursor of the feed. Send the `cursor` of the last page that you have processed, or "
            "leave it out to start at the oldest event.",
        )
    if application != application_id.bytes:
        raise Invalid.at(
            "/cursor",
            "This cursor belongs to another application's feed. Store one cursor for each application.",
        )
    if (system, timeline) != epoch:
        raise Invalid.at(
            "/cursor",
            "This cursor was made before the database was restored or moved, so its place in the order is not known "
            "any more. Leave the cursor out to read again from the oldest event, skipping the event ids that you "
            "have; or send cursor=latest to go on from now.",
        )
    return Position(xid, UUID(bytes=event))


def require_types(given: str | None) -> list[str] | None:
    """Return the SQL patterns of comma-separated event-type patterns, or None where all are wanted.

    Raises:
        Invalid: one is not a pattern, or there are too many.

    """
    if given is None:
        return None
    patterns = [pattern.strip() for pattern in given.split(",")]
    if len(patterns) > MAX_PATTERNS:
        raise Invalid.at("/types", f"At most {MAX_PATTERNS} patterns; these are {len(patterns)}.")
    faults = [
        FieldError("/types", f"{pattern[:64]!r}: {fault}")
        for pattern in patterns
        if (fault := pattern_fault(pattern)) is not None
    ]
    if faults:
        raise Invalid(f"types: {faults[0].detail}", errors=faults)
    if EVERYTHING in patterns:
        return None
    # The names hold none of LIKE's own characters but `_`. No name ends in a dot, so `%` is at least a segment.
    return [pattern.replace("_", r"\_").replace(EVERYTHING, "%") for pattern in patterns]


async def read_page(
    connection: AsyncConnection,
    *,
    workspace_id: UUID,
    application_id: UUID,
    after: Position,
    horizon: Horizon,
    types: list[str] | None,
    limit: int,
) -> FeedPage:
    """Return the events that follow a place, on an autocommit connection.

    An empty page may have moved on all the same: past tests, and past types that are not wanted.
    """
    until = time.monotonic() + SCAN_SECONDS
    most = limit if types is None else max(limit, SCAN_ROWS)
    while True:
        rows = (
            await connection.execute(
                PAGE,
                {
                    "workspace": workspace_id,
                    "application": application_id,
                    "xid": str(after.xid),
                    "event_id": after.event_id,
                    "horizon": str(horizon.xid),
                    "types": types,
                    "limit": limit,
                    "most": most,
                    "bytes": PAGE_BYTES,
                },
            )
        ).all()
        if not rows:
            return FeedPage(events=(), position=after)
        after = Position(int(rows[0][0]), rows[0][1])
        events = [FeedEvent(*row[3:]) for row in rows if row[3] is not None]
        if events or rows[0][2] < most or time.monotonic() >= until:
            return FeedPage(events=events, position=after)
