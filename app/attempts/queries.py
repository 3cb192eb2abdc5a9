"""SQL about attempts. Every one of them is scoped to the caller's workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from app.core.pagination import Page, PageRequest, fetch_page
from app.deliveries.queries import in_state
from app.deliveries.selection import Selection, status_bounds
from app.models import Attempt, Delivery

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller


@dataclass(frozen=True, slots=True)
class AttemptSelection:
    """The filters of deliveries, and those that only attempts have."""

    deliveries: Selection
    delivery_id: UUID | None = None
    outcome: str | None = None
    trigger: str | None = None


async def find_attempt(session: AsyncSession, caller: Caller, attempt_id: UUID) -> Attempt | None:
    """Return the caller's attempt."""
    return (await session.scalars(_visible_to(caller).where(Attempt.id == attempt_id))).one_or_none()


async def list_attempts(
    session: AsyncSession,
    caller: Caller,
    *,
    selection: AttemptSelection,
    page: PageRequest,
    oldest_first: bool = False,
) -> Page[Attempt]:
    """Return the caller's attempts, newest first."""
    wanted = selection.deliveries.wanted
    query = _visible_to(caller)
    for column, value in (
        (Attempt.application_id, selection.deliveries.application_id),
        (Attempt.endpoint_id, selection.deliveries.endpoint_id),
        (Attempt.event_id, selection.deliveries.event_id),
        (Attempt.event_type, wanted.type),
        (Attempt.error_class, wanted.error_class),
        (Attempt.delivery_id, selection.delivery_id),
        (Attempt.outcome, selection.outcome),
        (Attempt.trigger, selection.trigger),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.state is not None:
        query = query.where(
            select(Delivery.id).where(Delivery.id == Attempt.delivery_id, in_state(wanted.state)).exists()
        )
    if wanted.status_class == "none":
        query = query.where(Attempt.response_status.is_(None))
    elif wanted.status_class is not None:
        first, after = status_bounds(wanted.status_class)
        query = query.where(Attempt.response_status >= first, Attempt.response_status < after)
    query = wanted.created.apply(query, id_column=Attempt.id, created_at=Attempt.started_at)
    return await fetch_page(session, query, id_column=Attempt.id, page=page, oldest_first=oldest_first)


def _visible_to(caller: Caller) -> Select[Attempt]:
    query = select(Attempt).where(Attempt.workspace_id == caller.workspace_id)
    if caller.application_id is not None:
        query = query.where(Attempt.application_id == caller.application_id)
    return query
