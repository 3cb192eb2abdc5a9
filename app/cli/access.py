"""`bellwire keys`: API keys, made and revoked straight in the database.

Whoever holds BELLWIRE_DATABASE_URL may do anything, so no key is needed: this is how the first key is made.
"""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.outcome import CommandError, Refused, Unusable
from app.cli.output import AsJson, Column, hint, print_fields, print_json, print_table, shown_time, wants_json

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.core.settings import Settings

group = typer.Typer(
    help="Make, list and revoke API keys, straight in the database.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

PAGE_LIMIT = 250
_COLUMNS = (
    Column("id", "id", keep_whole=True),
    Column("name", "name"),
    Column("role", "role", keep_whole=True),
    Column("last used (UTC)", "last_used_at", keep_whole=True),
    Column("expires (UTC)", "expires_at", keep_whole=True, min_terminal=100),
    Column("created (UTC)", "created_at", keep_whole=True, min_terminal=120),
    Column("application", "application", keep_whole=True, min_terminal=150),
)
_TIMES = ("created_at", "expires_at", "last_used_at")
_DURATION = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class RoleName(StrEnum):
    """Roles of keys, from most to least."""

    ADMIN = "admin"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    VIEWER = "viewer"


WorkspaceId = Annotated[
    str | None, typer.Option("--workspace", help="Id of the workspace (wsp_...); not needed if there is one.")
]


@group.command("create")
def create(
    *,
    name: Annotated[str, typer.Option("--name", help="What the key is for, for people.")],
    role: Annotated[
        RoleName,
        typer.Option(
            "--role",
            help="admin: everything; operator: read and repair; publisher: publish only; viewer: read only.",
        ),
    ],
    application: Annotated[
        str | None, typer.Option("--application", help="Bind the key to this application, by id or uid.")
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option("--expires-in", help="How long it is valid: 90d, 12h, 30m; else for ever.")
    ] = None,
    workspace: WorkspaceId = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key. The key itself is shown this once; only its hash is stored."""
    settings = ready_settings()
    valid_for = _duration(expires_in) if expires_in else None
    key = asyncio.run(
        _create(
            settings,
            workspace=workspace,
            name=checked_name(name),
            role=role,
            application=application,
            valid_for=valid_for,
        )
    )
    if wants_json(as_json):
        print_json(key)
        return
    print_fields(list(key.items()))
    hint("Keep the key safe: it is shown this once. Use it as BELLWIRE_API_KEY, or as a bearer token.")


@group.command("list")
def list_keys(*, workspace: WorkspaceId = None, as_json: AsJson = False) -> None:
    """List the API keys that are not revoked, newest first."""
    keys = asyncio.run(_list(ready_settings(), workspace=workspace))
    if wants_json(as_json):
        print_json({"data": keys})
        return
    rows = [{**key, **{name: shown_time(key[name]) for name in _TIMES}} for key in keys]
    print_table(rows, _COLUMNS, empty="There are no keys. Make one with `bellwire keys create`.")


@group.command("revoke")
def revoke(
    *,
    key_id: Annotated[str, typer.Argument(help="The key's id, key_... (not the key itself).")],
    workspace: WorkspaceId = None,
    as_json: AsJson = False,
) -> None:
    """Make an API key invalid at once. It cannot be undone."""
    asyncio.run(_revoke(ready_settings(), key_id, workspace=workspace))
    if wants_json(as_json):
        print_json({"id": key_id, "revoked": True})
    else:
        typer.echo(
            f"{key_id} is revoked. API processes that used it in the last seconds forget it within ten."
        )


async def _create(
    settings: Settings,
    *,
    workspace: str | None,
    name: str,
    role: RoleName,
    application: str | None,
    valid_for: timedelta | None,
) -> dict[str, Any]:
    from app.access.keys import create_key
    from app.access.schemas import IssuedKeyAnswer
    from app.cli.database import transaction
    from app.models import Role

    async with transaction(settings) as (session, clock):
        issued = await create_key(
            session,
            await caller_in(session, workspace),
            clock=clock,
            name=name,
            role=Role(role.value),
            application=application,
            expires_at=clock.now() + valid_for if valid_for else None,
        )
        return IssuedKeyAnswer.issued(issued).model_dump(mode="json")


async def _list(settings: Settings, *, workspace: str | None) -> list[dict[str, Any]]:
    from app.access import queries
    from app.access.schemas import ApiKeyAnswer
    from app.cli.database import transaction
    from app.core.pagination import PageRequest

    keys: list[dict[str, Any]] = []
    cursor: str | None = None
    async with transaction(settings) as (session, _):
        caller = await caller_in(session, workspace)
        while True:
            request = PageRequest(limit=PAGE_LIMIT, cursor=cursor)
            page = await queries.list_keys(session, caller, page=request)
            keys += [ApiKeyAnswer.of(row).model_dump(mode="json") for row in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                return keys


async def _revoke(settings: Settings, key_id: str, *, workspace: str | None) -> None:
    from app.access.keys import revoke_key
    from app.cli.database import transaction
    from app.core.errors import NotFound

    async with transaction(settings) as (session, _):
        try:
            await revoke_key(session, await caller_in(session, workspace), key_id)
        except NotFound:
            raise Refused(
                f"There is no key {_masked(key_id)} in this workspace, or it is revoked already. "
                "`bellwire keys list` shows the ids."
            ) from None


async def caller_in(session: AsyncSession, workspace: str | None) -> Caller:
    """Return who we are to the services: the administrator of this machine, in one workspace."""
    from app.access.people_rules import COMMAND_LINE
    from app.core.context import Caller
    from app.models import Role

    return Caller(
        workspace_id=await _workspace_id(session, workspace),
        role=Role.ADMIN,
        actor_kind=COMMAND_LINE,
        actor_id=own_name(),
    )


def own_name() -> str:
    """Return what the audit log calls us: the user and the machine."""
    import getpass
    import socket

    return f"{getpass.getuser()}@{socket.gethostname()}"


async def _workspace_id(session: AsyncSession, given: str | None) -> UUID:
    from sqlalchemy import select

    from app.core import ids
    from app.models import Workspace

    if given is not None:
        wanted = ids.from_text(ids.WORKSPACE, given)
        found = await session.get(Workspace, wanted) if wanted else None
        if found is None:
            raise Refused(
                f"There is no workspace {given!r}. Its id begins with wsp_; leave it out if there is one."
            )
        return found.id
    rows = (await session.scalars(select(Workspace).order_by(Workspace.id).limit(10))).all()
    if not rows:
        raise CommandError(
            "There is no workspace yet, so there is nothing that a key could open. Start the API once "
            "(`bellwire api`): it makes the first workspace."
        )
    if len(rows) > 1:
        named = ", ".join(f"{ids.to_text(ids.WORKSPACE, row.id)} ({row.name})" for row in rows)
        raise Unusable(f"There is more than one workspace. Say which with --workspace: {named}.")
    return rows[0].id


def ready_settings() -> Settings:
    """Return the settings, when the database is ready. No secret is opened, so no encryption key is needed."""
    from app.cli.database import require_ready
    from app.cli.surroundings import read_settings

    settings = read_settings(need_keys=False)
    require_ready(settings)
    return settings


def checked_name(given: str) -> str:
    """Return a name that the API would take as well."""
    from pydantic import TypeAdapter, ValidationError

    from app.api.schemas import Name

    try:
        return TypeAdapter(Name).validate_python(given)
    except ValidationError as error:
        raise Unusable(f"--name cannot be used: {error.errors()[0]['msg']}. Choose another one.") from None


def _duration(given: str) -> timedelta:
    matched = _DURATION.fullmatch(given)
    if matched is None:
        raise Unusable(f"--expires-in {given!r} is not a duration. Write it like 90d, 12h, 30m or 45s.")
    return timedelta(**{_UNITS[matched[2]]: int(matched[1])})


def _masked(key_id: str) -> str:
    """Return what was given for an id, unless it is a key itself: that is not to be shown."""
    return "bw_… (this is a key, not its id)" if key_id.startswith("bw_") else repr(key_id)
