"""The counts beside the navigation, the same on every page: read at most every few seconds per workspace."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

# More than so many are said as "999+": the count is a reason to look, and its exact size is on the page.
MOST = 1_000
_KEPT_SECONDS = 3.0

_COUNT = text("""
SELECT (SELECT count(*) FROM (
          SELECT 1 FROM undelivered
           WHERE workspace_id = :workspace AND state = 'dead' AND reopened_at IS NULL LIMIT :most) AS d),
       (SELECT count(*) FROM endpoint_runtime r
         WHERE r.workspace_id = :workspace AND r.circuit_state <> 'closed'
           AND EXISTS (SELECT FROM endpoints e WHERE e.workspace_id = :workspace AND e.id = r.endpoint_id
                     AND e.deleted_at IS NULL AND e.enabled))
""")


@dataclass(frozen=True, slots=True)
class Counts:
    """Deliveries that gave up, and endpoints whose circuit is not closed."""

    dead_letters: int
    open_circuits: int


@dataclass(slots=True)
class CountsCache:
    """One process's counts, by workspace."""

    _kept: dict[UUID, tuple[float, Counts]] = field(default_factory=dict)

    async def read(self, session: AsyncSession, workspace_id: UUID) -> Counts:
        """Return the counts, at most a few seconds old."""
        now = time.monotonic()
        kept = self._kept.get(workspace_id)
        if kept is not None and now - kept[0] < _KEPT_SECONDS:
            return kept[1]
        row = (await session.execute(_COUNT, {"workspace": workspace_id, "most": MOST})).one()
        counts = Counts(dead_letters=row[0], open_circuits=row[1])
        if len(self._kept) > MOST:
            self._kept.clear()
        self._kept[workspace_id] = now, counts
        return counts

    def forget(self, workspace_id: UUID) -> None:
        """Read again at the next page: somebody has just changed something."""
        self._kept.pop(workspace_id, None)
