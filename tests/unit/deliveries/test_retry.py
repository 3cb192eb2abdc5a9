"""When to try again: a table of examples, and what holds for all of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.settings import Settings
from app.deliveries.retry import (
    FULL_JITTER_FLOOR_SECONDS,
    JITTER_HIGH,
    JITTER_LOW,
    MAX_RETRY_AFTER_SECONDS,
    draw_full_jitter,
    draw_jitter,
    next_delay_seconds,
)

SCHEDULES = st.lists(st.integers(0, 604_800), min_size=1, max_size=20)
JITTERS = st.floats(JITTER_LOW, JITTER_HIGH)
DAY = 86_400


@pytest.mark.parametrize(
    ("step", "jitter", "retry_after", "expected"),
    [
        (0, 1.0, None, 5.0),
        (1, 1.0, None, 30.0),
        (2, 1.0, None, None),
        (9, 1.0, None, None),
        (0, 0.8, None, 4.0),
        (1, 1.2, None, 36.0),
        # The receiver can lengthen a delay, not shorten it.
        (0, 1.0, 60.0, 60.0),
        (1, 1.0, 3.0, 30.0),
        (0, 1.0, 0.0, 5.0),
        (0, 1.0, -7.0, 5.0),
        (0, 1.0, 1e12, DAY),
        # It cannot make a used-up schedule longer.
        (2, 1.0, 60.0, None),
    ],
)
def test_next_delay(step: int, jitter: float, retry_after: float | None, expected: float | None) -> None:
    """The schedule's delay with its jitter, or what the receiver asked for, whichever is longer."""
    assert next_delay_seconds([5, 30], step, jitter=jitter, retry_after_seconds=retry_after) == expected


@given(schedule=SCHEDULES, step=st.integers(0, 30), jitter=JITTERS, asked=st.none() | st.floats(-1e9, 1e15))
def test_delays_stay_within_their_bounds(
    schedule: list[int], step: int, jitter: float, asked: float | None
) -> None:
    """There are as many delays as the schedule has; each is its own ± 20 %, lengthened by 24 hours at most."""
    delay = next_delay_seconds(schedule, step, jitter=jitter, retry_after_seconds=asked)

    if step >= len(schedule):
        assert delay is None
    else:
        assert delay is not None
        assert delay >= schedule[step] * JITTER_LOW
        assert delay <= max(schedule[step] * JITTER_HIGH, 0 if asked is None else MAX_RETRY_AFTER_SECONDS)


@given(schedule=SCHEDULES, step=st.integers(0, 19), jitter=JITTERS, asked=st.floats(0, DAY))
def test_receiver_is_never_asked_too_early(
    schedule: list[int], step: int, jitter: float, asked: float
) -> None:
    """No attempt comes before the moment that the receiver named."""
    delay = next_delay_seconds(schedule, step, jitter=jitter, retry_after_seconds=asked)

    assert delay is None or delay >= asked


def test_jitter_spreads_over_its_range() -> None:
    """Retries of one moment do not come back together."""
    drawn = [draw_jitter() for _ in range(2_000)]

    assert JITTER_LOW <= min(drawn) < JITTER_LOW + 0.05
    assert JITTER_HIGH - 0.05 < max(drawn) <= JITTER_HIGH


def test_default_schedule_gives_twelve_attempts_over_three_days() -> None:
    """The default is what the documentation promises."""
    schedule = Settings.model_fields["retry_schedule"].default
    delays = [next_delay_seconds(schedule, step, jitter=1.0) for step in range(12)]

    assert delays[-1] is None
    assert 3.1 * DAY < sum(delay for delay in delays if delay is not None) < 3.3 * DAY


@pytest.mark.parametrize(
    ("jitter", "retry_after", "expected"),
    [(0.0, None, 1.0), (0.01, None, 1.0), (0.5, None, 15.0), (1.0, None, 30.0), (0.0, 7.0, 7.0)],
)
def test_full_jitter_has_a_floor(jitter: float, retry_after: float | None, expected: float) -> None:
    """A delay is anywhere between a second and its whole length; the receiver can still lengthen it."""
    delay = next_delay_seconds(
        [30],
        0,
        jitter=jitter,
        least_seconds=FULL_JITTER_FLOOR_SECONDS,
        retry_after_seconds=retry_after,
    )

    assert delay == expected


def test_full_jitter_spreads_over_everything() -> None:
    """What fails together comes back at any time of the delay."""
    drawn = [draw_full_jitter() for _ in range(1_000)]

    assert 0 <= min(drawn) < 0.1
    assert 0.9 < max(drawn) <= 1
