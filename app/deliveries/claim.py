"""Claim: take due deliveries and lease them.

What may be taken is decided by the statements of `claim_statements.py`; the order of the lanes is the caller's
business (`workers/lanes.py`): round robin, so that an endpoint with a million waiting deliveries gets its turn, not
everybody's.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
from sqlalchemy import text

from app.deliveries.claim_statements import CLAIM, DISCOVER, LOOK

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

LOWEST = UUID(int=0)
PROBE_REASON = "The time to try again had come: one request at a time goes out, to see how the receiver does."


class Lane(msgspec.Struct, gc=False, frozen=True):
    """An endpoint that has ready deliveries, and where it stands in the walk."""

    workspace_id: UUID
    application_id: UUID
    endpoint_id: UUID


class LaneResult(msgspec.Struct, gc=False, kw_only=True):
    """What a claim found in one lane."""

    lane: Lane
    # How many it was asked to take at most.
    share: int
    settings_version: int
    timeout_seconds: int
    taken: int
    # How many it was allowed to take; 0 with a full cap or no token left.
    room: int
    # Paused, held or disabled, its circuit not closed, or a FIFO line behind a dead head: only what has the rank FORCED
    # goes (and that head, when it was asked for).
    blocked: bool
    # Seconds until it is worth another look, where that is known.
    wait_seconds: float | None
    # All its room was used, and further deliveries are ready.
    more: bool

    @property
    def endpoint_id(self) -> UUID:
        """Return whose lane it is."""
        return self.lane.endpoint_id


class EventRow(msgspec.Struct, gc=False, frozen=True):
    """What is sent of an event; `data` is None when it was erased."""

    type: str
    data: bytes | None
    occurred_at: datetime
    traceparent: str | None
    test: bool


class Claimed(msgspec.Struct, gc=False, kw_only=True):
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
    # None: it does not exist any more.
    event: EventRow | None = None


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
    rows = await connection.execute(DISCOVER, _walk(after, hops=hops))
    return [Lane(*row) for row in rows]


async def claim(
    connection: AsyncConnection,
    lanes: Sequence[tuple[UUID, int]],
    *,
    margin_seconds: float,
    worker: str,
    answered: Mapping[UUID, int] | None = None,
) -> tuple[list[Claimed], list[LaneResult]]:
    """Lease deliveries of these (endpoint id, share) pairs: at most `share` of each.

    A lease is the endpoint's timeout plus `margin_seconds`, by the database's clock. `answered` is how many leased
    deliveries of an endpoint wait in the caller's hands for their record, with the request over: their places under
    the endpoint's cap are used again. None of them may be recorded, or lose its lease, before this returns. Returns
    the leased deliveries, first in line first, and what was found in each lane.
    """
    over = answered or {}
    rows = await connection.execute(
        CLAIM,
        {
            "endpoints": [endpoint_id for endpoint_id, _ in lanes],
            "shares": [share for _, share in lanes],
            "answered": [over.get(endpoint_id, 0) for endpoint_id, _ in lanes],
            "margin": margin_seconds,
            "worker": worker,
            "probe_reason": PROBE_REASON,
        },
    )
    claimed, found, _ = _read(rows)
    return claimed, found


async def look(
    connection: AsyncConnection,
    *,
    hops: int,
    want: int,
    most: int,
    in_flight: Mapping[UUID, int],
    margin_seconds: float,
    worker: str,
    answered: Mapping[UUID, int] | None = None,
) -> tuple[list[Claimed], list[LaneResult], bool]:
    """Lease deliveries of the first `hops` lanes, whichever these are: `want` in all, shared out evenly.

    A lane gets so few that its endpoint has at most `most` requests of the caller's: those `in_flight` already, without
    the `answered` among them (see `claim`). Returns what `claim` returns, and whether these were all lanes: there may
    be more behind them if not.
    """
    over = answered or {}
    rows = await connection.execute(
        LOOK,
        {
            **_walk(None, hops=hops),
            "want": want,
            "most": most,
            "busy": list(in_flight.keys()),
            "busy_in_flight": list(in_flight.values()),
            "busy_answered": [over.get(endpoint_id, 0) for endpoint_id in in_flight],
            "margin": margin_seconds,
            "worker": worker,
            "probe_reason": PROBE_REASON,
        },
    )
    claimed, found, walked = _read(rows)
    return claimed, found, walked < hops


def _walk(after: Lane | None, *, hops: int) -> dict[str, Any]:
    start = after or Lane(LOWEST, LOWEST, LOWEST)
    return {
        "workspace": start.workspace_id,
        "application": start.application_id,
        "endpoint": start.endpoint_id,
        "hops": hops,
    }


def _read(rows: Iterable[Any]) -> tuple[list[Claimed], list[LaneResult], int]:
    """Return the leased deliveries, the lanes, and how many lanes were walked over."""
    claimed: list[Claimed] = []
    found: list[LaneResult] = []
    events: dict[UUID, EventRow] = {}
    lane: LaneResult | None = None
    walked = 0
    for row in rows:
        (walked, workspace_id, application_id, endpoint_id, share, version, timeout, fifo, room, blocked, wait,
         delivery_id, token, event_id, trigger, attempts, step, blocked_count, lost, due_at, queue_ms,
         recovering, more, event_type, data, occurred_at, traceparent, test) = row  # fmt: skip
        if lane is None or endpoint_id != lane.lane.endpoint_id:
            # A lane's rows follow each other.
            lane = LaneResult(
                lane=Lane(workspace_id, application_id, endpoint_id),
                share=share,
                settings_version=version,
                timeout_seconds=timeout,
                taken=0,
                room=room,
                blocked=blocked,
                wait_seconds=wait,
                more=more,
            )
            found.append(lane)
        if delivery_id is None:
            continue
        lane.taken += 1
        if event_type is not None:
            events[event_id] = EventRow(event_type, data, occurred_at, traceparent, test)
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
    for item in claimed:
        # Its row may stand at another delivery of the same event.
        item.event = events.get(item.event_id)
    return claimed, found, walked


async def promote(connection: AsyncConnection, *, most: int = 1_000) -> tuple[int, float | None]:
    """Make scheduled deliveries ready that are due; return how many, and the seconds until the next one."""
    row = (await connection.execute(PROMOTE, {"most": most})).one()
    return row[0], row[1]
