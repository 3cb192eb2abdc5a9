"""What can be done with the people of a workspace. Owners decide about owners; one owner always stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError

from app.access import audit, user_queries
from app.access.login_links import IssuedLink, make_link
from app.access.people_rules import (
    INVITATION_LASTS,
    LINK_LASTS,
    leaves_no_owner,
    may_manage,
    normalise_email,
    standing_of,
)
from app.core import ids
from app.core.errors import Conflict, Forbidden, Invalid, NotFound
from app.core.roles import PersonRole
from app.models import User

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.context import Caller
    from app.core.pagination import Page, PageRequest

_KIND = "user"
_EMAIL_INDEX = "uq_users_email"


@dataclass(frozen=True, slots=True)
class Invited:
    """A person who was just added, and the link with which they come in for the first time."""

    row: User
    link: IssuedLink


async def invite_user(
    session: AsyncSession,
    caller: Caller,
    *,
    clock: DatabaseClock,
    email: str,
    role: PersonRole,
    name: str | None = None,
) -> Invited:
    """Add a person and make their first login link.

    Raises:
        Conflict: the address belongs to somebody already.
        Forbidden: the caller may not make people of this role.
        Invalid: the address is none.

    """
    _require_whole_workspace(caller)
    _require_may_manage(caller, role)
    row = await add_user(session, clock, workspace_id=caller.workspace_id, email=email, role=role, name=name)
    await _record(session, caller, row, action="user.created", after=_shown(row))
    link = await make_link(session, caller, row, clock=clock, lasts=INVITATION_LASTS)
    return Invited(row=row, link=link)


async def add_user(
    session: AsyncSession,
    clock: DatabaseClock,
    *,
    workspace_id: UUID,
    email: str,
    role: PersonRole,
    name: str | None = None,
) -> User:
    """Add a person's row, without a password.

    Raises:
        Conflict: the address belongs to somebody already.
        Invalid: the address is none.

    """
    address = normalise_email(email)
    if address is None:
        raise Invalid.at(
            "/email",
            "This is no e-mail address in ASCII, such as ada@example.com. Correct it and send it again.",
        )
    row = User(
        id=ids.uuid7(clock.unix_ms()), workspace_id=workspace_id, email=address, name=name, role=role.value
    )
    try:
        async with session.begin_nested():
            session.add(row)
    except IntegrityError as error:
        if _EMAIL_INDEX not in str(error.orig):
            raise
        raise Conflict(
            f"{address} belongs to a person of this installation already, and one address signs in to one "
            "workspace only. Change that person's role, or take another address."
        ) from None
    await session.refresh(row)
    return row


async def change_user(session: AsyncSession, caller: Caller, user: str, *, changes: dict[str, Any]) -> User:
    """Change a person's `name`, `role` or `disabled`. Another role, and being disabled, ends sessions and login links.

    Links, too: whoever has one is that person, so one that an admin made for an admin must not open an owner's account.

    Raises:
        Conflict: no owner would be left.
        Forbidden: the caller may not change this person, or not to this role.
        NotFound: there is no such person.

    """
    await user_queries.lock_people(session, caller.workspace_id)
    row = await require_user(session, caller, user)
    before = _shown(row)
    role = PersonRole(changes.get("role", row.role))
    _require_may_manage(caller, PersonRole(row.role), role)
    disabled = changes.get("disabled", row.disabled_at is not None)
    await _require_an_owner(session, row, is_owner_after=role is PersonRole.OWNER and not disabled)
    if "name" in changes:
        row.name = changes["name"]
    ends = role.value != row.role or (disabled and row.disabled_at is None)
    row.role = role.value
    if disabled != (row.disabled_at is not None):
        row.disabled_at = func.now() if disabled else None
    await session.flush()
    await session.refresh(row)
    if ends:
        await user_queries.end_sessions(session, row.workspace_id, row.id)
        await user_queries.end_links(session, row.workspace_id, row.id)
    if _shown(row) != before:
        await _record(session, caller, row, action="user.updated", before=before, after=_shown(row))
    return row


async def delete_user(session: AsyncSession, caller: Caller, user: str) -> None:
    """Remove a person with their sessions and links. What they did stays in the audit log.

    Raises:
        Conflict: no owner would be left.
        Forbidden: the caller may not remove this person.
        NotFound: there is no such person.

    """
    await user_queries.lock_people(session, caller.workspace_id)
    row = await require_user(session, caller, user)
    _require_may_manage(caller, PersonRole(row.role))
    await _require_an_owner(session, row, is_owner_after=False)
    await _record(session, caller, row, action="user.deleted", before=_shown(row))
    await session.delete(row)
    await session.flush()


async def give_link(session: AsyncSession, caller: Caller, user: str, *, clock: DatabaseClock) -> IssuedLink:
    """Make a login link for a person who has forgotten the password; earlier links stop working.

    Raises:
        Conflict: the person is disabled.
        Forbidden: the caller may not manage this person: whoever has the link is that person.
        NotFound: there is no such person.

    """
    # The role that decides must not change before the link is there.
    await user_queries.lock_people(session, caller.workspace_id)
    row = await require_user(session, caller, user)
    _require_may_manage(caller, PersonRole(row.role))
    if row.disabled_at is not None:
        raise Conflict("This person is disabled, so a login link would not work. Enable the person first.")
    return await make_link(session, caller, row, clock=clock, lasts=LINK_LASTS)


async def end_all_sessions(session: AsyncSession, caller: Caller, user: str) -> int:
    """Sign a person out everywhere, and let unused login links work no more; return how many sessions that ended.

    Raises:
        Forbidden: the caller may not manage this person.
        NotFound: there is no such person.

    """
    row = await require_user(session, caller, user)
    _require_may_manage(caller, PersonRole(row.role))
    ended = await user_queries.end_sessions(session, row.workspace_id, row.id)
    await user_queries.end_links(session, row.workspace_id, row.id)
    await _record(session, caller, row, action="user.signed_out_everywhere", after={"sessions": ended})
    return ended


async def list_people(session: AsyncSession, caller: Caller, *, page: PageRequest) -> Page[User]:
    """Return the people of the caller's workspace, newest first.

    Raises:
        Forbidden: the caller's key is bound to one application.

    """
    _require_whole_workspace(caller)
    return await user_queries.list_users(session, caller.workspace_id, page=page)


async def require_user(session: AsyncSession, caller: Caller, user: str) -> User:
    """Return a person of the caller's workspace by id, or by address.

    Raises:
        Forbidden: the caller's key is bound to one application.
        NotFound: there is none.

    """
    _require_whole_workspace(caller)
    if "@" in user:
        address = normalise_email(user)
        row = await user_queries.find_by_email(session, caller.workspace_id, address) if address else None
    else:
        parsed = ids.from_text(ids.USER, user)
        row = await user_queries.get_user(session, caller.workspace_id, parsed) if parsed else None
    if row is None:
        raise NotFound(f"There is no person {user!r} in this workspace. GET /v1/users lists those there are.")
    return row


def _require_whole_workspace(caller: Caller) -> None:
    if caller.application_id is not None:
        raise Forbidden(
            "People belong to the whole workspace; a key bound to one application cannot see or manage them."
        )


def _require_may_manage(caller: Caller, *roles: PersonRole) -> None:
    if not may_manage(standing_of(caller), roles=roles):
        raise Forbidden(
            "Owners are made, changed and removed by owners only, and people by admins. Ask an owner of the "
            "workspace, or use `bellwire users` on the machine that holds the database."
        )


async def _require_an_owner(session: AsyncSession, row: User, *, is_owner_after: bool) -> None:
    is_owner_now = row.role == PersonRole.OWNER.value and row.disabled_at is None
    others = await user_queries.count_other_owners(session, row.workspace_id, row.id)
    if leaves_no_owner(is_owner_now=is_owner_now, is_owner_after=is_owner_after, other_owners=others):
        raise Conflict(
            "This person is the workspace's last owner, and without one nobody could decide about its owners. "
            "Make somebody else an owner first."
        )


def _shown(row: User) -> dict[str, object]:
    return {"email": row.email, "name": row.name, "role": row.role, "disabled": row.disabled_at is not None}


async def _record(
    session: AsyncSession, caller: Caller, row: User, *, action: str, **what: dict[str, object]
) -> None:
    name = ids.to_text(ids.USER, row.id)
    await audit.record(session, caller, action=action, object_kind=_KIND, object_id=name, **what)
