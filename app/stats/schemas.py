"""Statistics as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from app.api.schemas import Answer, Timestamp
from app.endpoints.queries import MAX_BACKLOG
from app.stats.windows import Window, WindowName

if TYPE_CHECKING:
    from app.endpoints.stats import EndpointStats
    from app.stats.queries import WorkspaceFigures


class Percentiles(Answer):
    """Milliseconds; null where nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None

    @classmethod
    def of(cls, values: tuple[float, float, float] | None) -> Percentiles:
        """Show the three values."""
        if values is None:
            return cls(p50=None, p95=None, p99=None)
        p50, p95, p99 = (round(value, 3) for value in values)
        return cls(p50=p50, p95=p95, p99=p99)


class Outcomes(Answer):
    """Attempts by outcome."""

    succeeded: int
    failed: int
    unknown: int = Field(description="The worker was lost before the result could be recorded.")


class EndpointStatsAnswer(Answer):
    """How an endpoint did. Tests are in none of the figures."""

    window: WindowName
    since: Timestamp
    until: Timestamp
    attempts: Outcomes
    success_rate: float | None = Field(description="Of attempts with a known outcome; null without any.")
    duration_ms: Percentiles
    backlog: int = Field(description="Deliveries that wait or are being sent.")
    backlog_capped: bool = Field(description=f"There are more than {MAX_BACKLOG}.")
    oldest_due_seconds: float | None = Field(description="How long the oldest due delivery has waited.")

    @classmethod
    def of(cls, stats: EndpointStats, *, window: Window) -> EndpointStatsAnswer:
        """Show the figures."""
        return cls(
            window=window.name,
            since=window.since,
            until=window.until,
            attempts=Outcomes(succeeded=stats.succeeded, failed=stats.failed, unknown=stats.unknown),
            success_rate=stats.success_rate,
            duration_ms=Percentiles.of(stats.percentiles),
            backlog=min(stats.backlog, MAX_BACKLOG),
            backlog_capped=stats.backlog > MAX_BACKLOG,
            oldest_due_seconds=stats.oldest_due_seconds,
        )


class Totals(Answer):
    """What happened in the window: events published, and the deliveries made for them, by what became of them."""

    events: int
    deliveries: int
    pending: int = Field(description="Waiting or being sent.")
    succeeded: int
    dead: int
    cancelled: int
    attempts: int = Field(description="Attempts made in the window, also for older deliveries.")


class SuccessRates(Answer):
    """Shares between 0 and 1; null where there is nothing to take a share of."""

    first_try: float | None = Field(description="Of first attempts made in the window.")
    eventual: float | None = Field(description="Of the window's deliveries that succeeded or are dead.")


class Queue(Answer):
    """What waits now."""

    due: int = Field(description="Could be sent at once.")
    scheduled: int = Field(description="Waits for its time: a retry, or a `Retry-After`.")
    blocked: int = Field(description="Its endpoint is disabled or paused.")
    in_flight: int
    oldest_due_seconds: float | None


class Point(Answer):
    """One minute or hour, from `at` on: attempts by outcome."""

    at: Timestamp
    succeeded: int
    failed: int
    unknown: int


class WorkspaceStatsAnswer(Answer):
    """How the workspace, or one application, did. Tests are in none of the figures."""

    window: WindowName
    since: Timestamp
    until: Timestamp
    application: str | None
    totals: Totals
    success_rate: SuccessRates
    duration_ms: Percentiles = Field(description="Of attempts.")
    latency_ms: Percentiles = Field(description="From publishing to success, of deliveries that succeeded.")
    queue: Queue
    step: str = Field(description="`minute` or `hour`.", examples=["minute"])
    series: list[Point] = Field(description="Oldest first, without gaps.")

    @classmethod
    def of(
        cls, figures: WorkspaceFigures, *, window: Window, application: str | None
    ) -> WorkspaceStatsAnswer:
        """Show the figures."""
        deliveries, attempts, queue = figures.deliveries, figures.attempts, figures.queue
        settled = deliveries.succeeded + deliveries.dead
        return cls(
            window=window.name,
            since=window.since,
            until=window.until,
            application=application,
            totals=Totals(
                events=figures.events,
                deliveries=deliveries.total,
                pending=deliveries.pending,
                succeeded=deliveries.succeeded,
                dead=deliveries.dead,
                cancelled=deliveries.cancelled,
                attempts=attempts.total,
            ),
            success_rate=SuccessRates(
                first_try=attempts.first_succeeded / attempts.first if attempts.first else None,
                eventual=deliveries.succeeded / settled if settled else None,
            ),
            duration_ms=Percentiles.of(attempts.percentiles),
            latency_ms=Percentiles.of(deliveries.percentiles),
            queue=Queue(
                due=queue.due,
                scheduled=queue.scheduled,
                blocked=queue.blocked,
                in_flight=queue.in_flight,
                oldest_due_seconds=queue.oldest_due_seconds,
            ),
            step=window.step,
            series=[
                Point(at=point.at, succeeded=point.succeeded, failed=point.failed, unknown=point.unknown)
                for point in figures.series
            ],
        )
