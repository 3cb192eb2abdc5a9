"""Showing the results: a table for people; JSON and charts for everything else."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from rich.console import Console
from rich.table import Table

from bench.plots import draw_all
from bench.result import meets

if TYPE_CHECKING:
    from bench.result import Result

RESULTS = Path(__file__).parent / "results"
FILE = "results.json"
WIDTH = 150


def new_folder() -> Path:
    """Return a folder named by the time, for one run."""
    return RESULTS / f"{datetime.now(tz=UTC):%Y%m%dT%H%M%SZ}"


def save(results: list[Result], *, machine: dict[str, object], folder: Path) -> Path:
    """Write JSON and charts into a folder and return the JSON file.

    Scenarios that an earlier run left in this folder, and this one did not measure, stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    at = datetime.now(tz=UTC).isoformat(timespec="seconds")
    measured = [{"at": at, "machine": machine, "commit": _commit(), **result.as_json()} for result in results]
    kept = load(file) if file.exists() else []
    names = {result.scenario for result in results}
    together = [result for result in kept if result["scenario"] not in names] + measured
    # A few hundred points and figures: indented, a change of one is one line of a diff, but points fill pages.
    lines = b",\n".join(orjson.dumps(result) for result in together)
    file.write_bytes(b'{"results": [\n' + lines + b"\n]}\n")
    draw_all(measured, folder=folder)
    return file


def load(file: Path) -> list[dict[str, Any]]:
    """Return the results of a file."""
    results: list[dict[str, Any]] = orjson.loads(file.read_bytes())["results"]
    return results


def show(results: list[Result], *, machine: dict[str, object]) -> None:
    """Print the tables."""
    console = wide_console()
    console.print(
        f"{machine['cores']} cores of {machine['processor'] or 'unknown'}, Python {machine['python']}, "
        f"load before {machine['load_before']}"
    )
    console.print(_figures(results))
    console.print(_tally(results))
    console.print(_cpu(results))
    for result in results:
        noise = result.noise
        console.print(
            f"{result.scenario}: others used {noise.foreign_cores:.2f} cores, {noise.stolen_cores:.2f} were "
            f"stolen, load {noise.load_before:g} → {noise.load_after:g}; {'; '.join(result.notes)}"
        )


def wide_console() -> Console:
    """Return a console for tables: in a file or a pipe as wide as they are."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def number(value: float) -> str:
    """Return a value as people read it: no more digits than it is worth."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.2f}"


def _figures(results: list[Result]) -> Table:
    table = Table(title="Figures, and what the machine does without Bellwire")
    for name in ("scenario", "measured"):
        table.add_column(name)
    for name in ("value", "unit", "target", "", "of ceiling"):
        table.add_column(name, justify="left" if name == "unit" else "right")
    signs = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}
    for result in results:
        for figure in result.figures:
            share = "" if figure.share is None else f"{100 * figure.share:.0f} % of {figure.ceiling}"
            met = signs[meets(figure.value, figure.target)]
            table.add_row(
                result.scenario, figure.name, number(figure.value), figure.unit, figure.target, met, share
            )
        for ceiling in result.ceilings:
            table.add_row("", f"[dim]{ceiling.name}[/]", f"[dim]{number(ceiling.value)}[/]", ceiling.unit)
        table.add_section()
    return table


def _tally(results: list[Result]) -> Table:
    table = Table(title="By event id (fanout: by event and endpoint)")
    for name in ("scenario", "accepted", "received", "lost", "duplicate", "unsigned", "unknown", "logged"):
        table.add_column(name, justify="left" if name == "scenario" else "right")
    for result in results:
        count = result.tally
        values = (count.accepted, count.received, count.lost, count.duplicate, count.unsigned, count.unknown)
        table.add_row(result.scenario, *(f"{value:,}" for value in (*values, result.attempts_logged)))
    return table


def _cpu(results: list[Result]) -> Table:
    roles = list(results[0].cpu_seconds_per_1000)
    table = Table(title="CPU seconds per 1,000 deliveries / cores busy / largest process in MB")
    table.add_column("scenario")
    for role in roles:
        table.add_column(role, justify="right")
    for result in results:
        cells = [
            f"{result.cpu_seconds_per_1000[role]:.3f} / {result.busy_cores[role]:.2f} / "
            f"{result.memory_mb.get(role, 0):.0f}"
            for role in roles
        ]
        table.add_row(result.scenario, *cells)
    return table


def _commit() -> str:
    """Return what was measured, if git can tell."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty"],  # noqa: S607 - whatever git is there
            cwd=RESULTS.parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except OSError:
        return ""
    return found.stdout.strip()
