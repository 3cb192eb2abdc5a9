"""Signing in with a password: slowed down by failures, and the same from outside whatever is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import func, select

from app.access import audit, throttle
from app.access.devices import device_of
from app.access.people_rules import normalise_email
from app.access.sessions import ACTOR, Browser, begin_session
from app.access.throttle import Attempt
from app.core import ids
from app.core.context import Caller
from app.core.roles import PersonRole
from app.models import User

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.access.passwords import Passwords
    from app.core.runtime import Runtime

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The person is in: the token for the browser."""

    user_id: UUID
    token: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Address or password is wrong, or the person is disabled: not said which. `user_id` is for the record only."""

    user_id: UUID | None
    workspace_id: UUID | None


@dataclass(frozen=True, slots=True)
class Slowed:
    """Too many failures; the password was not looked at."""

    seconds: int


async def sign_in_with_password(
    runtime: Runtime,
    passwords: Passwords,
    *,
    email: str,
    password: str,
    browser: Browser,
    device: str | None = None,
    replaces: str | None = None,
) -> SignedIn | Refused | Slowed:
    """Sign a person in. No transaction is open while the password is compared.

    Raises:
        TooBusy: too many sign-ins at this moment.

    """
    address = normalise_email(email) or email.strip().lower()
    async with runtime.sessions.begin() as session:
        user = await _find(session, email=address)
        known = device_of(runtime.keyring, device, user.id) if user else None
        attempt = Attempt(email=address, address=browser.address, device=known)
        wait = await throttle.take(session, attempt)
    if wait:
        _log.warning("sign_in.slowed", address=browser.address, seconds=wait)
        return Slowed(seconds=wait)
    may_enter = user is not None and user.disabled_at is None
    verdict = await passwords.check(password, user.password_hash if user and may_enter else None)
    if user is None or not verdict.right:
        _log.warning("sign_in.refused", address=browser.address)
        return Refused(user_id=user.id if user else None, workspace_id=user.workspace_id if user else None)
    renewed = await passwords.make_hash(password) if verdict.outdated else None
    async with runtime.sessions.begin() as session:
        current = await _lock(session, user_id=user.id)
        # Somebody may have disabled the person, or changed the password, while it was compared.
        if current is None or current.password_hash != user.password_hash:
            return Refused(user_id=user.id, workspace_id=user.workspace_id)
        if renewed is not None:
            current.password_hash = renewed
        await throttle.succeed(session, attempt)
        token = await begin_session(
            session,
            current,
            method="password",
            browser=browser,
            settings=runtime.settings,
            clock=runtime.clock,
            replaces=replaces,
        )
    return SignedIn(user_id=user.id, token=token)


async def record_refusal(runtime: Runtime, refused: Refused, *, browser: Browser) -> None:
    """Note a failed sign-in of somebody who exists, for the workspace's audit log.

    Done after the answer was sent: otherwise its time would tell who exists.
    """
    if refused.user_id is None or refused.workspace_id is None:
        return
    name = ids.to_text(ids.USER, refused.user_id)
    caller = Caller(
        workspace_id=refused.workspace_id,
        role=PersonRole.VIEWER.as_role,
        actor_kind="anonymous",
        actor_id="anonymous",
        address=browser.address,
        request_id=browser.request_id,
    )
    async with runtime.sessions.begin() as session:
        await audit.record(session, caller, action="user.sign_in_refused", object_kind=ACTOR, object_id=name)


async def _find(session: AsyncSession, *, email: str) -> User | None:
    """Return who has this address, in whatever workspace: before signing in nobody is in one."""
    return (await session.scalars(select(User).where(func.lower(User.email) == email))).one_or_none()


async def _lock(session: AsyncSession, *, user_id: UUID) -> User | None:
    query = select(User).where(User.id == user_id, User.disabled_at.is_(None)).with_for_update()
    return (await session.scalars(query)).one_or_none()
