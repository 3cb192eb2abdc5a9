"""Charts as SVG, written by hand: lines over a linear, logarithmic or percentile axis, and horizontal bars.

A plotting library (matplotlib with NumPy, Pillow and fonts: 60 MB installed for each CI run) would be the
largest dependency of the project for three kinds of charts. These are a few kilobytes each, are sharp at any
size, can be read in a diff, and come out the same on every machine, so they can be committed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT = 720, 390
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 54, 74
# Told apart by the colour-blind, too, on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444")
BAR_HEIGHT = 26
NAME_WIDTH = 120
_FONT = "font-family='system-ui, sans-serif' font-size='12' fill='#222'"
_TICKS = 6
# What is smaller is nothing, in all units that are plotted.
SMALLEST = 1e-6
# Enough of the tail to see, and no more than the counts can tell.
_PERCENTILES = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)

Scale = Literal["linear", "log", "percentile"]


@dataclass(frozen=True, slots=True)
class Line:
    """One named line."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its title with the unit, its scale, and where it ends."""

    title: str
    scale: Scale
    low: float
    high: float

    @classmethod
    def around(cls, title: str, values: Sequence[float], *, scale: Scale = "linear") -> Axis:
        """Return an axis on which all values have room: from 0, or over whole decades."""
        if scale == "percentile":
            return cls(title, scale, 0.0, max(*values, 90.0))
        top = max((*values, SMALLEST))
        if scale == "log":
            bottom = min((value for value in values if value > SMALLEST), default=top)
            low = 10.0 ** math.floor(math.log10(bottom))
            return cls(title, scale, low, max(10.0 ** math.ceil(math.log10(top)), low * 10))
        return cls(title, scale, 0.0, _ticks(top)[-1])

    def place(self, value: float) -> float:
        """Return where a value is on the axis, from 0 to 1."""
        low, high = self._bend(self.low), self._bend(self.high)
        return (self._bend(value) - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the marks with their labels."""
        if self.scale == "percentile":
            return [(p, f"{p:g} %") for p in _PERCENTILES if p <= self.high]
        if self.scale == "log":
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [(10.0**n, f"{10.0**n:,g}") for n in range(first, last + 1)]
        return [(value, f"{value:,g}") for value in _ticks(self.high)]

    def _bend(self, value: float) -> float:
        if self.scale == "log":
            return math.log10(max(value, self.low))
        if self.scale == "percentile":
            return -math.log10(1 - min(value, 99.999) / 100)
        return value


def line_chart(title: str, lines: Sequence[Line], *, across: Axis, up: Axis) -> str:
    """Return a chart of lines, each named below it."""
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    parts = [_title(title)]
    for value, label in up.ticks():
        y = round(TOP + high * (1 - up.place(value)), 1)
        parts.append(f"<line x1='{LEFT}' y1='{y}' x2='{WIDTH - RIGHT}' y2='{y}' stroke='#ddd'/>")
        parts.append(f"<text x='{LEFT - 8}' y='{y + 4}' text-anchor='end' {_FONT}>{label}</text>")
    for value, label in across.ticks():
        x = round(LEFT + wide * across.place(value), 1)
        parts.append(f"<line x1='{x}' y1='{TOP}' x2='{x}' y2='{TOP + high}' stroke='#eee'/>")
        parts.append(f"<text x='{x}' y='{TOP + high + 16}' text-anchor='middle' {_FONT}>{label}</text>")
    parts.append(f"<text x='{LEFT}' y='{TOP - 8}' {_FONT}>{escape(up.title)}</text>")
    parts.append(
        f"<text x='{WIDTH - RIGHT}' y='{TOP + high + 34}' text-anchor='end' {_FONT}>{escape(across.title)}</text>"
    )
    for n, line in enumerate(lines):
        colour = COLOURS[n % len(COLOURS)]
        path = " ".join(
            f"{LEFT + wide * across.place(x):.1f},{TOP + high * (1 - up.place(y)):.1f}"
            for x, y in line.points
        )
        parts.append(f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        x, y = LEFT + (n % 3) * 220, TOP + high + 50 + 16 * (n // 3)
        parts.append(f"<rect x='{x}' y='{y - 9}' width='12' height='10' fill='{colour}'/>")
        parts.append(f"<text x='{x + 18}' y='{y}' {_FONT}>{escape(line.name)}</text>")
    return _document(parts, height=HEIGHT)


def bar_chart(title: str, bars: Sequence[tuple[str, float, str]]) -> str:
    """Return a chart of horizontal bars: name, length, and what is written beside it."""
    longest = max((value for _, value, _ in bars), default=0.0) or 1.0
    wide = WIDTH - NAME_WIDTH - 220
    parts = [_title(title)]
    for n, (name, value, label) in enumerate(bars):
        y = TOP + n * BAR_HEIGHT
        length = round(wide * max(value, 0.0) / longest, 1)
        parts.append(
            f"<text x='{NAME_WIDTH - 8}' y='{y + 14}' text-anchor='end' {_FONT}>{escape(name)}</text>"
        )
        parts.append(f"<rect x='{NAME_WIDTH}' y='{y}' width='{length}' height='18' fill='{COLOURS[0]}'/>")
        parts.append(f"<text x='{NAME_WIDTH + length + 8}' y='{y + 14}' {_FONT}>{escape(label)}</text>")
    return _document(parts, height=TOP + len(bars) * BAR_HEIGHT + 12)


def _title(text: str) -> str:
    return (
        "<text x='16' y='22' font-family='system-ui, sans-serif' font-size='14' font-weight='600' fill='#222'>"
        f"{escape(text)}</text>"
    )


def _document(parts: Sequence[str], *, height: int) -> str:
    body = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' "
        f"height='{height}'>\n<rect width='100%' height='100%' fill='white'/>\n{body}\n</svg>\n"
    )


def _ticks(top: float) -> list[float]:
    """Return round numbers from 0 to the first one that is not below `top`."""
    rough = top / (_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    count = math.ceil(top / step - 1e-9)
    return [round(n * step, 10) for n in range(count + 1)]
