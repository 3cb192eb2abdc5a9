"""The charts: well-formed, inside their frame, and true to the values."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import Latency
from bench.plots import charts_of, curve
from bench.svg import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Line, bar_chart, line_chart
from tests.unit.bench.making import make_result

VALUES = st.floats(min_value=0, max_value=1e9, allow_nan=False)


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=30), st.sampled_from(["linear", "log"]))
def test_every_point_is_inside_the_frame(points, scale):
    """Whatever the values, the line stays between the axes."""
    chart = line_chart(
        "any",
        [Line("a", points)],
        across=Axis.around("x", [x for x, _ in points]),
        up=Axis.around("y", [y for _, y in points], scale=scale),
    )
    for x, y in _points(chart):
        assert LEFT - 0.1 <= x <= WIDTH - RIGHT + 0.1
        assert TOP - 0.1 <= y <= HEIGHT


@given(st.lists(VALUES, min_size=1, max_size=10))
def test_ticks_are_round_and_cover_the_values(values):
    """A linear axis begins at 0 and ends at or just above the largest value, with few marks."""
    axis = Axis.around("x", values)
    marks = [value for value, _ in axis.ticks()]
    assert marks[0] == 0
    assert marks[-1] >= max(values) * (1 - 1e-6)
    assert 2 <= len(marks) <= 8


def test_a_larger_value_stands_higher():
    """On a logarithmic axis equal factors are equal distances; on the percentile axis each nine is one step."""
    up = Axis.around("ms", [1.0, 1_000.0], scale="log")
    assert up.place(10.0) == pytest.approx(1 / 3)
    across = Axis.around("%", [0.0, 99.9], scale="percentile")
    assert [across.place(p) for p in (0.0, 90.0, 99.0, 99.9)] == pytest.approx([0, 1 / 3, 2 / 3, 1])


def test_names_cannot_break_the_chart():
    """What is written on a chart is escaped."""
    chart = bar_chart("a < b & c", [("<x>", 1.0, "5 < 6")])
    texts = [element.text for element in ET.fromstring(chart).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314
    assert texts == ["a < b & c", "<x>", "5 < 6"]


def test_bars_are_as_long_as_their_values():
    """Half the value, half the bar; nothing, no bar."""
    chart = bar_chart("bars", [("a", 2.0, ""), ("b", 1.0, ""), ("c", 0.0, "")])
    a, b, c = (float(width) for width in re.findall(r"width='([0-9.]+)' height='18'", chart))
    assert a == pytest.approx(2 * b)
    assert c == 0


def test_bars_of_nothing_are_a_chart_too():
    """A role that used no CPU time breaks nothing."""
    chart = bar_chart("none", [("a", 0.0, "0")])
    assert ET.fromstring(chart).tag.endswith("svg")  # noqa: S314
    assert re.findall(r"width='([0-9.a-z]+)' height='18'", chart) in ([], ["0"], ["0.0"])


def test_a_curve_goes_no_further_than_its_requests_tell():
    """With 100 requests the curve ends at the 99th percentile, and rises all the way."""
    points = curve(Latency.of(n * 10**6 for n in range(1, 101)))
    percentiles = [p for p, _ in points]
    assert percentiles[0] == 0
    assert percentiles[-1] == pytest.approx(99)
    assert [ms for _, ms in points] == sorted(ms for _, ms in points)


def test_each_result_has_the_charts_of_what_it_measured():
    """Latency and throughput where there are such; CPU always; every chart is XML."""
    full = orjson.loads(orjson.dumps(make_result().as_json()))
    bare = orjson.loads(orjson.dumps(make_result(latencies={}, series=[]).as_json()))
    assert list(charts_of(full)) == ["latency", "throughput", "cpu"]
    assert list(charts_of(bare)) == ["cpu"]
    for chart in charts_of(full).values():
        ET.fromstring(chart)  # noqa: S314


def _points(chart):
    (path,) = re.findall(r"polyline points='([^']*)'", chart)
    return [tuple(float(part) for part in point.split(",")) for point in path.split()]
