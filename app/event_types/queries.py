"""SQL about the catalogue of event types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from app.core.pagination import Page, PageRequest, fetch_page
from app.models import EventType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

# A catalogue larger than this is not one that a person wants as one document.
MAX_CATALOGUE = 5_000


async def find_event_type(
    session: AsyncSession, *, workspace_id: UUID, name: str, for_update: bool = False
) -> EventType | None:
    """Return the event type of this name, locked if it is going to be changed."""
    query = select(EventType).where(EventType.workspace_id == workspace_id, EventType.name == name)
    if for_update:
        query = query.with_for_update()
    return (await session.scalars(query)).one_or_none()


async def list_event_types(
    session: AsyncSession, *, workspace_id: UUID, page: PageRequest
) -> Page[EventType]:
    """Return a workspace's event types, newest first."""
    query = select(EventType).where(EventType.workspace_id == workspace_id)
    return await fetch_page(session, query, id_column=EventType.id, page=page)


async def catalogue_of(session: AsyncSession, *, workspace_id: UUID) -> Sequence[EventType]:
    """Return a workspace's event types by name."""
    query = select(EventType).where(EventType.workspace_id == workspace_id).order_by(EventType.name)
    return (await session.scalars(query.limit(MAX_CATALOGUE))).all()


async def delete_event_type(session: AsyncSession, event_type_id: UUID) -> None:
    """Remove an event type for good."""
    await session.execute(delete(EventType).where(EventType.id == event_type_id))
