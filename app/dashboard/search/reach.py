"""How far one page of a search looks: where no index leads to what is asked for, it judges a bounded number of rows.

To judge five million rows takes seconds, and who waits for a page wants the newest. So a page judges the newest ones of
its span, says how far that went, and its link to older ones goes on from there. What an index leads to is found in
the whole span at once: ids, states other than succeeded, and errors of which there are few.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, not_, select, union_all
from sqlalchemy.orm import aliased

from app.core import ids
from app.core.error_classes import ErrorClass
from app.dashboard.search import meanings
from app.models import Attempt, Delivery, Event, Undelivered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import ColumnElement, ScalarSelect, Select

    from app.core.pagination import Keyset
    from app.dashboard.search.conditions import Scope
    from app.dashboard.search.language import Query

# Rows that a page judges: some 50 ms of the database, whatever is asked for. Fewer where a term looks up other rows, or takes headers apart.
LOOKED = 10_000
LOOKED_INSIDE = 1_500
LOOKED_INTO_HEADERS = 500
# Of errors up to so many attempts are looked up one by one; of more, some are among the newest rows.
FEW = 3_000


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a page looked where that was not to the end of its span: the last row, and how many there were."""

    edge: UUID
    looked: int

    @property
    def back_to(self) -> datetime:
        """When the last one was made: its id says so."""
        return datetime.fromtimestamp((self.edge.int >> 80) / 1000, tz=UTC)


def deliveries_looked_at(query: Query) -> int | None:
    """Return how many deliveries a page judges; None: an index leads to those that are asked for."""
    alone = len(query.terms) == 1 or _ended(query) is None
    if not query.terms or any(
        _leads(term.meaning)
        for term in query.terms
        if not term.negated and (alone or not isinstance(term.meaning, meanings.Status))
    ):
        return None
    # Those that ended undelivered are noted in another table, and looked up one by one.
    inside = (meanings.Duration, meanings.Data) if _ended(query) is None else (object,)
    return _affordable(query, inside=inside)


def dead_looked_at(query: Query) -> int | None:
    """Return how many dead deliveries a search of them judges, each of which is looked up; None: nothing is asked for."""
    return _affordable(query, inside=(object,)) if query.terms else None


def events_looked_at(query: Query) -> int | None:
    """Return how many events a page judges; None: an index leads to those that are asked for."""
    if not query.terms or any(
        isinstance(term.meaning, meanings.Id) and term.meaning.prefix == ids.EVENT
        for term in query.terms
        if not term.negated
    ):
        return None
    others = (
        meanings.Status,
        meanings.Code,
        meanings.Endpoint,
        meanings.Attempts,
        meanings.Duration,
        meanings.Data,
        meanings.Id,
    )
    return _affordable(query, inside=others)


def newest_deliveries(
    query: Query, scope: Scope, *, most: int, within: Sequence[ColumnElement[bool]], keyset: Keyset
) -> tuple[type[Delivery], ScalarSelect[UUID]]:
    """Return the deliveries that a page judges, and the last one of them where there may be more."""
    ended = _ended(query)
    if ended is not None:
        noted = select(Undelivered.delivery_id).where(
            Undelivered.workspace_id == scope.workspace_id,
            Undelivered.state == ended,
            Undelivered.reopened_at.is_(None),
            Undelivered.delivery_id >= (scope.lowest_id or ids.lowest_uuid_at(0)),
        )
        column = Undelivered.delivery_id
        found = keyset.narrow(noted, id_column=column, most=most)
        looked = select(Delivery).where(*within, Delivery.id.in_(found)).subquery("looked")
        edge = keyset.narrow(noted, id_column=column, most=1).offset(most - 1)
        return aliased(Delivery, looked), edge.scalar_subquery()
    within = [*within, *_at_endpoint(query)]
    newest = keyset.narrow(select(Delivery).where(*within), id_column=Delivery.id, most=most)
    edge = _edge(within, keyset=keyset, id_column=Delivery.id, most=most)
    classes = _error_classes(query)
    if classes and scope.lowest_id is not None and most == LOOKED:
        failures = (
            select(Attempt.delivery_id)
            .where(
                Attempt.workspace_id == scope.workspace_id,
                Attempt.error_class.in_(classes),
                Attempt.id >= scope.lowest_id,
            )
            .limit(FEW + 1)
            .cte()
        )
        few = select(func.count() <= FEW).select_from(failures).scalar_subquery()
        all_of_few = keyset.narrow(
            select(Delivery).where(*within, few, Delivery.id.in_(select(failures.c.delivery_id))),
            id_column=Delivery.id,
            most=FEW,
        )
        parts = (("few", all_of_few), ("many", newest.where(not_(few))))
        either = union_all(*(select(part.subquery(name)) for name, part in parts))
        return aliased(Delivery, either.subquery("looked")), edge.where(not_(few)).scalar_subquery()
    return aliased(Delivery, newest.subquery("looked")), edge.scalar_subquery()


def newest_events(
    *, most: int, within: Sequence[ColumnElement[bool]], keyset: Keyset
) -> tuple[type[Event], Select[UUID]]:
    """Return the events that a page judges, and a statement for the last one of them where there may be more."""
    newest = keyset.narrow(select(Event).where(*within), id_column=Event.id, most=most)
    return aliased(Event, newest.subquery("looked")), _edge(
        within, keyset=keyset, id_column=Event.id, most=most
    )


def _affordable(query: Query, *, inside: tuple[type, ...]) -> int:
    if query.needs_headers:
        return LOOKED_INTO_HEADERS
    return LOOKED_INSIDE if any(isinstance(term.meaning, inside) for term in query.terms) else LOOKED


def _edge(
    within: Sequence[ColumnElement[bool]], *, keyset: Keyset, id_column: Any, most: int
) -> Select[UUID]:
    return keyset.narrow(select(id_column).where(*within), id_column=id_column, most=1).offset(most - 1)


def _leads(meaning: meanings.Meaning) -> bool:
    match meaning:
        case meanings.Id(prefix):
            return prefix in {ids.DELIVERY, ids.EVENT, ids.ATTEMPT}
        case meanings.Status(names):
            return "succeeded" not in names
        case _:
            return False


def _ended(query: Query) -> str | None:
    """Return the one state in which deliveries are noted, newest first, if that is asked for."""
    for term in query.terms:
        match term.meaning:
            case meanings.Status(names) if not term.negated and names in ({"dead"}, {"cancelled"}):
                return next(iter(names))
            case _:
                pass
    return None


def _at_endpoint(query: Query) -> list[ColumnElement[bool]]:
    """Return the condition that an index of one endpoint's deliveries serves, in their order."""
    for term in query.terms:
        match term.meaning:
            case meanings.Endpoint((endpoint_id,), ()) if not term.negated:
                return [Delivery.endpoint_id == endpoint_id]
            case meanings.Id(prefix) as one if prefix == ids.ENDPOINT and one.whole and not term.negated:
                return [Delivery.endpoint_id == one.low]
            case _:
                pass
    return []


def _error_classes(query: Query) -> frozenset[str]:
    """Return the error classes that are asked for, if each is that of an attempt and nothing else is asked of the code."""
    for term in query.terms:
        meaning = term.meaning
        if isinstance(meaning, meanings.Code) and not (term.negated or meaning.none or meaning.ranges):
            return meaning.errors if ErrorClass.EXPIRED not in meaning.errors else frozenset()
    return frozenset()
