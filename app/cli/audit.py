"""`bellwire audit`: the audit log as a file, straight from the database."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.access import WorkspaceId
from app.cli.outcome import CommandError, Unusable
from app.cli.output import hint

if TYPE_CHECKING:
    from datetime import datetime
    from typing import BinaryIO

    from app.access.export import Format, Wanted
    from app.core.settings import Settings

group = typer.Typer(
    help="Export the audit log, straight from the database.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_FORMATS = ("ndjson", "csv")


@group.callback()
def _audit() -> None:
    """Export the audit log, straight from the database."""


@group.command("export")
def export(
    *,
    form: Annotated[str, typer.Option("--format", help="ndjson, or csv for spreadsheets.")] = "ndjson",
    output: Annotated[
        Path | None, typer.Option("--output", help="A new file, readable by you only; else standard output.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="From this time on, such as 2026-01-31T12:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Before this time.")] = None,
    workspace: WorkspaceId = None,
) -> None:
    """Write the audit log of a workspace, newest entry first. The export itself is put on record."""
    from app.access.export import Format, Wanted
    from app.cli.access import ready_settings
    from app.core.ranges import TimeRange

    if form not in _FORMATS:
        raise Unusable(f"--format {form!r} is not known. Choose one of: {', '.join(_FORMATS)}.")
    created = TimeRange(gte=_time("--since", since), lt=_time("--until", until))
    settings = ready_settings()
    wanted = Wanted(created=created)
    if output is None:
        asyncio.run(
            _export(settings, sys.stdout.buffer, form=Format(form), wanted=wanted, workspace=workspace)
        )
        return
    with _new_file(output) as file:
        asyncio.run(_export(settings, file, form=Format(form), wanted=wanted, workspace=workspace))
    hint(f"The audit log is in {output}.")


async def _export(
    settings: Settings, out: BinaryIO, *, form: Format, wanted: Wanted, workspace: str | None
) -> None:
    from app.access import export
    from app.cli.access import caller_in
    from app.cli.database import sessions

    async with sessions(settings) as make_session:
        async with make_session.begin() as session:
            caller = await caller_in(session, workspace)
            await export.record_export(session, caller, form=form, wanted=wanted)
        async for piece in export.export(
            make_session, workspace_id=caller.workspace_id, form=form, wanted=wanted
        ):
            out.write(piece)
        out.flush()


def _new_file(path: Path) -> BinaryIO:
    """Open a file that was not there; it names people and addresses, so nobody else may read it."""
    import os

    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise Unusable(
            f"{path} is there already, and is not written over. Choose another --output."
        ) from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}. Choose another --output.") from None


def _time(option: str, given: str | None) -> datetime | None:
    from pydantic import TypeAdapter, ValidationError

    from app.api.schemas import Timestamp

    if given is None:
        return None
    try:
        return TypeAdapter(Timestamp).validate_python(given)
    except ValidationError as error:
        raise Unusable(f"{option} {given!r} cannot be used: {error.errors()[0]['msg']}") from None
