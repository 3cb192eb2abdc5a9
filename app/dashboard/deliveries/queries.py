"""The statements of the list of deliveries: one for the rows with all that is shown of them, one for the counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import Uuid, and_, case, func, literal, null, select, true, union_all
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.orm import aliased

from app.core import ids
from app.core.pagination import Keyset, PageRequest
from app.dashboard.deliveries.joins import with_surroundings
from app.dashboard.deliveries.rows import delivery_row
from app.dashboard.search.conditions import Scope, on_deliveries
from app.dashboard.search.reach import Reach, deliveries_looked_at, newest_deliveries
from app.dashboard.search.values import STATES
from app.deliveries.waiting import LEASED, READY, TRIGGER_TEST
from app.models import (
    Application,
    Attempt,
    Delivery,
    Endpoint,
    EndpointRuntime,
    QueuedDelivery,
    Undelivered,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Label, Select

    from app.core.pagination import Page
    from app.dashboard.deliveries.rows import DeliveryRow
    from app.dashboard.page import OpenPage
    from app.dashboard.search import Query
    from app.dashboard.search.address import Search

# Counting stops here; above it a count is what the newest ones have at least.
MOST = 10_000
_FIRST = Keyset.of(PageRequest())


@dataclass(frozen=True, slots=True)
class Facets:
    """How many deliveries are in each state; `capped` names those of which there are more than were counted.

    `reach` is how far this page of the search looked, where that was not all.
    """

    counts: dict[str, int]
    total: int
    capped: frozenset[str]
    more: bool
    reach: Reach | None = None


def scope_of(opened: OpenPage, query: Query) -> Scope:
    """Return whose rows a page shows, and since when."""
    return Scope(
        workspace_id=opened.caller.workspace_id, lowest_id=None if query.anywhen else opened.span.lowest_id
    )


async def list_rows(opened: OpenPage, query: Query, *, page: PageRequest) -> Page[DeliveryRow]:
    """Return a page of deliveries, newest first.

    Raises:
        Invalid: the cursor was not made by this server.

    """
    keyset = Keyset.of(page)
    scope = scope_of(opened, query)
    within, most = _in_span(opened, scope), deliveries_looked_at(query)
    if most is None:
        narrowed = keyset.narrow(
            select(Delivery).where(*within, *on_deliveries(query, scope)), id_column=Delivery.id
        )
    else:
        looked, _ = newest_deliveries(query, scope, most=most, within=within, keyset=keyset)
        matching = on_deliveries(query, replace(scope, delivery=looked))
        narrowed = keyset.order(select(looked).where(*matching), id_column=looked.id).limit(keyset.limit + 1)
    return keyset.page(await read_rows(opened, narrowed, scope=scope, keyset=keyset))


async def list_on(opened: OpenPage, query: Query, *, page: PageRequest) -> Page[DeliveryRow]:
    """Return a page of deliveries that leads on from where the looking ended: all of them follow each other to the last.

    Raises:
        Invalid: the cursor was not made by this server.

    """
    found = await list_rows(opened, query, page=page)
    most = deliveries_looked_at(query)
    if most is None or len(found.rows) == page.limit:
        return found
    keyset, scope = Keyset.of(page), scope_of(opened, query)
    _, edge = newest_deliveries(query, scope, most=most, within=_in_span(opened, scope), keyset=keyset)
    return keyset.go_on(found, edge=await opened.session.scalar(select(edge)))


async def read_rows(
    opened: OpenPage, narrowed: Select[Delivery], *, scope: Scope, keyset: Keyset, outcomes: int = 0
) -> Sequence[DeliveryRow]:
    """Return deliveries with all that a list shows of them, and the outcomes of so many attempts.

    `narrowed` chooses few of them.
    """
    one = aliased(Delivery, narrowed.subquery("chosen"))
    # Attempts are numbered from 1 without a gap: the last one has the number of all.
    made = [Attempt.workspace_id == scope.workspace_id, Attempt.delivery_id == one.id]
    if scope.lowest_id is not None:
        made.append(Attempt.id >= scope.lowest_id)
    duration = (
        select(Attempt.duration_ms)
        .where(*made, Attempt.number == one.attempt_count)
        .limit(1)
        .correlate(one)
        .lateral("last")
    )
    brought: ColumnElement[Any] = null()
    if outcomes:
        brought = (
            select(func.array_agg(aggregate_order_by(Attempt.outcome, Attempt.number)))
            .where(*made, Attempt.number <= outcomes)
            .correlate(one)
            .scalar_subquery()
        )
    first = (
        select(QueuedDelivery.id)
        .where(
            EndpointRuntime.fifo,
            QueuedDelivery.workspace_id == scope.workspace_id,
            QueuedDelivery.application_id == one.application_id,
            QueuedDelivery.endpoint_id == one.endpoint_id,
            QueuedDelivery.state == READY,
            QueuedDelivery.trigger != TRIGGER_TEST,
        )
        .order_by(QueuedDelivery.rank, QueuedDelivery.seq)
        .limit(1)
        .correlate(one, EndpointRuntime)
        .lateral("head")
    )
    statement = select(
        one,
        Endpoint,
        EndpointRuntime,
        QueuedDelivery,
        func.coalesce(Application.uid, Application.name),
        duration.c.duration_ms,
        first.c.id,
        brought,
    )
    statement = (
        with_surroundings(statement, one, workspace_id=scope.workspace_id)
        .outerjoin(duration, true())
        .outerjoin(first, QueuedDelivery.id.is_not(None))
    )
    found = await opened.session.execute(keyset.order(statement, id_column=one.id))
    return [
        delivery_row(
            delivery,
            endpoint,
            runtime,
            queued,
            application_name=name,
            duration_ms=duration_ms,
            head=head,
            caller=opened.caller,
            now=opened.now,
            outcomes=each or (),
        )
        for delivery, endpoint, runtime, queued, name, duration_ms, head, each in found
    ]


async def count_states(opened: OpenPage, search: Search, *, page: PageRequest) -> Facets:
    """Count what the other terms leave, by state, and find how far a page of the search looks.

    One pass over the newest rows; where nothing else is asked for, those that are rare (waiting, dead, cancelled) are
    counted for themselves, where they are found at once.

    Raises:
        Invalid: the cursor was not made by this server.

    """
    query = search.any_status
    scope = scope_of(opened, query)
    within, most, ends = (
        _in_span(opened, scope),
        deliveries_looked_at(query),
        deliveries_looked_at(search.query),
    )
    if most is None:
        kind = _kind(Delivery, scope)
        newest = (
            select(kind)
            .where(*within, *on_deliveries(query, scope))
            .order_by(Delivery.id.desc())
            .limit(MOST + 1)
            .subquery("newest")
        )
        counted = select(literal("newest"), newest.c.kind, func.count(), func.count()).group_by(newest.c.kind)
    else:
        looked, _ = newest_deliveries(query, scope, most=most, within=within, keyset=_FIRST)
        matches = and_(true(), *on_deliveries(query, replace(scope, delivery=looked)))
        kind = _kind(looked, scope)
        counted = select(literal("newest"), kind, func.count().filter(matches), func.count()).group_by(kind)
    parts = [counted.add_columns(literal(None, Uuid()))]
    if not query.terms:
        parts += [part.add_columns(literal(None, Uuid())) for part in _rare(scope)]
    if ends is not None:
        _, edge = newest_deliveries(search.query, scope, most=ends, within=within, keyset=Keyset.of(page))
        parts.append(select(literal("edge"), literal(""), literal(0), literal(0), edge))
    newest_counts: dict[str, int] = {}
    exact = {} if query.terms else dict.fromkeys(set(STATES) - {"succeeded"}, 0)
    seen, reach = 0, None
    for of, name, count, passed, edge_id in await opened.session.execute(union_all(*parts)):
        if of == "edge":
            reach = Reach(edge_id, ends or 0) if edge_id is not None else None
        elif of == "newest":
            newest_counts[name], seen = count, seen + passed
        else:
            exact[name] = count
    total = sum(newest_counts.values())
    capped = total > MOST if most is None else seen >= most
    counts = {
        name: exact[name] if capped and name in exact else newest_counts.get(name, 0) for name in STATES
    }
    counts["pending"] += counts["retrying"]
    return Facets(
        counts={name: min(count, MOST) for name, count in counts.items()},
        total=min(total, MOST),
        capped=frozenset(
            name for name, count in counts.items() if capped and (count > MOST or name not in exact)
        ),
        more=capped,
        reach=reach,
    )


def _kind(delivery: type[Delivery], scope: Scope) -> Label[str]:
    leased = (
        select(literal(1))
        .where(
            QueuedDelivery.workspace_id == scope.workspace_id,
            QueuedDelivery.id == delivery.id,
            QueuedDelivery.state == LEASED,
        )
        .exists()
    )
    return case(
        (delivery.state != "pending", delivery.state),
        (leased, "sending"),
        (delivery.attempt_count > 0, "retrying"),
        else_="pending",
    ).label("kind")


def _rare(scope: Scope) -> list[Select[str, str, int, int]]:
    """Return counts of what waits and of what ended undelivered, each up to `MOST`."""
    lowest = scope.lowest_id if scope.lowest_id is not None else ids.lowest_uuid_at(0)
    kind = case(
        (QueuedDelivery.state == LEASED, "sending"),
        (QueuedDelivery.attempt_count > 0, "retrying"),
        else_="pending",
    ).label("kind")
    waiting = (
        select(kind)
        .where(QueuedDelivery.workspace_id == scope.workspace_id, QueuedDelivery.id >= lowest)
        .limit(MOST + 1)
        .subquery("waiting")
    )
    found = [
        select(literal("exact"), waiting.c.kind, func.count(), literal(0))
        .select_from(waiting)
        .group_by(waiting.c.kind)
    ]
    for state in ("dead", "cancelled"):
        ended = (
            select(literal(1).label("one"))
            .where(
                Undelivered.workspace_id == scope.workspace_id,
                Undelivered.state == state,
                Undelivered.reopened_at.is_(None),
                Undelivered.delivery_id >= lowest,
            )
            .limit(MOST + 1)
            .subquery(state)
        )
        found.append(select(literal("exact"), literal(state), func.count(), literal(0)).select_from(ended))
    return found


async def has_any(opened: OpenPage) -> bool:
    """Tell whether the workspace has ever had a delivery that is still kept."""
    one = select(Delivery.id).where(Delivery.workspace_id == opened.caller.workspace_id).limit(1)
    return (await opened.session.scalars(one)).first() is not None


def _in_span(opened: OpenPage, scope: Scope) -> list[ColumnElement[bool]]:
    found = [Delivery.workspace_id == scope.workspace_id]
    if scope.lowest_id is not None:
        found += [Delivery.id >= scope.lowest_id, Delivery.created_at >= opened.span.since]
    return found
