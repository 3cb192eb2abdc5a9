"""SQL about API keys and workspaces. A revoked key is in no answer of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, select

from app.core.pagination import Page, PageRequest, fetch_page
from app.models import ApiKey, Workspace

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller


async def lock_key(session: AsyncSession, caller: Caller, key_id: UUID) -> ApiKey | None:
    """Lock and return a key of the caller's."""
    query = _visible_to(caller).where(ApiKey.id == key_id).with_for_update()
    return (await session.scalars(query)).one_or_none()


async def list_keys(session: AsyncSession, caller: Caller, *, page: PageRequest) -> Page[ApiKey]:
    """Return the caller's keys, newest first; expired ones too."""
    return await fetch_page(session, _visible_to(caller), id_column=ApiKey.id, page=page)


async def list_workspaces(session: AsyncSession, *, page: PageRequest) -> Page[Workspace]:
    """Return all workspaces, newest first."""
    return await fetch_page(session, select(Workspace), id_column=Workspace.id, page=page)


async def lock_workspace(session: AsyncSession, workspace_id: UUID) -> Workspace | None:
    """Lock and return a workspace; what only refers to it is not held up."""
    query = select(Workspace).where(Workspace.id == workspace_id).with_for_update(key_share=True)
    return (await session.scalars(query)).one_or_none()


async def has_workspaces(session: AsyncSession) -> bool:
    """Tell whether there is any workspace yet."""
    return bool(await session.scalar(select(exists().select_from(Workspace))))


def _visible_to(caller: Caller) -> Select[ApiKey]:
    query = select(ApiKey).where(ApiKey.workspace_id == caller.workspace_id, ApiKey.revoked_at.is_(None))
    if caller.application_id is not None:
        query = query.where(ApiKey.application_id == caller.application_id)
    return query
