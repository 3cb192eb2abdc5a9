"""Login links: a way in that works once, for who has no password yet or has forgotten it. Only digests are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update

from app.access import audit, user_queries
from app.access.tokens import digest_of, has_form_of_token, new_token
from app.core import ids
from app.models import LoginLink, User

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.context import Caller

PATH = "/login/link/"


@dataclass(frozen=True, slots=True)
class IssuedLink:
    """A link that was just made; its token is shown this once."""

    token: str
    expires_at: datetime

    def url(self, public_url: str) -> str:
        """Return the address to open."""
        return f"{public_url.rstrip('/')}{PATH}{self.token}"


async def make_link(
    session: AsyncSession, caller: Caller, user: User, *, clock: DatabaseClock, lasts: timedelta
) -> IssuedLink:
    """Make a link for a person; the ones that were made for them before stop working."""
    await user_queries.end_links(session, user.workspace_id, user.id)
    issued = IssuedLink(token=new_token(), expires_at=clock.now() + lasts)
    row = LoginLink(
        id=ids.uuid7(clock.unix_ms()),
        workspace_id=user.workspace_id,
        user_id=user.id,
        digest=digest_of(issued.token),
        expires_at=issued.expires_at,
    )
    session.add(row)
    await session.flush()
    await audit.record(
        session,
        caller,
        action="login_link.created",
        object_kind="user",
        object_id=ids.to_text(ids.USER, user.id),
        after={"login_link": ids.to_text(ids.LOGIN_LINK, row.id)},
    )
    return issued


async def find_link(session: AsyncSession, token: str) -> User | None:
    """Return whom a link would sign in, without using it; None if it is unknown, used, or too old."""
    if not has_form_of_token(token):
        return None
    return (await session.scalars(_whom(token))).one_or_none()


async def use_link(session: AsyncSession, token: str) -> User | None:
    """Use a link up and return whom it signs in; of two at the same time one gets the person, the other None.

    The person stays locked until the commit: who is disabled at this moment either is refused here, or has the session
    that begins here ended.
    """
    if not has_form_of_token(token):
        return None
    user = (await session.scalars(_whom(token).with_for_update(of=User, key_share=True))).one_or_none()
    if user is None:
        return None
    statement = (
        update(LoginLink)
        .where(
            LoginLink.digest == digest_of(token),
            LoginLink.used_at.is_(None),
            LoginLink.expires_at > func.now(),
        )
        .values(used_at=func.now())
        .returning(LoginLink.user_id)
    )
    return user if await session.scalar(statement) is not None else None


def _whom(token: str) -> Select[User]:
    return (
        select(User)
        .join(LoginLink, LoginLink.user_id == User.id)
        .where(
            LoginLink.digest == digest_of(token),
            LoginLink.used_at.is_(None),
            LoginLink.expires_at > func.now(),
            User.disabled_at.is_(None),
        )
        .execution_options(populate_existing=True)
    )
