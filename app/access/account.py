"""What people do with their own account: sessions, password, signing out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from app.access import audit, throttle, user_queries
from app.access.password_rules import fault_of_password
from app.access.people_rules import needs_current_password
from app.access.sessions import ACTOR, begin_session
from app.access.throttle import Attempt
from app.core import ids
from app.core.errors import Invalid, NotFound
from app.models import User

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.access.passwords import Passwords
    from app.access.sessions import Browser, FoundSession
    from app.core.context import Caller
    from app.core.runtime import Runtime


def asks_for_current(found: FoundSession, runtime: Runtime) -> bool:
    """Tell whether this session must give the present password to set a new one."""
    return needs_current_password(method=found.method, signed_in_at=found.created_at, now=runtime.clock.now())


async def set_password(
    runtime: Runtime,
    passwords: Passwords,
    found: FoundSession,
    caller: Caller,
    *,
    current: str,
    wanted: str,
    browser: Browser,
    replaces: str,
) -> str:
    """Set a new password, end every session and login link of the person, and return the token of a new session.

    Raises:
        Invalid: the present password is wrong, or the new one is not taken; the pointer says which.
        TooBusy: too many passwords are being compared at this moment.

    """
    stored = await _stored_hash(runtime, found)
    attempt = _attempt(found, browser)
    asked = asks_for_current(found, runtime)
    if asked:
        await _require_current(runtime, passwords, attempt, current=current, stored=stored)
    fault = fault_of_password(wanted, email=found.email)
    if fault is not None:
        raise Invalid.at("/wanted", fault)
    digest = await passwords.make_hash(wanted)
    async with runtime.sessions.begin() as session:
        row = await _lock(session, found, stored=stored)
        if asked:
            await throttle.succeed(session, attempt)
        row.password_hash = digest
        row.password_changed_at = func.now()
        await user_queries.end_sessions(session, found.workspace_id, found.user_id)
        await user_queries.end_links(session, found.workspace_id, found.user_id)
        await audit.record(
            session,
            caller,
            action="user.password_changed",
            object_kind=ACTOR,
            object_id=ids.to_text(ids.USER, row.id),
        )
        return await begin_session(
            session,
            row,
            method="password",
            browser=browser,
            settings=runtime.settings,
            clock=runtime.clock,
            replaces=replaces,
            action="session.renewed",
        )


async def confirm_person(
    runtime: Runtime,
    passwords: Passwords,
    found: FoundSession,
    *,
    current: str,
    browser: Browser,
    replaces: str,
) -> str:
    """Let a person who is signed in prove anew who they are; return the token of the session that takes over.

    Raises:
        Invalid: the password is wrong, or there is none.
        TooBusy: too many passwords are being compared at this moment.

    """
    stored = await _stored_hash(runtime, found)
    attempt = _attempt(found, browser)
    await _require_current(runtime, passwords, attempt, current=current, stored=stored)
    async with runtime.sessions.begin() as session:
        row = await _lock(session, found, stored=stored)
        await throttle.succeed(session, attempt)
        return await begin_session(
            session,
            row,
            method="password",
            browser=browser,
            settings=runtime.settings,
            clock=runtime.clock,
            replaces=replaces,
            action="session.confirmed",
        )


async def end_session(session: AsyncSession, caller: Caller, *, session_id: str) -> UUID:
    """End one of the caller's own sessions and return its id.

    Raises:
        NotFound: the caller has no such session.

    """
    parsed = ids.from_text(ids.SESSION, session_id)
    person = caller.person
    if (
        parsed is None
        or person is None
        or not await user_queries.end_sessions(session, caller.workspace_id, person.user_id, only=parsed)
    ):
        raise NotFound("You have no such session: it has ended already. Look at the list again.")
    await audit.record(session, caller, action="session.ended", object_kind="session", object_id=session_id)
    return parsed


async def end_other_sessions(session: AsyncSession, caller: Caller) -> int:
    """End all of the caller's own sessions but the one that asks; return how many."""
    if caller.person is None:
        return 0
    person = caller.person
    ended = await user_queries.end_sessions(
        session, caller.workspace_id, person.user_id, but=person.session_id
    )
    await audit.record(
        session,
        caller,
        action="session.others_ended",
        object_kind=ACTOR,
        object_id=caller.actor_id,
        after={"sessions": ended},
    )
    return ended


async def _stored_hash(runtime: Runtime, found: FoundSession) -> str | None:
    async with runtime.sessions() as session:
        row = await user_queries.get_user(session, found.workspace_id, found.user_id)
        return row.password_hash if row else None


def _attempt(found: FoundSession, browser: Browser) -> Attempt:
    return Attempt(email=found.email, address=browser.address, device=f"session {found.session_id}")


async def _require_current(
    runtime: Runtime, passwords: Passwords, attempt: Attempt, *, current: str, stored: str | None
) -> None:
    # Who has stolen a session must not find the password out with it.
    async with runtime.sessions.begin() as session:
        wait = await throttle.take(session, attempt)
    if wait:
        raise Invalid.at(
            "/current", f"Too many passwords were wrong, so this one was not looked at. Wait {wait} s."
        )
    if not (await passwords.check(current, stored)).right:
        raise Invalid.at(
            "/current",
            "This is not your present password. Type it again; if you have forgotten it, ask an admin for a "
            "login link."
            if stored
            else "You have no password yet. Ask an admin for a login link: for half an hour after it was used, a "
            "password can be set.",
        )


async def _lock(session: AsyncSession, found: FoundSession, *, stored: str | None) -> User:
    query = (
        select(User)
        .where(User.workspace_id == found.workspace_id, User.id == found.user_id, User.disabled_at.is_(None))
        .with_for_update()
    )
    row = (await session.scalars(query)).one_or_none()
    if row is None or row.password_hash != stored:
        raise Invalid.at("/current", "Your password was changed meanwhile. Sign in with the new one.")
    return row
