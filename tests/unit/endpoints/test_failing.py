"""When an endpoint that fails is warned of, and when it is disabled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.endpoints.failing import DISABLE_AFTER, FEWEST_FAILURES, WARN_AFTER, Disable, Warn, decide

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY, THREE_DAYS, FIVE_DAYS = timedelta(hours=24), timedelta(hours=72), timedelta(days=5)

spans = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=30))
counts = st.integers(min_value=0, max_value=200)
warnings_given = st.integers(min_value=0, max_value=2)


@pytest.mark.parametrize(
    ("lasted", "failures", "warnings", "due"),
    [
        (DAY - SECOND, 1_000, 0, None),
        (DAY, 1, 0, Warn(1)),
        (DAY, 1, 1, None),
        (THREE_DAYS - SECOND, 30, 1, None),
        (THREE_DAYS, 30, 1, Warn(2)),
        (THREE_DAYS, 30, 2, None),
        # Upkeep came late: the first warning is not made up for.
        (THREE_DAYS, 30, 0, Warn(2)),
        (FIVE_DAYS - SECOND, 1_000, 2, None),
        (FIVE_DAYS, 20, 2, Disable()),
        (FIVE_DAYS, 20, 0, Disable()),
        (FIVE_DAYS, 19, 2, None),
        (FIVE_DAYS, 19, 1, Warn(2)),
        (timedelta(days=20), 19, 2, None),
        (timedelta(days=20), 20, 2, Disable()),
        # Another process' clock was ahead.
        (-SECOND, 1_000, 0, None),
    ],
)
def test_what_is_due(lasted: timedelta, failures: int, warnings: int, due: Warn | Disable | None) -> None:
    """Warnings at 24 and 72 hours, each once; disabled after 5 days and 20 failures."""
    assert decide(failing_since=NOW - lasted, failures=failures, warnings=warnings, now=NOW) == due


@given(failures=counts, warnings=warnings_given)
def test_nothing_is_due_of_what_does_not_fail(failures: int, warnings: int) -> None:
    """Without a failure since the last success nothing happens, whatever the counters say."""
    assert decide(failing_since=None, failures=failures, warnings=warnings, now=NOW) is None


@given(lasted=spans, failures=counts, warnings=warnings_given)
def test_disabled_means_five_days_and_twenty_failures(
    lasted: timedelta, failures: int, warnings: int
) -> None:
    """Neither alone is enough, and both are."""
    due = decide(failing_since=NOW - lasted, failures=failures, warnings=warnings, now=NOW)

    assert (due == Disable()) == (lasted >= DISABLE_AFTER and failures >= FEWEST_FAILURES)


@given(lasted=spans, failures=counts, warnings=warnings_given)
def test_no_warning_is_given_twice(lasted: timedelta, failures: int, warnings: int) -> None:
    """After a warning was noted nothing is due until more time has passed."""
    due = decide(failing_since=NOW - lasted, failures=failures, warnings=warnings, now=NOW)
    if not isinstance(due, Warn):
        return

    assert due.level > warnings
    assert lasted >= WARN_AFTER[due.level - 1]
    assert decide(failing_since=NOW - lasted, failures=failures, warnings=due.level, now=NOW) is None


@given(steps=st.lists(st.timedeltas(timedelta(minutes=1), timedelta(hours=40)), min_size=1, max_size=40))
def test_a_failing_endpoint_is_warned_of_at_most_twice(steps: list[timedelta]) -> None:
    """However upkeep is spaced, warnings rise, and the end is the disabling or nothing."""
    now, warnings, given_levels, ended = NOW, 0, [], False
    for step in steps:
        now += step
        due = decide(failing_since=NOW, failures=FEWEST_FAILURES, warnings=warnings, now=now)
        if isinstance(due, Warn):
            given_levels.append(due.level)
            warnings = due.level
        ended = ended or isinstance(due, Disable)

    assert given_levels in ([], [1], [2], [1, 2])
    assert ended == (now - NOW >= DISABLE_AFTER)
