"""Figures of one endpoint over a window of time. Tests are in none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.core.time_limits import time_limit
from app.endpoints.queries import backlogs_of, require_endpoint

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.stats.windows import Window

_ATTEMPTS = text("""
SELECT count(*) FILTER (WHERE outcome = 'succeeded'),
       count(*) FILTER (WHERE outcome = 'failed'),
       count(*) FILTER (WHERE outcome = 'unknown'),
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_ms::float8)
  FROM attempts
 WHERE workspace_id = :workspace AND endpoint_id = :endpoint AND id >= :lowest AND started_at >= :since AND started_at < :until AND NOT test
""")
_OLDEST_DUE = text("""
SELECT extract(epoch FROM now() - min(due_at))::float8
  FROM delivery_queue
 WHERE workspace_id = :workspace AND endpoint_id = :endpoint AND trigger <> 3 AND state <> 1 AND due_at <= now()
""")


@dataclass(frozen=True, slots=True)
class EndpointStats:
    """Counts of attempts by outcome, p50, p95 and p99 of their milliseconds, and what waits."""

    succeeded: int
    failed: int
    unknown: int
    percentiles: tuple[float, float, float] | None
    backlog: int
    oldest_due_seconds: float | None

    @property
    def success_rate(self) -> float | None:
        """The share of attempts with a known outcome that succeeded; None without any."""
        known = self.succeeded + self.failed
        return self.succeeded / known if known else None


async def stats_of(session: AsyncSession, caller: Caller, reference: str, *, window: Window) -> EndpointStats:
    """Return an endpoint's figures.

    Raises:
        NotFound: there is no such endpoint.
        TooBusy: there are too many attempts in the window to count them in time.

    """
    endpoint = await require_endpoint(session, caller, reference)
    which = {"workspace": endpoint.workspace_id, "endpoint": endpoint.id}
    async with time_limit(session):
        succeeded, failed, unknown, percentiles = (
            await session.execute(
                _ATTEMPTS,
                which
                | {
                    "lowest": window.lowest_id,
                    "since": window.since,
                    "until": window.until,
                },
            )
        ).one()
        oldest = (await session.execute(_OLDEST_DUE, which)).scalar_one()
        backlog = (await backlogs_of(session, [endpoint.id], workspace_id=endpoint.workspace_id))[endpoint.id]
    return EndpointStats(
        succeeded=succeeded,
        failed=failed,
        unknown=unknown,
        percentiles=tuple(percentiles) if percentiles and percentiles[0] is not None else None,
        backlog=backlog,
        oldest_due_seconds=oldest,
    )
