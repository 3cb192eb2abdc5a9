"""The charts of a result file: latency by percentile, throughput and memory over time, CPU by process.

`python -m bench.plots results.json` draws them again, beside the file.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Any

import orjson
import typer

from bench.measure import Latency
from bench.svg import Axis, Line, bar_chart, line_chart

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The curve is drawn through so many percentiles, closer together towards the tail.
_STEPS_PER_NINE = 20
_NINES = 4
_UNITS = {"throughput": "deliveries per second", "memory": "MB, resident"}


def draw_all(results: Iterable[Mapping[str, Any]], *, folder: Path) -> list[Path]:
    """Write the charts of these results (as in the JSON file) into a folder; return their paths."""
    files = []
    for result in results:
        for name, chart in charts_of(result).items():
            file = folder / f"{result['scenario']}-{name}.svg"
            file.write_text(chart, encoding="utf-8")
            files.append(file)
    return files


def charts_of(result: Mapping[str, Any]) -> dict[str, str]:
    """Return the charts of one result, by what they show; what was not measured has none."""
    charts = {}
    scenario = result["scenario"]
    latencies = {name: Latency.decode(encoded) for name, encoded in result["histograms"].items()}
    if latencies:
        lines = [Line(name, curve(latency)) for name, latency in latencies.items() if latency.count]
        charts["latency"] = _chart(
            f"{scenario}: latency by percentile",
            lines,
            across="percentile of the requests",
            up="ms (logarithmic)",
            scales=("percentile", "log"),
        )
    for plot, unit in _UNITS.items():
        lines = [Line(s["name"], s["points"]) for s in result["series"] if s["plot"] == plot]
        if lines:
            charts[plot] = _chart(
                f"{scenario}: {plot}", lines, across="seconds", up=unit, scales=("linear", "linear")
            )
    charts["cpu"] = bar_chart(
        f"{scenario}: CPU by process, in cores, and for each delivery",
        [
            (role, cores, f"{cores:.2f} cores, {1e3 * result['cpu_seconds_per_1000'][role]:,.0f} µs")
            for role, cores in result["busy_cores"].items()
        ],
    )
    return charts


def curve(latency: Latency) -> list[tuple[float, float]]:
    """Return [percentile, ms], as far into the tail as there are requests to tell."""
    points = []
    for step in range(_STEPS_PER_NINE * _NINES + 1):
        rest = 10 ** (-step / _STEPS_PER_NINE)
        if rest * latency.count < 1:
            break
        points.append((100 * (1 - rest), latency.ms(100 * (1 - rest))))
    return points


def _chart(title: str, lines: list[Line], *, across: str, up: str, scales: tuple[Any, Any]) -> str:
    points = [point for line in lines for point in line.points] or [(0.0, 0.0)]
    return line_chart(
        title,
        lines,
        across=Axis.around(across, [x for x, _ in points], scale=scales[0]),
        up=Axis.around(up, [y for _, y in points], scale=scales[1]),
    )


def main(file: Path) -> None:
    """Draw the charts of a result file again, beside it."""
    for path in draw_all(orjson.loads(file.read_bytes())["results"], folder=file.parent):
        print(path)


if __name__ == "__main__":
    typer.run(main)
