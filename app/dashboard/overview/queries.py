"""What Overview shows beside the roll-ups, in one statement: what waits now and waited, signs of life, first steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.health.checks import WORKER_SILENT_SECONDS
from app.models import OPERATIONS_APPLICATION_UID
from app.stats.queue_now import MOST_COUNTED, QUEUE_NOW, SAMPLE_SECONDS, QueueNow
from app.stats.rollups import BACKLOG, BacklogPoint, scope_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.stats.spans import Span

# The list to choose an application from is no longer than a person reads; others are chosen on the page Applications.
MOST_APPLICATIONS = 100

_PRESENT = text(
    f"""
WITH backlog (at, due, scheduled, in_flight, oldest) AS ({BACKLOG.text}),
waiting (due, scheduled, blocked, in_flight, oldest, capped, sampled_at) AS ({QUEUE_NOW.text}),
workers AS (
  SELECT count(*) FILTER (WHERE beat_at > now() - make_interval(secs => :silent)) AS alive, max(beat_at) AS beat_at
  FROM worker_heartbeats
), first_event AS (
  SELECT id, created_at FROM events WHERE workspace_id = :workspace AND NOT test ORDER BY id LIMIT 1
), choice AS (
  SELECT id, name FROM applications WHERE workspace_id = :workspace AND deleted_at IS NULL AND uid IS DISTINCT FROM :operations
  ORDER BY lower(name), id LIMIT {MOST_APPLICATIONS}
)
SELECT w.*, k.alive, k.beat_at,
  (SELECT at FROM rollup_progress WHERE name = 'fresh'),
  ARRAY(SELECT at FROM backlog ORDER BY at), ARRAY(SELECT due FROM backlog ORDER BY at),
  ARRAY(SELECT scheduled FROM backlog ORDER BY at), ARRAY(SELECT in_flight FROM backlog ORDER BY at),
  ARRAY(SELECT id FROM choice ORDER BY lower(name), id), ARRAY(SELECT name FROM choice ORDER BY lower(name), id),
  (SELECT name FROM applications WHERE workspace_id = :workspace AND id = CAST(:application AS uuid)),
  (SELECT url FROM endpoints WHERE workspace_id = :workspace AND deleted_at IS NULL ORDER BY id LIMIT 1),
  (SELECT id FROM endpoints WHERE workspace_id = :workspace AND deleted_at IS NULL ORDER BY id LIMIT 1),
  (SELECT id FROM first_event), (SELECT created_at FROM first_event),
  (SELECT created_at FROM events WHERE workspace_id = :workspace AND NOT test ORDER BY id DESC LIMIT 1),
  (SELECT d.id FROM deliveries d JOIN first_event f ON d.event_id = f.id WHERE d.workspace_id = :workspace LIMIT 1),
  (SELECT max(last_success_at) FROM endpoint_runtime WHERE workspace_id = :workspace)
FROM waiting w CROSS JOIN workers k
"""  # noqa: S608 - constants of this package and of app.stats
)


@dataclass(frozen=True, slots=True)
class Choice:
    """An application that the page can be about."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Signs:
    """Signs of life: workers that have beaten lately, the last of all beats, and how far upkeep has counted."""

    workers: int
    beat_at: datetime | None
    counted_until: datetime | None


@dataclass(frozen=True, slots=True)
class Firsts:
    """What has happened in this workspace: enough to tick off the first steps, and to say when the last thing was."""

    endpoint_url: str | None
    endpoint_id: UUID | None
    event_id: UUID | None
    event_at: datetime | None
    last_event_at: datetime | None
    # A delivery of the first event, once it has one.
    delivery_id: UUID | None
    last_success_at: datetime | None


@dataclass(frozen=True, slots=True)
class Present:
    """All of it."""

    waiting: QueueNow
    backlog: Sequence[BacklogPoint]
    signs: Signs
    firsts: Firsts
    applications: Sequence[Choice]
    # The name of the application that was asked for; None: no such one.
    application_name: str | None


async def read_present(
    session: AsyncSession, caller: Caller, *, span: Span, application_id: UUID | None
) -> Present:
    """Return how things stand in the workspace, or in one application of it."""
    row = (
        await session.execute(
            _PRESENT,
            scope_of(caller, application_id=application_id)
            | {
                "application": application_id or caller.application_id,
                "step": span.shape.step,
                "since": span.since,
                "until": span.until,
                "most": MOST_COUNTED,
                "sample": SAMPLE_SECONDS,
                "silent": WORKER_SILENT_SECONDS,
                "operations": OPERATIONS_APPLICATION_UID,
            },
        )
    ).one()
    waiting, (workers, beat_at, counted_until), rest = row[:7], row[7:10], row[10:]
    times, due, scheduled, in_flight, ids, names, application_name = rest[:7]
    noted = {
        at: BacklogPoint(at=at, due=due, scheduled=scheduled, in_flight=in_flight)
        for at, due, scheduled, in_flight in zip(times, due, scheduled, in_flight, strict=True)
    }
    return Present(
        waiting=QueueNow(*waiting),
        backlog=[noted.get(at, BacklogPoint(at=at)) for at in span.points()],
        signs=Signs(workers=workers, beat_at=beat_at, counted_until=counted_until),
        firsts=Firsts(*rest[7:]),
        applications=[Choice(id=each, name=name) for each, name in zip(ids, names, strict=True)],
        application_name=application_name,
    )
