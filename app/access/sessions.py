"""Sessions of people: begun at sign-in, looked up on every request, over at once when the person is disabled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy import text as sql

from app.access import audit
from app.access.tokens import digest_of, new_token
from app.core import ids
from app.core.context import Caller, Person
from app.core.roles import PersonRole
from app.models import User, UserSession

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Literal
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.settings import Settings

    Method = Literal["password", "link", "oidc"]

ACTOR = "user"
# More than one person uses; the one that was used longest ago makes room.
MAX_SESSIONS = 20
MAX_USER_AGENT_CHARS = 300

_FIND = sql("""
SELECT s.id, s.user_id, s.method, s.created_at, s.expires_at, u.workspace_id, u.email, u.name, u.role,
       u.password_hash IS NOT NULL AS has_password, w.name AS workspace_name,
       s.last_seen_at < now() - interval '1 minute' AS use_is_old
  FROM sessions s JOIN users u ON u.id = s.user_id JOIN workspaces w ON w.id = u.workspace_id
 WHERE s.digest = :digest AND u.disabled_at IS NULL AND s.expires_at > now()
   AND s.last_seen_at > now() - make_interval(secs => :idle_seconds)
""")
# Whoever finds the row locked leaves it to the other: nobody waits for a statistic.
_TOUCH = sql("""
UPDATE sessions SET last_seen_at = now() WHERE id = (
  SELECT id FROM sessions WHERE id = :id FOR UPDATE SKIP LOCKED)
""")


@dataclass(frozen=True, slots=True)
class FoundSession:
    """A session that works now, and the person who is signed in."""

    session_id: UUID
    user_id: UUID
    workspace_id: UUID
    workspace_name: str
    email: str
    name: str | None
    role: PersonRole
    method: str
    has_password: bool
    created_at: datetime
    expires_at: datetime

    @property
    def signed_in_at(self) -> datetime:
        """When the person last proved who they are: that, and nothing else, begins a session."""
        return self.created_at

    def caller(self, *, address: str | None, request_id: str | None) -> Caller:
        """Return who calls, for services."""
        return Caller(
            workspace_id=self.workspace_id,
            role=self.role.as_role,
            actor_kind=ACTOR,
            actor_id=ids.to_text(ids.USER, self.user_id),
            address=address,
            request_id=request_id,
            person=Person(user_id=self.user_id, session_id=self.session_id, role=self.role),
        )


@dataclass(frozen=True, slots=True)
class Browser:
    """From where somebody signs in, for the record and for the list of sessions."""

    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None


async def find_session(connection: AsyncConnection, token: str, *, settings: Settings) -> FoundSession | None:
    """Look a session up and note its use, to the minute. The connection should commit by itself.

    None: it is unknown, ended, at its end, or unused for too long, or its person is disabled.
    """
    values = {"digest": digest_of(token), "idle_seconds": settings.session_idle_hours * 3600}
    row = (await connection.execute(_FIND, values)).one_or_none()
    if row is None:
        return None
    if row.use_is_old:
        await connection.execute(_TOUCH, {"id": row.id})
    return FoundSession(
        session_id=row.id,
        user_id=row.user_id,
        workspace_id=row.workspace_id,
        workspace_name=row.workspace_name,
        email=row.email,
        name=row.name,
        role=PersonRole(row.role),
        method=row.method,
        has_password=row.has_password,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


async def begin_session(
    session: AsyncSession,
    user: User,
    *,
    method: Method,
    browser: Browser,
    settings: Settings,
    clock: DatabaseClock,
    replaces: str | None = None,
    action: str = "user.signed_in",
) -> str:
    """Sign a person in and return the session's token, which is always a new one.

    `replaces` is the token that the browser had before: whoever knows it, knows nothing any more.
    """
    if replaces is not None:
        await session.execute(delete(UserSession).where(UserSession.digest == digest_of(replaces)))
    token = new_token()
    row = UserSession(
        id=ids.uuid7(clock.unix_ms()),
        workspace_id=user.workspace_id,
        user_id=user.id,
        digest=digest_of(token),
        method=method,
        address=browser.address,
        user_agent=(browser.user_agent or "")[:MAX_USER_AGENT_CHARS] or None,
        expires_at=clock.now() + timedelta(hours=settings.session_hours),
    )
    session.add(row)
    user.last_sign_in_at = func.now()
    await session.flush()
    await _make_room(session, user)
    caller = Caller(
        workspace_id=user.workspace_id,
        role=PersonRole(user.role).as_role,
        actor_kind=ACTOR,
        actor_id=ids.to_text(ids.USER, user.id),
        address=browser.address,
        request_id=browser.request_id,
    )
    await audit.record(
        session,
        caller,
        action=action,
        object_kind="session",
        object_id=ids.to_text(ids.SESSION, row.id),
        after={"method": method},
    )
    return token


async def _make_room(session: AsyncSession, user: User) -> None:
    newest = (
        select(UserSession.id)
        .where(UserSession.workspace_id == user.workspace_id, UserSession.user_id == user.id)
        .order_by(UserSession.last_seen_at.desc(), UserSession.id.desc())
        .limit(MAX_SESSIONS)
    )
    await session.execute(
        delete(UserSession).where(
            UserSession.workspace_id == user.workspace_id,
            UserSession.user_id == user.id,
            UserSession.id.not_in(newest),
        )
    )
