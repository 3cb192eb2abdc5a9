"""The ranges of time that charts show, and the steps of the roll-ups that they are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

SpanName = Literal["1h", "4h", "24h", "7d"]
SPAN_NAMES: tuple[SpanName, ...] = get_args(SpanName)

# The steps that are kept, in minutes: one, and sums of shorter ones.
MINUTE, FIVE_MINUTES, QUARTER, TWO_HOURS, DAY = 1, 5, 15, 120, 1_440
STEPS = (MINUTE, FIVE_MINUTES, QUARTER, TWO_HOURS, DAY)
# Each step that is a sum, and the step that it sums.
SUMS = tuple(zip(STEPS[1:], STEPS, strict=False))

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a span is drawn, in minutes: its length, its points, and the points of a sparkline.

    `step` is also the kept step that points are read from; `coarse` is the one for percentiles of many endpoints.
    """

    length: int
    step: int
    spark: int
    coarse: int


SHAPES: dict[SpanName, Shape] = {
    "1h": Shape(length=60, step=MINUTE, spark=3, coarse=FIVE_MINUTES),
    "4h": Shape(length=240, step=FIVE_MINUTES, spark=10, coarse=QUARTER),
    "24h": Shape(length=1_440, step=QUARTER, spark=60, coarse=TWO_HOURS),
    "7d": Shape(length=10_080, step=TWO_HOURS, spark=360, coarse=DAY),
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
