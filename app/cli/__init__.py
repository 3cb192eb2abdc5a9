"""The `bellwire` command.

Commands import what they need when they run, so that `bellwire --help` and completion stay fast.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app.cli import (
    access,
    audit,
    deliveries,
    doctor,
    events,
    processes,
    schema,
    secrets,
    seed,
    signatures,
    users,
)
from app.cli.outcome import exit_code_of
from app.cli.output import visible
from app.core.errors import BellwireError


class _Group(TyperGroup):
    """Turns expected errors into one sentence on standard error and an exit code; bugs keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except BellwireError as error:
            typer.echo(f"bellwire: {visible(str(error))}", err=True)
            raise typer.Exit(exit_code_of(error)) from None


cli = typer.Typer(
    name="bellwire",
    cls=_Group,
    help="Webhook delivery: run the service, publish events, and look after deliveries.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 cannot reach or start, 4 refused or not found.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=True,
)


def main() -> None:
    """Run the command line of this process; the entry point of `bellwire`."""
    cli()


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer calls it with the flag's value
    if value:
        from app import __version__

        typer.echo(f"bellwire {__version__}")
        raise typer.Exit


@cli.callback()
def _bellwire(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Webhook delivery: run the service, publish events, and look after deliveries."""


cli.command("dev")(processes.dev)
cli.command("api")(processes.api)
cli.command("worker")(processes.worker)
cli.command("beat")(processes.beat)
cli.command("migrate")(schema.migrate)
cli.command("doctor")(doctor.doctor)
cli.command("demo-receiver")(processes.demo_receiver)
cli.command("seed")(seed.seed)
cli.command("sign")(signatures.sign)
cli.command("verify")(signatures.verify)
cli.add_typer(access.group, name="keys")
cli.add_typer(users.group, name="users")
cli.add_typer(secrets.group, name="secrets")
cli.add_typer(audit.group, name="audit")
cli.add_typer(events.group, name="events")
cli.add_typer(deliveries.group, name="deliveries")
