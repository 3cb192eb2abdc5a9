"""The audit log as a list, and who has an address. Each function is one statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.access import audit
from app.core import ids
from app.core.pagination import Page, PageRequest
from app.core.ranges import TimeRange

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.access.export import Wanted
    from app.core.context import Caller
    from app.models import AuditEntry

ROWS = 50

_BY_EMAIL = text("SELECT id FROM users WHERE workspace_id = :workspace AND lower(email) = :email")


async def read_entries(
    session: AsyncSession, caller: Caller, *, wanted: Wanted, cursor: str | None
) -> Page[AuditEntry]:
    """Return a page of the entries that match, newest first."""
    return await audit.list_entries(
        session,
        workspace_id=caller.workspace_id,
        action=wanted.action,
        actor_id=wanted.actor_id,
        object_id=wanted.object_id,
        created=wanted.created or TimeRange(),
        page=PageRequest(limit=ROWS, cursor=cursor),
    )


async def find_person(session: AsyncSession, caller: Caller, email: str) -> str | None:
    """Return the id of the person with this address."""
    found = await session.scalar(_BY_EMAIL, {"workspace": caller.workspace_id, "email": email.lower()})
    return ids.to_text(ids.USER, found) if found is not None else None
