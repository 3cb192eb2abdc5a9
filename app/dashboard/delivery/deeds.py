"""Who had a hand in a delivery, from the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.core import ids
from app.dashboard.deliveries.joins import lowest_after

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.dashboard.delivery.queries import FoundDelivery

# A look into the audit log goes over so many entries of the workspace at most, newest first.
MOST_ENTRIES = 20_000
# Names of people and keys are few; making them by a join would need ids in another form than the log has them.
_HISTORY = text("""
SELECT a.action, a.actor_kind, a.actor_id, a.created_at, a.after->>'reason' AS reason,
  (SELECT json_object_agg(n.id, n.name) FROM (
     SELECT id, coalesce(nullif(name, ''), email) AS name FROM users WHERE workspace_id = :workspace
      ORDER BY id LIMIT 500) AS n) AS people,
  (SELECT json_object_agg(n.id, n.name) FROM (
     SELECT id, name FROM api_keys WHERE workspace_id = :workspace ORDER BY id LIMIT 500) AS n) AS keys
  FROM (SELECT id, action, actor_kind, actor_id, object_id, created_at, after FROM audit_log
         WHERE workspace_id = :workspace AND id >= :lowest ORDER BY id DESC LIMIT :most) AS a
 WHERE a.object_id = :object ORDER BY a.id
""")


@dataclass(frozen=True, slots=True)
class Deed:
    """What somebody did with the delivery."""

    action: str
    who: str
    at: datetime
    reason: str | None = None


async def list_deeds(session: AsyncSession, found: FoundDelivery) -> list[Deed]:
    """Return who sent the delivery again, cancelled it or marked it as resolved, oldest first."""
    delivery = found.delivery
    rows = await session.execute(
        _HISTORY,
        {
            "workspace": delivery.workspace_id,
            "lowest": lowest_after(delivery),
            "most": MOST_ENTRIES,
            "object": ids.to_text(ids.DELIVERY, delivery.id),
        },
    )
    return [
        Deed(
            action=row.action,
            who=_who(row.actor_kind, row.actor_id, people=row.people or {}, keys=row.keys or {}),
            at=row.created_at,
            reason=row.reason,
        )
        for row in rows
    ]


def _who(kind: str, actor_id: str, *, people: dict[str, str], keys: dict[str, str]) -> str:
    """Return an actor as people know it; who is gone keeps its id."""
    if kind == "user":
        return people.get(str(ids.from_text(ids.USER, actor_id)), actor_id)
    if kind == "api_key":
        name = keys.get(str(ids.from_text(ids.API_KEY, actor_id)))
        return f"API key {name or actor_id}"
    if kind == "command_line":
        return f"{actor_id} (command line)"
    return "Bellwire" if kind == "bellwire" else actor_id
