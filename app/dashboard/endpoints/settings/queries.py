"""What an endpoint's choice of events is held against: the catalogue, and what was published lately."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.core import ids

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.dashboard.spans import Span

# So many of the newest events are counted by type.
COUNTED_EVENTS = 10_000
# More types than a person picks from.
MOST_TYPES = 1_000
SAMPLES = 5
# A larger payload is not read for a test of a filter.
SAMPLE_BYTES = 262_144

# Newest first by the application's own index; `id` bounds the partitions.
_AUDIENCE = text("""
WITH newest AS MATERIALIZED (
  SELECT type FROM events
   WHERE workspace_id = :workspace AND application_id = :application AND id >= :lowest AND NOT test
   ORDER BY xid DESC, id DESC LIMIT :counted + 1
)
SELECT (SELECT jsonb_agg(c.name) FROM (
          SELECT name FROM event_types WHERE workspace_id = :workspace ORDER BY name LIMIT :most) AS c) AS catalogue,
       (SELECT jsonb_object_agg(s.type, s.n) FROM (
          SELECT type, count(*) AS n FROM newest GROUP BY 1 ORDER BY 2 DESC LIMIT :most) AS s) AS seen,
       (SELECT count(*) FROM newest) AS counted
""")
_SAMPLES = text("""
SELECT id, type, metadata, created_at, data_erased_at, octet_length(data) AS size,
       CASE WHEN octet_length(data) <= :largest THEN data END AS data
  FROM events
 WHERE workspace_id = :workspace AND application_id = :application AND id >= :lowest AND NOT test
   AND (CAST(:event AS uuid) IS NULL OR id = CAST(:event AS uuid))
 ORDER BY xid DESC, id DESC LIMIT :most
""")


@dataclass(frozen=True, slots=True)
class Published:
    """The catalogue's names, and how many of the newest events there were of each type; `capped`: there were more."""

    catalogue: list[str]
    seen: dict[str, int]
    capped: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """A past event to try a filter on; `data` is None where it is erased or too large."""

    id: str
    type: str
    metadata: dict[str, str] | None
    created_at: datetime
    erased: bool
    data: bytes | None


async def read_published(
    session: AsyncSession, caller: Caller, application_id: UUID | None, *, span: Span
) -> Published:
    """Return what an endpoint of this application can choose from; None: of an application that is not known yet."""
    row = (
        await session.execute(
            _AUDIENCE,
            {
                "workspace": caller.workspace_id,
                "application": application_id,
                "lowest": span.lowest_id,
                "counted": COUNTED_EVENTS,
                "most": MOST_TYPES,
            },
        )
    ).one()
    return Published(catalogue=row.catalogue or [], seen=row.seen or {}, capped=row.counted > COUNTED_EVENTS)


async def read_samples(
    session: AsyncSession, caller: Caller, application_id: UUID, *, span: Span, reference: str
) -> list[Sample]:
    """Return the newest events of an application, or the one that is named; none if there is no such event."""
    event_id = ids.from_text(ids.EVENT, reference) if reference else None
    if reference and event_id is None:
        return []
    rows = await session.execute(
        _SAMPLES,
        {
            "workspace": caller.workspace_id,
            "application": application_id,
            "lowest": event_id or span.lowest_id,
            "event": event_id,
            "most": SAMPLES,
            "largest": SAMPLE_BYTES,
        },
    )
    return [
        Sample(
            id=ids.to_text(ids.EVENT, row.id),
            type=row.type,
            metadata=row.metadata,
            created_at=row.created_at,
            erased=row.data_erased_at is not None,
            data=row.data,
        )
        for row in rows
    ]
