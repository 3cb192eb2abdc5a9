"""The statements of the list of events, and of one event with where it went."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, func, select, true
from sqlalchemy.orm import aliased

from app.core import ids
from app.core.pagination import Keyset
from app.dashboard.deliveries.queries import read_rows
from app.dashboard.search.conditions import Scope, on_events
from app.dashboard.search.reach import Reach, events_looked_at, newest_events
from app.models import Application, Delivery, Endpoint, Event, Fanout, Subscription

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import ColumnElement

    from app.core.pagination import Page, PageRequest
    from app.dashboard.deliveries.rows import DeliveryRow
    from app.dashboard.page import OpenPage
    from app.dashboard.search import Query

# A fan-out is counted, and shown, up to so many endpoints.
MOST_ENDPOINTS = 1_000
SHOWN_ENDPOINTS = 200
# One more dot says nothing that the others do not.
MOST_DOTS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One row of the list; ids as the API writes them, but for `id`, by which pages are ordered."""

    id: UUID
    event: str
    type: str
    test: bool
    application: str
    application_name: str
    uid: str | None
    correlation_id: str | None
    size: int | None
    erased: bool
    created_at: datetime
    occurred_at: datetime
    # How many deliveries there are, and in which state.
    matched: int
    succeeded: int
    waiting: int
    dead: int
    cancelled: int

    @property
    def can_retry(self) -> bool:
        """Tell whether something of it failed that can be sent again."""
        return self.dead > 0 and not self.erased


@dataclass(frozen=True, slots=True)
class OneEvent:
    """One event with what its page needs; `unexpanded`: a worker still writes its deliveries."""

    row: Event
    application_uid: str | None
    application_name: str
    unexpanded: bool


@dataclass(frozen=True, slots=True)
class Outsider:
    """An endpoint of the event's application that did not get it, with its subscriptions."""

    endpoint: Endpoint
    subscriptions: Sequence[Subscription]


async def list_rows(
    opened: OpenPage, query: Query, *, page: PageRequest
) -> tuple[Page[EventRow], Reach | None]:
    """Return a page of events, newest first, with how far each one has come, and how far was looked if not at all.

    Raises:
        Invalid: the cursor was not made by this server.

    """
    keyset = Keyset.of(page)
    lowest = None if query.anywhen else opened.span.lowest_id
    scope = Scope(workspace_id=opened.caller.workspace_id, lowest_id=lowest)
    within, most = _in_span(opened, scope), events_looked_at(query)
    if most is None:
        narrowed = keyset.narrow(select(Event).where(*within, *on_events(query, scope)), id_column=Event.id)
    else:
        looked, edge = newest_events(most=most, within=within, keyset=keyset)
        matching = on_events(query, replace(scope, event=looked))
        narrowed = keyset.order(select(looked).where(*matching), id_column=looked.id).limit(keyset.limit + 1)
    one = aliased(Event, narrowed.subquery("chosen"))
    of_event = [Delivery.workspace_id == scope.workspace_id, Delivery.event_id == one.id]
    if lowest is not None:
        of_event.append(Delivery.id >= lowest)
    few = select(Delivery.state).where(*of_event).limit(MOST_ENDPOINTS).correlate(one).subquery("few")
    counted = select(*(func.count().filter(few.c.state == state).label(state) for state in _STATES)).lateral(
        "counted"
    )
    statement = (
        select(
            one.id,
            one.type,
            one.test,
            one.application_id,
            func.coalesce(Application.uid, Application.name).label("name"),
            one.uid,
            one.correlation_id,
            func.octet_length(one.data).label("size"),
            one.data_erased_at,
            one.created_at,
            one.occurred_at,
            one.deliveries,
            *(counted.c[state] for state in _STATES),
        )
        .join(
            Application,
            and_(Application.id == one.application_id, Application.workspace_id == scope.workspace_id),
        )
        .join(counted, true())
    )
    found = await opened.session.execute(keyset.order(statement, id_column=one.id))
    rows = keyset.page([_event_row(row) for row in found])
    if most is None or len(rows.rows) == keyset.limit:
        return rows, None
    edge_id = (await opened.session.scalars(edge)).one_or_none()
    return keyset.go_on(rows, edge=edge_id), Reach(edge_id, most) if edge_id is not None else None


async def has_any(opened: OpenPage) -> bool:
    """Tell whether the workspace has ever had an event that is still kept."""
    one = select(Event.id).where(Event.workspace_id == opened.caller.workspace_id).limit(1)
    return (await opened.session.scalars(one)).first() is not None


async def read_event(opened: OpenPage, event_id: UUID) -> OneEvent | None:
    """Return one event of the workspace with its data."""
    workspace_id = opened.caller.workspace_id
    found = (
        await opened.session.execute(
            select(Event, Application.uid, Application.name, Fanout.event_id)
            .join(
                Application,
                and_(Application.id == Event.application_id, Application.workspace_id == workspace_id),
            )
            .outerjoin(Fanout, and_(Fanout.event_id == Event.id, Fanout.workspace_id == workspace_id))
            .where(Event.workspace_id == workspace_id, Event.id == event_id)
        )
    ).one_or_none()
    if found is None:
        return None
    row, uid, name, fanout = found
    return OneEvent(row, uid, name, fanout is not None)


async def read_fanout(opened: OpenPage, event: Event) -> Sequence[DeliveryRow]:
    """Return the event's deliveries with what each attempt brought, the first ones first, with an end to how many are shown."""
    scope = Scope(workspace_id=event.workspace_id, lowest_id=lowest_after(event))
    keyset = Keyset(limit=SHOWN_ENDPOINTS, direction=b"n", anchor=None, descending=False)
    narrowed = keyset.narrow(
        select(Delivery).where(
            Delivery.workspace_id == scope.workspace_id,
            Delivery.event_id == event.id,
            Delivery.id >= scope.lowest_id,
        ),
        id_column=Delivery.id,
    )
    return await read_rows(opened, narrowed, scope=scope, keyset=keyset, outcomes=MOST_DOTS)


async def read_outsiders(opened: OpenPage, event: Event) -> list[Outsider]:
    """Return endpoints of the event's application that have no delivery of it, those deleted since left out."""
    got_it = (
        select(Delivery.id)
        .where(
            Delivery.workspace_id == event.workspace_id,
            Delivery.event_id == event.id,
            Delivery.endpoint_id == Endpoint.id,
            Delivery.id >= lowest_after(event),
        )
        .correlate(Endpoint)
        .exists()
    )
    few = (
        select(Endpoint)
        .where(
            Endpoint.workspace_id == event.workspace_id,
            Endpoint.application_id == event.application_id,
            Endpoint.deleted_at.is_(None),
            ~got_it,
        )
        .order_by(Endpoint.id)
        .limit(SHOWN_ENDPOINTS + 1)
        .subquery("few")
    )
    one = aliased(Endpoint, few)
    found = await opened.session.execute(
        select(one, Subscription)
        .outerjoin(
            Subscription,
            and_(Subscription.endpoint_id == one.id, Subscription.workspace_id == event.workspace_id),
        )
        .order_by(one.id, Subscription.id)
    )
    endpoints: dict[UUID, Endpoint] = {}
    subscriptions: dict[UUID, list[Subscription]] = {}
    for endpoint, subscription in found:
        endpoints[endpoint.id] = endpoint
        subscriptions.setdefault(endpoint.id, []).extend([subscription] if subscription is not None else [])
    return [Outsider(endpoint, subscriptions[key]) for key, endpoint in endpoints.items()]


async def deliveries_to_retry(opened: OpenPage, event: Event, *, failed_only: bool, most: int) -> list[str]:
    """Return the event's deliveries that are asked for again, the first ones first."""
    wanted = [Delivery.state == "dead"] if failed_only else [Delivery.state.in_(("succeeded", "dead"))]
    rows = await opened.session.scalars(
        select(Delivery.id)
        .where(
            Delivery.workspace_id == event.workspace_id,
            Delivery.event_id == event.id,
            Delivery.id >= lowest_after(event),
            *wanted,
        )
        .order_by(Delivery.id)
        .limit(most)
    )
    return [ids.to_text(ids.DELIVERY, row) for row in rows]


def lowest_after(event: Event) -> UUID:
    """Return an id below those of all that came of an event: bounds the partitions that are read."""
    return ids.lowest_uuid_at(max(0, (event.id.int >> 80) - _SLACK_MS))


_STATES = ("succeeded", "pending", "dead", "cancelled")
# Two processes that make ids may differ a little in their time.
_SLACK_MS = 60_000


def _event_row(row: Any) -> EventRow:
    return EventRow(
        id=row.id,
        event=ids.to_text(ids.EVENT, row.id),
        type=row.type,
        test=row.test,
        application=ids.to_text(ids.APPLICATION, row.application_id),
        application_name=row.name,
        uid=row.uid,
        correlation_id=row.correlation_id,
        size=row.size,
        erased=row.data_erased_at is not None,
        created_at=row.created_at,
        occurred_at=row.occurred_at,
        matched=row.deliveries,
        succeeded=row.succeeded,
        waiting=row.pending,
        dead=row.dead,
        cancelled=row.cancelled,
    )


def _in_span(opened: OpenPage, scope: Scope) -> list[ColumnElement[bool]]:
    found = [Event.workspace_id == scope.workspace_id]
    if scope.lowest_id is not None:
        found += [Event.id >= scope.lowest_id, Event.created_at >= opened.span.since]
    return found
