"""The newest attempts of a workspace as rows of the live tail, judged by the dashboard's query language.

They travel as small JSON objects of texts, and the page puts each into a copy of its own row with textContent: a tail
that read its page again each second would send fifty rows to show three. The words are made here, once, so that the
rows of the page and those of the stream are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
from sqlalchemy import text

from app.core import ids
from app.core.clock import rfc3339
from app.dashboard.search import Candidate
from app.dashboard.search.meanings import open_part
from app.dashboard.words import milliseconds, tone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    from app.dashboard.search import Query

# Rows that one look reads at most, and where payloads or headers are read with them.
MOST_ROWS = 1_000
MOST_LARGE_ROWS = 100
# Rows of the page as it is loaded.
FIRST_ROWS = 50
# The count of what has come ends here.
MOST_COUNTED = 10_000
# An id is made before its row is committed: so far back a row may still come.
_LATE_MS = 3_000

_COLUMNS = """a.id, a.delivery_id, a.event_id, a.endpoint_id, a.application_id, a.event_type, a.number, a.outcome,
  a.response_status, a.error_class, a.duration_ms, a.request_url, d.state, p.uid AS application_uid"""
_LARGE = ", e.data, a.request_headers, a.response_headers"
_READ = """
SELECT {columns}, (SELECT count(*) FROM (
    SELECT FROM attempts c WHERE c.workspace_id = :workspace AND c.id > :newest LIMIT :most_counted) counted) AS came
FROM (
  SELECT * FROM attempts WHERE workspace_id = :workspace AND id > :after ORDER BY id DESC LIMIT :most
) a
LEFT JOIN deliveries d ON d.id = a.delivery_id AND d.workspace_id = :workspace
LEFT JOIN applications p ON p.id = a.application_id AND p.workspace_id = :workspace
{joins}
ORDER BY a.id
"""
READ = text(_READ.format(columns=_COLUMNS, joins=""))
READ_LARGE = text(
    _READ.format(
        columns=_COLUMNS + _LARGE,
        joins="LEFT JOIN events e ON e.id = a.event_id AND e.workspace_id = :workspace",
    )
)
_NOTHING = UUID(int=0)


@dataclass(frozen=True, slots=True)
class News:
    """Rows that fit the query, oldest first, and how many attempts were made in all since the last look."""

    rows: list[dict[str, str]]
    came: int
    # How many of those were read: of a great many not all are.
    read: int
    last_ms: int | None


@dataclass(slots=True)
class AttemptReader:
    """Reads what is new, each attempt once, also those that are committed late."""

    workspace_id: UUID
    query: Query
    newest: UUID = _NOTHING
    _seen: set[UUID] = field(default_factory=set)

    async def read(self, connection: AsyncConnection | AsyncSession) -> News:
        """Return what has come since the last time; at first the newest of all."""
        large = self.query.needs_data or self.query.needs_headers
        most = MOST_LARGE_ROWS if large else MOST_ROWS
        first = self.newest == _NOTHING
        found = await connection.execute(
            READ_LARGE if large else READ,
            {
                "workspace": self.workspace_id,
                "newest": self.newest,
                "after": _earlier(self.newest),
                # The page begins with the newest, and nothing has come since it was not there.
                "most": most if self.query.terms or not first else min(most, FIRST_ROWS),
                "most_counted": 0 if first else MOST_COUNTED,
            },
        )
        rows = found.all()
        fresh = [row for row in rows if row.id not in self._seen]
        if rows:
            self.newest = max(self.newest, rows[-1].id)
        late = _earlier(self.newest)
        self._seen = {row.id for row in rows if row.id > late} | {each for each in self._seen if each > late}
        return News(
            rows=[_words(row) for row in fresh if self.query.matches(_candidate(row, large=large))],
            came=max(rows[-1].came, len(fresh)) if rows else 0,
            read=len(fresh),
            last_ms=rows[-1].id.int >> 80 if rows else None,
        )


def _earlier(newest: UUID) -> UUID:
    return ids.lowest_uuid_at(max(0, (newest.int >> 80) - _LATE_MS))


def _words(row: Row[Any]) -> dict[str, str]:
    state = "succeeded" if row.outcome == "succeeded" else "dead" if row.state == "dead" else row.outcome
    at = rfc3339(_time_of(row.id))
    delivery = ids.to_text(ids.DELIVERY, row.delivery_id)
    return {
        "id": ids.to_text(ids.ATTEMPT, row.id),
        "at": at,
        "time": at[11:19],
        "state": state,
        "tone": tone(state),
        "code": str(row.response_status or row.error_class or "—"),
        "type": row.event_type,
        "endpoint": open_part(row.request_url),
        "took": milliseconds(row.duration_ms),
        "href": f"/dashboard/deliveries/{delivery}?attempt={row.number}#a{row.number}",
    }


def _time_of(attempt_id: UUID) -> datetime:
    return datetime.fromtimestamp((attempt_id.int >> 80) / 1000, tz=UTC)


def _candidate(row: Row[Any], *, large: bool) -> Candidate:
    return Candidate(
        delivery_id=row.delivery_id,
        event_id=row.event_id,
        endpoint_id=row.endpoint_id,
        application_id=row.application_id,
        application_uid=row.application_uid,
        event_type=row.event_type,
        url=row.request_url,
        state=row.state or "pending",
        attempts=row.number,
        code=row.response_status,
        error_class=row.error_class,
        duration_ms=row.duration_ms,
        attempt_id=row.id,
        data=row.data if large else None,
        headers=_headers(row.request_headers, row.response_headers) if large else (),
    )


def _headers(*stored: bytes | None) -> Sequence[tuple[str, str]]:
    return [(name, value) for each in stored if each for name, value in orjson.loads(each)]
