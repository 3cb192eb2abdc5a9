"""Charts, drawn here as SVG and HTML: no script, colours by class, labels in their true size at every width.

`stacked` and `lines` return a whole figure: title, legend, one sentence that says what is seen, the picture (a single
image with that sentence for who does not see it), and a table of the same values behind it. `spark`, `dots` and
`time_axis` are small pictures for rows and panels. A value that is None (or NaN) is a gap, which is not a zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from markupsafe import Markup

from app.dashboard.axes import Unit, sound, time_ticks, value_ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

# The picture's own height; its width is the number of steps, and CSS gives both their size on the page.
_HEIGHT = 100.0
_BAR = 0.78
_SPARK_WIDTH, _SPARK_HEIGHT = 80.0, 20.0
_DOT = 12
_RING = "m2 6a4 4 0 1 0 8 0a4 4 0 1 0-8 0z"
# From the upper left corner of the place of a dot: full rounds, angles, and rings.
_SHAPES = {"ok": f"0{_RING}", "bad": "0m6 .5l5.5 5.5-5.5 5.5-5.5-5.5z", "": f"0{_RING}"}
# Marks that are closer than this share of the axis keep their hint, and lose their label.
_LABEL_SHARE = 0.13
_NOTHING = "Nothing to draw yet."
_LEFT_OUT = "Times at which there was nothing are left out."
_NOTHING_THERE = "There was nothing at any time."


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one kind, one for each time. `tone`: ok, bad, warn, info, none for bars; l1 to l4 for lines."""

    name: str
    values: Sequence[float | None]
    tone: str


@dataclass(frozen=True, slots=True)
class Dot:
    """One outcome in a row of them."""

    tone: str
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on an axis of time that begins at zero."""

    seconds: float
    label: str
    title: str = ""
    tone: str = ""


def stacked(
    *,
    key: str,
    title: str,
    says: str,
    times: Sequence[datetime],
    series: Sequence[Series],
    unit: Unit = Unit.COUNT,
) -> Markup:
    """Return bars, one for each step of time, in which the series stand on each other.

    `key` is the figure's id on its page.
    """
    columns = [[sound(value) for value in each.values[: len(times)]] for each in series]
    heights = [
        sum(column[place] or 0.0 for column in columns if place < len(column)) for place in range(len(times))
    ]
    ticks = value_ticks(max(heights, default=0.0), unit)
    bottoms = [0.0] * len(times)
    paths: list[Markup] = []
    for each, column in zip(series, columns, strict=True):
        bars: list[str] = []
        for place, value in enumerate(column):
            if not value:
                continue
            top = _y(bottoms[place] + value, ticks[-1])
            base = _y(bottoms[place], ticks[-1])
            bottoms[place] += value
            # What is there is seen, however small it is beside the rest.
            top = min(top, base - 0.8)
            bars.append(f"M{place + (1 - _BAR) / 2:g} {_n(base)}V{_n(top)}h{_BAR}V{_n(base)}z")
        paths.append(Markup('<path class="{}" d="{}"/>').format(f"bar {each.tone}", "".join(bars)))
    return _figure(key, title, says, times, series, columns, unit, ticks, Markup().join(paths), kind="bar")


def lines(
    *,
    key: str,
    title: str,
    says: str,
    times: Sequence[datetime],
    series: Sequence[Series],
    unit: Unit = Unit.MILLISECONDS,
    area: bool = False,
) -> Markup:
    """Return a line for each series; where a value is missing it is broken, and a lone value is a dot.

    `area` fills what is below the first line.
    """
    columns = [[sound(value) for value in each.values[: len(times)]] for each in series]
    largest = max((value for column in columns for value in column if value is not None), default=0.0)
    ticks = value_ticks(largest, unit)
    paths: list[Markup] = []
    for place, (each, column) in enumerate(zip(series, columns, strict=True)):
        runs = [_points(run, ticks[-1]) for run in _runs(column)]
        if area and not place:
            filled = "".join(
                f"M{run[0][0]:g} {_HEIGHT:g}L{_joined(run)}V{_HEIGHT:g}z" for run in runs if len(run) > 1
            )
            paths.append(Markup('<path class="{}" d="{}"/>').format(f"area {each.tone}", filled))
        drawn = "".join(f"M{_joined(run)}" for run in runs if len(run) > 1)
        lone = "".join(f"M{run[0][0]:g} {_n(run[0][1])}h0" for run in runs if len(run) == 1)
        paths.append(Markup('<path class="{}" d="{}"/>').format(f"line {each.tone}", drawn))
        if lone:
            paths.append(Markup('<path class="{}" d="{}"/>').format(f"line lone {each.tone}", lone))
    return _figure(key, title, says, times, series, columns, unit, ticks, Markup().join(paths), kind="line")


def spark(values: Sequence[float | None], tone: str = "", *, says: str = "") -> Markup:
    """Return small bars for a row of a table. Without a sentence it is hidden from who does not see it."""
    sizes = [sound(value) or 0.0 for value in values]
    largest = max(sizes, default=0.0) or 1.0
    step = _SPARK_WIDTH / (len(sizes) or 1)
    bars: list[str] = []
    for place, value in enumerate(sizes):
        height = max(1.0, (_SPARK_HEIGHT - 1) * value / largest) if value else 0.5
        bars.append(
            f"M{_n(place * step)} {_SPARK_HEIGHT:g}v-{_n(height)}h{_n(step - min(1.0, step * 0.3))}v{_n(height)}z"
        )
    name = Markup('role="img" aria-label="{}"').format(says) if says else Markup('aria-hidden="true"')
    return Markup('<svg class="spark {}" viewBox="0 0 80 20" {}>{}</svg>').format(
        tone, name, Markup('<path d="{}"/>').format("".join(bars))
    )


def dots(outcomes: Sequence[Dot], *, says: str) -> Markup:
    """Return outcomes in a row, oldest first: round ones went well, angular ones did not, hollow ones are unknown."""
    shapes = Markup().join(
        Markup('<path class="{}" d="M{} {}"><title>{}</title></path>').format(
            each.tone or "none", place * _DOT, _SHAPES.get(each.tone, _SHAPES[""]), each.title
        )
        for place, each in enumerate(outcomes)
    )
    width = max(1, len(outcomes)) * _DOT
    return Markup(
        '<svg class="dots" viewBox="0 0 {0} 12" width="{0}" height="12" role="img" aria-label="{1}">{2}</svg>'
    ).format(width, says, shapes)


def time_axis(marks: Sequence[Mark], *, says: str, even: bool = False) -> Markup:
    """Return moments on a line that begins at zero.

    Its scale grows, so that the first seconds and the last hours are both seen; `even` draws it to scale.
    """
    sound_marks = sorted(((sound(mark.seconds) or 0.0, mark) for mark in marks), key=lambda pair: pair[0])
    whole = max((seconds for seconds, _ in sound_marks), default=0.0) or 1.0
    drawn: list[Markup] = []
    labelled = -1.0
    for place, (seconds, mark) in enumerate(sound_marks):
        share = seconds / whole if even else math.log1p(seconds) / math.log1p(whole)
        at = f"{1 + 98 * share:.2f}%"
        drawn.append(
            Markup('<circle cx="{}" cy="10" r="5" class="{}"><title>{}</title></circle>').format(
                at, mark.tone or "none", mark.title or mark.label
            )
        )
        last = place == len(sound_marks) - 1
        # The last one says how long it takes in all, so its neighbour gives way to it.
        if last or (share - labelled >= _LABEL_SHARE and (1 - share >= _LABEL_SHARE)) or labelled < 0:
            anchor = "start" if share < 0.06 else "end" if share > 0.94 else "mid"  # noqa: PLR2004 - near an end
            drawn.append(
                Markup('<text x="{}" y="30" class="tick {}">{}</text>').format(at, anchor, mark.label)
            )
            labelled = share
    return Markup(
        '<svg class="time-axis" width="100%" height="36" role="img" aria-label="{}">'
        '<line x1="1%" x2="99%" y1="10" y2="10" class="grid"/>{}</svg>'
    ).format(says, Markup().join(drawn))


def _figure(
    key: str,
    title: str,
    says: str,
    times: Sequence[datetime],
    series: Sequence[Series],
    columns: list[list[float | None]],
    unit: Unit,
    ticks: list[float],
    drawn: Markup,
    *,
    kind: str,
) -> Markup:
    legend = Markup().join(
        Markup('<span><i class="{} {}"></i>{}</span>').format(kind, each.tone, each.name) for each in series
    )
    rows = _rows(times, columns)
    return Markup(
        '<figure class="figure" id="{key}"><figcaption>{title}<span class="legend">{legend}</span></figcaption>'
        '<p class="says" id="{key}-says">{says}</p>'
        '<div class="plot" role="img" aria-labelledby="{key}-says"><div class="values">{values}</div>'
        '<svg class="chart" viewBox="0 0 {width} 100" preserveAspectRatio="none">{grid}{drawn}'
        '<g class="hits">{hints}</g></svg>'
        '<svg class="times" height="16">{times}</svg></div>{table}</figure>'
    ).format(
        key=key,
        title=title,
        legend=legend,
        says=says or _NOTHING,
        values=Markup().join(
            Markup("<span>{}</span>").format(unit.shortly(tick)) for tick in reversed(ticks)
        ),
        width=max(1, len(times)),
        grid=_grid(ticks, len(times)),
        drawn=drawn,
        hints=_hints(rows, series, unit),
        times=_times(times),
        table=_table(key, title, rows, series, unit),
    )


_Row = tuple[datetime, list[float | None]]


def _rows(times: Sequence[datetime], columns: list[list[float | None]]) -> list[_Row]:
    return [
        (at.astimezone(UTC), [column[place] if place < len(column) else None for column in columns])
        for place, at in enumerate(times)
    ]


def _grid(ticks: list[float], width: int) -> Markup:
    d = "".join(f"M0 {_n(_y(tick, ticks[-1]))}h{max(1, width)}" for tick in ticks)
    return Markup('<path class="grid" d="{}"/>').format(d)


def _hints(rows: list[_Row], series: Sequence[Series], unit: Unit) -> Markup:
    """Return an unseen column over each step that says its values to who points at it."""
    return Markup().join(
        Markup('<rect x="{}"><title>{}</title></rect>').format(
            place,
            f"{_when(rows, at)}: "
            + ", ".join(
                f"{each.name} {unit.exactly(value)}" for each, value in zip(series, values, strict=True)
            ),
        )
        for place, (at, values) in enumerate(rows)
        if any(values)
    )


def _times(times: Sequence[datetime]) -> Markup:
    return Markup().join(
        Markup('<text x="{}%" y="12" class="tick {}">{}</text>').format(
            f"{tick.place * 100:.2f}", tick.anchor, tick.label
        )
        for tick in time_ticks(times)
    )


def _table(key: str, title: str, rows: list[_Row], series: Sequence[Series], unit: Unit) -> Markup:
    head = Markup().join(Markup('<th scope="col" class="num">{}</th>').format(each.name) for each in series)
    body = Markup().join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(
            _when(rows, at),
            Markup().join(Markup("<td>{}</td>").format(unit.exactly(value)) for value in values),
        )
        for at, values in reversed(rows)
        if any(values)
    )
    # A page that says nothing a hundred times is longer, and no clearer.
    left_out = Markup("<p>{}</p>").format(_LEFT_OUT if body else _NOTHING_THERE)
    return Markup(
        '<details class="behind" id="{0}-table"><summary>As a table</summary>'
        '<div class="scroll" role="region" tabindex="0" aria-label="{1}, as a table"><table>'
        '<caption class="vh">{1}, newest first, times in UTC</caption>'
        '<thead><tr><th scope="col">From (UTC)</th>{2}</tr></thead><tbody>{3}</tbody></table></div>{4}</details>'
    ).format(key, title, head, body, left_out)


def _when(rows: list[_Row], at: datetime) -> str:
    """Return when a step begins; the date where the figure is longer than a day."""
    day = "" if rows[0][0].date() == rows[-1][0].date() else f"{at.day} {at:%b} "
    return f"{day}{at:%H:%M}"


def _runs(column: list[float | None]) -> list[list[tuple[int, float]]]:
    """Return the stretches of a column without a gap, as places with values."""
    runs: list[list[tuple[int, float]]] = []
    whole = True
    for place, value in enumerate(column):
        if value is None:
            whole = True
            continue
        if whole:
            runs.append([])
            whole = False
        runs[-1].append((place, value))
    return runs


def _points(run: list[tuple[int, float]], largest: float) -> list[tuple[float, float]]:
    return [(place + 0.5, _y(value, largest)) for place, value in run]


def _joined(points: list[tuple[float, float]]) -> str:
    return "L".join(f"{x:g} {_n(y)}" for x, y in points)


def _y(value: float, largest: float) -> float:
    return _HEIGHT * (1 - min(1.0, value / largest))


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
