"""The bytes that are sent for an event, made once and kept while its deliveries are on their way."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from sqlalchemy import text

from app.core import ids
from app.events.bodies import CLOUDEVENTS, cloudevents_body, standard_body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.deliveries.claim import Claimed

# Payload bytes kept in memory, per worker process.
MAX_CACHED_BYTES = 16 * 1024 * 1024

# The bounds let Postgres skip the partitions of other days.
LOAD = text(
    "SELECT e.id, e.type, e.data, e.occurred_at, e.application_id, e.traceparent, e.test"
    " FROM unnest(CAST(:ids AS uuid[])) AS wanted(id) JOIN events e ON e.id = wanted.id"
    " WHERE e.id >= CAST(:lo AS uuid) AND e.id <= CAST(:hi AS uuid)"
)


class EventBody(msgspec.Struct, gc=False, kw_only=True):
    """One event, ready to be sent in either format. `data` is None when it was erased."""

    id: UUID
    text_id: str
    type: str
    data: bytes | None
    occurred_at: datetime
    application_id: UUID
    traceparent: str | None
    test: bool
    _standard: bytes | None = None
    _cloudevents: bytes | None = None

    def encoded(self, body_format: str) -> bytes:
        """Return the request body: the published bytes inside an envelope, untouched."""
        if body_format == CLOUDEVENTS:
            if self._cloudevents is None:
                self._cloudevents = cloudevents_body(
                    event_id=self.text_id,
                    application_id=self.application_id,
                    event_type=self.type,
                    occurred_at=self.occurred_at,
                    data=self.data,
                )
            return self._cloudevents
        if self._standard is None:
            self._standard = standard_body(event_type=self.type, occurred_at=self.occurred_at, data=self.data)
        return self._standard


class EventCache:
    """Events by id, bounded by the bytes of their payloads."""

    def __init__(self, *, max_bytes: int = MAX_CACHED_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[UUID, EventBody] = OrderedDict()

    async def get_many(self, connection: AsyncConnection, event_ids: Iterable[UUID]) -> dict[UUID, EventBody]:
        """Return these events, reading those that are missing; one that is absent does not exist any more."""
        found: dict[UUID, EventBody] = {}
        missing: set[UUID] = set()
        for event_id in event_ids:
            entry = self._entries.get(event_id)
            if entry is not None:
                self._entries.move_to_end(event_id)
                found[event_id] = entry
            else:
                missing.add(event_id)
        if missing:
            rows = await connection.execute(
                LOAD, {"ids": list(missing), "lo": min(missing), "hi": max(missing)}
            )
            for event_id, event_type, data, occurred_at, application_id, traceparent, test in rows:
                found[event_id] = self._keep(
                    EventBody(
                        id=event_id,
                        text_id=ids.to_text(ids.EVENT, event_id),
                        type=event_type,
                        data=data,
                        occurred_at=occurred_at,
                        application_id=application_id,
                        traceparent=traceparent,
                        test=test,
                    )
                )
        return found

    def of(self, item: Claimed) -> EventBody | None:
        """Return the event that was claimed with a delivery; None: it does not exist any more."""
        row = item.event
        if row is None:
            return None
        entry = self._entries.get(item.event_id)
        if entry is not None and row.data is None and entry.data is not None:
            # It was erased meanwhile.
            del self._entries[item.event_id]
            self._bytes -= _size(entry)
            entry = None
        if entry is None:
            return self._keep(
                EventBody(
                    id=item.event_id,
                    text_id=ids.to_text(ids.EVENT, item.event_id),
                    type=row.type,
                    data=row.data,
                    occurred_at=row.occurred_at,
                    application_id=item.application_id,
                    traceparent=row.traceparent,
                    test=row.test,
                )
            )
        self._entries.move_to_end(item.event_id)
        return entry

    def _keep(self, entry: EventBody) -> EventBody:
        self._entries[entry.id] = entry
        self._bytes += _size(entry)
        while self._bytes > self._max_bytes and self._entries:
            _, old = self._entries.popitem(last=False)
            self._bytes -= _size(old)
        return entry


def _size(entry: EventBody) -> int:
    # The payload, its envelope, and the objects around them.
    return 2 * len(entry.data or b"") + 1_000
