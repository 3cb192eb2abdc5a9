"""Why a delivery waits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.deliveries.waiting import (
    LEASED,
    READY,
    SCHEDULED,
    TRIGGER_TEST,
    Lane,
    Place,
    Wait,
    WaitReason,
    next_attempt_at,
    wait_of,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SOON, LATER = NOW + timedelta(seconds=30), NOW + timedelta(minutes=5)
PAST = NOW - timedelta(seconds=10)

FREE = Lane(
    enabled=True,
    paused=False,
    fifo=False,
    in_flight=0,
    max_in_flight=10,
    held_until=None,
    held_reason=None,
    circuit_state="closed",
    next_probe_at=None,
    rate_per_second=None,
    rate_burst=None,
    tokens=None,
    tokens_at=None,
)
DUE = Place(state=READY, trigger=0, forced=False, due_at=PAST, behind_another=False)
LATER_DUE = replace(DUE, state=SCHEDULED, due_at=SOON)
FORCED = replace(DUE, forced=True, trigger=1)
TEST = replace(FORCED, trigger=TRIGGER_TEST)
HELD = {"held_until": LATER, "held_reason": "retry_after"}
EMPTY_BUCKET = {"rate_per_second": 0.5, "rate_burst": 5, "tokens": 0.0, "tokens_at": NOW}


@pytest.mark.parametrize(
    ("place", "lane", "reason", "until", "next_at"),
    [
        (DUE, {}, WaitReason.QUEUED, None, PAST),
        (LATER_DUE, {}, WaitReason.BACKOFF, SOON, SOON),
        (replace(LATER_DUE, due_at=PAST), {}, WaitReason.QUEUED, None, PAST),
        (DUE, {"enabled": False}, WaitReason.ENDPOINT_DISABLED, None, None),
        (LATER_DUE, {"enabled": False, "paused": True}, WaitReason.ENDPOINT_DISABLED, None, None),
        (DUE, {"paused": True} | HELD, WaitReason.ENDPOINT_PAUSED, None, None),
        (DUE, HELD, WaitReason.RETRY_AFTER, LATER, LATER),
        (LATER_DUE, HELD, WaitReason.RETRY_AFTER, LATER, LATER),
        (replace(LATER_DUE, due_at=LATER), HELD, WaitReason.RETRY_AFTER, LATER, LATER),
        (LATER_DUE, HELD | {"held_until": NOW}, WaitReason.BACKOFF, SOON, SOON),
        (replace(LATER_DUE, due_at=LATER), HELD | {"held_until": SOON}, WaitReason.BACKOFF, LATER, LATER),
        (
            DUE,
            {"fifo": True, "held_until": SOON, "held_reason": "fifo_backoff"},
            WaitReason.BACKOFF,
            SOON,
            SOON,
        ),
        (
            replace(DUE, behind_another=True),
            {"fifo": True, "held_until": SOON, "held_reason": "fifo_backoff"},
            WaitReason.FIFO_ORDER,
            None,
            PAST,
        ),
        (DUE, {"circuit_state": "open", "next_probe_at": SOON}, WaitReason.CIRCUIT_OPEN, SOON, SOON),
        (DUE, {"circuit_state": "open", "next_probe_at": PAST}, WaitReason.CIRCUIT_OPEN, None, PAST),
        (DUE, {"circuit_state": "open", "next_probe_at": None}, WaitReason.CIRCUIT_OPEN, None, PAST),
        (DUE, {"circuit_state": "half_open"}, WaitReason.CIRCUIT_OPEN, None, PAST),
        (DUE, {"fifo": True, "blocked": True}, WaitReason.FIFO_BLOCKED, None, None),
        (DUE, {"fifo": True, "blocked": True, "paused": True}, WaitReason.ENDPOINT_PAUSED, None, None),
        (
            replace(DUE, behind_another=True),
            {"fifo": True, "blocked": True},
            WaitReason.FIFO_BLOCKED,
            None,
            None,
        ),
        (replace(DUE, blocks=True), {"fifo": True, "blocked": True}, WaitReason.QUEUED, None, PAST),
        (FORCED, {"fifo": True, "blocked": True}, WaitReason.QUEUED, None, PAST),
        (DUE, {"in_flight": 10}, WaitReason.CONCURRENCY_LIMIT, None, PAST),
        (DUE, {"in_flight": 9}, WaitReason.QUEUED, None, PAST),
        (DUE, {"fifo": True, "in_flight": 1}, WaitReason.CONCURRENCY_LIMIT, None, PAST),
        (DUE, EMPTY_BUCKET, WaitReason.RATE_LIMIT, NOW + timedelta(seconds=2), NOW + timedelta(seconds=2)),
        (DUE, EMPTY_BUCKET | {"tokens_at": NOW - timedelta(seconds=2)}, WaitReason.QUEUED, None, PAST),
        (FORCED, HELD | {"circuit_state": "open"}, WaitReason.QUEUED, None, PAST),
        (FORCED, {"in_flight": 10}, WaitReason.CONCURRENCY_LIMIT, None, PAST),
        (FORCED, {"paused": True}, WaitReason.QUEUED, None, PAST),
        (TEST, {"enabled": False, "paused": True} | HELD, WaitReason.QUEUED, None, PAST),
    ],
)
def test_reason_and_time(
    place: Place,
    lane: dict[str, object],
    reason: WaitReason,
    until: datetime | None,
    next_at: datetime | None,
) -> None:
    """What a person must change comes first, then what time changes, then the crowd; the next time agrees with it."""
    where = replace(FREE, **lane)
    assert wait_of(place, where, now=NOW) == Wait(reason, until)
    assert next_attempt_at(place, where, now=NOW) == next_at


def test_what_is_being_sent_does_not_wait() -> None:
    """A leased delivery has no reason to wait and no next time, whatever the endpoint's state."""
    place = replace(DUE, state=LEASED)
    lane = replace(FREE, enabled=False, in_flight=10)
    assert wait_of(place, lane, now=NOW) is None
    assert next_attempt_at(place, lane, now=NOW) is None
