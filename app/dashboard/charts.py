"""Charts, drawn here as SVG and HTML: no script, colours by class, labels in their true size at every width.

`stacked` and `lines` return a whole figure: title, legend, one sentence that says what is seen, the picture (a single
image with that sentence for who does not see it), and a table of the same values behind it. Small pictures for rows and
panels are in `small_charts.py`. A value that is None (or NaN) is a gap, which is not a zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from app.dashboard.axes import Unit, digits, sound, time_ticks, value_ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The picture's own height; its width is the number of steps, and CSS gives both their size on the page.
_HEIGHT = 100.0
_BAR = 0.78
_NOTHING = "Nothing to draw yet."
_LEFT_OUT = "Times at which there was nothing are left out."
_NOTHING_THERE = "There was nothing at any time."


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one kind, one for each time. `tone`: ok, bad, warn, info, none for bars; l1 to l4 for lines."""

    name: str
    values: Sequence[float | None]
    tone: str


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
            bars.append(f"M{place + (1 - _BAR) / 2:g} {digits(base)}V{digits(top)}h{_BAR}V{digits(base)}z")
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
        lone = "".join(f"M{run[0][0]:g} {digits(run[0][1])}h0" for run in runs if len(run) == 1)
        paths.append(Markup('<path class="{}" d="{}"/>').format(f"line {each.tone}", drawn))
        if lone:
            paths.append(Markup('<path class="{}" d="{}"/>').format(f"line lone {each.tone}", lone))
    return _figure(key, title, says, times, series, columns, unit, ticks, Markup().join(paths), kind="line")


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
    d = "".join(f"M0 {digits(_y(tick, ticks[-1]))}h{max(1, width)}" for tick in ticks)
    return Markup('<path class="grid" d="{}"/>').format(d)


def _hints(rows: list[_Row], series: Sequence[Series], unit: Unit) -> Markup:
    """Return an unseen column over each step that says its values to who points at it."""
    names = [each.name for each in series]
    return _joined_parts(
        f'<rect x="{place}"><title>{escape(_said(_when(rows, at), names, values, unit))}</title></rect>'
        for place, (at, values) in enumerate(rows)
        if any(values)
    )


def _said(when: str, names: list[str], values: list[float | None], unit: Unit) -> str:
    said = (f"{name} {unit.exactly(value)}" for name, value in zip(names, values, strict=True))
    return f"{when}: {', '.join(said)}"


def _times(times: Sequence[datetime]) -> Markup:
    return Markup().join(
        Markup('<text x="{}%" y="12" class="tick {}">{}</text>').format(
            f"{tick.place * 100:.2f}", tick.anchor, tick.label
        )
        for tick in time_ticks(times)
    )


def _table(key: str, title: str, rows: list[_Row], series: Sequence[Series], unit: Unit) -> Markup:
    head = Markup().join(Markup('<th scope="col" class="num">{}</th>').format(each.name) for each in series)
    body = _joined_parts(
        f'<tr><th scope="row">{escape(_when(rows, at))}</th>'
        + "".join([f"<td>{escape(unit.exactly(value))}</td>" for value in values])
        + "</tr>"
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


def _joined_parts(parts: Iterable[str]) -> Markup:
    """Join parts whose values are escaped: a figure has a thousand, and formatting `Markup` for each takes half its time."""
    return Markup("".join(parts))  # noqa: S704 - each value in them was escaped


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
    return "L".join(f"{x:g} {digits(y)}" for x, y in points)


def _y(value: float, largest: float) -> float:
    return _HEIGHT * (1 - min(1.0, value / largest))
