"""Ranges of time in lists."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.dialects import postgresql

from app.core.ranges import TimeRange
from app.models import Event

TIMES = st.datetimes(timezones=st.just(UTC))


@given(st.none() | TIMES, st.none() | TIMES)
def test_any_range_becomes_a_query(gte, lt):
    """From year 1 to 9999: every time has bounds on ids, and each end that is given is in the query twice."""
    query = TimeRange(gte=gte, lt=lt).apply(select(Event.id), id_column=Event.id, created_at=Event.created_at)
    text = str(query.compile(dialect=postgresql.dialect()))
    assert text.count("events.created_at >=") == text.count("events.id >=") == (gte is not None)
    assert text.count("events.created_at <") - text.count("events.created_at <=") == (lt is not None)


def test_bounds_on_ids_leave_room_for_slow_transactions():
    """An id made within a minute of its row's time is inside the bounds."""
    at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    query = TimeRange(gte=at).apply(select(Event.id), id_column=Event.id, created_at=Event.created_at)
    bound = next(value for name, value in query.compile().params.items() if name.startswith("id"))
    assert (bound.int >> 80) == int(at.timestamp() * 1000) - 60_000
