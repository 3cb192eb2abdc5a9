"""Time: the database's."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.core.clock import DatabaseClock, rfc3339, rfc3339_ms


def test_tells_the_databases_time_whatever_this_machine_thinks():
    """After a sample the clock follows the database, an hour away from here."""
    clock = DatabaseClock()
    now = time.monotonic()
    clock.adjust(database_unix=time.time() + 3600, asked_at=now, answered_at=now)
    assert clock.adjusted
    assert clock.skew_seconds() == pytest.approx(-3600, abs=60)
    assert clock.now() - datetime.now(UTC) == pytest.approx(timedelta(hours=1), abs=timedelta(minutes=1))


def test_takes_the_middle_of_a_slow_answer():
    """The database is taken to have looked at its clock half-way between question and answer."""
    clock = DatabaseClock()
    now = time.monotonic()
    clock.adjust(database_unix=1_000_000.0, asked_at=now - 10, answered_at=now)
    assert clock.unix() == pytest.approx(1_000_005.0, abs=2)


def test_milliseconds_and_seconds_agree():
    """`unix_ms` is `unix` in whole milliseconds."""
    clock = DatabaseClock()
    assert clock.unix_ms() == pytest.approx(clock.unix() * 1000, abs=2000)


def test_writes_rfc_3339_in_utc():
    """A time of another zone is written in UTC with Z and microseconds."""
    value = datetime(2026, 1, 31, 13, 0, 0, 5, tzinfo=timezone(timedelta(hours=1)))
    assert (rfc3339(value), rfc3339_ms(value)) == (
        "2026-01-31T12:00:00.000005Z",
        "2026-01-31T12:00:00.000Z",
    )


def test_refuses_a_time_without_a_zone():
    """A naive time is a bug of ours, not a guess."""
    with pytest.raises(ValueError, match="zone"):
        rfc3339(datetime(2026, 1, 31, 12))  # noqa: DTZ001
