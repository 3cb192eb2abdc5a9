"""What a delivery waits for now, in words: what makes it wait, and what ends that. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from app.dashboard.delivery.queries import MOST_AHEAD
from app.dashboard.words import capped, duration
from app.deliveries.waiting import WaitReason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from app.dashboard.delivery.queries import FoundDelivery

_DAY = timedelta(days=1)
_MINUTE = 60

_TITLES = {
    WaitReason.ENDPOINT_DISABLED: "Waiting: the endpoint is disabled",
    WaitReason.ENDPOINT_PAUSED: "Waiting: the endpoint is paused",
    WaitReason.FIFO_BLOCKED: "Waiting: the line is held up",
    WaitReason.CIRCUIT_OPEN: "Waiting: the circuit is open",
    WaitReason.RETRY_AFTER: "Waiting: the receiver asked for it",
    WaitReason.BACKOFF: "Waiting for the next try",
    WaitReason.FIFO_ORDER: "Waiting in line",
    WaitReason.CONCURRENCY_LIMIT: "Waiting for a free place",
    WaitReason.RATE_LIMIT: "Waiting: rate limit",
    WaitReason.QUEUED: "Waiting in queue",
}
# What only a person ends.
_PERSON = {
    WaitReason.ENDPOINT_DISABLED: "nothing is sent until somebody enables it",
    WaitReason.ENDPOINT_PAUSED: "nothing is sent until somebody resumes it; “Retry now” goes through",
    WaitReason.FIFO_BLOCKED: "a dead delivery stands before it in this FIFO line: retry that one, or mark it as resolved",
}


def waiting_title(reason: WaitReason) -> str:
    """Return what a delivery waits for, in a few words."""
    return _TITLES[reason]


def waiting_words(
    found: FoundDelivery,
    reason: WaitReason,
    *,
    until: datetime | None,
    schedule: Sequence[int],
    step: int,
    now: datetime,
) -> str:
    """Return the reason of a wait in words; `step` is the place in the schedule."""
    if reason in _PERSON:
        return _PERSON[reason]
    at = f"until {_moment(until, now=now)}" if until else ""
    if reason is WaitReason.CIRCUIT_OPEN:
        return f"circuit open {at}" if until else "circuit open: a probe is due any moment"
    if reason is WaitReason.RETRY_AFTER:
        return f"Retry-After {at}"
    if reason is WaitReason.BACKOFF:
        return backoff_words(schedule[step - 1]) if 0 < step <= len(schedule) else "backoff"
    return f"{_crowd(found, reason)}{position_words(found, now=now)}"


def _crowd(found: FoundDelivery, reason: WaitReason) -> str:
    lane = found.lane
    if reason is WaitReason.CONCURRENCY_LIMIT:
        return f"{lane.in_flight} of {lane.max_in_flight} are being sent at this moment · "
    if reason is WaitReason.RATE_LIMIT:
        return f"rate limit of {lane.rate_per_second:g} a second · "
    return "FIFO: one at a time, in order · " if reason is WaitReason.FIFO_ORDER else ""


def backoff_words(delay: float) -> str:
    """Return a delay of the schedule with its spread."""
    return f"backoff {delay_words(delay)} ±20 % jitter"


def delay_words(delay: float) -> str:
    """Return a delay as a schedule has it: in whole seconds, where others have tenths."""
    return f"{delay:g} s" if delay < _MINUTE else duration(delay)


def position_words(found: FoundDelivery, *, now: datetime) -> str:
    """Return where the delivery stands in its endpoint's queue; counting stops at a bound."""
    words = f"position ~{capped(found.ahead + 1, MOST_AHEAD)}"
    if found.oldest_due_at is not None and found.oldest_due_at <= now:
        words += f", oldest due {duration((now - found.oldest_due_at).total_seconds())}"
    return words


def _moment(at: datetime, *, now: datetime) -> str:
    """Return a time of day (UTC), with its day where that is another one."""
    near = abs(at - now) < _DAY and at.date() == now.date()
    return f"{at:%H:%M:%S}" if near else f"{at:%d %b, %H:%M}"
