"""Figures of a workspace over a window, read from the record itself. Tests are in none of them.

Each statement reads the partitions of the window only; a limit on its time keeps a huge window from hurting others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.core.time_limits import time_limit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.stats.windows import Window

_OF_CALLER = "workspace_id = :workspace AND (CAST(:application AS uuid) IS NULL OR application_id = CAST(:application AS uuid))"
_PERCENTILES = "percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP"

_EVENTS = text(
    f"SELECT count(*) FROM events WHERE {_OF_CALLER}"  # noqa: S608 - constants of this file
    " AND id >= :lowest AND created_at >= :since AND created_at < :until AND NOT test"
)
_DELIVERIES = text(
    f"""
SELECT count(*),
       count(*) FILTER (WHERE state = 'pending'),
       count(*) FILTER (WHERE state = 'succeeded'),
       count(*) FILTER (WHERE state = 'dead'),
       count(*) FILTER (WHERE state = 'cancelled'),
       {_PERCENTILES} (ORDER BY CASE WHEN state = 'succeeded'
         THEN extract(epoch FROM completed_at - created_at)::float8 * 1000 END)
  FROM deliveries
 WHERE {_OF_CALLER} AND id >= :lowest AND created_at >= :since AND created_at < :until AND NOT test
"""  # noqa: S608 - constants of this file
)
_ATTEMPTS = text(
    f"""
SELECT count(*),
       count(*) FILTER (WHERE number = 1 AND outcome <> 'unknown'),
       count(*) FILTER (WHERE number = 1 AND outcome = 'succeeded'),
       {_PERCENTILES} (ORDER BY duration_ms::float8)
  FROM attempts
 WHERE {_OF_CALLER} AND id >= :lowest AND started_at >= :since AND started_at < :until AND NOT test
"""  # noqa: S608 - constants of this file
)
_SERIES = text(
    f"""
SELECT s.at, coalesce(a.succeeded, 0), coalesce(a.failed, 0), coalesce(a.unknown, 0)
  FROM generate_series(date_trunc(:step, CAST(:since AS timestamptz), 'UTC'), CAST(:until AS timestamptz),
                       CAST('1 ' || :step AS interval)) AS s(at)
  LEFT JOIN (
    SELECT date_trunc(:step, started_at, 'UTC') AS at,
           count(*) FILTER (WHERE outcome = 'succeeded') AS succeeded,
           count(*) FILTER (WHERE outcome = 'failed') AS failed,
           count(*) FILTER (WHERE outcome = 'unknown') AS unknown
      FROM attempts
     WHERE {_OF_CALLER} AND id >= :lowest AND started_at >= :since AND started_at < :until AND NOT test
     GROUP BY 1
  ) AS a USING (at)
 ORDER BY s.at
"""  # noqa: S608 - constants of this file
)
# What a closed endpoint, an open circuit or a blocked line keeps is not due: nobody is to be called at night because of it.
_QUEUE = text(
    """
SELECT count(*) FILTER (WHERE due),
       count(*) FILTER (WHERE state <> 1 AND open AND NOT due),
       count(*) FILTER (WHERE state <> 1 AND NOT open),
       count(*) FILTER (WHERE state = 1),
       extract(epoch FROM now() - min(due_at) FILTER (WHERE due))::float8
  FROM (
    SELECT q.state, q.due_at, r.open,
           q.state <> 1 AND r.open AND q.due_at <= now() AND NOT coalesce(r.held_until > now(), false)
             AND r.circuit_state = 'closed' AND r.fifo_blocked_by IS NULL AS due
      FROM delivery_queue q JOIN endpoint_runtime r ON r.endpoint_id = q.endpoint_id
     WHERE q.workspace_id = :workspace AND r.workspace_id = :workspace AND q.trigger <> 3
       AND (CAST(:application AS uuid) IS NULL OR q.application_id = CAST(:application AS uuid))
  ) AS waiting
"""
)

Percentile3 = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class DeliveryFigures:
    """Deliveries created in the window, by state; milliseconds to success."""

    total: int
    pending: int
    succeeded: int
    dead: int
    cancelled: int
    percentiles: Percentile3 | None


@dataclass(frozen=True, slots=True)
class AttemptFigures:
    """Attempts made in the window; `first` counts first attempts with a known outcome."""

    total: int
    first: int
    first_succeeded: int
    percentiles: Percentile3 | None


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """What waits now."""

    due: int
    scheduled: int
    blocked: int
    in_flight: int
    oldest_due_seconds: float | None


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """Attempts of one step by outcome."""

    at: datetime
    succeeded: int
    failed: int
    unknown: int


@dataclass(frozen=True, slots=True)
class WorkspaceFigures:
    """All figures of one answer."""

    events: int
    deliveries: DeliveryFigures
    attempts: AttemptFigures
    queue: QueueFigures
    series: Sequence[SeriesPoint]


async def read_figures(
    session: AsyncSession, caller: Caller, *, window: Window, application_id: UUID | None
) -> WorkspaceFigures:
    """Return the figures of the caller's workspace, or of one application.

    Raises:
        TooBusy: there is too much in the window to count it in time.

    """
    values = {
        "workspace": caller.workspace_id,
        "application": application_id or caller.application_id,
        "lowest": window.lowest_id,
        "since": window.since,
        "until": window.until,
    }
    queue_values = {name: values[name] for name in ("workspace", "application")}
    async with time_limit(session):
        events = (await session.execute(_EVENTS, values)).scalar_one()
        deliveries = (await session.execute(_DELIVERIES, values)).one()
        attempts = (await session.execute(_ATTEMPTS, values)).one()
        queue = (await session.execute(_QUEUE, queue_values)).one()
        series = (await session.execute(_SERIES, values | {"step": window.step})).all()
    return WorkspaceFigures(
        events=events,
        deliveries=DeliveryFigures(
            total=deliveries[0],
            pending=deliveries[1],
            succeeded=deliveries[2],
            dead=deliveries[3],
            cancelled=deliveries[4],
            percentiles=_measured(deliveries[5]),
        ),
        attempts=AttemptFigures(
            total=attempts[0],
            first=attempts[1],
            first_succeeded=attempts[2],
            percentiles=_measured(attempts[3]),
        ),
        queue=QueueFigures(*queue),
        series=[SeriesPoint(*row) for row in series],
    )


def _measured(values: list[Any] | None) -> Percentile3 | None:
    if not values or values[0] is None:
        return None
    p50, p95, p99 = values
    return p50, p95, p99
