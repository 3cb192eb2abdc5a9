"""SQL of the page of API keys: what belongs to them, and who made them. Each function is one statement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from app.core import ids
from app.core.ids import lowest_uuid_at
from app.core.pagination import Keyset, Page, PageRequest
from app.models import ApiKey, Application

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

# An entry of the audit log is written in the transaction that makes the key.
_SLACK = timedelta(minutes=1)

# The log has no index by object; its ids are times, so each look-up reads two minutes of it.
_MAKERS = text("""
SELECT k.object_id, a.actor_kind, a.actor_id
  FROM unnest(CAST(:objects AS text[]), CAST(:lows AS uuid[]), CAST(:highs AS uuid[])) AS k(object_id, low, high)
 CROSS JOIN LATERAL (
   SELECT actor_kind, actor_id FROM audit_log
    WHERE workspace_id = :workspace AND id >= k.low AND id < k.high
      AND (object_id = k.object_id AND action = 'api_key.created'
           OR action = 'api_key.rolled' AND after->>'new_key' = k.object_id)
    ORDER BY id LIMIT 1) AS a
""")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key, and the application that it is bound to."""

    key: ApiKey
    application: str | None

    @property
    def id(self) -> UUID:
        """The key's id: pages are ordered by it."""
        return self.key.id


@dataclass(frozen=True, slots=True)
class Maker:
    """Who made a key, as the audit log has it."""

    kind: str
    id: str


async def list_keys(session: AsyncSession, caller: Caller, *, page: PageRequest) -> Page[KeyRow]:
    """Return the keys of the workspace that were not revoked, newest first; expired ones too."""
    keyset = Keyset.of(page)
    query = (
        select(ApiKey, Application.name)
        .outerjoin(Application, Application.id == ApiKey.application_id)
        .where(ApiKey.workspace_id == caller.workspace_id, ApiKey.revoked_at.is_(None))
    )
    rows = await session.execute(keyset.narrow(query, id_column=ApiKey.id))
    return keyset.page([KeyRow(key=row[0], application=row[1]) for row in rows])


async def read_makers(session: AsyncSession, caller: Caller, keys: Sequence[ApiKey]) -> dict[str, Maker]:
    """Return who made these keys, by their ids; those that the log no longer has are left out."""
    rows = await session.execute(
        _MAKERS,
        {
            "workspace": caller.workspace_id,
            "objects": [ids.to_text(ids.API_KEY, key.id) for key in keys],
            "lows": [_bound(key, -_SLACK) for key in keys],
            "highs": [_bound(key, _SLACK) for key in keys],
        },
    )
    return {row.object_id: Maker(kind=row.actor_kind, id=row.actor_id) for row in rows}


def _bound(key: ApiKey, slack: timedelta) -> UUID:
    return lowest_uuid_at(int((key.created_at + slack).timestamp() * 1000))
