"""Terms as SQL: conditions on deliveries, and on events. What they mean is what `Query.matches` says.

Each subquery names the workspace itself, and is bounded by `lowest_id`, so that only the partitions of the span are
read. None of the conditions can fail, whatever somebody managed to publish.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    and_,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)

from app.core import ids
from app.dashboard.search import meanings
from app.dashboard.search.documents import data_holds, header_holds
from app.deliveries.waiting import LEASED
from app.models import Application, Attempt, Delivery, Endpoint, Event, QueuedDelivery, Undelivered

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute

    from app.dashboard.search.language import Query, Term
    from app.dashboard.search.meanings import Bounds, Meaning


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows, and since when: no row of the span has an id below `lowest_id`; None is all that is kept.

    `delivery` and `event` are what stands for the rows in a statement: the tables, or the part of them that is looked at.
    """

    workspace_id: UUID
    lowest_id: UUID | None
    delivery: type[Delivery] = Delivery
    event: type[Event] = Event


def on_deliveries(query: Query, scope: Scope) -> list[ColumnElement[bool]]:
    """Return conditions on `Delivery`; a query with faults finds nothing."""
    if query.faults:
        return [false()]
    return [
        _state(term.meaning.names, scope)
        if isinstance(term.meaning, meanings.Status) and not term.negated and scope.delivery is Delivery
        else _signed(term, _of_delivery(term.meaning, scope))
        for term in query.terms
    ]


def on_events(query: Query, scope: Scope) -> list[ColumnElement[bool]]:
    """Return conditions on `Event`: what is said of deliveries must hold for one of its deliveries."""
    if query.faults:
        return [false()]
    return [_signed(term, _of_event(term.meaning, scope)) for term in query.terms]


def _signed(term: Term, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    # What is unknown (null) does not hold, so its contrary does.
    return not_(func.coalesce(condition, false())) if term.negated else condition


def _of_delivery(meaning: Meaning, scope: Scope) -> ColumnElement[bool]:  # noqa: C901, PLR0911 - one case a qualifier
    match meaning:
        case meanings.Id():
            return _id_of_delivery(meaning, scope)
        case meanings.Text(part):
            return or_(
                scope.delivery.event_type.icontains(part, autoescape=True),
                scope.delivery.endpoint_id.in_(_endpoints_at([part], scope)),
            )
        case meanings.Status(names):
            return _row_state(names, scope)
        case meanings.Code():
            return _code(meaning, scope)
        case meanings.Type(patterns):
            return or_(*(_glob(scope.delivery.event_type, pattern) for pattern in patterns))
        case meanings.Application():
            return scope.delivery.application_id.in_(_applications(meaning, scope))
        case meanings.Endpoint(endpoint_ids, parts):
            named = scope.delivery.endpoint_id.in_(endpoint_ids)
            return or_(named, scope.delivery.endpoint_id.in_(_endpoints_at(parts, scope))) if parts else named
        case meanings.Attempts(bounds):
            return _between(scope.delivery.attempt_count, bounds)
        case meanings.Duration(bounds):
            return _attempt(
                scope, Attempt.delivery_id == scope.delivery.id, _between(Attempt.duration_ms, bounds)
            )
        case meanings.Header():
            return _attempt(scope, Attempt.delivery_id == scope.delivery.id, header_holds(meaning))
        case meanings.Data(path, wanted):
            found = [Event.workspace_id == scope.workspace_id, Event.id == scope.delivery.event_id]
            if scope.lowest_id is not None:
                found.append(Event.id >= scope.lowest_id)
            return exists().where(*found, data_holds(path, wanted))


def _of_event(meaning: Meaning, scope: Scope) -> ColumnElement[bool]:  # noqa: PLR0911 - one case a qualifier
    match meaning:
        case meanings.Id(prefix) if prefix == ids.EVENT:
            return _within(scope.event.id, meaning)
        case meanings.Id(prefix) if prefix == ids.APPLICATION:
            return _within(scope.event.application_id, meaning)
        case meanings.Text(part):
            return or_(
                scope.event.type.icontains(part, autoescape=True),
                scope.event.uid == part,
                scope.event.correlation_id == part,
            )
        case meanings.Type(patterns):
            return or_(*(_glob(scope.event.type, pattern) for pattern in patterns))
        case meanings.Application():
            return scope.event.application_id.in_(_applications(meaning, scope))
        case meanings.Data(path, wanted):
            return data_holds(path, wanted, scope.event)
        case _:
            found = [Delivery.workspace_id == scope.workspace_id, Delivery.event_id == scope.event.id]
            if scope.lowest_id is not None:
                found.append(Delivery.id >= scope.lowest_id)
            # Not EXISTS: that may be turned into a join with all attempts there are.
            one = (
                select(literal(1))
                .where(*found, _of_delivery(meaning, replace(scope, delivery=Delivery)))
                .limit(1)
                .correlate(scope.event)
            )
            return one.scalar_subquery().is_not(None)


def _id_of_delivery(meaning: meanings.Id, scope: Scope) -> ColumnElement[bool]:
    if meaning.prefix == ids.ATTEMPT:
        return scope.delivery.id.in_(
            select(Attempt.delivery_id).where(
                Attempt.workspace_id == scope.workspace_id, _within(Attempt.id, meaning)
            )
        )
    column: InstrumentedAttribute[UUID] = {
        ids.DELIVERY: scope.delivery.id,
        ids.EVENT: scope.delivery.event_id,
        ids.ENDPOINT: scope.delivery.endpoint_id,
        ids.APPLICATION: scope.delivery.application_id,
    }[meaning.prefix]
    return _within(column, meaning)


def _within(column: InstrumentedAttribute[UUID], meaning: meanings.Id) -> ColumnElement[bool]:
    return column == meaning.low if meaning.whole else column.between(meaning.low, meaning.high)


def _state(names: frozenset[str], scope: Scope) -> ColumnElement[bool]:
    """Return the condition by where each state is found: few deliveries are waiting, dead or cancelled.

    `undelivered` has no tests: of those that failed only the list without this term tells.
    """
    choices: list[ColumnElement[bool]] = [scope.delivery.state == "succeeded"] if "succeeded" in names else []
    ended = names & {"dead", "cancelled"}
    if ended:
        found = [
            Undelivered.workspace_id == scope.workspace_id,
            Undelivered.state.in_(ended),
            Undelivered.reopened_at.is_(None),
        ]
        if scope.lowest_id is not None:
            found.append(Undelivered.delivery_id >= scope.lowest_id)
        choices.append(scope.delivery.id.in_(select(Undelivered.delivery_id).where(*found)))
    waiting = _queued(names)
    if waiting is not None:
        found = [QueuedDelivery.workspace_id == scope.workspace_id, waiting]
        if scope.lowest_id is not None:
            found.append(QueuedDelivery.id >= scope.lowest_id)
        choices.append(scope.delivery.id.in_(select(QueuedDelivery.id).where(*found)))
    return or_(*choices)


def _row_state(names: frozenset[str], scope: Scope) -> ColumnElement[bool]:
    """Return the condition by what the delivery itself says: for those that are at hand already."""
    final = names & {"succeeded", "dead", "cancelled"}
    choices: list[ColumnElement[bool]] = [scope.delivery.state.in_(final)] if final else []
    waiting = _queued(names)
    if waiting is not None:
        queued = exists().where(
            QueuedDelivery.workspace_id == scope.workspace_id, QueuedDelivery.id == scope.delivery.id, waiting
        )
        choices.append(and_(scope.delivery.state == "pending", queued))
    return or_(*choices)


def _queued(names: frozenset[str]) -> ColumnElement[bool] | None:
    """Return the condition on the queue's row; pending has retrying in it."""
    kinds: list[ColumnElement[bool]] = []
    if "sending" in names:
        kinds.append(QueuedDelivery.state == LEASED)
    if "pending" in names:
        kinds.append(QueuedDelivery.state != LEASED)
    elif "retrying" in names:
        kinds.append(and_(QueuedDelivery.state != LEASED, QueuedDelivery.attempt_count > 0))
    return or_(*kinds) if kinds else None


def _code(meaning: meanings.Code, scope: Scope) -> ColumnElement[bool]:
    choices: list[ColumnElement[bool]] = [
        scope.delivery.last_status.between(low, high) for low, high in meaning.ranges
    ]
    if meaning.errors:
        choices.append(scope.delivery.last_error_class.in_(meaning.errors))
    if meaning.none:
        choices.append(scope.delivery.last_status.is_(None))
    return or_(*choices)


def _glob(column: InstrumentedAttribute[str], pattern: str) -> ColumnElement[bool]:
    if "*" not in pattern:
        return column == pattern
    return column.like("%".join(_escaped(part) for part in pattern.split("*")), escape="\\")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _endpoints_at(parts: tuple[str, ...] | list[str], scope: Scope) -> Any:
    url = func.split_part(Endpoint.url, "?", 1)
    return select(Endpoint.id).where(
        Endpoint.workspace_id == scope.workspace_id,
        or_(*(url.icontains(part, autoescape=True) for part in parts)),
    )


def _applications(meaning: meanings.Application, scope: Scope) -> Any:
    return select(Application.id).where(
        Application.workspace_id == scope.workspace_id,
        or_(Application.id.in_(meaning.ids), Application.uid.in_(meaning.references)),
    )


def _between(column: InstrumentedAttribute[Any], bounds: Bounds) -> ColumnElement[bool]:
    found: list[ColumnElement[bool]] = []
    if bounds.low is not None:
        found.append(column > bounds.low if bounds.above else column >= bounds.low)
    if bounds.high is not None:
        found.append(column < bounds.high if bounds.below else column <= bounds.high)
    return and_(true(), *found)


def _attempt(scope: Scope, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    found = [Attempt.workspace_id == scope.workspace_id, *conditions]
    if scope.lowest_id is not None:
        found.append(Attempt.id >= scope.lowest_id)
    return exists().where(*found).correlate(scope.delivery)
