"""The rest of a delivery's timeline: what it waits for now and what is planned, or how it ended. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from app.dashboard.delivery.steps import Step, attempt_end
from app.dashboard.delivery.waits import backoff_words, waiting_title, waiting_words
from app.dashboard.words import duration, plural
from app.deliveries.state import FINAL, State
from app.deliveries.waiting import LEASED, TRIGGER_TEST, WaitReason, next_attempt_at, wait_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.dashboard.delivery.deeds import Deed
    from app.dashboard.delivery.queries import FoundDelivery
    from app.models import Attempt

MOST_PLANNED = 4


def prospects(
    found: FoundDelivery,
    attempts: Sequence[Attempt],
    deeds: Sequence[Deed],
    *,
    schedule: Sequence[int],
    now: datetime,
) -> list[Step]:
    """Return where the delivery is now, with what is to come; or its end."""
    delivery, queued, place = found.delivery, found.queued, found.place
    if State(delivery.state) in FINAL:
        return [_end(found, attempts, deeds)]
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


def _end(found: FoundDelivery, attempts: Sequence[Attempt], deeds: Sequence[Deed]) -> Step:
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
        resolved = bool(deeds) and deeds[-1].action == "delivery.resolved"
        title = "Settled by other means" if resolved else "Cancelled"
        return Step("end", title, f"after {count}", at=delivery.completed_at)
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
