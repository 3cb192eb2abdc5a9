"""SQL about deliveries. Every one of them is scoped to the caller's workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, exists, select, text

from app.core.pagination import Page, PageRequest, fetch_page
from app.deliveries.selection import Selection, status_bounds
from app.deliveries.waiting import LEASED, Lane, Place
from app.endpoints.queries import uids_of
from app.models import Delivery, Endpoint, EndpointRuntime, QueuedDelivery

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.deliveries.selection import StateName

# The first in line of FIFO lanes: what is being sent, or the lowest number.
_HEADS = text("""
SELECT e.id, h.id FROM unnest(CAST(:endpoints AS uuid[])) AS e(id)
 CROSS JOIN LATERAL (
   SELECT q.id FROM delivery_queue q
    WHERE q.workspace_id = :workspace AND q.endpoint_id = e.id AND q.trigger <> 3
    ORDER BY q.state <> 1, q.rank, q.seq LIMIT 1
 ) AS h
""")


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """A delivery with what an answer shows of it; `place` is None when it is final."""

    delivery: Delivery
    endpoint_url: str
    application_uid: str | None
    place: Place | None
    lane: Lane


async def find_delivery(session: AsyncSession, caller: Caller, delivery_id: UUID) -> Delivery | None:
    """Return the caller's delivery."""
    return (await session.scalars(_visible_to(caller).where(Delivery.id == delivery_id))).one_or_none()


async def list_deliveries(
    session: AsyncSession, caller: Caller, *, selection: Selection, page: PageRequest
) -> Page[Delivery]:
    """Return the caller's deliveries, newest first."""
    wanted = selection.wanted
    query = _visible_to(caller)
    for column, value in (
        (Delivery.application_id, selection.application_id),
        (Delivery.endpoint_id, selection.endpoint_id),
        (Delivery.event_id, selection.event_id),
        (Delivery.event_type, wanted.type),
        (Delivery.last_error_class, wanted.error_class),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.state is not None:
        query = query.where(in_state(wanted.state))
    if wanted.status_class == "none":
        query = query.where(Delivery.last_status.is_(None))
    elif wanted.status_class is not None:
        first, after = status_bounds(wanted.status_class)
        query = query.where(Delivery.last_status >= first, Delivery.last_status < after)
    query = wanted.created.apply(query, id_column=Delivery.id, created_at=Delivery.created_at)
    return await fetch_page(session, query, id_column=Delivery.id, page=page)


def in_state(state: StateName) -> ColumnElement[bool]:
    """Return the condition for a state; `sending` is the lease on the queue row."""
    leased = exists().where(QueuedDelivery.id == Delivery.id, QueuedDelivery.state == LEASED)
    if state == "sending":
        return and_(Delivery.state == "pending", leased)
    if state == "pending":
        return and_(Delivery.state == "pending", ~leased)
    return Delivery.state == state


async def views_of(session: AsyncSession, deliveries: Sequence[Delivery]) -> list[DeliveryView]:
    """Return deliveries of one workspace with what belongs to them, in their order: five queries at most."""
    if not deliveries:
        return []
    endpoint_ids = {delivery.endpoint_id for delivery in deliveries}
    rows = await session.execute(
        select(Endpoint, EndpointRuntime)
        .join(EndpointRuntime, EndpointRuntime.endpoint_id == Endpoint.id)
        .where(Endpoint.id.in_(endpoint_ids))
        .execution_options(populate_existing=True)
    )
    endpoints = {endpoint.id: (endpoint, runtime) for endpoint, runtime in rows}
    queued = {
        row.id: row
        for row in await session.scalars(
            select(QueuedDelivery)
            .where(QueuedDelivery.id.in_([d.id for d in deliveries if d.state == "pending"]))
            .execution_options(populate_existing=True)
        )
    }
    heads = await _heads(
        session,
        {row.endpoint_id for row in queued.values() if endpoints[row.endpoint_id][1].fifo},
        workspace_id=deliveries[0].workspace_id,
    )
    uids = await uids_of(session, {delivery.application_id for delivery in deliveries})
    views = []
    for delivery in deliveries:
        endpoint, runtime = endpoints[delivery.endpoint_id]
        row = queued.get(delivery.id)
        views.append(
            DeliveryView(
                delivery=delivery,
                endpoint_url=endpoint.url,
                application_uid=uids[delivery.application_id],
                place=place_of(row, runtime, head=heads.get(row.endpoint_id)) if row else None,
                lane=lane_of(endpoint, runtime),
            )
        )
    return views


def place_of(row: QueuedDelivery, runtime: EndpointRuntime, *, head: UUID | None) -> Place:
    """Return where a delivery stands; `head` is the first in line of a FIFO lane."""
    return Place(
        state=row.state,
        trigger=row.trigger,
        forced=row.rank < 0,
        due_at=row.due_at,
        behind_another=head is not None and head != row.id and row.rank >= 0,
        blocks=row.id == runtime.fifo_blocked_by,
    )


def lane_of(endpoint: Endpoint, runtime: EndpointRuntime) -> Lane:
    """Return the state of an endpoint, as far as it decides when its deliveries go."""
    cap = min(runtime.max_in_flight, runtime.ramp or runtime.max_in_flight)
    return Lane(
        enabled=endpoint.enabled,
        paused=endpoint.paused,
        fifo=runtime.fifo,
        # What is answered and not recorded yet is counted, too, though its place is in use again.
        in_flight=min(runtime.in_flight, cap),
        max_in_flight=cap,
        held_until=runtime.held_until,
        held_reason=runtime.held_reason,
        circuit_state=runtime.circuit_state,
        next_probe_at=runtime.next_probe_at,
        rate_per_second=runtime.rate_per_second,
        rate_burst=runtime.rate_burst,
        tokens=runtime.tokens,
        tokens_at=runtime.tokens_at,
        blocked=runtime.fifo_blocked_by is not None,
    )


async def _heads(session: AsyncSession, endpoint_ids: set[UUID], *, workspace_id: UUID) -> dict[UUID, UUID]:
    if not endpoint_ids:
        return {}
    rows = await session.execute(_HEADS, {"workspace": workspace_id, "endpoints": sorted(endpoint_ids)})
    return {row[0]: row[1] for row in rows}


def _visible_to(caller: Caller) -> Select[Delivery]:
    query = select(Delivery).where(Delivery.workspace_id == caller.workspace_id)
    if caller.application_id is not None:
        query = query.where(Delivery.application_id == caller.application_id)
    return query
