"""`bellwire secrets`: what is stored encrypted, and the keys that it needs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.outcome import ExitCode, Unavailable
from app.cli.output import AsJson, Column, hint, print_json, print_table, wants_json

if TYPE_CHECKING:
    from app.access.encryption import KeyUse, Reencrypted
    from app.core.crypto import Keyring
    from app.core.settings import Settings

group = typer.Typer(
    help="Look after what is stored encrypted, straight in the database.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

MAX_WRITE_ROWS = 5_000
_COLUMNS = (
    Column("key", "name", keep_whole=True),
    Column("place", "place", keep_whole=True),
    Column("values", "values", keep_whole=True),
    Column("where", "where"),
)


@group.callback()
def _secrets() -> None:
    """Look after what is stored encrypted, straight in the database."""


@group.command("reencrypt")
def reencrypt(
    *,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Change nothing: say which keys are needed; exit with 1 unless only the newest is.",
        ),
    ] = False,
    rows: Annotated[
        int,
        typer.Option("--rows", min=1, max=MAX_WRITE_ROWS, help="Most rows that one transaction writes."),
    ] = 200,
    as_json: AsJson = False,
) -> None:
    """Encrypt with the newest key what was stored with an older one.

    Safe while API and workers run, to stop, and to run again. Exits with 1 while anything needs an older key, or one
    that is not in BELLWIRE_ENCRYPTION_KEYS.
    """
    settings, ring = _settings()
    done: list[Reencrypted] = []
    if not check:
        done = _reencrypt(settings, ring, rows=rows)
    uses = _uses(settings, ring)
    clear = all(use.place == 1 or not use.values for use in uses)
    if wants_json(as_json):
        print_json(
            {
                "only_newest_needed": clear,
                "keys": [dataclasses.asdict(use) for use in uses],
                "reencrypted": {column.column: column.resealed for column in done},
            }
        )
    else:
        print_table([_row(use) for use in uses], _COLUMNS, empty="There are no keys.")
    hint(_verdict(uses))
    if not clear:
        raise typer.Exit(ExitCode.FAILED)


def _settings() -> tuple[Settings, Keyring]:
    from app.cli.database import require_ready
    from app.cli.surroundings import read_settings
    from app.core.crypto import Keyring

    settings = read_settings()
    ring = Keyring(key.get_secret_value() for key in settings.encryption_keys)
    require_ready(settings)
    return settings, ring


def _reencrypt(settings: Settings, ring: Keyring, *, rows: int) -> list[Reencrypted]:
    from app.access import encryption
    from app.cli.access import own_name
    from app.cli.database import connect

    def tell(column: Reencrypted) -> None:
        hint(f"{column.column}: {column.resealed:,} encrypted anew")

    with connect(settings) as connection:
        done = encryption.reencrypt(connection, ring, actor=own_name(), write_rows=rows, progress=tell)
    for column in done:
        for fault in column.faults:
            hint(f"{column.column}: {fault}")
    if any(column.busy for column in done):
        busy = sum(column.busy for column in done)
        raise Unavailable(
            f"{busy:,} rows were held by other transactions all the while and are as they were. Nothing is lost; run "
            "the command again in a moment."
        )
    return done


def _uses(settings: Settings, ring: Keyring) -> list[KeyUse]:
    from app.access import encryption
    from app.cli.database import connect

    with connect(settings) as connection:
        return encryption.uses_of_keys(connection, ring)


def _row(use: KeyUse) -> dict[str, Any]:
    place = {None: "not in the ring", 1: "1 (newest)"}.get(use.place, str(use.place))
    where = ", ".join(f"{column} {count:,}" for column, count in use.by_column.items())
    return {"name": use.name, "place": place, "values": f"{use.values:,}", "where": where or None}


def _verdict(uses: list[KeyUse]) -> str:
    unknown = sum(use.values for use in uses if use.place is None)
    left = sum(use.values for use in uses if use.place is not None and use.place > 1)
    if unknown:
        return (
            f"{unknown:,} values need a key that is not in BELLWIRE_ENCRYPTION_KEYS. Add that key after the newest "
            "one, for the API and the workers too, and run this again. Remove no key until then."
        )
    if left:
        return f"{left:,} values still need an older key. Run `bellwire secrets reencrypt`; remove no key until then."
    if len(uses) > 1:
        return (
            "Only the newest key is needed. Once every API process, worker and beat runs with this list, the others "
            "may be removed from BELLWIRE_ENCRYPTION_KEYS. Keep them with the backups that were made before."
        )
    return "Only the newest key is needed, and it is the only one."
