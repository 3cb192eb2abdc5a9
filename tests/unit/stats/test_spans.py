"""Named spans: their points are whole steps, and what is read for them fills each point."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.error_classes import ErrorClass
from app.stats.rollups import GROUPS
from app.stats.spans import SHAPES, SPAN_NAMES, STEPS, Span, SpanName, floor_to

NAMES = st.sampled_from(SPAN_NAMES)
NOWS = st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis wants naive bounds


@given(name=NAMES, now=NOWS)
def test_points_are_whole_steps_up_to_now(name: SpanName, now: datetime) -> None:
    """The last point is the one that now is in, and all begin where the kept steps begin."""
    span = Span.ending(name, now)
    points = span.points()

    assert points[0] == span.since
    assert points[-1] <= now < span.until == points[-1] + timedelta(minutes=span.shape.step)
    assert all(point == floor_to(point, span.shape.step) for point in points)
    assert 0 <= span.seconds <= 60 * span.shape.length


@pytest.mark.parametrize("name", SPAN_NAMES)
def test_points_are_kept_steps_and_divide_sparks(name: SpanName) -> None:
    """What is read for a point is one row, and none lies in two points of the sparkline, of which there are 20 to 28."""
    shape = SHAPES[name]

    assert {shape.step, shape.coarse} < set(STEPS)
    assert shape.spark % shape.step == 0
    assert shape.length % shape.spark == 0
    assert 20 <= shape.length // shape.spark <= 28


def test_the_preceding_range_is_as_long() -> None:
    """What is compared is as long as what it is compared with, and ends where that begins."""
    span = Span.ending("24h", datetime(2026, 1, 31, 12, 7, tzinfo=UTC))

    assert span.preceding == datetime(2026, 1, 29, 12, 15, tzinfo=UTC)


def test_every_class_of_an_attempt_has_its_group() -> None:
    """A class that no chart shows would make the stack lower than the failures; `expired` is no attempt's."""
    grouped = [kind for kinds in GROUPS.values() for kind in kinds]

    assert sorted(grouped) == sorted(set(ErrorClass) - {ErrorClass.EXPIRED})
