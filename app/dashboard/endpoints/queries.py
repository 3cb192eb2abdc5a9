"""SQL of the endpoints' pages. Each function is one statement; what is deleted is in none of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import any_, exists, func, literal, or_, select, text
from sqlalchemy.orm import aliased

from app.core import ids
from app.core.pagination import Page, PageRequest, fetch_page
from app.deliveries.waiting import LEASED, TRIGGER_TEST
from app.endpoints.patterns import EVERYTHING
from app.endpoints.queries import MAX_BACKLOG, no_such_endpoint
from app.models import Application, Endpoint, EndpointRuntime, QueuedDelivery, Subscription

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

# A list counts no further: 50 endpoints with a million waiting deliveries each are one page.
LISTED_BACKLOG = 1_000
NEWEST_DELIVERIES = 25

_NEWEST = text("""
SELECT d.id, d.event_id, d.event_type, d.state, d.test, d.attempt_count, d.last_status, d.last_error_class,
       d.created_at, d.completed_at, q.state AS queue_state, q.due_at
  FROM (SELECT * FROM deliveries WHERE workspace_id = :workspace AND endpoint_id = :endpoint
         ORDER BY id DESC LIMIT :most) AS d
  LEFT JOIN delivery_queue q ON q.workspace_id = :workspace AND q.id = d.id
 ORDER BY d.id DESC
""")


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list of endpoints is narrowed to; None: no matter."""

    text: str | None = None
    application: str | None = None
    state: str | None = None
    circuit: str | None = None
    everything: bool = False

    @property
    def any(self) -> bool:
        """Whether the list is narrowed at all."""
        return self != Filters()


@dataclass(frozen=True, slots=True)
class Selector:
    """One subscription: patterns of event types, and the filter on their content."""

    event_types: list[str]
    filter: str | None


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """An endpoint and what stands beside it. `backlog` was counted to `counted_to` and one more, at most."""

    endpoint: Endpoint
    runtime: EndpointRuntime
    application_name: str
    application_uid: str | None
    selectors: list[Selector]
    backlog: int
    counted_to: int
    oldest_due: datetime | None


@dataclass(frozen=True, slots=True)
class ListedDelivery:
    """One of an endpoint's newest deliveries."""

    id: str
    event: str
    event_type: str
    state: str
    test: bool
    attempt_count: int
    last_status: int | None
    last_error_class: str | None
    created_at: datetime
    completed_at: datetime | None
    due_at: datetime | None


async def list_endpoints(
    session: AsyncSession, caller: Caller, *, filters: Filters, page: PageRequest
) -> Page[Endpoint]:
    """Return the caller's endpoints, newest first."""
    query = select(Endpoint).where(
        Endpoint.workspace_id == caller.workspace_id, Endpoint.deleted_at.is_(None)
    )
    if filters.text:
        # Without its query string, which is a secret to some: a search must not tell what they may not see.
        shown = func.split_part(Endpoint.url, "?", 1)
        wanted = [
            shown.icontains(filters.text, autoescape=True),
            Endpoint.description.icontains(filters.text, autoescape=True),
        ]
        endpoint_id = ids.from_text(ids.ENDPOINT, filters.text)
        query = query.where(Endpoint.id == endpoint_id if endpoint_id else or_(*wanted))
    if filters.application:
        application_id = ids.from_text(ids.APPLICATION, filters.application)
        named = Application.uid == filters.application
        query = query.where(
            exists().where(
                Application.workspace_id == caller.workspace_id,
                Application.id == Endpoint.application_id,
                or_(named, Application.id == application_id) if application_id else named,
            )
        )
    if filters.state:
        query = query.where(Endpoint.enabled.is_(filters.state != "disabled"))
        if filters.state != "disabled":
            query = query.where(Endpoint.paused.is_(filters.state == "paused"))
    if filters.circuit:
        query = query.join(EndpointRuntime, EndpointRuntime.endpoint_id == Endpoint.id).where(
            EndpointRuntime.workspace_id == caller.workspace_id,
            EndpointRuntime.circuit_state == filters.circuit,
        )
    if filters.everything:
        query = query.where(
            exists().where(
                Subscription.workspace_id == caller.workspace_id,
                Subscription.endpoint_id == Endpoint.id,
                literal(EVERYTHING) == any_(Subscription.event_types),
            )
        )
    return await fetch_page(session, query, id_column=Endpoint.id, page=page)


async def read_rows(
    session: AsyncSession,
    caller: Caller,
    endpoint_ids: Sequence[UUID],
    *,
    counted_to: int = LISTED_BACKLOG,
) -> list[EndpointRow]:
    """Return endpoints with what stands beside them, newest first."""
    found = await session.execute(_rows(caller, endpoint_ids, counted_to=counted_to))
    return [
        EndpointRow(
            endpoint=row[0],
            runtime=row[1],
            application_name=row[2],
            application_uid=row[3],
            selectors=[Selector(patterns, content_filter) for patterns, content_filter in row[4] or ()],
            backlog=row[5],
            counted_to=counted_to,
            oldest_due=row[6],
        )
        for row in found
    ]


async def require_row(session: AsyncSession, caller: Caller, reference: str) -> EndpointRow:
    """Return one endpoint with what stands beside it.

    Raises:
        NotFound: there is none, or it is another workspace's.

    """
    endpoint_id = ids.from_text(ids.ENDPOINT, reference)
    if endpoint_id is not None:
        found = await read_rows(session, caller, [endpoint_id], counted_to=MAX_BACKLOG)
        if found:
            return found[0]
    raise no_such_endpoint(reference)


async def read_newest_deliveries(
    session: AsyncSession, caller: Caller, endpoint_id: UUID
) -> list[ListedDelivery]:
    """Return the newest deliveries of an endpoint, tests too."""
    rows = await session.execute(
        _NEWEST,
        {"workspace": caller.workspace_id, "endpoint": endpoint_id, "most": NEWEST_DELIVERIES},
    )
    return [
        ListedDelivery(
            id=ids.to_text(ids.DELIVERY, row.id),
            event=ids.to_text(ids.EVENT, row.event_id),
            event_type=row.event_type,
            state="sending" if row.queue_state == LEASED else row.state,
            test=row.test,
            attempt_count=row.attempt_count,
            last_status=row.last_status,
            last_error_class=row.last_error_class,
            created_at=row.created_at,
            completed_at=row.completed_at,
            due_at=row.due_at,
        )
        for row in rows
    ]


def _rows(caller: Caller, endpoint_ids: Sequence[UUID], *, counted_to: int) -> Select[Any]:
    queued = aliased(QueuedDelivery)
    waiting = (
        select(queued.state, queued.due_at)
        .where(
            queued.workspace_id == caller.workspace_id,
            queued.endpoint_id == Endpoint.id,
            queued.trigger != TRIGGER_TEST,
        )
        .limit(counted_to + 1)
        .correlate(Endpoint)
        .subquery()
    )
    due = (waiting.c.state != LEASED) & (waiting.c.due_at <= func.now())
    backlog = (
        select(func.count().label("waiting"), func.min(waiting.c.due_at).filter(due).label("oldest"))
        .select_from(waiting)
        .lateral()
    )
    selectors = (
        select(
            func.jsonb_agg(
                func.jsonb_build_array(func.to_jsonb(Subscription.event_types), Subscription.filter)
            )
        )
        .where(
            Subscription.workspace_id == caller.workspace_id,
            Subscription.endpoint_id == Endpoint.id,
        )
        .correlate(Endpoint)
        .scalar_subquery()
    )
    return (
        select(
            Endpoint,
            EndpointRuntime,
            Application.name,
            Application.uid,
            selectors,
            backlog.c.waiting,
            backlog.c.oldest,
        )
        .join(EndpointRuntime, EndpointRuntime.endpoint_id == Endpoint.id)
        .join(Application, Application.id == Endpoint.application_id)
        .join(backlog, literal(value=True))
        .where(
            Endpoint.workspace_id == caller.workspace_id,
            EndpointRuntime.workspace_id == caller.workspace_id,
            Application.workspace_id == caller.workspace_id,
            Endpoint.id.in_(endpoint_ids),
            Endpoint.deleted_at.is_(None),
        )
        .order_by(Endpoint.id.desc())
        .execution_options(populate_existing=True)
    )
