"""`bellwire users`: the people who sign in, made and changed straight in the database.

Whoever holds BELLWIRE_DATABASE_URL may do anything: this is how the first owner is made, and how one who is locked
out gets in again.
"""

from __future__ import annotations

import asyncio
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.access import PAGE_LIMIT, WorkspaceId, caller_in, checked_name, ready_settings
from app.cli.outcome import CommandError, Refused, Unusable
from app.cli.output import AsJson, Column, hint, print_fields, print_json, print_table, shown_time, wants_json

if TYPE_CHECKING:
    from app.core.settings import Settings

group = typer.Typer(
    help="Add, list, disable and remove people, and make login links, straight in the database.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_COLUMNS = (
    Column("id", "id", keep_whole=True, min_terminal=100),
    Column("email", "email", keep_whole=True),
    Column("name", "name"),
    Column("role", "role", keep_whole=True),
    Column("disabled", "disabled", keep_whole=True),
    Column("last sign-in (UTC)", "last_sign_in_at", keep_whole=True),
    Column("created (UTC)", "created_at", keep_whole=True, min_terminal=120),
)
_TIMES = ("created_at", "last_sign_in_at")
_KEEP = "Whoever opens the link is that person, once: give it to nobody else. It is shown this once."


class PersonRoleName(StrEnum):
    """Roles of people, from most to least."""

    OWNER = "owner"
    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"


PersonName = Annotated[
    str, typer.Argument(metavar="PERSON", help="The person's e-mail address, or id (usr_...).")
]


@group.command("create")
def create(
    *,
    email: Annotated[str, typer.Option("--email", help="The address with which the person signs in.")],
    role: Annotated[
        PersonRoleName,
        typer.Option(
            "--role",
            help="owner: admin, and decides who the owners are; admin: everything else; operator: read and "
            "repair; viewer: read only.",
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", help="What the person is called.")] = None,
    workspace: WorkspaceId = None,
    as_json: AsJson = False,
) -> None:
    """Add a person and make the login link with which they come in. They set their own password."""
    settings = ready_settings()
    called = checked_name(name) if name is not None else None
    person = asyncio.run(_create(settings, email=email, role=role, name=called, workspace=workspace))
    if wants_json(as_json):
        print_json(person)
        return
    link = person.pop("login_link")
    print_fields([*person.items(), ("login link", link["url"]), ("works until", link["expires_at"])])
    hint(_KEEP)


@group.command("link")
def link(*, person: PersonName, workspace: WorkspaceId = None, as_json: AsJson = False) -> None:
    """Make a login link for a person who has no password or has forgotten it. Earlier links stop working."""
    made = asyncio.run(_link(ready_settings(), person, workspace=workspace))
    if wants_json(as_json):
        print_json(made)
        return
    print_fields([("login link", made["url"]), ("works until", made["expires_at"])])
    hint(_KEEP)


@group.command("list")
def list_people(*, workspace: WorkspaceId = None, as_json: AsJson = False) -> None:
    """List the people of a workspace, newest first; disabled ones too."""
    people = asyncio.run(_list(ready_settings(), workspace=workspace))
    if wants_json(as_json):
        print_json({"data": people})
        return
    rows = [{**row, **{name: shown_time(row[name]) for name in _TIMES}} for row in people]
    print_table(rows, _COLUMNS, empty="There is nobody yet. Add the owner with `bellwire users create`.")


@group.command("role")
def change_role(
    *,
    person: PersonName,
    role: Annotated[PersonRoleName, typer.Argument(help="The new role.")],
    workspace: WorkspaceId = None,
    as_json: AsJson = False,
) -> None:
    """Give a person another role. Their sessions end."""
    _report(person, {"role": role.value}, f"is now {role.value}", workspace=workspace, as_json=as_json)


@group.command("disable")
def disable(*, person: PersonName, workspace: WorkspaceId = None, as_json: AsJson = False) -> None:
    """Sign a person out everywhere and let nobody sign in as them, at once."""
    _report(
        person,
        {"disabled": True},
        "is disabled and signed out everywhere",
        workspace=workspace,
        as_json=as_json,
    )


@group.command("enable")
def enable(*, person: PersonName, workspace: WorkspaceId = None, as_json: AsJson = False) -> None:
    """Let a person who was disabled sign in again."""
    _report(person, {"disabled": False}, "may sign in again", workspace=workspace, as_json=as_json)


@group.command("delete")
def delete(
    *,
    person: PersonName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before.")] = False,
    workspace: WorkspaceId = None,
    as_json: AsJson = False,
) -> None:
    """Remove a person with their sessions and links. It cannot be undone; what they did stays in the audit log."""
    settings = ready_settings()
    if not yes:
        _confirm(person)
    removed = asyncio.run(_delete(settings, person, workspace=workspace))
    if wants_json(as_json):
        print_json({"id": removed["id"], "email": removed["email"], "deleted": True})
    else:
        typer.echo(f"{removed['email']} is removed and signed out everywhere.")


def _confirm(person: str) -> None:
    what = f"This removes {person} for good; `bellwire users disable` could be undone."
    if not sys.stdin.isatty():
        raise Unusable(f"{what} Add --yes to do it without being asked.")
    if not typer.confirm(f"{what} Go on?", err=True):
        raise CommandError("Nothing was changed.")


def _report(person: str, changes: dict[str, Any], done: str, *, workspace: str | None, as_json: bool) -> None:
    changed = asyncio.run(_change(ready_settings(), person, changes, workspace=workspace))
    if wants_json(as_json):
        print_json(changed)
    else:
        typer.echo(f"{changed['email']} {done}.")


async def _create(
    settings: Settings, *, email: str, role: PersonRoleName, name: str | None, workspace: str | None
) -> dict[str, Any]:
    from app.access.users import invite_user
    from app.cli.database import transaction
    from app.core.errors import Conflict, Invalid
    from app.core.roles import PersonRole
    from app.users.schemas import InvitedUserAnswer

    async with transaction(settings) as (session, clock):
        caller = await caller_in(session, workspace)
        try:
            invited = await invite_user(
                session, caller, clock=clock, email=email, role=PersonRole(role.value), name=name
            )
        except Invalid as error:
            raise Unusable(f"--email cannot be used. {error.detail}") from None
        except Conflict as error:
            raise CommandError(error.detail) from None
        return InvitedUserAnswer.invited(invited, public_url=_public_url(settings)).model_dump(mode="json")


async def _link(settings: Settings, person: str, *, workspace: str | None) -> dict[str, Any]:
    from app.access.users import give_link
    from app.cli.database import transaction
    from app.core.errors import Conflict, NotFound
    from app.users.schemas import LoginLinkAnswer

    async with transaction(settings) as (session, clock):
        try:
            issued = await give_link(session, await caller_in(session, workspace), person, clock=clock)
        except NotFound:
            raise _nobody(person) from None
        except Conflict as error:
            raise CommandError(error.detail) from None
        return LoginLinkAnswer.of(issued, public_url=_public_url(settings)).model_dump(mode="json")


async def _list(settings: Settings, *, workspace: str | None) -> list[dict[str, Any]]:
    from app.access.users import list_people as list_page
    from app.cli.database import transaction
    from app.core.pagination import PageRequest
    from app.users.schemas import UserAnswer

    people: list[dict[str, Any]] = []
    cursor: str | None = None
    async with transaction(settings) as (session, _):
        caller = await caller_in(session, workspace)
        while True:
            page = await list_page(session, caller, page=PageRequest(limit=PAGE_LIMIT, cursor=cursor))
            people += [UserAnswer.of(row).model_dump(mode="json") for row in page.rows]
            cursor = page.next_cursor
            if cursor is None:
                return people


async def _change(
    settings: Settings, person: str, changes: dict[str, Any], *, workspace: str | None
) -> dict[str, Any]:
    from app.access.users import change_user
    from app.cli.database import transaction
    from app.core.errors import Conflict, NotFound
    from app.users.schemas import UserAnswer

    async with transaction(settings) as (session, _):
        try:
            row = await change_user(session, await caller_in(session, workspace), person, changes=changes)
        except NotFound:
            raise _nobody(person) from None
        except Conflict as error:
            raise CommandError(error.detail) from None
        return UserAnswer.of(row).model_dump(mode="json")


async def _delete(settings: Settings, person: str, *, workspace: str | None) -> dict[str, Any]:
    from app.access.users import delete_user, require_user
    from app.cli.database import transaction
    from app.core.errors import Conflict, NotFound
    from app.users.schemas import UserAnswer

    async with transaction(settings) as (session, _):
        caller = await caller_in(session, workspace)
        try:
            removed = UserAnswer.of(await require_user(session, caller, person)).model_dump(mode="json")
            await delete_user(session, caller, person)
        except NotFound:
            raise _nobody(person) from None
        except Conflict as error:
            raise CommandError(error.detail) from None
        return removed


def _nobody(person: str) -> Refused:
    return Refused(
        f"There is no person {person!r} in this workspace. `bellwire users list` shows who there is."
    )


def _public_url(settings: Settings) -> str:
    """Return where people reach the API: as it is set, or where `bellwire dev` has put it."""
    from app.cli.surroundings import api_address

    return settings.base_url or api_address()
