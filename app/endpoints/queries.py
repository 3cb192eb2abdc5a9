"""SQL about endpoints. A deleted endpoint is in no answer of these, but where it is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from app.core import ids
from app.core.errors import NotFound
from app.core.pagination import Page, PageRequest, fetch_page
from app.models import Application, Endpoint, EndpointRuntime, EndpointSecret, Subscription

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

# Counting stops here; above it an answer says `backlog_capped`.
MAX_BACKLOG = 10_000

# Tests are outside all figures (settled.md, answer 17).
_BACKLOGS = text("""
SELECT e.id, b.waiting
  FROM unnest(CAST(:ids AS uuid[])) AS e(id)
 CROSS JOIN LATERAL (
   SELECT count(*) AS waiting FROM (
     SELECT 1 FROM delivery_queue q
      WHERE q.workspace_id = :workspace AND q.endpoint_id = e.id AND q.trigger <> 3 LIMIT :most
   ) AS counted
 ) AS b
""")


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint with all that an answer shows of it."""

    endpoint: Endpoint
    runtime: EndpointRuntime
    application_uid: str | None
    subscriptions: Sequence[Subscription]
    # The current one, for its public key; None where the signature has none.
    secret: EndpointSecret | None
    backlog: int

    @property
    def id(self) -> UUID:
        """The endpoint's id: pages are ordered by it."""
        return self.endpoint.id


async def find_endpoint(
    session: AsyncSession, caller: Caller, endpoint_id: UUID, *, deleted_too: bool = False
) -> Endpoint | None:
    """Return the caller's endpoint."""
    query = _visible_to(caller).where(Endpoint.id == endpoint_id)
    if not deleted_too:
        query = query.where(Endpoint.deleted_at.is_(None))
    return (await session.scalars(query)).one_or_none()


async def require_endpoint(
    session: AsyncSession, caller: Caller, reference: str, *, deleted_too: bool = False
) -> Endpoint:
    """Return the endpoint that a request means by its id.

    Raises:
        NotFound: there is none, or the caller may not see it.

    """
    endpoint_id = ids.from_text(ids.ENDPOINT, reference)
    found = (
        await find_endpoint(session, caller, endpoint_id, deleted_too=deleted_too)
        if endpoint_id is not None
        else None
    )
    if found is None:
        raise no_such_endpoint(reference)
    return found


def no_such_endpoint(reference: str) -> NotFound:
    """Return the error for an endpoint that is not there for this caller."""
    return NotFound(
        f"There is no endpoint {reference[:64]!r} here. GET /v1/endpoints lists those there are; an id begins with ep_."
    )


async def list_endpoints(
    session: AsyncSession,
    caller: Caller,
    *,
    page: PageRequest,
    application_id: UUID | None = None,
    enabled: bool | None = None,
    health: str | None = None,
) -> Page[Endpoint]:
    """Return the caller's endpoints, newest first; `health` is the state of the circuit."""
    query = _visible_to(caller).where(Endpoint.deleted_at.is_(None))
    if application_id is not None:
        query = query.where(Endpoint.application_id == application_id)
    if enabled is not None:
        query = query.where(Endpoint.enabled.is_(enabled))
    if health is not None:
        query = query.join(EndpointRuntime, EndpointRuntime.endpoint_id == Endpoint.id).where(
            EndpointRuntime.circuit_state == health
        )
    return await fetch_page(session, query, id_column=Endpoint.id, page=page)


async def views_of(session: AsyncSession, endpoints: Sequence[Endpoint]) -> list[EndpointView]:
    """Return endpoints of one workspace with what belongs to them, in their order: five queries, however many there are."""
    if not endpoints:
        return []
    endpoint_ids = [endpoint.id for endpoint in endpoints]
    runtimes = {
        row.endpoint_id: row
        for row in await session.scalars(
            select(EndpointRuntime)
            .where(EndpointRuntime.endpoint_id.in_(endpoint_ids))
            .execution_options(populate_existing=True)
        )
    }
    subscriptions: dict[UUID, list[Subscription]] = {}
    for subscription in await session.scalars(
        select(Subscription).where(Subscription.endpoint_id.in_(endpoint_ids)).order_by(Subscription.id)
    ):
        subscriptions.setdefault(subscription.endpoint_id, []).append(subscription)
    signed = [endpoint.id for endpoint in endpoints if endpoint.signature == "ed25519"]
    current = select(EndpointSecret).where(
        EndpointSecret.endpoint_id.in_(signed), EndpointSecret.expires_at.is_(None)
    )
    secrets = {row.endpoint_id: row for row in await session.scalars(current)} if signed else {}
    uids = await uids_of(session, {endpoint.application_id for endpoint in endpoints})
    backlogs = await backlogs_of(session, endpoint_ids, workspace_id=endpoints[0].workspace_id)
    return [
        EndpointView(
            endpoint=endpoint,
            runtime=runtimes[endpoint.id],
            application_uid=uids[endpoint.application_id],
            subscriptions=subscriptions.get(endpoint.id, []),
            secret=secrets.get(endpoint.id),
            backlog=backlogs[endpoint.id],
        )
        for endpoint in endpoints
    ]


async def uids_of(session: AsyncSession, application_ids: set[UUID]) -> dict[UUID, str | None]:
    """Return the uids of applications, deleted ones too: what belongs to them is still shown."""
    rows = await session.execute(
        select(Application.id, Application.uid).where(Application.id.in_(application_ids))
    )
    return {row[0]: row[1] for row in rows}


async def backlogs_of(
    session: AsyncSession, endpoint_ids: Sequence[UUID], *, workspace_id: UUID
) -> dict[UUID, int]:
    """Return how many deliveries of each endpoint wait or are being sent; counting stops above `MAX_BACKLOG`."""
    rows = await session.execute(
        _BACKLOGS, {"workspace": workspace_id, "ids": list(endpoint_ids), "most": MAX_BACKLOG + 1}
    )
    return {row[0]: row[1] for row in rows}


def _visible_to(caller: Caller) -> Select[Endpoint]:
    query = select(Endpoint).where(Endpoint.workspace_id == caller.workspace_id)
    if caller.application_id is not None:
        query = query.where(Endpoint.application_id == caller.application_id)
    return query
