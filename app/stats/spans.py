"""The ranges of time that charts show, and the steps of the roll-ups that they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

SpanName = Literal["1h", "4h", "24h", "7d"]
SPAN_NAMES: tuple[SpanName, ...] = get_args(SpanName)

# The steps that are kept: a minute, and sums of 15 minutes and of 2 hours.
MINUTE, QUARTER, TWO_HOURS = 1, 15, 120
# Each step that is a sum, and the step that it sums.
SUMS = ((QUARTER, MINUTE), (TWO_HOURS, QUARTER))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a span is drawn, in minutes: its length, its points, the points of a sparkline, the step that is read."""

    length: int
    step: int
    spark: int
    kept: int


SHAPES: dict[SpanName, Shape] = {
    "1h": Shape(length=60, step=1, spark=3, kept=MINUTE),
    "4h": Shape(length=240, step=5, spark=10, kept=MINUTE),
    "24h": Shape(length=1_440, step=15, spark=60, kept=QUARTER),
    "7d": Shape(length=10_080, step=120, spark=360, kept=TWO_HOURS),
}


@dataclass(frozen=True, slots=True)
class Span:
    """A range of time: from `since` (included) to `until` (not included), which is the end of the step that `now` is in."""

    name: SpanName
    since: datetime
    until: datetime
    now: datetime

    @classmethod
    def ending(cls, name: SpanName, now: datetime) -> Span:
        """Return the range of this name up to now."""
        shape = SHAPES[name]
        step = timedelta(minutes=shape.step)
        until = floor_to(now, shape.step) + step
        return cls(name=name, since=until - timedelta(minutes=shape.length), until=until, now=now)

    @property
    def shape(self) -> Shape:
        """Its points and the step that is read for it."""
        return SHAPES[self.name]

    @property
    def preceding(self) -> datetime:
        """The beginning of the range of the same length before it."""
        return self.since - (self.until - self.since)

    @property
    def seconds(self) -> float:
        """How much of it has passed."""
        return (self.now - self.since).total_seconds()

    def points(self) -> list[datetime]:
        """Return the beginning of each of its steps, oldest first."""
        step = timedelta(minutes=self.shape.step)
        return [self.since + n * step for n in range(self.shape.length // self.shape.step)]

    @property
    def sparks(self) -> int:
        """How many points a sparkline has: 20 to 28."""
        return self.shape.length // self.shape.spark


def floor_to(value: datetime, minutes: int) -> datetime:
    """Return the beginning of the step that a time is in; steps are counted from 1970, in UTC."""
    return value - (value - _EPOCH) % timedelta(minutes=minutes)
