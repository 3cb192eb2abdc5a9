"""SQL about applications. A deleted application is in no answer of these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, or_, select, text, update

from app.core import ids
from app.core.pagination import Page, PageRequest, fetch_page
from app.models import ApiKey, Application

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

# Runtime rows are locked in the order of their ids (settled.md §2); what is in flight ends by itself.
_DELETE_ENDPOINTS = text("""
WITH mine AS (
  SELECT endpoint_id FROM endpoint_runtime
   WHERE workspace_id = :workspace AND application_id = :application ORDER BY endpoint_id FOR UPDATE
), closed AS (
  UPDATE endpoint_runtime r SET open = false, settings_version = r.settings_version + 1
    FROM mine WHERE r.workspace_id = :workspace AND r.endpoint_id = mine.endpoint_id RETURNING r.endpoint_id, r.settings_version
)
UPDATE endpoints e
   SET deleted_at = now(), updated_at = now(), enabled = false, settings_version = closed.settings_version
  FROM closed WHERE e.workspace_id = :workspace AND e.id = closed.endpoint_id AND e.deleted_at IS NULL
""")


async def find_application(session: AsyncSession, caller: Caller, reference: str) -> Application | None:
    """Return the caller's application with this id (`app_...`) or uid."""
    named = Application.uid == reference
    application_id = ids.from_text(ids.APPLICATION, reference)
    if application_id is not None:
        named = or_(Application.id == application_id, named)
    return (await session.scalars(_visible_to(caller).where(named))).one_or_none()


async def lock_application(session: AsyncSession, application_id: UUID) -> Application | None:
    """Lock the application's row, first of all rows that a change of it locks, and return it as it is now."""
    query = select(Application).where(Application.id == application_id, Application.deleted_at.is_(None))
    query = query.with_for_update().execution_options(populate_existing=True)
    return (await session.scalars(query)).one_or_none()


async def list_applications(session: AsyncSession, caller: Caller, *, page: PageRequest) -> Page[Application]:
    """Return the caller's applications, newest first."""
    return await fetch_page(session, _visible_to(caller), id_column=Application.id, page=page)


async def bump_routing(session: AsyncSession, application_id: UUID) -> None:
    """Make events that were matched against the endpoints as they were be matched again.

    Belongs into every transaction that changes which events an endpoint of the application gets. It locks the
    application's row, which comes first in the lock order: call it before other rows are changed.
    """
    await session.execute(
        update(Application)
        .where(Application.id == application_id)
        .values(routing_version=Application.routing_version + 1)
        .execution_options(synchronize_session=False)
    )


async def bump_workspace_routing(session: AsyncSession, workspace_id: UUID) -> None:
    """As `bump_routing`, for all applications: the catalogue of event types is the whole workspace's."""
    mine = (
        select(Application.id)
        .where(Application.workspace_id == workspace_id, Application.deleted_at.is_(None))
        .order_by(Application.id)
        .with_for_update()
    )
    await session.execute(
        update(Application)
        .where(Application.id.in_(mine))
        .values(routing_version=Application.routing_version + 1)
        .execution_options(synchronize_session=False)
    )


async def delete_endpoints(session: AsyncSession, application: Application) -> None:
    """Close and delete all endpoints of an application."""
    await session.execute(
        _DELETE_ENDPOINTS, {"workspace": application.workspace_id, "application": application.id}
    )


async def revoke_bound_keys(session: AsyncSession, application_id: UUID) -> None:
    """Revoke the API keys that are bound to an application."""
    await session.execute(
        update(ApiKey)
        .where(ApiKey.application_id == application_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .execution_options(synchronize_session=False)
    )


def _visible_to(caller: Caller) -> Select[Application]:
    query = select(Application).where(
        Application.workspace_id == caller.workspace_id, Application.deleted_at.is_(None)
    )
    if caller.application_id is not None:
        query = query.where(Application.id == caller.application_id)
    return query
