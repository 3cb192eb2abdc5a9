"""Charts from the roll-ups: attempts with their latencies, and the backlog, over a named span. One statement each.

What is in them, how fresh they are and how exact: docs/reference/rollups.md. Tests are in none of the figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.core.error_classes import ErrorClass
from app.stats.latency import Percentiles, merged, percentiles_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.stats.spans import Span

# How charts group the classes of failures, in the order in which they are stacked.
GROUPS: dict[str, tuple[ErrorClass, ...]] = {
    "timeout": (ErrorClass.CONNECT_TIMEOUT, ErrorClass.READ_TIMEOUT),
    "dns": (ErrorClass.DNS_ERROR,),
    "tls": (ErrorClass.TLS_ERROR,),
    "refused": (ErrorClass.CONNECT_REFUSED,),
    "blocked": (ErrorClass.BLOCKED_ADDRESS,),
    "3xx": (ErrorClass.HTTP_3XX,),
    "4xx": (ErrorClass.HTTP_4XX, ErrorClass.HTTP_410),
    "429": (ErrorClass.HTTP_429,),
    "5xx": (ErrorClass.HTTP_5XX,),
    "protocol": (ErrorClass.PROTOCOL_ERROR, ErrorClass.HEADERS_TOO_LARGE),
    "worker lost": (ErrorClass.WORKER_LOST,),
}
_GROUP_OF = {str(kind): name for name, kinds in GROUPS.items() for kind in kinds}

_SERIES = text("""
SELECT at, succeeded, failed, unknown, first_known, first_succeeded, delivered, delivered_late, dead, cancelled,
       buckets, counts, failures
  FROM attempt_rollups
 WHERE workspace_id = :workspace AND scope_id = :scope AND step_minutes = :step AND at >= :preceding AND at < :until
   AND (CAST(:application AS uuid) IS NULL OR application_id = CAST(:application AS uuid))
""")
BACKLOG = text("""
SELECT date_bin(make_interval(mins => :step), at, CAST(:since AS timestamptz)), max(due), max(scheduled), max(in_flight),
       max(oldest_due_seconds)
  FROM backlog_minutes
 WHERE workspace_id = :workspace AND scope_id = :scope AND at >= :since AND at < :until
   AND (CAST(:application AS uuid) IS NULL OR application_id = CAST(:application AS uuid))
 GROUP BY 1
""")


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """One step, from `at` on: attempts by outcome, failures (and lost attempts) by group, and the latencies."""

    at: datetime
    succeeded: int = 0
    failed: int = 0
    unknown: int = 0
    # By the names of `GROUPS`; groups without any are left out.
    failures: dict[str, int] = field(default_factory=dict)
    latency: Percentiles | None = None

    @property
    def attempts(self) -> int:
        """All of them."""
        return self.succeeded + self.failed + self.unknown


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of a range. Shares are between 0 and 1, and None where there is nothing to take a share of."""

    succeeded: int = 0
    failed: int = 0
    unknown: int = 0
    first_known: int = 0
    first_succeeded: int = 0
    # Deliveries that ended in the range, by how; `delivered_late` of the delivered ones needed more than one attempt.
    delivered: int = 0
    delivered_late: int = 0
    dead: int = 0
    cancelled: int = 0
    latency: Percentiles | None = None
    # By error class, most frequent first.
    failures: dict[str, int] = field(default_factory=dict)
    # How long the range is; of the present one, how much of it has passed.
    seconds: float = 0.0

    @property
    def attempts(self) -> int:
        """All of them."""
        return self.succeeded + self.failed + self.unknown

    @property
    def per_minute(self) -> float:
        """Attempts a minute."""
        return 60 * self.attempts / self.seconds if self.seconds > 0 else 0.0

    @property
    def success_share(self) -> float | None:
        """Of attempts with a known outcome."""
        return share(self.succeeded, self.succeeded + self.failed)

    @property
    def first_try_share(self) -> float | None:
        """Of first attempts with a known outcome."""
        return share(self.first_succeeded, self.first_known)

    @property
    def eventual_share(self) -> float | None:
        """Of deliveries that were delivered or are dead."""
        return share(self.delivered, self.delivered + self.dead)


@dataclass(frozen=True, slots=True)
class Series:
    """The points of a span, oldest first and without gaps, its totals, and those of the range before it."""

    points: Sequence[SeriesPoint]
    totals: Totals
    preceding: Totals


@dataclass(frozen=True, slots=True)
class BacklogPoint:
    """The most that waited at one moment of a step: due at once, scheduled for later, in flight; the oldest due."""

    at: datetime
    due: int = 0
    scheduled: int = 0
    in_flight: int = 0
    oldest_due_seconds: float | None = None


async def read_series(
    session: AsyncSession,
    caller: Caller,
    *,
    span: Span,
    application_id: UUID | None = None,
    endpoint_id: UUID | None = None,
) -> Series:
    """Return attempts and latencies of the workspace, or of one application or endpoint of it.

    What the caller may not see, and what does not exist, is empty.
    """
    rows = (
        await session.execute(
            _SERIES,
            scope_of(caller, application_id=application_id, endpoint_id=endpoint_id)
            | {"step": span.shape.step, "preceding": span.preceding, "until": span.until},
        )
    ).all()
    before = [row for row in rows if row.at < span.since]
    within = [row for row in rows if row.at >= span.since]
    by_point = {row.at: row for row in within}
    return Series(
        points=[_point(at, by_point.get(at)) for at in span.points()],
        totals=totals_of(within, seconds=span.seconds),
        preceding=totals_of(before, seconds=(span.since - span.preceding).total_seconds()),
    )


async def read_backlog(
    session: AsyncSession, caller: Caller, *, span: Span, application_id: UUID | None = None
) -> list[BacklogPoint]:
    """Return what waited in the workspace, or in one application of it, oldest first and without gaps."""
    rows = await session.execute(
        BACKLOG,
        scope_of(caller, application_id=application_id)
        | {"step": span.shape.step, "since": span.since, "until": span.until},
    )
    found = {row[0]: BacklogPoint(*row) for row in rows}
    return [found.get(at, BacklogPoint(at=at)) for at in span.points()]


def scope_of(
    caller: Caller, *, application_id: UUID | None = None, endpoint_id: UUID | None = None
) -> dict[str, Any]:
    """Return the parameters that name a scope, within what the caller may see.

    A key that is bound to one application sees nothing of another one, and nothing of endpoints of another one.
    """
    return {
        "workspace": caller.workspace_id,
        "scope": endpoint_id or application_id or caller.application_id or caller.workspace_id,
        "application": caller.application_id,
    }


def share(part: int, whole: int) -> float | None:
    """Return a share; None of nothing."""
    return part / whole if whole else None


def totals_of(rows: Sequence[Row[Any]], *, seconds: float) -> Totals:
    """Return the sums of rows of roll-ups."""
    return Totals(
        **{
            name: sum(getattr(row, name) for row in rows)
            for name in (
                *("succeeded", "failed", "unknown", "first_known", "first_succeeded"),
                *("delivered", "delivered_late", "dead", "cancelled"),
            )
        },
        latency=percentiles_of(merged((row.buckets, row.counts) for row in rows)),
        failures=_classes(rows),
        seconds=seconds,
    )


def _point(at: datetime, row: Row[Any] | None) -> SeriesPoint:
    if row is None:
        return SeriesPoint(at=at)
    return SeriesPoint(
        at=at,
        succeeded=row.succeeded,
        failed=row.failed,
        unknown=row.unknown,
        failures=_groups(_classes([row])),
        latency=percentiles_of(merged([(row.buckets, row.counts)])),
    )


def _classes(rows: Iterable[Row[Any]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in rows:
        for error_class, (count, _, _) in (row.failures or {}).items():
            found[error_class] = found.get(error_class, 0) + count
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _groups(classes: dict[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for error_class, count in classes.items():
        name = _GROUP_OF[error_class]
        found[name] = found.get(name, 0) + count
    return {name: found[name] for name in GROUPS if name in found}
