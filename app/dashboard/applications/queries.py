"""SQL of the applications' pages: what roll-ups do not have. Each function is one statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from sqlalchemy import text

from app.core import ids
from app.core.errors import NotFound
from app.core.quotas import Quotas

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

# The rate of publishing is that of the newest events: of so many, and no older than this.
RATED_EVENTS = 10_000
RATED_SECONDS = 300
MOST_ENDPOINTS = 100

_COUNTS = text("""
SELECT w.events_per_second, w.payload_bytes_per_second, w.max_endpoints,
       (SELECT jsonb_object_agg(application_id, n) FROM (
          SELECT application_id, count(*) AS n FROM endpoints
           WHERE workspace_id = :workspace AND deleted_at IS NULL GROUP BY 1) AS e) AS endpoints
  FROM workspaces w WHERE w.id = :workspace
""")
# Before the first event of the pool that is counted nothing is known, so the rate is over what is.
_APPLICATION = text("""
SELECT p.id, p.uid, p.name, p.metadata, p.created_at, w.events_per_second, w.payload_bytes_per_second, w.max_endpoints,
       (SELECT count(*) FROM endpoints e WHERE e.workspace_id = :workspace AND e.deleted_at IS NULL) AS in_use,
       n.events, n.bytes, n.since,
       (SELECT jsonb_agg(l) FROM (
          SELECT e.id, e.url, e.description, e.enabled, e.paused, r.circuit_state, r.last_success_at
            FROM endpoints e JOIN endpoint_runtime r ON r.endpoint_id = e.id AND r.workspace_id = :workspace
           WHERE e.workspace_id = :workspace AND e.application_id = p.id AND e.deleted_at IS NULL
           ORDER BY e.id DESC LIMIT :most) AS l) AS endpoints
  FROM applications p JOIN workspaces w ON w.id = :workspace
 CROSS JOIN LATERAL (
   SELECT count(*) AS events, sum(octet_length(v.data)) AS bytes, min(v.created_at) AS since FROM (
     SELECT data, created_at FROM events
      WHERE workspace_id = :workspace AND application_id = p.id AND id >= :lowest AND NOT test
      ORDER BY xid DESC, id DESC LIMIT :rated) AS v) AS n
 WHERE p.workspace_id = :workspace AND p.id = :application AND p.deleted_at IS NULL
""")


@dataclass(frozen=True, slots=True)
class Uses:
    """What a workspace may use, and how many endpoints each application has."""

    quotas: Quotas
    endpoints: dict[str, int]


@dataclass(frozen=True, slots=True)
class ListedEndpoint:
    """An endpoint of an application."""

    id: str
    url: str
    description: str | None
    enabled: bool
    paused: bool
    circuit: str
    last_success_at: str | None


@dataclass(frozen=True, slots=True)
class ApplicationRow:
    """One application, with what it publishes now. `in_use` are the endpoints of the whole workspace."""

    id: UUID
    uid: str | None
    name: str
    metadata: dict[str, str]
    created_at: datetime
    quotas: Quotas
    in_use: int
    events: int
    bytes: int
    since: datetime | None
    endpoints: list[ListedEndpoint]

    def per_second(self, *, now: datetime) -> tuple[float, float]:
        """Return how many events and bytes it publishes a second; over the whole time where it publishes little."""
        if self.since is None or not self.events:
            return 0.0, 0.0
        seconds = (now - self.since).total_seconds() if self.events >= RATED_EVENTS else RATED_SECONDS
        seconds = max(1.0, seconds)
        return self.events / seconds, self.bytes / seconds


async def read_uses(session: AsyncSession, caller: Caller) -> Uses:
    """Return the workspace's quotas, and the endpoints of each application by its id."""
    row = (await session.execute(_COUNTS, {"workspace": caller.workspace_id})).one()
    return Uses(quotas=_quotas(row), endpoints=row.endpoints or {})


async def require_application(
    session: AsyncSession, caller: Caller, reference: str, *, lowest: UUID
) -> ApplicationRow:
    """Return one application by its id.

    Raises:
        NotFound: there is none, or it is another workspace's.

    """
    application_id = ids.from_text(ids.APPLICATION, reference)
    row = None
    if application_id is not None:
        row = (
            await session.execute(
                _APPLICATION,
                {
                    "workspace": caller.workspace_id,
                    "application": application_id,
                    "lowest": lowest,
                    "rated": RATED_EVENTS,
                    "most": MOST_ENDPOINTS,
                },
            )
        ).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no application {reference[:64]!r} here, or it was deleted. The list of applications has those "
            "there are."
        )
    return ApplicationRow(
        id=row.id,
        uid=row.uid,
        name=row.name,
        metadata=row.metadata,
        created_at=row.created_at,
        quotas=_quotas(row),
        in_use=row.in_use,
        events=row.events,
        bytes=int(row.bytes or 0),
        since=row.since,
        endpoints=[_endpoint(found) for found in row.endpoints or ()],
    )


def _quotas(row: object) -> Quotas:
    return Quotas(
        events_per_second=getattr(row, "events_per_second", None),
        payload_bytes_per_second=getattr(row, "payload_bytes_per_second", None),
        endpoints=getattr(row, "max_endpoints", None),
    )


def _endpoint(found: dict[str, object]) -> ListedEndpoint:
    return ListedEndpoint(
        id=ids.to_text(ids.ENDPOINT, UUID(str(found["id"]))),
        url=str(found["url"]),
        description=str(found["description"]) if found["description"] else None,
        enabled=bool(found["enabled"]),
        paused=bool(found["paused"]),
        circuit=str(found["circuit_state"]),
        last_success_at=str(found["last_success_at"]) if found["last_success_at"] else None,
    )
