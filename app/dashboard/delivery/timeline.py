"""The life of a delivery in its order: what happened, what it waited for in between, and what is planned. Pure.

The record has the attempts; why a delivery waited between two of them is worked out from when it was due (the
attempt's own queue time tells), from the schedule, and from what the receiver or a person asked for. What it waits
for now is known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from app.dashboard.delivery.waits import backoff_words, waiting_title, waiting_words
from app.dashboard.words import duration, milliseconds, plural
from app.deliveries.retry import JITTER_HIGH, JITTER_LOW
from app.deliveries.state import FINAL, State
from app.deliveries.waiting import LEASED, TRIGGER_TEST, WaitReason, next_attempt_at, wait_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.dashboard.delivery.queries import Deed, FoundDelivery
    from app.models import Attempt

# A shorter wait than this is no wait that anybody asks about.
_WORTH_SAYING_SECONDS = 1.0
# How far a wait may be from what the schedule says and still be the schedule's: the time of a sweep.
_TOLERANCE_SECONDS = 2.0
MOST_PLANNED = 4

_TRIGGERS = {"scheduled": "automatic", "manual": "manual", "replay": "replay", "test": "test"}
_DEEDS = {"delivery.retried": "Retry asked for", "delivery.cancelled": "Cancelled"}
_OUTCOMES = {"succeeded": "ok", "failed": "bad", "unknown": "warn"}


@dataclass(frozen=True, slots=True)
class Step:
    """One line. `kind`: moment, attempt, deed, wait, now, planned, end or deadline.

    `share` is a wait's part of the longest one, from 0 to 1. `counts_down` says that `at` is still to come.
    """

    kind: str
    title: str
    detail: str = ""
    at: datetime | None = None
    tone: str = ""
    seconds: float | None = None
    share: float = 0.0
    attempt: Attempt | None = None
    counts_down: bool = False


def key_of(attempt: Attempt) -> str:
    """Return how an attempt is named in addresses: by its number, and a late result apart from the one it missed."""
    return f"{attempt.number}-late" if attempt.stale else str(attempt.number)


def trigger_words(attempt: Attempt, deeds: Sequence[Deed]) -> str:
    """Return why an attempt was made, and by whom if that is known."""
    words = _TRIGGERS.get(attempt.trigger, attempt.trigger)
    if attempt.number == 1 and attempt.trigger == "scheduled":
        return "first try"
    if attempt.trigger in ("manual", "replay"):
        asked = [
            deed for deed in deeds if deed.action == "delivery.retried" and deed.at <= attempt.started_at
        ]
        if asked:
            return f"{words}, by {asked[-1].who}"
    return words


def attempt_end(attempt: Attempt) -> datetime:
    """Return when an attempt was over."""
    return attempt.started_at + timedelta(milliseconds=attempt.duration_ms or 0)


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
    steps += _present(found, attempts, schedule=schedule, now=now)
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
    return Step("deed", _DEEDS.get(deed.action, deed.action), f"by {deed.who}", at=deed.at)


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
        return f"backoff up to {duration(delay)}, full jitter" if full else backoff_words(delay)
    return backoff_words(fitting[0]) if fitting else "backoff"


def _fits(seconds: float, delay: float) -> bool:
    low, high = delay * JITTER_LOW - _TOLERANCE_SECONDS, delay * JITTER_HIGH + _TOLERANCE_SECONDS
    return low <= seconds <= high


def _present(
    found: FoundDelivery, attempts: Sequence[Attempt], *, schedule: Sequence[int], now: datetime
) -> list[Step]:
    delivery, queued, place = found.delivery, found.queued, found.place
    if State(delivery.state) in FINAL:
        return [_end(found, attempts)]
    if queued is None or place is None:
        # Between the two looks of one statement nothing can move; a row that is missing is upkeep's to report.
        return [Step("now", "Waiting", "its place in the queue is not known", tone="warn")]
    deadline = Step(
        "deadline", "Deadline", "older than this it is dead", at=delivery.deadline_at, counts_down=True
    )
    test = place.trigger == TRIGGER_TEST
    if place.state == LEASED:
        since = queued.leased_at or now
        detail = f"by {queued.leased_by}" if queued.leased_by else ""
        if queued.cancel_requested:
            detail += " · it ends as cancelled when the attempt is over"
        here = Step("now", "Being sent now", detail.strip(" ·"), at=since, tone="info")
        after = (
            [] if test or queued.cancel_requested else _planned(now, queued.schedule_step, schedule, found)
        )
        return [here, *after, deadline]
    wait = wait_of(place, found.lane, now=now)
    due = next_attempt_at(place, found.lane, now=now)
    reason = wait.reason if wait else WaitReason.QUEUED
    until = wait.until if wait else None
    here = Step(
        "now",
        waiting_title(reason),
        waiting_words(found, reason, until=until, schedule=schedule, step=queued.schedule_step, now=now),
        at=until,
        tone="warn" if reason not in (WaitReason.QUEUED, WaitReason.BACKOFF, WaitReason.FIFO_ORDER) else "",
        seconds=(until - attempt_end(attempts[-1])).total_seconds() if until and attempts else None,
        counts_down=until is not None,
    )
    if due is None:
        return [here, deadline]
    first = Step(
        "planned", f"Attempt {delivery.attempt_count + 1}", "next", at=max(due, now), counts_down=due > now
    )
    after = [] if test else _planned(max(due, now), queued.schedule_step, schedule, found, first=2)
    return [here, first, *after, deadline]


def _planned(
    since: datetime, step: int, schedule: Sequence[int], found: FoundDelivery, *, first: int = 2
) -> list[Step]:
    """Return the tries that follow if one at `since` fails, and what comes after the last."""
    delivery = found.delivery
    steps: list[Step] = []
    at, left = since, list(schedule[step:])
    for n, delay in enumerate(left):
        at += timedelta(seconds=delay)
        if at > delivery.deadline_at:
            break
        if n >= MOST_PLANNED:
            last = since + timedelta(seconds=sum(left))
            steps.append(
                Step(
                    "planned",
                    f"{plural(len(left) - n, 'more try', 'more tries')}",
                    "the last about",
                    at=min(last, delivery.deadline_at),
                    counts_down=True,
                )
            )
            break
        number = delivery.attempt_count + first + n
        steps.append(
            Step(
                "planned",
                f"Attempt {number}",
                f"if that fails: {backoff_words(delay)}",
                at=at,
                counts_down=True,
            )
        )
    return steps


def _end(found: FoundDelivery, attempts: Sequence[Attempt]) -> Step:
    delivery = found.delivery
    took = (
        duration((delivery.completed_at - delivery.created_at).total_seconds())
        if delivery.completed_at
        else ""
    )
    count = plural(delivery.attempt_count, "attempt")
    if delivery.state == State.SUCCEEDED:
        return Step(
            "end", "Delivered", f"{took} after it was queued, in {count}", at=delivery.completed_at, tone="ok"
        )
    if delivery.state == State.CANCELLED:
        return Step("end", "Cancelled", f"after {count}", at=delivery.completed_at)
    last = attempts[-1] if attempts else None
    if delivery.last_error_class == "expired":
        why = "its deadline passed"
    elif delivery.test:
        why = "a test is sent once"
    elif delivery.last_error_class == "http_410":
        why = "the receiver said 410 Gone"
    elif delivery.last_error_class == "blocked_address":
        why = "the address was refused for the third time"
    elif last is not None and last.outcome == "unknown":
        why = "the third worker was lost while it sent this alone"
    else:
        why = "the retry schedule is used up"
    return Step("end", "Gave up", f"{why}, after {count}", at=delivery.completed_at, tone="bad")
