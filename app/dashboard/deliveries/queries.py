"""The statements of the list of deliveries: one for the rows with all that is shown of them, one for the counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, func, literal, select, true, union_all
from sqlalchemy.orm import aliased

from app.core import ids
from app.core.pagination import Keyset
from app.dashboard.deliveries.joins import with_surroundings
from app.dashboard.deliveries.rows import delivery_row
from app.dashboard.search.conditions import Scope, on_deliveries
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

    from sqlalchemy import ColumnElement, Select

    from app.core.pagination import Page, PageRequest
    from app.dashboard.deliveries.rows import DeliveryRow
    from app.dashboard.page import OpenPage
    from app.dashboard.search import Query

# Counting stops here; above it a count is what the newest ones have at least.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Facets:
    """How many deliveries are in each state; `capped` names those of which there are more than were counted."""

    counts: dict[str, int]
    total: int
    capped: frozenset[str]
    more: bool


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
    narrowed = keyset.narrow(
        select(Delivery).where(*_in_span(opened, scope), *on_deliveries(query, scope)), id_column=Delivery.id
    )
    return keyset.page(await read_rows(opened, narrowed, scope=scope, keyset=keyset))


async def read_rows(
    opened: OpenPage, narrowed: Select[Delivery], *, scope: Scope, keyset: Keyset
) -> Sequence[DeliveryRow]:
    """Return deliveries with all that a list shows of them; `narrowed` chooses few of them."""
    one = aliased(Delivery, narrowed.subquery("chosen"))
    # Attempts are numbered from 1 without a gap: the last one has the number of all.
    last = [
        Attempt.workspace_id == scope.workspace_id,
        Attempt.delivery_id == one.id,
        Attempt.number == one.attempt_count,
    ]
    if scope.lowest_id is not None:
        last.append(Attempt.id >= scope.lowest_id)
    duration = select(Attempt.duration_ms).where(*last).limit(1).correlate(one).lateral("last")
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
        )
        for delivery, endpoint, runtime, queued, name, duration_ms, head in found
    ]


async def count_states(opened: OpenPage, query: Query) -> Facets:
    """Count what the other terms leave, by state.

    One pass over at most `MOST` of the newest rows; where nothing else is asked for, those that are rare (waiting, dead,
    cancelled) are counted for themselves, where they are found at once.
    """
    scope = scope_of(opened, query)
    leased = (
        select(literal(1))
        .where(
            QueuedDelivery.workspace_id == scope.workspace_id,
            QueuedDelivery.id == Delivery.id,
            QueuedDelivery.state == LEASED,
        )
        .exists()
    )
    kind = case(
        (Delivery.state != "pending", Delivery.state),
        (leased, "sending"),
        (Delivery.attempt_count > 0, "retrying"),
        else_="pending",
    ).label("kind")
    newest = (
        select(kind)
        .where(*_in_span(opened, scope), *on_deliveries(query, scope))
        .order_by(Delivery.id.desc())
        .limit(MOST + 1)
        .subquery("newest")
    )
    statement = union_all(
        select(literal("newest").label("of"), newest.c.kind, func.count())
        .select_from(newest)
        .group_by(newest.c.kind),
        *([] if query.terms else _rare(scope)),
    )
    newest_counts: dict[str, int] = {}
    exact = {} if query.terms else dict.fromkeys(set(STATES) - {"succeeded"}, 0)
    for of, name, count in await opened.session.execute(statement):
        (newest_counts if of == "newest" else exact)[name] = count
    total = sum(newest_counts.values())
    capped = total > MOST
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
    )


def _rare(scope: Scope) -> list[Select[str, str, int]]:
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
        select(literal("exact"), waiting.c.kind, func.count()).select_from(waiting).group_by(waiting.c.kind)
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
        found.append(select(literal("exact"), literal(state), func.count()).select_from(ended))
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
