"""`python -m bench [scenario ...]`: measure Bellwire on this machine; without names, everything.

Exit codes: 0, measured; 1, an event was lost, doubled, unsigned or invented, or not every attempt was logged.
"""

from __future__ import annotations

import asyncio
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import Annotated

import typer

from bench.measure import machine
from bench.report import RESULTS, show, write_json
from bench.rig import console
from bench.scenarios import QUICK, SCENARIOS, Result, Size

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="SCENARIO...", help=", ".join(SCENARIOS))
    ] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds each: shows that it works.")] = False,
    results: Annotated[Path, typer.Option(help="Folder of the JSON files.")] = RESULTS,
) -> None:
    """Measure Bellwire with its settings as shipped, on an embedded Postgres and broker."""
    unknown = sorted(set(names or ()) - SCENARIOS.keys())
    if unknown:
        raise typer.BadParameter(f"no such scenario: {', '.join(unknown)}. There are: {', '.join(SCENARIOS)}")
    before = machine()
    found = asyncio.run(_measure(names or list(SCENARIOS), size=QUICK if quick else Size()))
    show(found, machine=before)
    console.print(f"Written to {write_json(found, machine=before, folder=results)}")
    if not all(result.tally.clean and result.attempts_logged >= result.tally.accepted for result in found):
        console.print("Something was lost, doubled, unsigned, invented or not logged: see the tally.")
        raise typer.Exit(1)


async def _measure(names: list[str], *, size: Size) -> list[Result]:
    results = []
    for name in names:
        console.print(f"{name}: {(SCENARIOS[name].__doc__ or '').strip()}")
        results.append(await SCENARIOS[name](size))
    return results


if __name__ == "__main__":
    app()
