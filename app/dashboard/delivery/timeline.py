"""The life of a delivery in its order: what happened, what it waited for in between, and what is planned. Pure.

The record has the attempts; why a delivery waited between two of them is worked out from when it was due (the
attempt's own queue time tells), from the schedule, and from what the receiver or a person asked for. What it waits
for now is known exactly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from app.dashboard.delivery.prospects import prospects
from app.dashboard.delivery.steps import Step, attempt_end, trigger_words
from app.dashboard.delivery.waits import backoff_words, delay_words
from app.dashboard.words import duration, milliseconds
from app.deliveries.retry import JITTER_HIGH, JITTER_LOW

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.dashboard.delivery.deeds import Deed
    from app.dashboard.delivery.queries import FoundDelivery
    from app.models import Attempt

# A shorter wait than this is no wait that anybody asks about.
_WORTH_SAYING_SECONDS = 1.0
# How far a wait may be from what the schedule says and still be the schedule's: the time of a sweep.
_TOLERANCE_SECONDS = 2.0

_DEEDS = {
    "delivery.retried": "Retry asked for",
    "delivery.cancelled": "Cancelled",
    "delivery.resolved": "Marked as resolved",
}
_OUTCOMES = {"succeeded": "ok", "failed": "bad", "unknown": "warn"}


def timeline(
    found: FoundDelivery,
    attempts: Sequence[Attempt],
    deeds: Sequence[Deed],
    *,
    schedule: Sequence[int],
    now: datetime,
) -> list[Step]:
    """Return all steps, the newest last."""
    steps = _begin(found) if not attempts or attempts[0].number == 1 else []
    steps += _past(found, attempts, deeds, schedule=schedule)
    steps += prospects(found, attempts, deeds, schedule=schedule, now=now)
    longest = max((step.seconds or 0 for step in steps if step.seconds), default=0)
    return [
        replace(step, share=step.seconds / longest) if step.seconds and longest else step for step in steps
    ]


def _begin(found: FoundDelivery) -> list[Step]:
    delivery, event = found.delivery, found.event
    steps = []
    if event is not None:
        steps.append(Step("moment", "Event accepted", at=event.created_at))
    gap = (delivery.created_at - event.created_at).total_seconds() if event is not None else 0.0
    detail = f"fan-out by a worker, {duration(gap)} later" if gap >= _WORTH_SAYING_SECONDS else ""
    steps.append(Step("moment", "Queued", detail, at=delivery.created_at))
    return steps


def _past(
    found: FoundDelivery, attempts: Sequence[Attempt], deeds: Sequence[Deed], *, schedule: Sequence[int]
) -> list[Step]:
    steps: list[Step] = []
    waiting_since = found.delivery.created_at
    previous: Attempt | None = None
    pending = list(deeds)
    failures = 0
    for attempt in attempts:
        if attempt.stale:
            steps.append(_attempt(attempt, deeds))
            continue
        while pending and pending[0].at <= attempt.started_at:
            deed = pending.pop(0)
            steps += _wait_for_person(previous, since=waiting_since, until=deed.at)
            steps.append(_deed(deed))
            waiting_since = max(waiting_since, deed.at)
        if attempt.trigger != "scheduled":
            # A person's retry begins the schedule anew.
            failures = 0
        steps += _wait_before(attempt, previous, since=waiting_since, schedule=schedule, failures=failures)
        steps.append(_attempt(attempt, deeds))
        failures += attempt.outcome == "failed" and attempt.error_class != "blocked_address"
        previous, waiting_since = attempt, attempt_end(attempt)
    steps += [_deed(deed) for deed in pending]
    return steps


def _attempt(attempt: Attempt, deeds: Sequence[Deed]) -> Step:
    took = milliseconds(attempt.duration_ms) if attempt.duration_ms is not None else "no result"
    late = " · came after its lease had ended, so it changed nothing" if attempt.stale else ""
    return Step(
        "attempt",
        f"Attempt {attempt.number}",
        f"{took} · {trigger_words(attempt, deeds)}{late}",
        at=attempt.started_at,
        tone="warn" if attempt.stale else _OUTCOMES.get(attempt.outcome, ""),
        attempt=attempt,
    )


def _deed(deed: Deed) -> Step:
    why = f": {deed.reason}" if deed.reason else ""
    return Step("deed", _DEEDS.get(deed.action, deed.action), f"by {deed.who}{why}", at=deed.at)


def _wait_for_person(previous: Attempt | None, *, since: datetime, until: datetime) -> list[Step]:
    seconds = (until - since).total_seconds()
    if seconds < _WORTH_SAYING_SECONDS:
        return []
    rested = previous is not None and previous.outcome == "succeeded"
    return [
        Step("wait", "until somebody asked" if not rested else "delivered; nothing to do", seconds=seconds)
    ]


def _wait_before(
    attempt: Attempt,
    previous: Attempt | None,
    *,
    since: datetime,
    schedule: Sequence[int],
    failures: int,
) -> list[Step]:
    """Return the waits before an attempt: until it was due, and from then until a worker took it."""
    queued = (attempt.queue_ms or 0.0) / 1_000
    whole = (attempt.started_at - since).total_seconds()
    queued = min(queued, max(0.0, whole))
    steps = []
    if previous is not None and whole - queued >= _WORTH_SAYING_SECONDS:
        planned = whole - queued
        reason = _planned_reason(
            attempt, previous, seconds=planned, schedule=schedule, step=max(0, failures - 1)
        )
        steps.append(Step("wait", reason, seconds=planned))
    if queued >= _WORTH_SAYING_SECONDS:
        steps.append(
            Step(
                "wait",
                "due, but held: its turn, a limit, a pause or the circuit",
                seconds=queued,
            )
        )
    return steps


def _planned_reason(
    attempt: Attempt, previous: Attempt, *, seconds: float, schedule: Sequence[int], step: int
) -> str:
    if previous.outcome == "unknown":
        return "worker lost; sent again when its lease had ended"
    if attempt.trigger != "scheduled":
        return "until it was asked for again" if attempt.trigger == "manual" else "until it was replayed"
    asked = previous.retry_after_seconds
    if asked is not None and abs(seconds - asked) <= _TOLERANCE_SECONDS:
        return f"Retry-After: {asked}"
    delay = schedule[step] if step < len(schedule) else None
    fitting = [each for each in schedule if _fits(seconds, each)]
    if delay is not None and (delay in fitting or (not fitting and seconds < delay)):
        full = delay not in fitting
        return f"backoff up to {delay_words(delay)}, full jitter" if full else backoff_words(delay)
    return backoff_words(fitting[0]) if fitting else "backoff"


def _fits(seconds: float, delay: float) -> bool:
    low, high = delay * JITTER_LOW - _TOLERANCE_SECONDS, delay * JITTER_HIGH + _TOLERANCE_SECONDS
    return low <= seconds <= high
