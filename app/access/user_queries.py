"""SQL about the people of a workspace."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select

from app.core.pagination import Page, PageRequest, fetch_page
from app.models import LoginLink, PersonRole, User, UserSession, Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession


async def lock_people(session: AsyncSession, workspace_id: UUID) -> None:
    """Let changes of a workspace's people happen one after the other, so that two cannot remove the last two owners.

    Rows that refer to the workspace can be written meanwhile.
    """
    query = select(Workspace.id).where(Workspace.id == workspace_id).with_for_update(key_share=True)
    await session.execute(query)


async def get_user(session: AsyncSession, workspace_id: UUID, user_id: UUID) -> User | None:
    """Return one person of a workspace."""
    query = select(User).where(User.workspace_id == workspace_id, User.id == user_id)
    return (await session.scalars(query.execution_options(populate_existing=True))).one_or_none()


async def find_by_email(session: AsyncSession, workspace_id: UUID, email: str) -> User | None:
    """Return the person with this address, if it is one of this workspace."""
    query = select(User).where(User.workspace_id == workspace_id, func.lower(User.email) == email)
    return (await session.scalars(query)).one_or_none()


async def list_users(session: AsyncSession, workspace_id: UUID, *, page: PageRequest) -> Page[User]:
    """Return the people of a workspace, newest first; disabled ones too."""
    query = select(User).where(User.workspace_id == workspace_id)
    return await fetch_page(session, query, id_column=User.id, page=page)


async def count_other_owners(session: AsyncSession, workspace_id: UUID, user_id: UUID) -> int:
    """Return how many enabled owners there are besides this person."""
    query = (
        select(func.count())
        .select_from(User)
        .where(
            User.workspace_id == workspace_id,
            User.role == PersonRole.OWNER.value,
            User.disabled_at.is_(None),
            User.id != user_id,
        )
    )
    return int(await session.scalar(query) or 0)


async def list_sessions(
    session: AsyncSession, workspace_id: UUID, user_id: UUID, *, idle_hours: float
) -> Sequence[UserSession]:
    """Return a person's sessions that still work, the one used last first."""
    query = (
        select(UserSession)
        .where(
            UserSession.workspace_id == workspace_id,
            UserSession.user_id == user_id,
            UserSession.expires_at > func.now(),
            UserSession.last_seen_at > func.now() - timedelta(hours=idle_hours),
        )
        .order_by(UserSession.last_seen_at.desc(), UserSession.id.desc())
    )
    return (await session.scalars(query)).all()


async def end_sessions(
    session: AsyncSession,
    workspace_id: UUID,
    user_id: UUID,
    *,
    only: UUID | None = None,
    but: UUID | None = None,
) -> int:
    """End a person's sessions: one of them, all but one, or all; return how many."""
    statement = delete(UserSession).where(
        UserSession.workspace_id == workspace_id, UserSession.user_id == user_id
    )
    if only is not None:
        statement = statement.where(UserSession.id == only)
    if but is not None:
        statement = statement.where(UserSession.id != but)
    ended = await session.execute(statement.returning(UserSession.id))
    return len(ended.all())


async def end_links(session: AsyncSession, workspace_id: UUID, user_id: UUID) -> None:
    """Let the login links of a person that were not used yet work no more."""
    await session.execute(
        delete(LoginLink).where(
            LoginLink.workspace_id == workspace_id, LoginLink.user_id == user_id, LoginLink.used_at.is_(None)
        )
    )
