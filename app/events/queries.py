"""SQL about stored events. Every one of them is scoped to the caller's workspace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.orm import defer

from app.core.pagination import Page, PageRequest, fetch_page
from app.models import Application, Event

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.core.ranges import TimeRange


def _visible_to(caller: Caller) -> Select[Event]:
    query = select(Event).where(Event.workspace_id == caller.workspace_id)
    if caller.application_id is not None:
        query = query.where(Event.application_id == caller.application_id)
    return query


async def find_event(session: AsyncSession, caller: Caller, event_id: UUID) -> Event | None:
    """Return the caller's event with its data."""
    return (await session.scalars(_visible_to(caller).where(Event.id == event_id))).one_or_none()


async def list_events(
    session: AsyncSession,
    caller: Caller,
    *,
    page: PageRequest,
    created: TimeRange,
    application_id: UUID | None = None,
    event_type: str | None = None,
    uid: str | None = None,
    correlation_id: str | None = None,
) -> Page[Event]:
    """Return the caller's events without their data, newest first. Tests are not among them."""
    query = _visible_to(caller).where(Event.test.is_(False)).options(defer(Event.data, raiseload=True))
    if application_id is not None:
        query = query.where(Event.application_id == application_id)
    if event_type is not None:
        query = query.where(Event.type == event_type)
    if uid is not None:
        query = query.where(Event.uid == uid)
    if correlation_id is not None:
        query = query.where(Event.correlation_id == correlation_id)
    query = created.apply(query, id_column=Event.id, created_at=Event.created_at)
    return await fetch_page(session, query, id_column=Event.id, page=page)


async def uids_of(session: AsyncSession, application_ids: set[UUID]) -> dict[UUID, str | None]:
    """Return the uids of applications, deleted ones too: what belongs to them is still shown."""
    rows = await session.execute(
        select(Application.id, Application.uid).where(Application.id.in_(application_ids))
    )
    return {row[0]: row[1] for row in rows}


async def erase_data(session: AsyncSession, event_id: UUID) -> None:
    """Remove an event's data for good; the record stays."""
    await session.execute(
        update(Event).where(Event.id == event_id).values(data=None, data_erased_at=func.now())
    )
