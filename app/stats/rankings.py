"""Who is behind the figures: endpoints in a list, incidents, applications by volume. One statement each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.stats.latency import merged, percentile
from app.stats.rollups import share
from app.stats.spans import floor_to

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.stats.spans import Span

# More than a page shows; what is left out is said by nobody, so it is far away.
MOST_APPLICATIONS = 1_000

_OF_CALLER = "(CAST(:only AS uuid) IS NULL OR {column} = CAST(:only AS uuid))"

_ENDPOINTS = text(
    f"""
WITH a AS MATERIALIZED (
  SELECT endpoint_id, floor(extract(epoch FROM at - CAST(:since AS timestamptz)) / (60 * :spark))::int AS spark,
    succeeded, failed, unknown, dead
  FROM attempt_rollups
  WHERE workspace_id = :workspace AND scope_id = ANY(CAST(:ids AS uuid[])) AND step_minutes = :step
    AND at >= :since AND at < :until AND endpoint_id IS NOT NULL AND {_OF_CALLER.format(column="application_id")}
), points AS (
  SELECT endpoint_id, array_agg(spark ORDER BY spark) AS sparks, array_agg(attempts ORDER BY spark) AS attempts,
    array_agg(failed ORDER BY spark) AS failed, sum(succeeded) AS succeeded, sum(dead) AS dead
  FROM (
    SELECT endpoint_id, spark, sum(succeeded + failed + unknown)::bigint AS attempts, sum(failed)::bigint AS failed,
      sum(succeeded)::bigint AS succeeded, sum(dead)::bigint AS dead
    FROM a GROUP BY 1, 2
  ) s GROUP BY 1
), latencies AS (
  -- Of longer steps: arrays of short ones are too many, where there are many endpoints.
  SELECT w.endpoint_id, json_agg(json_build_array(
    floor(extract(epoch FROM w.at - CAST(:coarse_since AS timestamptz)) / (60 * :coarse))::int, w.buckets, w.counts)) AS steps
  FROM attempt_rollups w
  WHERE w.workspace_id = :workspace AND w.scope_id = ANY(CAST(:ids AS uuid[])) AND w.step_minutes = :coarse
    AND w.at >= :coarse_since AND w.at < :until AND w.endpoint_id IS NOT NULL
    AND {_OF_CALLER.format(column="w.application_id")}
  GROUP BY 1
)
SELECT r.endpoint_id, r.last_success_at, r.last_failure_at, p.sparks, p.attempts, p.failed, p.succeeded, p.dead, l.steps
FROM endpoint_runtime r LEFT JOIN points p USING (endpoint_id) LEFT JOIN latencies l USING (endpoint_id)
WHERE r.workspace_id = :workspace AND r.endpoint_id = ANY(CAST(:ids AS uuid[])) AND {_OF_CALLER.format(column="r.application_id")}
"""  # noqa: S608 - constants of this file
)
_INCIDENTS = text(
    f"""
WITH a AS MATERIALIZED (
  SELECT a.endpoint_id, e.key AS error_class,
    floor(extract(epoch FROM a.at - CAST(:since AS timestamptz)) / (60 * :spark))::int AS spark,
    (e.value->>0)::bigint AS n, (e.value->>1)::bigint AS since, (e.value->>2)::bigint AS last,
    a.succeeded + a.failed + a.unknown AS attempts
  FROM attempt_rollups a CROSS JOIN LATERAL jsonb_each(a.failures) AS e
  WHERE a.workspace_id = :workspace AND a.step_minutes = :step AND a.at >= :since AND a.at < :until
    AND a.endpoint_id IS NOT NULL AND a.failures IS NOT NULL AND {_OF_CALLER.format(column="a.application_id")}
    AND (CAST(:scope AS uuid) IS NULL OR a.application_id = CAST(:scope AS uuid))
), grouped AS (
  SELECT endpoint_id, error_class, min(since) AS since, max(last) AS last, sum(n)::bigint AS n,
    array_agg(spark ORDER BY spark) AS sparks, array_agg(n ORDER BY spark) AS counts
  FROM (
    SELECT endpoint_id, error_class, spark, sum(n)::bigint AS n, min(since) AS since, max(last) AS last
    FROM a GROUP BY 1, 2, 3
  ) s GROUP BY 1, 2
  -- Those that go on come first, and of these the largest.
  ORDER BY max(last) >= extract(epoch FROM now()) - :going_on DESC, sum(n) DESC, endpoint_id, error_class LIMIT :most
)
SELECT g.endpoint_id, g.error_class, to_timestamp(g.since), to_timestamp(g.last), g.n, g.sparks, g.counts,
  t.attempts, e.url, e.description, e.application_id, e.enabled, e.paused, e.deleted_at IS NOT NULL, r.circuit_state,
  r.next_probe_at, r.last_success_at
FROM grouped g JOIN endpoints e ON e.id = g.endpoint_id JOIN endpoint_runtime r ON r.endpoint_id = g.endpoint_id
CROSS JOIN LATERAL (
  SELECT sum(w.succeeded + w.failed + w.unknown)::bigint AS attempts FROM attempt_rollups w
  WHERE w.workspace_id = :workspace AND w.scope_id = g.endpoint_id AND w.step_minutes = :step
    AND w.at >= :since AND w.at < :until
) t
WHERE e.workspace_id = :workspace AND r.workspace_id = :workspace
ORDER BY g.last >= extract(epoch FROM now()) - :going_on DESC, g.n DESC, g.endpoint_id, g.error_class
"""  # noqa: S608 - constants of this file
)
_APPLICATIONS = text(
    f"""
WITH a AS MATERIALIZED (
  SELECT application_id, sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed,
    sum(unknown)::bigint AS unknown, sum(delivered)::bigint AS delivered, sum(dead)::bigint AS dead
  FROM attempt_rollups
  WHERE workspace_id = :workspace AND step_minutes = :step AND at >= :since AND at < :until
    AND endpoint_id IS NULL AND application_id IS NOT NULL AND {_OF_CALLER.format(column="application_id")}
  GROUP BY 1
), b AS (
  SELECT DISTINCT ON (application_id) application_id, at, due, scheduled, blocked, in_flight, oldest_due_seconds
  FROM backlog_minutes
  WHERE workspace_id = :workspace AND application_id IS NOT NULL AND at >= now() - interval '3 minutes'
    AND {_OF_CALLER.format(column="application_id")}
  ORDER BY application_id, at DESC
)
SELECT p.id, p.uid, p.name, coalesce(a.succeeded, 0), coalesce(a.failed, 0), coalesce(a.unknown, 0),
  coalesce(a.delivered, 0), coalesce(a.dead, 0), coalesce(b.due, 0), coalesce(b.scheduled, 0), coalesce(b.blocked, 0),
  coalesce(b.in_flight, 0), b.oldest_due_seconds,
  coalesce((coalesce(a.succeeded, 0) + coalesce(a.failed, 0) + coalesce(a.unknown, 0))::float8
    / nullif(sum(coalesce(a.succeeded, 0) + coalesce(a.failed, 0) + coalesce(a.unknown, 0)) OVER (), 0)::float8, 0)
FROM applications p LEFT JOIN a ON a.application_id = p.id LEFT JOIN b ON b.application_id = p.id
WHERE p.workspace_id = :workspace AND p.deleted_at IS NULL AND {_OF_CALLER.format(column="p.id")}
ORDER BY coalesce(a.succeeded, 0) + coalesce(a.failed, 0) + coalesce(a.unknown, 0) DESC, p.id LIMIT :most
"""  # noqa: S608 - constants of this file
)


@dataclass(frozen=True, slots=True)
class Spark:
    """One point of a sparkline."""

    attempts: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class EndpointFigures:
    """How an endpoint did in a span; the sparkline is oldest first and without gaps."""

    succeeded: int
    failed: int
    dead: int
    # Milliseconds; it goes back up to an eighth further than the span, to the beginning of a longer step.
    p95: float | None
    # Of each of these steps, oldest first; None where nothing was sent.
    p95s: Sequence[float | None]
    sparks: Sequence[Spark]
    # Whenever that was, also before the span.
    last_success_at: datetime | None
    last_failure_at: datetime | None

    @property
    def success_share(self) -> float | None:
        """Of attempts with a known outcome, between 0 and 1; None without any."""
        return share(self.succeeded, self.succeeded + self.failed)


@dataclass(frozen=True, slots=True)
class Incident:
    """The failures of one class at one endpoint in a span. `since` and `last` are when the attempts began."""

    endpoint_id: UUID
    error_class: str
    since: datetime
    last: datetime
    count: int
    # Of all attempts at this endpoint in the span, between 0 and 1.
    share: float
    # Failures, oldest first and without gaps.
    sparks: Sequence[int]
    url: str
    description: str | None
    application_id: UUID
    enabled: bool
    paused: bool
    deleted: bool
    circuit_state: str
    next_probe_at: datetime | None
    last_success_at: datetime | None


@dataclass(frozen=True, slots=True)
class ApplicationFigures:
    """One application in a span; the backlog is that of the last sample, a minute ago at most."""

    id: UUID
    uid: str | None
    name: str
    succeeded: int
    failed: int
    unknown: int
    delivered: int
    dead: int
    due: int
    scheduled: int
    blocked: int
    in_flight: int
    oldest_due_seconds: float | None
    # Of all attempts of the workspace, between 0 and 1: the noisy neighbour has the largest.
    volume_share: float

    @property
    def attempts(self) -> int:
        """All of them."""
        return self.succeeded + self.failed + self.unknown

    @property
    def success_share(self) -> float | None:
        """Of attempts with a known outcome, between 0 and 1; None without any."""
        return share(self.succeeded, self.succeeded + self.failed)


async def read_endpoint_figures(
    session: AsyncSession, caller: Caller, endpoint_ids: Sequence[UUID], *, span: Span
) -> dict[UUID, EndpointFigures]:
    """Return the figures of these endpoints; those that the caller may not see are left out."""
    if not endpoint_ids:
        return {}
    rows = await session.execute(
        _ENDPOINTS,
        _range(caller, span)
        | {
            "ids": list(endpoint_ids),
            "coarse": span.shape.coarse,
            "coarse_since": floor_to(span.since, span.shape.coarse),
        },
    )
    return {
        row.endpoint_id: EndpointFigures(
            succeeded=int(row.succeeded or 0),
            failed=sum(row.failed or ()),
            dead=int(row.dead or 0),
            p95=_p95([(buckets, counts) for _, buckets, counts in row.steps or ()]),
            p95s=_p95s(span, row.steps or ()),
            sparks=_sparks(span, row.sparks, row.attempts, row.failed),
            last_success_at=row.last_success_at,
            last_failure_at=row.last_failure_at,
        )
        for row in rows
    }


async def read_incidents(
    session: AsyncSession, caller: Caller, *, span: Span, limit: int, application_id: UUID | None = None
) -> list[Incident]:
    """Return failures by endpoint and error class: first those that still go on, the most frequent before others."""
    going_on = max(900, 60 * span.shape.step)
    rows = await session.execute(
        _INCIDENTS,
        _range(caller, span) | {"most": limit, "going_on": going_on, "scope": application_id},
    )
    return [
        Incident(
            endpoint_id=row[0], error_class=row[1], since=row[2], last=row[3], count=row[4],
            share=row[4] / max(row[7] or 0, row[4]), sparks=_counts(span, row[5], row[6]), url=row[8],
            description=row[9], application_id=row[10], enabled=row[11], paused=row[12], deleted=row[13],
            circuit_state=row[14], next_probe_at=row[15], last_success_at=row[16],
        )
        for row in rows
    ]  # fmt: skip


async def read_applications(session: AsyncSession, caller: Caller, *, span: Span) -> list[ApplicationFigures]:
    """Return the applications with their share of the volume, the largest first."""
    rows = await session.execute(_APPLICATIONS, _range(caller, span) | {"most": MOST_APPLICATIONS})
    return [ApplicationFigures(*row) for row in rows]


def _range(caller: Caller, span: Span) -> dict[str, Any]:
    return {
        "workspace": caller.workspace_id,
        "only": caller.application_id,
        "step": span.shape.step,
        "spark": span.shape.spark,
        "since": span.since,
        "until": span.until,
    }


def _p95(histograms: Sequence[tuple[Sequence[int], Sequence[int]]]) -> float | None:
    whole = merged(histograms)
    return percentile(whole, 0.95) if whole else None


def _p95s(span: Span, steps: Sequence[tuple[int, Sequence[int], Sequence[int]]]) -> list[float | None]:
    found = {place: _p95([(buckets, counts)]) for place, buckets, counts in steps}
    whole = span.until - floor_to(span.since, span.shape.coarse)
    return [found.get(place) for place in range(math.ceil(whole / timedelta(minutes=span.shape.coarse)))]


def _counts(span: Span, places: Sequence[int], counts: Sequence[int]) -> list[int]:
    found = dict(zip(places, counts, strict=True))
    return [found.get(place, 0) for place in range(span.sparks)]


def _sparks(
    span: Span, places: Sequence[int] | None, attempts: Sequence[int] | None, failed: Sequence[int] | None
) -> list[Spark]:
    found = {
        place: Spark(attempts=made, failed=lost)
        for place, made, lost in zip(places or (), attempts or (), failed or (), strict=True)
    }
    return [found.get(place, Spark()) for place in range(span.sparks)]
