"""How old rows are spread: over days, in whole events, with an exact number of attempts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.seed import seed, split
from bench.seed_rows import EVENTS_EACH, RETRIES

NOW = datetime(2026, 1, 31, 15, 30, tzinfo=UTC)


@given(
    st.integers(1, 10_000_000),
    st.integers(1, 25),
    st.datetimes(min_value=datetime(2026, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_parts_are_all_of_it(deliveries, days, now):
    """No delivery is lost or doubled between two days, each part is of one day, and the last ends now."""
    parts = split(deliveries, now=now, days=days)
    assert sum(part.deliveries for part in parts) == deliveries
    assert parts[0].first == 0
    for one, next_one in pairwise(parts):
        assert one.first + one.deliveries == next_one.first
    for part in parts:
        assert now - timedelta(days=days) <= part.begins < part.ends <= now
        assert part.begins.date() == part.day == (part.ends - timedelta(microseconds=1)).date()


def test_the_deliveries_of_an_event_are_of_one_day():
    """Every part but the last begins and ends between two events."""
    parts = split(1_000_001, now=NOW, days=7)
    assert {part.first % EVENTS_EACH for part in parts} == {0}


def test_days_are_filled_in_proportion():
    """The first and the last day are parts of days, the others are alike."""
    parts = split(700_000, now=NOW, days=7)
    assert len(parts) == 8
    assert all(abs(part.deliveries - 100_000) <= EVENTS_EACH for part in parts[1:-1])
    assert parts[-1].deliveries == pytest.approx(100_000 * 15.5 / 24, abs=EVENTS_EACH)


def test_retries_average_to_one():
    """With two attempts a delivery on average, the table of retries deals exactly one retry a delivery."""
    assert sum(RETRIES) == len(RETRIES)


@pytest.mark.parametrize("attempts", [99, 226])
def test_impossible_numbers_are_refused(attempts):
    """Fewer attempts than deliveries, or more than the schedule allows, are refused before anything is written."""
    with pytest.raises(ValueError, match="100 deliveries have from 100 to 225 attempts"):
        seed("postgresql+psycopg://nowhere", keys=[], deliveries=100, attempts=attempts)
