"""The audit log as a list, and the names of who acted. Two statements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.access import audit
from app.access.sessions import ACTOR
from app.core import ids
from app.core.pagination import Page, PageRequest
from app.core.ranges import TimeRange

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.access.export import Wanted
    from app.core.context import Caller
    from app.models import AuditEntry

ROWS = 50
KEY = "api_key"

_NAMES = text("""
SELECT id, email FROM users WHERE workspace_id = :workspace AND id = ANY(CAST(:users AS uuid[]))
UNION ALL
SELECT id, name FROM api_keys WHERE workspace_id = :workspace AND id = ANY(CAST(:keys AS uuid[]))
""")
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


async def read_names(session: AsyncSession, caller: Caller, entries: Sequence[AuditEntry]) -> dict[str, str]:
    """Return what the people and keys among the actors are called, by the ids that the entries have."""
    users = _uuids(entries, kind=ACTOR, prefix=ids.USER)
    keys = _uuids(entries, kind=KEY, prefix=ids.API_KEY)
    if not users and not keys:
        return {}
    rows = await session.execute(
        _NAMES, {"workspace": caller.workspace_id, "users": list(users), "keys": list(keys)}
    )
    return {(users | keys)[row[0]]: row[1] for row in rows}


async def find_person(session: AsyncSession, caller: Caller, email: str) -> str | None:
    """Return the id of the person with this address."""
    found = await session.scalar(_BY_EMAIL, {"workspace": caller.workspace_id, "email": email.lower()})
    return ids.to_text(ids.USER, found) if found is not None else None


def _uuids(entries: Sequence[AuditEntry], *, kind: str, prefix: str) -> dict[UUID, str]:
    return {
        found: entry.actor_id
        for entry in entries
        if entry.actor_kind == kind and (found := ids.from_text(prefix, entry.actor_id)) is not None
    }
