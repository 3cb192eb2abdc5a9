"""Charts: what is drawn for ordinary, missing, single, absurd and hostile values."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dashboard.axes import LARGEST, Unit, time_ticks, value_ticks
from app.dashboard.charts import Series, lines, stacked
from app.dashboard.small_charts import Dot, Mark, dots, spark, time_axis

NOON = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
VALUES = st.one_of(st.none(), st.floats(), st.integers(min_value=-5, max_value=10**30))
COLUMNS = st.integers(min_value=0, max_value=60).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(st.lists(VALUES, min_size=count, max_size=count), min_size=1, max_size=4),
    )
)
UNITS = st.sampled_from(Unit)


def times(count: int, *, minutes: int = 30, since: datetime = NOON) -> list[datetime]:
    """So many moments, evenly apart."""
    return [since + timedelta(minutes=minutes * place) for place in range(count)]


def parse(figure: str) -> ET.Element:
    """The figure as a tree; a mistake in it is an error."""
    return ET.fromstring(f"<root>{figure}</root>")  # noqa: S314 - it is our own


def drawn(figure: str) -> list[str]:
    """The paths of the picture without those of the grid."""
    chart = next(node for node in parse(figure).iter("svg") if node.get("class") == "chart")
    return [node.get("d", "") for node in chart.iter("path") if node.get("class") != "grid"]


def numbers(text: str) -> list[float]:
    """The numbers of a path."""
    return [float(each) for each in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", text)]


# How long a figure takes is nothing that a busy machine may fail on.
@settings(deadline=None)
@given(COLUMNS, UNITS)
def test_whatever_is_counted_can_be_drawn(case: tuple[int, list[list[float | None]]], unit: Unit) -> None:
    """No value, however absurd, breaks a figure or leaves its frame."""
    count, columns = case
    series = [Series(f"s{place}", column, "ok") for place, column in enumerate(columns)]
    for draw in (stacked, lines):
        figure = draw(key="k", title="T", says="It says.", times=times(count), series=series, unit=unit)
        assert "nan" not in figure.lower()
        assert "inf" not in figure.lower()
        for path in drawn(figure):
            assert all(-0.9 <= number <= max(count, 100) for number in numbers(path)), path


@given(st.floats(min_value=0, max_value=LARGEST), UNITS)
def test_values_fit_under_the_highest_label(largest: float, unit: Unit) -> None:
    """Labels begin at zero, are evenly apart, few, all different, and reach the largest value."""
    ticks = value_ticks(min(largest, 1.0) if unit is Unit.SHARE else largest, unit)
    labels = [unit.shortly(tick) for tick in ticks]
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 5
    assert len(set(labels)) == len(labels), labels
    assert ticks[-1] >= min(largest, 1.0 if unit is Unit.SHARE else largest) * (1 - 1e-9)
    assert all(len(label) <= 8 for label in labels), labels


@given(
    st.integers(min_value=1, max_value=400),
    st.integers(min_value=1, max_value=2_000),
    st.integers(min_value=0, max_value=60 * 24 * 400),
)
def test_times_never_touch_or_leave_the_picture(count: int, minutes: int, later: int) -> None:
    """On an axis 300 px wide, labels of at most seven signs have room."""
    ticks = time_ticks(times(count, minutes=minutes, since=NOON + timedelta(minutes=later)))
    assert ticks
    spans = []
    for tick in ticks:
        width = 6 * len(tick.label)
        middle = tick.place * 300
        left = middle - {"start": 0.0, "mid": width / 2, "end": float(width)}[tick.anchor]
        spans.append((left, left + width))
    assert all(left >= -1 and right <= 301 for left, right in spans), spans
    assert all(right <= left for (_, right), (left, _) in pairwise(spans)), spans


@pytest.mark.parametrize(
    ("largest", "unit", "labels"),
    [
        (0, Unit.COUNT, ["0", "1", "2"]),
        (1, Unit.COUNT, ["0", "1", "2"]),
        (7, Unit.COUNT, ["0", "3", "6", "9"]),
        (1_450, Unit.COUNT, ["0", "500", "1k", "1.5k"]),
        (2_900_000, Unit.COUNT, ["0", "1M", "2M", "3M"]),
        (812, Unit.MILLISECONDS, ["0", "500 ms", "1 s"]),
        (15_000, Unit.MILLISECONDS, ["0", "5 s", "10 s", "15 s"]),
        (45, Unit.SECONDS, ["0", "20 s", "40 s", "1 min"]),
        (200, Unit.SECONDS, ["0", "2 min", "4 min"]),
        (40_000, Unit.SECONDS, ["0", "6 h", "12 h"]),
        (800_000, Unit.SECONDS, ["0", "5 d", "10 d"]),
        (0.4, Unit.MILLISECONDS, ["0", "0.2 ms", "0.4 ms"]),
        (0.973, Unit.SHARE, ["0", "50%", "100%"]),
    ],
)
def test_labels_of_values(largest: float, unit: Unit, labels: list[str]) -> None:
    """They are round, and whole where things are counted."""
    assert [unit.shortly(tick) for tick in value_ticks(largest, unit)] == labels


def test_labels_of_times_are_round_and_utc() -> None:
    """A day in half hours is told by every sixth hour, and midnight by its date."""
    assert [tick.label for tick in time_ticks(times(48))] == ["12:00", "18:00", "27 Nov", "06:00", "12:00"]
    east = [at.astimezone(None) for at in times(48)]
    assert [tick.label for tick in time_ticks(east)] == ["12:00", "18:00", "27 Nov", "06:00", "12:00"]


def test_a_figure_says_what_it_shows() -> None:
    """The picture is one image named by its visible sentence; a table behind it has every value but those of empty steps."""
    figure = stacked(
        key="attempts",
        title="Attempts",
        says="Attempts per 30 minutes: 7 succeeded, 2 failed.",
        times=times(4),
        series=[Series("succeeded", [3, 4, 0, None], "ok"), Series("failed", [None, 2, 0, None], "bad")],
    )
    root = parse(figure)
    image = next(node for node in root.iter("div") if node.get("role") == "img")
    sentence = next(node for node in root.iter("p") if node.get("id") == image.get("aria-labelledby"))
    assert sentence.text == "Attempts per 30 minutes: 7 succeeded, 2 failed."
    behind = next(node for node in root.iter("details") if node.get("class") == "behind")
    assert behind.get("id") == "attempts-table"
    rows = [[cell.text for cell in row] for row in behind.iter("tr")]
    assert rows == [["From (UTC)", "succeeded", "failed"], ["12:30", "4", "2"], ["12:00", "3", "—"]]


def test_rows_of_more_than_a_day_have_a_date() -> None:
    """Else two rows of a week's table would have one name."""
    figure = stacked(
        key="k", title="T", says="S.", times=times(3, minutes=720), series=[Series("a", [1, 2, 3], "ok")]
    )
    names = [node.text for node in parse(figure).iter("th") if node.get("scope") == "row"]
    assert names == ["27 Nov 12:00", "27 Nov 00:00", "26 Nov 12:00"]


def test_bars_stand_on_each_other() -> None:
    """The second series begins where the first one ends, and the sum of nine is as high as it is on an axis up to ten."""
    figure = stacked(
        key="k",
        title="T",
        says="S.",
        times=times(1),
        series=[Series("succeeded", [6], "ok"), Series("failed", [3], "bad")],
    )
    lower, upper = (numbers(path) for path in drawn(figure))
    assert lower[1:3] == [100, 40]
    assert upper[1:3] == [40, 10]


def test_one_failure_beside_a_million_successes_is_seen() -> None:
    """It is drawn higher than it is, because it is what people look for."""
    figure = stacked(
        key="k",
        title="T",
        says="S.",
        times=times(1),
        series=[Series("succeeded", [1_000_000], "ok"), Series("failed", [1], "bad")],
    )
    ys = numbers(drawn(figure)[1])
    assert max(ys) - min(ys) > 0.5


def test_a_zero_is_no_bar_and_a_gap_no_zero() -> None:
    """A line goes through zero, breaks at a gap, and shows a lone value as a dot."""
    figure = lines(
        key="k",
        title="T",
        says="S.",
        times=times(6),
        series=[Series("p50", [1, 0, None, math.nan, 4, None], "l1")],
    )
    line, lone = drawn(figure)
    assert line.count("M") == 1
    assert line.count("L") == 1
    assert line.endswith("100")
    assert lone.endswith("h0")
    assert not any(
        drawn(stacked(key="k", title="T", says="S.", times=times(2), series=[Series("a", [0, None], "ok")]))
    )


def test_what_people_named_stays_text() -> None:
    """Markup in a title, a sentence, a series or a hint is no markup on the page."""
    evil = '"><script>alert(1)</script>'
    figure = stacked(key="k", title=evil, says=evil, times=times(1), series=[Series(evil, [1], "ok")])
    for drawing in (
        figure,
        spark([1], "bad", says=evil),
        dots([Dot("ok", evil)], says=evil),
        time_axis([Mark(1, evil, evil)], says=evil),
    ):
        assert not list(parse(drawing).iter("script"))
        assert "<script" not in drawing


@given(st.lists(VALUES, max_size=200))
def test_sparks_fit_their_frame(values: list[float | None]) -> None:
    """Whatever the values are; a spark that says nothing is hidden from who does not see it."""
    drawing = spark(values, "bad")
    assert parse(drawing)[0].get("aria-hidden") == "true"
    assert "nan" not in drawing
    assert all(-20 <= number <= 80 for number in numbers(next(parse(drawing).iter("path")).get("d", "")))


def test_outcomes_differ_in_shape() -> None:
    """Who sees no colours tells what went well from what did not."""
    drawing = parse(dots([Dot("ok", "200"), Dot("bad", "503"), Dot("", "unknown")], says="1 of 3 failed."))
    shapes = [node.get("d", "").split(" ", 1)[1].split("m", 1)[1] for node in drawing.iter("path")]
    assert shapes[0] != shapes[1]
    assert [node.get("class") for node in drawing.iter("path")] == ["ok", "bad", "none"]
    assert drawing[0].get("aria-label") == "1 of 3 failed."


@given(st.lists(st.floats(), max_size=25), st.booleans())
def test_marks_stay_on_their_axis(seconds: list[float], even: bool) -> None:  # noqa: FBT001 - given by hypothesis
    """In their order, with the first and the last one named."""
    drawing = parse(time_axis([Mark(each, f"{each}") for each in seconds], says="S.", even=even))
    places = [float(node.get("cx", "").rstrip("%")) for node in drawing.iter("circle")]
    assert places == sorted(places)
    assert all(1 <= place <= 99 for place in places)
    assert len(places) == len(seconds)
    labels = [float(node.get("x", "").rstrip("%")) for node in drawing.iter("text")]
    assert labels == sorted(labels)
    assert bool(labels) == bool(seconds)
