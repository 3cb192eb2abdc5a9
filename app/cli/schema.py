"""`bellwire migrate`: bring the database's schema to this version, or say where it is."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.outcome import CommandError, ExitCode, Unavailable, Unusable
from app.cli.output import AsJson, print_json, wants_json

if TYPE_CHECKING:
    from app.core.migrate import SchemaState
    from app.core.settings import Settings

# Postgres' code for a lock that was not to be had in time: another migration, or a long transaction.
_LOCK_NOT_AVAILABLE = "55P03"


def migrate(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: say where the schema is; exit with 1 if behind.")
    ] = False,
    to: Annotated[
        str, typer.Option("--to", metavar="REV", help="Go to this revision; `base` removes everything.")
    ] = "head",
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask before going back, which can remove data.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the schema to this version.

    Safe to repeat, and from several machines at once.
    """
    from app.cli.surroundings import read_settings

    settings = read_settings(need_keys=False)
    before = _state(settings)
    if check:
        _report(before, before, as_json=as_json)
        raise typer.Exit(ExitCode.OK if before.up_to_date else ExitCode.FAILED)
    if not before.known:
        raise CommandError(before.sentence())
    _move(settings, before, to=to, yes=yes)
    _report(before, _state(settings), as_json=as_json)


def _move(settings: Settings, before: SchemaState, *, to: str, yes: bool) -> None:
    from sqlalchemy.exc import DBAPIError

    from app.cli.database import away
    from app.core.db import is_away
    from app.core.migrate import downgrade, goes_back, upgrade

    try:
        back = goes_back(before.current, to)
    except ValueError:
        raise Unusable(
            f"There is no revision {to!r}. `ls migrations/versions` shows all; leave --to out for the newest."
        ) from None
    if back and not yes:
        _confirm(settings, before, to=to)
    try:
        if back:
            downgrade(settings.sqlalchemy_url, revision=to)
        else:
            upgrade(settings.sqlalchemy_url, revision=to)
    except DBAPIError as error:
        if is_away(error):
            raise away(settings, error) from None
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise Unavailable(
                "The schema could not be changed: somebody else holds a lock, another migration or a long "
                "transaction. Nothing was changed by the step that waited; run the command again."
            ) from None
        said = " ".join(str(error.orig).split())
        raise CommandError(
            f"The migration failed and was rolled back: {said}. `bellwire migrate --check` says where the schema "
            "is now; correct the cause (rights, disk space, foreign objects) and run the command again."
        ) from None


def _confirm(settings: Settings, before: SchemaState, *, to: str) -> None:
    from app.cli.database import place

    what = f"Going from {before.current} back to {to} removes tables or columns of {place(settings)} with their data."
    if not sys.stdin.isatty():
        raise Unusable(f"{what} Add --yes to do it without being asked.")
    if not typer.confirm(f"{what} Go on?", err=True):
        raise CommandError("Nothing was changed.")


def _state(settings: Settings) -> SchemaState:
    from app.cli.database import connect, require_version
    from app.core.migrate import state_of

    with connect(settings) as connection:
        require_version(connection)
        return state_of(connection)


def _report(before: SchemaState, after: SchemaState, *, as_json: bool) -> None:
    if wants_json(as_json):
        print_json(
            {
                "before": before.current,
                "current": after.current,
                "wanted": after.wanted,
                "up_to_date": after.up_to_date,
            }
        )
    elif before.current == after.current:
        typer.echo(after.sentence())
    else:
        typer.echo(f"The schema went from {before.current or 'empty'} to {after.current or 'empty'}.")
