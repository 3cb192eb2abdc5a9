"""`bellwire doctor`: looks at everything that Bellwire stands on, and says what to do."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from app.cli.outcome import ExitCode
from app.cli.output import AsJson, print_json, visible, wants_json

if TYPE_CHECKING:
    from app.cli.checks import Check
    from app.core.errors import BellwireError
    from app.core.settings import Settings

_SIGNS = {
    True: typer.style("✓", fg=typer.colors.GREEN),
    False: typer.style("✗", fg=typer.colors.RED),
    None: "–",
}
_NAME_WIDTH = 14


def doctor(*, as_json: AsJson = False) -> None:
    """Check everything that Bellwire stands on.

    Settings, database, migrations, partitions, secrets, clock, workers, broker, addresses, egress guard and API; exits
    with 1 if anything is wrong, and says what to do.
    """
    from app.cli.checks import run_checks
    from app.cli.surroundings import api_address

    checks = []
    shown = not wants_json(as_json)
    for check in run_checks(_settings(), api_url=api_address()):
        checks.append(check)
        if shown:
            _print(check)
    healthy = all(check.ok for check in checks)
    if not shown:
        print_json({"ok": healthy, "checks": [dataclasses.asdict(check) for check in checks]})
    if not healthy:
        raise typer.Exit(ExitCode.FAILED)


def _settings() -> Settings | BellwireError:
    from app.cli.surroundings import read_settings
    from app.core.errors import StartupError

    try:
        return read_settings()
    except StartupError as error:
        return error


def _print(check: Check) -> None:
    typer.echo(f"{_SIGNS[check.ok]} {check.name:<{_NAME_WIDTH}} {visible(check.detail)}")
    if check.advice:
        typer.echo(f"  {'':<{_NAME_WIDTH}} → {visible(check.advice)}")
