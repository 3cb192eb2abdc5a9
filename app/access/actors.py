"""What those are called who did something: people by their addresses, API keys by their names. One statement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.core import ids

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

_NAMES = text("""
SELECT id, email FROM users WHERE workspace_id = :workspace AND id = ANY(CAST(:users AS uuid[]))
UNION ALL
SELECT id, name FROM api_keys WHERE workspace_id = :workspace AND id = ANY(CAST(:keys AS uuid[]))
""")


async def names_of(session: AsyncSession, caller: Caller, actor_ids: Iterable[str]) -> dict[str, str]:
    """Return what the people and keys among these actors are called, by their ids; those that are gone are left out."""
    wanted = set(actor_ids)
    users, keys = _uuids(wanted, prefix=ids.USER), _uuids(wanted, prefix=ids.API_KEY)
    if not users and not keys:
        return {}
    rows = await session.execute(
        _NAMES, {"workspace": caller.workspace_id, "users": list(users), "keys": list(keys)}
    )
    return {(users | keys)[row[0]]: row[1] for row in rows}


async def caller_in_words(session: AsyncSession, caller: Caller) -> str:
    """Return who calls and from where, as it follows `by` in a sentence that is kept."""
    name = (await names_of(session, caller, [caller.actor_id])).get(caller.actor_id, caller.actor_id)
    if caller.person is not None:
        return f"{name}, from the dashboard"
    if caller.api_key_id is not None:
        return f"the API key {name!r}"
    return f"{name} ({caller.actor_kind.replace('_', ' ')})"


def _uuids(wanted: set[str], *, prefix: str) -> dict[UUID, str]:
    return {found: each for each in wanted if (found := ids.from_text(prefix, each)) is not None}
