"""The charts of a workspace, an application or an endpoint, from its roll-ups, each with its sentence."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from app.dashboard import words
from app.dashboard.axes import Unit
from app.dashboard.charts import Series, lines, stacked
from app.dashboard.spans import SPANS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from markupsafe import Markup

    from app.stats.rollups import BacklogPoint
    from app.stats.rollups import Series as Attempts
    from app.stats.spans import Span

# Groups of failures (app/stats/rollups.py) in the order in which they stand on each other, with their colours. Colours
# come again; hints and the table name each group.
_GROUPS = {
    "5xx": ("5xx", "f1"),
    "timeout": ("timeout", "f2"),
    "refused": ("refused", "f3"),
    "429": ("429", "f4"),
    "4xx": ("other 4xx", "f5"),
    "dns": ("DNS", "f6"),
    "tls": ("TLS", "f7"),
    "3xx": ("redirects", "f8"),
    "blocked": ("blocked address", "f9"),
    "protocol": ("broken HTTP", "f10"),
    "worker lost": ("worker lost", "f11"),
}


def attempts_figure(series: Attempts, span: Span, *, key: str = "attempts") -> Markup:
    """Return attempts by outcome."""
    points, totals = series.points, series.totals
    shown = [
        Series("succeeded", [point.succeeded for point in points], "ok"),
        Series("failed", [point.failed for point in points], "bad"),
    ]
    if totals.unknown:
        shown.append(Series("outcome unknown", [point.unknown for point in points], "none"))
    return stacked(
        key=key,
        title="Attempts",
        says=attempts_sentence(series, span),
        times=[point.at for point in points],
        series=shown,
    )


def attempts_sentence(series: Attempts, span: Span) -> str:
    """Return what the chart of attempts shows."""
    totals = series.totals
    if not totals.attempts:
        return f"No attempts over the {_span_words(span)}."
    said = f"Attempts per {_step_words(span)} over the {_span_words(span)}: {totals.succeeded:,} succeeded"
    if not totals.failed:
        return f"{said}, none failed."
    worst = max(series.points, key=lambda point: point.failed)
    return f"{said}, {totals.failed:,} failed, most failures {_when(worst.at, span)}."


def latency_figure(series: Attempts, span: Span, *, key: str = "latency") -> Markup:
    """Return how long attempts took."""
    latencies = [point.latency for point in series.points]
    return lines(
        key=key,
        title="Endpoint latency",
        says=latency_sentence(series, span),
        times=[point.at for point in series.points],
        series=[
            Series("p50", [found.p50 if found else None for found in latencies], "l1"),
            Series("p95", [found.p95 if found else None for found in latencies], "l2"),
            Series("p99", [found.p99 if found else None for found in latencies], "l3"),
        ],
        unit=Unit.MILLISECONDS,
    )


def latency_sentence(series: Attempts, span: Span) -> str:
    """Return what the chart of latencies shows."""
    whole = series.totals.latency
    if whole is None:
        return f"No latencies over the {_span_words(span)}: nothing was sent."
    slowest = max(
        (point for point in series.points if point.latency is not None),
        key=lambda point: point.latency.p95 if point.latency else 0.0,
    )
    return (
        f"Half of the attempts of the {_span_words(span)} ended within {words.milliseconds(whole.p50)}, 95% within "
        f"{words.milliseconds(whole.p95)}, 99% within {words.milliseconds(whole.p99)}; slowest {_when(slowest.at, span)}."
    )


def backlog_figure(points: Sequence[BacklogPoint], span: Span, *, key: str = "backlog") -> Markup:
    """Return how many deliveries were due and waited."""
    return lines(
        key=key,
        title="Backlog",
        says=backlog_sentence(points, span),
        times=[point.at for point in points],
        series=[Series("due", [point.due for point in points], "l2")],
        unit=Unit.COUNT,
        area=True,
    )


def backlog_sentence(points: Sequence[BacklogPoint], span: Span) -> str:
    """Return what the chart of the backlog shows."""
    most = max(points, key=lambda point: point.due, default=None)
    if most is None or not most.due:
        return f"Nothing that was due had to wait when it was looked at, once a minute over the {_span_words(span)}."
    return (
        f"Deliveries that were due and waited, the most of each {_step_words(span)} over the {_span_words(span)}: at "
        f"most {most.due:,}, {_when(most.at, span)}."
    )


def failures_figure(series: Attempts, span: Span, *, key: str = "failures") -> Markup:
    """Return failed attempts by what went wrong."""
    found = {name for point in series.points for name in point.failures}
    return stacked(
        key=key,
        title="Failures by class",
        says=failures_sentence(series, span),
        times=[point.at for point in series.points],
        series=[
            Series(said, [point.failures.get(name, 0) for point in series.points], tone)
            for name, (said, tone) in _GROUPS.items()
            if name in found
        ],
    )


def failures_sentence(series: Attempts, span: Span) -> str:
    """Return what the chart of failures shows."""
    counts = {
        said: sum(point.failures.get(name, 0) for point in series.points)
        for name, (said, _) in _GROUPS.items()
    }
    ranked = sorted(((count, said) for said, count in counts.items() if count), reverse=True)
    if not ranked:
        return f"No attempt failed over the {_span_words(span)}."
    listed = ", ".join(f"{count:,} {said}" for count, said in ranked[:3])
    rest = sum(count for count, _ in ranked[3:])
    return (
        f"Failed attempts per {_step_words(span)} over the {_span_words(span)}: {listed}"
        + (f", {rest:,} others" if rest else "")
        + "."
    )


def _span_words(span: Span) -> str:
    return SPANS[span.name][1]


def _step_words(span: Span) -> str:
    step = timedelta(minutes=span.shape.step)
    if step < timedelta(hours=1):
        return "minute" if span.shape.step == 1 else f"{span.shape.step} minutes"
    hours = round(step / timedelta(hours=1))
    return "hour" if hours == 1 else f"{hours} hours"


def _when(at: datetime, span: Span) -> str:
    """Return the time of a step; with its date where it may have been another day's."""
    return f"at {at:%H:%M}" if at.date() == span.now.date() else f"at {at:%H:%M} on {at.day} {at:%b}"
