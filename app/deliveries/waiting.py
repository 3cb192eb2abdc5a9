"""Why a delivery waits, and until when: pure. What makes one wait is no error (delivery.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

READY, LEASED, SCHEDULED = 0, 1, 2
TRIGGER_TEST = 3


class WaitReason(StrEnum):
    """What a delivery waits for."""

    ENDPOINT_DISABLED = "endpoint_disabled"
    ENDPOINT_PAUSED = "endpoint_paused"
    FIFO_BLOCKED = "fifo_blocked"
    CIRCUIT_OPEN = "circuit_open"
    RETRY_AFTER = "retry_after"
    BACKOFF = "backoff"
    FIFO_ORDER = "fifo_order"
    CONCURRENCY_LIMIT = "concurrency_limit"
    RATE_LIMIT = "rate_limit"
    QUEUED = "queued"


_A_PERSON_MUST_ACT = frozenset(
    {WaitReason.ENDPOINT_DISABLED, WaitReason.ENDPOINT_PAUSED, WaitReason.FIFO_BLOCKED}
)


@dataclass(frozen=True, slots=True)
class Lane:
    """The state of an endpoint, as far as it decides when its deliveries go; `max_in_flight` is the cap of now."""

    enabled: bool
    paused: bool
    fifo: bool
    in_flight: int
    max_in_flight: int
    held_until: datetime | None
    held_reason: str | None
    circuit_state: str
    next_probe_at: datetime | None
    rate_per_second: float | None
    rate_burst: int | None
    tokens: float | None
    tokens_at: datetime | None
    # A dead delivery holds up a FIFO line.
    blocked: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where a delivery stands in its lane.

    `behind_another`: an earlier one of a FIFO lane goes first; `blocks`: it is the one that holds up the line, and was
    asked for again.
    """

    state: int
    trigger: int
    forced: bool
    due_at: datetime
    behind_another: bool
    blocks: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a delivery waits; `until` is None where no time is known."""

    reason: WaitReason
    until: datetime | None


def wait_of(place: Place, lane: Lane, *, now: datetime) -> Wait | None:
    """Return why a delivery waits; None while it is being sent.

    What a person must change comes first, then what time changes, then what the other deliveries change. A test
    ignores whether the endpoint is enabled, paused or held; a retry that a person asked for ignores holds and circuit.
    """
    if place.state == LEASED:
        return None
    if place.trigger != TRIGGER_TEST:
        if not lane.enabled:
            return Wait(WaitReason.ENDPOINT_DISABLED, None)
        if lane.paused and not place.forced:
            return Wait(WaitReason.ENDPOINT_PAUSED, None)
        if lane.blocked and not place.blocks and not place.forced:
            return Wait(WaitReason.FIFO_BLOCKED, None)
    return _timed(place, lane, now=now) or _crowded(place, lane, now=now)


def next_attempt_at(place: Place, lane: Lane, *, now: datetime) -> datetime | None:
    """Return when the next attempt is due at the earliest; None while being sent, or while a person must act."""
    wait = wait_of(place, lane, now=now)
    if wait is None or wait.reason in _A_PERSON_MUST_ACT:
        return None
    return wait.until if wait.until is not None and wait.until > place.due_at else place.due_at


def _timed(place: Place, lane: Lane, *, now: datetime) -> Wait | None:
    """Return what time alone will end: the latest of hold, circuit and backoff."""
    waits = []
    if not place.forced:
        if lane.held_until is not None and lane.held_until > now:
            if lane.held_reason == "retry_after":
                waits.append(Wait(WaitReason.RETRY_AFTER, lane.held_until))
            elif not place.behind_another:
                waits.append(Wait(WaitReason.BACKOFF, lane.held_until))
        if lane.circuit_state != "closed":
            # A probe that is due goes any moment; what it says about the others is not known yet.
            probe = lane.next_probe_at
            waits.append(Wait(WaitReason.CIRCUIT_OPEN, probe if probe is not None and probe > now else None))
    if place.state == SCHEDULED and place.due_at > now:
        # Last, because of two that end together the first is named: the receiver's wish, which made the delay so long.
        waits.append(Wait(WaitReason.BACKOFF, place.due_at))
    return max(waits, key=lambda wait: wait.until or now, default=None)


def _crowded(place: Place, lane: Lane, *, now: datetime) -> Wait:
    if place.behind_another:
        return Wait(WaitReason.FIFO_ORDER, None)
    if lane.in_flight >= (1 if lane.fifo else lane.max_in_flight):
        return Wait(WaitReason.CONCURRENCY_LIMIT, None)
    seconds = _seconds_until_token(lane, now=now)
    if seconds > 0:
        return Wait(WaitReason.RATE_LIMIT, now + timedelta(seconds=seconds))
    return Wait(WaitReason.QUEUED, None)


def _seconds_until_token(lane: Lane, *, now: datetime) -> float:
    """Return how long the token bucket needs until one delivery may go; the claim counts the same way."""
    if not lane.rate_per_second or lane.tokens is None or lane.tokens_at is None:
        return 0.0
    gained = max(0.0, (now - lane.tokens_at).total_seconds()) * lane.rate_per_second
    tokens = min(float(lane.rate_burst or 1), lane.tokens + gained)
    return max(0.0, (1 - tokens) / lane.rate_per_second)
