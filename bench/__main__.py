"""`python -m bench [scenario ...]`: measure Bellwire on this machine; without names, everything.

Exit codes: 0, measured; 1, an event was lost, doubled, unsigned or invented, not every attempt was logged, or
a scenario could not be measured. A target that was missed is shown, and no error: machines differ.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import Annotated

import typer

from bench.against import compare, show_comparison
from bench.machine import machine
from bench.opening import Bench
from bench.report import load, new_folder, save, show
from bench.rig import console
from bench.scenarios import SCENARIOS
from bench.sizes import QUICK, Size

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="SCENARIO...", help=", ".join(SCENARIOS))
    ] = None,
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds each: shows that it works.")] = False,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Folder for results.json and the charts; other scenarios that are in it stay. "
            "Without it a new one in bench/results."
        ),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Print the ratios to an earlier results.json, too.", exists=True)
    ] = None,
) -> None:
    """Measure Bellwire with its settings as shipped, on an embedded Postgres and broker."""
    unknown = sorted(set(names or ()) - SCENARIOS.keys())
    if unknown:
        raise typer.BadParameter(f"no such scenario: {', '.join(unknown)}. There are: {', '.join(SCENARIOS)}")
    earlier = load(against) if against is not None else None
    folder = results or new_folder()
    raise typer.Exit(
        asyncio.run(
            _measure(names or list(SCENARIOS), QUICK if quick else Size(), folder=folder, earlier=earlier)
        )
    )


async def _measure(
    names: list[str], size: Size, *, folder: Path, earlier: list[dict[str, object]] | None
) -> int:
    here = machine()
    found = []
    failed = []
    async with Bench(size) as bench:
        for name in names:
            console.print(f"{name}: {(SCENARIOS[name].__doc__ or '').strip()}")
            began = time.monotonic()
            try:
                found.append(await SCENARIOS[name](bench))
            except Exception:  # noqa: BLE001 - an hour of other scenarios is not to be lost
                console.print_exception()
                failed.append(name)
            else:
                save(found[-1:], machine=here, folder=folder)
                console.print(f"  took {time.monotonic() - began:.0f} s")
    if found:
        show(found, machine=here)
        console.print(f"Written to {folder}")
    if earlier is not None:
        show_comparison(compare(earlier, [result.as_json() for result in found]))
    if failed:
        console.print(f"Not measured, for the reasons above: {', '.join(failed)}.")
    unclean = [result.scenario for result in found if not result.clean]
    if unclean:
        console.print(
            f"Something was lost, doubled, unsigned, invented or not logged: see the tally of {', '.join(unclean)}."
        )
    return 1 if failed or unclean else 0


if __name__ == "__main__":
    app()
