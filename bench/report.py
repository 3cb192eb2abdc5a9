"""Showing the results: a table for people, JSON for everything else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from bench.scenarios import Result

RESULTS = Path(__file__).parent / "results"


def write_json(results: list[Result], *, machine: dict[str, object], folder: Path = RESULTS) -> Path:
    """Write everything to a file named by the time, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(tz=UTC)
    file = folder / f"{now:%Y%m%dT%H%M%SZ}.json"
    document = {
        "at": now.isoformat(),
        "machine": machine,
        "results": [result.as_json() for result in results],
    }
    file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return file


def show(results: list[Result], *, machine: dict[str, object]) -> None:
    """Print the tables."""
    console = Console()
    console.print(
        f"{machine['cores']} cores of {machine['processor'] or 'unknown'}, Python {machine['python']}, "
        f"load before {machine['load_before']}"
    )
    figures = Table(title="Figures, and what the machine does without Bellwire")
    figures.add_column("scenario")
    figures.add_column("measured")
    figures.add_column("value", justify="right")
    figures.add_column("unit")
    figures.add_column("target", justify="right")
    for result in results:
        for figure in result.figures:
            figures.add_row(result.scenario, figure.name, _number(figure.value), figure.unit, figure.target)
        for figure in result.ceilings:
            figures.add_row("", f"[dim]{figure.name}[/]", f"[dim]{_number(figure.value)}[/]", figure.unit, "")
        figures.add_section()
    console.print(figures)

    tally = Table(title="By event id")
    for name in ("scenario", "accepted", "received", "lost", "duplicate", "unsigned", "unknown", "logged"):
        tally.add_column(name, justify="left" if name == "scenario" else "right")
    for result in results:
        count = result.tally
        values = (count.accepted, count.received, count.lost, count.duplicate, count.unsigned, count.unknown)
        tally.add_row(result.scenario, *(f"{value:,}" for value in (*values, result.attempts_logged)))
    console.print(tally)

    roles = list(results[0].cpu_seconds_per_1000)
    cpu = Table(title="CPU seconds per 1,000 deliveries / largest process in MB")
    cpu.add_column("scenario")
    for role in roles:
        cpu.add_column(role, justify="right")
    for result in results:
        cells = [
            f"{result.cpu_seconds_per_1000[role]:.3f} / {result.memory_mb.get(role, 0):.0f}" for role in roles
        ]
        cpu.add_row(result.scenario, *cells)
    console.print(cpu)
    for result in results:
        for note in result.notes:
            console.print(f"{result.scenario}: {note}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2f}"
