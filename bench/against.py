"""Comparing two result files: `python -m bench.against OLD.json NEW.json`, or `--against` of a run.

Beside the plain ratio stands one that allows for the machine: of throughputs by their ceiling, of all else by
what one thread did in plain Python in the same run. Where the two ratios differ much, the machine had changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from bench.report import load, number, wide_console

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FASTER_IS_MORE = ("events/s", "deliveries/s")
_FASTER_IS_LESS = ("ms", "s", "µs")


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure in both runs."""

    scenario: str
    name: str
    unit: str
    old: float
    new: float
    ratio: float | None
    # As if the new run's machine had been as fast as the old one's; None where speed is not what is measured.
    normalised: float | None


def compare(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[Compared]:
    """Return the figures that both have, in the order of the new ones."""
    before = {result["scenario"]: result for result in old}
    compared = []
    for result in new:
        earlier = before.get(result["scenario"])
        if earlier is None:
            continue
        figures = {figure["name"]: figure for figure in earlier["figures"]}
        compared += [
            _compare(result, earlier, figure, figures[figure["name"]])
            for figure in result["figures"]
            if figure["name"] in figures
        ]
    return compared


def show_comparison(rows: list[Compared]) -> None:
    """Print the ratios."""
    table = Table(title="New to old; normalised: as if the machine had been equally fast")
    for name in ("scenario", "measured", "unit"):
        table.add_column(name)
    for name in ("old", "new", "ratio", "normalised"):
        table.add_column(name, justify="right")
    for row in rows:
        ratios = ["" if ratio is None else f"× {ratio:.2f}" for ratio in (row.ratio, row.normalised)]
        table.add_row(row.scenario, row.name, row.unit, number(row.old), number(row.new), *ratios)
    wide_console().print(table)


def _compare(
    result: Mapping[str, Any], earlier: Mapping[str, Any], figure: Mapping[str, Any], was: Mapping[str, Any]
) -> Compared:
    old, new = was["value"], figure["value"]
    ratio = new / old if old else None
    kind = figure.get("ceiling") or "python"
    speeds = (_speed(earlier, kind), _speed(result, kind))
    normalised = None
    if ratio is not None and speeds[0] and speeds[1]:
        machine = speeds[1] / speeds[0]
        if figure["unit"] in _FASTER_IS_MORE:
            normalised = ratio / machine
        elif figure["unit"] in _FASTER_IS_LESS:
            normalised = ratio * machine
    return Compared(
        scenario=result["scenario"],
        name=figure["name"],
        unit=figure["unit"],
        old=old,
        new=new,
        ratio=ratio,
        normalised=normalised,
    )


def _speed(result: Mapping[str, Any], kind: str) -> float | None:
    values = [ceiling["value"] for ceiling in result["ceilings"] if ceiling.get("kind") == kind]
    return sum(values) / len(values) if values else None


def main(old: Path, new: Path) -> None:
    """Compare two result files."""
    show_comparison(compare(load(old), load(new)))


if __name__ == "__main__":
    typer.run(main)
