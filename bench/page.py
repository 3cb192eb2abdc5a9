"""The tables of docs/performance.md, written from result files: `python -m bench.page RESULTS.json [MORE.json ...]`.

Of several runs the first one's figures are shown, with the range over all runs; latencies are merged, so their
percentiles are those of all requests of all runs together.
"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Any

import typer

from bench.measure import Latency
from bench.report import load, number
from bench.result import meets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PERCENTILES = (50, 90, 95, 99, 99.9, 100)
_SIGNS = {True: "✓", False: "✗", None: ""}


def page(runs: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    """Return the markdown of one or several runs."""
    first = runs[0]
    parts = [
        _table(
            "What was measured",
            ("scenario", "measured", "value", "target", "", "of its ceiling"),
            _figures(runs),
        ),
        _table("Without Bellwire, in the same run", ("scenario", "ceiling", "value"), _ceilings(first)),
        _table(
            "Latency in ms, of all runs together",
            ("scenario", "from", "requests", *(f"p{p:g}" if p < 100 else "worst" for p in _PERCENTILES)),
            _latencies(runs),
        ),
        _table(
            "By event id",
            (
                "scenario",
                "accepted",
                "received",
                "lost",
                "duplicate",
                "unsigned",
                "unknown",
                "attempts logged",
            ),
            _tallies(first),
        ),
        _table(
            "CPU for a delivery, in µs",
            ("scenario", *_roles(first)),
            [
                (
                    r["scenario"],
                    *(f"{1e3 * r['cpu_seconds_per_1000'].get(role, 0):,.0f}" for role in _roles(first)),
                )
                for r in first
            ],
        ),
        _table(
            "How quiet the machine was",
            ("scenario", "at", "commit", "cores used by others", "cores stolen", "load before", "load after"),
            [
                (
                    *(r["scenario"], r.get("at", ""), r.get("commit", "")),
                    *(
                        number(r["noise"][name])
                        for name in ("foreign_cores", "stolen_cores", "load_before", "load_after")
                    ),
                )
                for r in first
            ],
        ),
    ]
    notes = [f"- `{result['scenario']}`: {note}" for result in first for note in result["notes"]]
    return "\n\n".join([*parts, "\n".join(notes)]) + "\n"


def _figures(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for result in runs[0]:
        for figure in result["figures"]:
            values = [
                other["value"]
                for run in runs
                for same in run
                if same["scenario"] == result["scenario"]
                for other in same["figures"]
                if other["name"] == figure["name"]
            ]
            value = f"{number(figure['value'])} {figure['unit']}"
            if len(values) > 1:
                value += f" ({number(min(values))} to {number(max(values))})"
            share = "" if figure["share"] is None else f"{100 * figure['share']:.0f} % ({figure['ceiling']})"
            met = _SIGNS[meets(figure["value"], figure["target"])]
            rows.append((result["scenario"], figure["name"], value, figure["target"], met, share))
    return rows


def _ceilings(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (result["scenario"], ceiling["name"], f"{number(ceiling['value'])} {ceiling['unit']}")
        for result in results
        for ceiling in result["ceilings"]
    ]


def _latencies(runs: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[str, ...]]:
    encoded: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for result in run:
            for name, text in result["histograms"].items():
                encoded.setdefault((result["scenario"], name), []).append(text)
    rows = []
    for (scenario, name), texts in encoded.items():
        merged = Latency.decode(*texts)
        rows.append((scenario, name, f"{merged.count:,}", *(f"{merged.ms(p):,.1f}" for p in _PERCENTILES)))
    return rows


def _tallies(results: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    names = ("accepted", "received", "lost", "duplicate", "unsigned", "unknown")
    return [
        (r["scenario"], *(f"{r['tally'][name]:,}" for name in names), f"{r['attempts_logged']:,}")
        for r in results
    ]


def _roles(results: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(results[0]["cpu_seconds_per_1000"])


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"### {title}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def main(files: list[Path]) -> None:
    """Write the tables to standard output."""
    print(page([load(file) for file in files]), end="")


if __name__ == "__main__":
    typer.run(main)
