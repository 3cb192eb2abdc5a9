"""Axes of charts: round numbers on one, round times (UTC) on the other, and labels that are short and never cut off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from app.dashboard import words

if TYPE_CHECKING:
    from collections.abc import Sequence

# Beyond this a chart says nothing any more; it also keeps every calculation finite.
LARGEST = 1e15
# Nor is anything said by values that are all below this one.
SMALLEST = 1e-2
# At 390 px so many times stand beside each other without touching.
_MOST_TIMES = 5.5
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
# From this many seconds on an axis of times says minutes, and so on.
_TIME_UNITS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"))
_COUNT_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_INTERVALS = (
    *(timedelta(minutes=count) for count in (1, 2, 5, 10, 15, 30)),
    *(timedelta(hours=count) for count in (1, 2, 3, 6, 12)),
    *(timedelta(days=count) for count in (1, 2, 7, 14, 28, 91, 364)),
)
# An axis of values has so many parts, or one more.
_PARTS = 3
_EDGE = 0.07
_DAY = 86_400.0
# Round steps of an axis whose values are lengths of time, in seconds; below them and above, decimal ones are round.
_ROUND_SECONDS = (60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400)


class Unit(StrEnum):
    """What the values of a chart are."""

    COUNT = "count"
    MILLISECONDS = "milliseconds"
    SECONDS = "seconds"
    # From 0 to 1.
    SHARE = "share"

    def exactly(self, value: float | None) -> str:
        """Return a value as it stands in tables and hints."""
        if value is None:
            return "—"
        match self:
            case Unit.COUNT:
                return f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
            case Unit.MILLISECONDS:
                return words.milliseconds(value)
            case Unit.SECONDS:
                return words.duration(value)
            case Unit.SHARE:
                return words.percent(value)

    def shortly(self, value: float) -> str:
        """Return a round value as it stands at an axis."""
        if not value:
            return "0"
        match self:
            case Unit.COUNT:
                return _scaled(value, _COUNT_UNITS, "")
            case Unit.MILLISECONDS:
                return _scaled(value / 1_000, _TIME_UNITS, " ")
            case Unit.SECONDS:
                return _scaled(value, _TIME_UNITS, " ")
            case Unit.SHARE:
                return f"{value * 100:g}%"


@dataclass(frozen=True, slots=True)
class TimeTick:
    """A label of the axis of times: `place` from 0 (left) to 1, `anchor` start, mid or end."""

    place: float
    label: str
    anchor: str


def sound(value: float | None) -> float | None:
    """Return a value that can be drawn: what is no number is a gap, nothing is below zero or beyond all bounds."""
    if value is None or math.isnan(value):
        return None
    return min(max(0.0, float(value)), LARGEST)


def value_ticks(largest: float, unit: Unit) -> list[float]:
    """Return round values at equal distances from 0 to the first that is not below `largest`."""
    if unit is Unit.SHARE:
        return [0.0, 0.5, 1.0]
    # There are no halves of what is counted.
    largest = max(largest, 2.0 if unit is Unit.COUNT else SMALLEST) if largest > 0 else 2.0
    step = _step(largest / _PARTS, unit)
    count = max(1, math.ceil(largest / step - 1e-9))
    return [step * each for each in range(count + 1)]


def step_of(times: Sequence[datetime]) -> timedelta:
    """Return how far apart times are; a single one stands for a minute."""
    return times[1] - times[0] if len(times) > 1 else timedelta(minutes=1)


def time_ticks(times: Sequence[datetime]) -> list[TimeTick]:
    """Return labels at round times of what begins at the first and ends a step after the last."""
    if not times:
        return []
    first = times[0].astimezone(UTC)
    whole = step_of(times) * len(times)
    interval = next((each for each in _INTERVALS if whole / each <= _MOST_TIMES), _INTERVALS[-1])
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    ticks: list[TimeTick] = []
    at = midnight + math.ceil((first - midnight) / interval) * interval
    while at <= first + whole and len(ticks) <= _MOST_TIMES:
        place = (at - first) / whole
        anchor = "start" if place < _EDGE else "end" if place > 1 - _EDGE else "mid"
        ticks.append(TimeTick(place=place, label=time_label(at, interval), anchor=anchor))
        at += interval
    return ticks or [TimeTick(place=0.0, label=time_label(first, timedelta(0)), anchor="start")]


def time_label(at: datetime, interval: timedelta) -> str:
    """Return a time of day, or the date where a day begins."""
    if interval >= timedelta(days=1) or (at.hour, at.minute) == (0, 0):
        return f"{at.day} {at:%b}"
    return f"{at:%H:%M}"


def _step(rough: float, unit: Unit) -> float:
    """Return a round step that is not below `rough`."""
    if unit is Unit.MILLISECONDS:
        return 1_000 * _step(rough / 1_000, Unit.SECONDS)
    if unit is Unit.SECONDS and rough > _ROUND_SECONDS[0] / 2:
        if rough > _DAY:
            return _DAY * _decimal_step(rough / _DAY)
        return next(float(each) for each in _ROUND_SECONDS if each >= rough)
    step = _decimal_step(rough)
    return max(1.0, float(math.ceil(step))) if unit is Unit.COUNT else step


def _decimal_step(rough: float) -> float:
    magnitude = 10.0 ** math.floor(math.log10(rough))
    # A step that is too small by nothing but the last bit is not too small.
    return next(magnitude * each for each in _STEPS if magnitude * each >= rough * (1 - 1e-9))


def _scaled(value: float, units: tuple[tuple[float, str], ...], space: str) -> str:
    for size, unit in units:
        if value >= size:
            return f"{_digits(value / size)}{space}{unit}"
    return _digits(value) if not space else f"{_digits(value / units[-1][0])}{space}{units[-1][1]}"


def _digits(value: float) -> str:
    if value >= _COUNT_UNITS[-1][0]:
        return _scaled(value, _COUNT_UNITS, "") if value < _COUNT_UNITS[0][0] * 1_000 else f"{value:.0e}"
    return f"{value:.3g}"


def digits(value: float) -> str:
    """Return a number of a drawing, as short as it can be."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
