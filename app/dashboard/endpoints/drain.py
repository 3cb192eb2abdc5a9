"""How long what waits at an endpoint will take, at the pace of the last minutes, and why there is no telling. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from app.dashboard import words

if TYPE_CHECKING:
    from datetime import datetime

    from app.dashboard.endpoints.queries import EndpointRow
    from app.stats.rollups import Series

# The pace is that of the last points of the chart which are at least so long together.
PACE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Drain:
    """What is said of the backlog; `tone` as of states."""

    says: str
    tone: str = ""


def drain_of(row: EndpointRow, series: Series, *, now: datetime) -> Drain:
    """Return when the backlog will be gone."""
    if not row.backlog:
        return Drain("Nothing waits.", "ok")
    held = _held(row)
    if held is not None:
        return held
    pace = _pace(series, now=now)
    if not pace:
        return Drain(
            f"Nothing has succeeded in the last {words.duration(PACE.total_seconds())}, so there is no estimate.",
            "warn",
        )
    seconds = row.backlog / pace
    about = "at least " if row.backlog > row.counted_to else "about "
    return Drain(
        f"At the present pace, {_per(pace)}, it is gone in {about}{words.duration(max(1.0, seconds))}."
    )


def _held(row: EndpointRow) -> Drain | None:
    """Return what keeps all of it back; None: it is being sent."""
    if not row.endpoint.enabled:
        return Drain("It waits until the endpoint is enabled, or until its deadlines.", "bad")
    if row.endpoint.paused:
        return Drain("It waits until the endpoint is resumed, or until its deadlines.", "warn")
    if row.runtime.fifo_blocked_by is not None:
        return Drain("The line waits for a dead delivery: retry that one, or let the line go on.", "bad")
    if row.runtime.circuit_state != "closed":
        return Drain("It waits until the circuit closes; probes go out by themselves.", "bad")
    return None


def _pace(series: Series, *, now: datetime) -> float:
    """Return successes per second over the last minutes."""
    succeeded = 0
    for point in reversed(series.points):
        if point.at > now:
            continue
        succeeded += point.succeeded
        if now - point.at >= PACE:
            return succeeded / (now - point.at).total_seconds()
    return 0.0


def _per(pace: float) -> str:
    return (
        f"{pace:,.0f} a second"
        if pace >= 1
        else f"{pace * 60:,.0f} a minute"
        if pace * 60 >= 1
        else "less than one a minute"
    )
