"""Terms as SQL: conditions on deliveries, and on events. What they mean is what `Query.matches` says.

Each subquery names the workspace itself, and is bounded by `lowest_id`, so that only the partitions of the span are
read. None of the conditions can fail, whatever somebody managed to publish.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH

from app.core import ids
from app.dashboard.search import meanings
from app.deliveries.waiting import LEASED
from app.models import Application, Attempt, Delivery, Endpoint, Event, QueuedDelivery, Undelivered

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute

    from app.dashboard.search.json_paths import Wanted
    from app.dashboard.search.language import Query, Term
    from app.dashboard.search.meanings import Bounds, Meaning

# Numbers that Postgres' JSON may refuse: long ones, and those with long exponents.
_STRANGE_NUMBER = "[0-9]{255}|[0-9][eE][+-]?[0-9]{4}"
_EXPONENT = "[:,\\[]\\s*-?[0-9.]+[eE]"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows, and since when: no row of the span has an id below `lowest_id`; None is all that is kept."""

    workspace_id: UUID
    lowest_id: UUID | None


def on_deliveries(query: Query, scope: Scope) -> list[ColumnElement[bool]]:
    """Return conditions on `Delivery`; a query with faults finds nothing."""
    if query.faults:
        return [false()]
    return [
        _state(term.meaning.names, scope)
        if isinstance(term.meaning, meanings.Status) and not term.negated
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
                Delivery.event_type.icontains(part, autoescape=True),
                Delivery.endpoint_id.in_(_endpoints_at([part], scope)),
            )
        case meanings.Status(names):
            return _row_state(names, scope)
        case meanings.Code():
            return _code(meaning)
        case meanings.Type(patterns):
            return or_(*(_glob(Delivery.event_type, pattern) for pattern in patterns))
        case meanings.Application():
            return Delivery.application_id.in_(_applications(meaning, scope))
        case meanings.Endpoint(endpoint_ids, parts):
            named = Delivery.endpoint_id.in_(endpoint_ids)
            return or_(named, Delivery.endpoint_id.in_(_endpoints_at(parts, scope))) if parts else named
        case meanings.Attempts(bounds):
            return _between(Delivery.attempt_count, bounds)
        case meanings.Duration(bounds):
            return _attempt(scope, Attempt.delivery_id == Delivery.id, _between(Attempt.duration_ms, bounds))
        case meanings.Header():
            return _attempt(scope, Attempt.delivery_id == Delivery.id, _header(meaning))
        case meanings.Data(path, wanted):
            found = [Event.workspace_id == scope.workspace_id, Event.id == Delivery.event_id]
            if scope.lowest_id is not None:
                found.append(Event.id >= scope.lowest_id)
            return exists().where(*found, _data(path, wanted))


def _of_event(meaning: Meaning, scope: Scope) -> ColumnElement[bool]:  # noqa: PLR0911 - one case a qualifier
    match meaning:
        case meanings.Id(prefix) if prefix == ids.EVENT:
            return _within(Event.id, meaning)
        case meanings.Id(prefix) if prefix == ids.APPLICATION:
            return _within(Event.application_id, meaning)
        case meanings.Text(part):
            return or_(
                Event.type.icontains(part, autoescape=True), Event.uid == part, Event.correlation_id == part
            )
        case meanings.Type(patterns):
            return or_(*(_glob(Event.type, pattern) for pattern in patterns))
        case meanings.Application():
            return Event.application_id.in_(_applications(meaning, scope))
        case meanings.Data(path, wanted):
            return _data(path, wanted)
        case _:
            found = [Delivery.workspace_id == scope.workspace_id, Delivery.event_id == Event.id]
            if scope.lowest_id is not None:
                found.append(Delivery.id >= scope.lowest_id)
            return exists().where(*found, _of_delivery(meaning, scope)).correlate(Event)


def _id_of_delivery(meaning: meanings.Id, scope: Scope) -> ColumnElement[bool]:
    if meaning.prefix == ids.ATTEMPT:
        return Delivery.id.in_(
            select(Attempt.delivery_id).where(
                Attempt.workspace_id == scope.workspace_id, _within(Attempt.id, meaning)
            )
        )
    column: InstrumentedAttribute[UUID] = {
        ids.DELIVERY: Delivery.id,
        ids.EVENT: Delivery.event_id,
        ids.ENDPOINT: Delivery.endpoint_id,
        ids.APPLICATION: Delivery.application_id,
    }[meaning.prefix]
    return _within(column, meaning)


def _within(column: InstrumentedAttribute[UUID], meaning: meanings.Id) -> ColumnElement[bool]:
    return column == meaning.low if meaning.whole else column.between(meaning.low, meaning.high)


def _state(names: frozenset[str], scope: Scope) -> ColumnElement[bool]:
    """Return the condition by where each state is found: few deliveries are waiting, dead or cancelled.

    `undelivered` has no tests: of those that failed only the list without this term tells.
    """
    choices: list[ColumnElement[bool]] = [Delivery.state == "succeeded"] if "succeeded" in names else []
    ended = names & {"dead", "cancelled"}
    if ended:
        found = [
            Undelivered.workspace_id == scope.workspace_id,
            Undelivered.state.in_(ended),
            Undelivered.reopened_at.is_(None),
        ]
        if scope.lowest_id is not None:
            found.append(Undelivered.delivery_id >= scope.lowest_id)
        choices.append(Delivery.id.in_(select(Undelivered.delivery_id).where(*found)))
    waiting = _queued(names)
    if waiting is not None:
        found = [QueuedDelivery.workspace_id == scope.workspace_id, waiting]
        if scope.lowest_id is not None:
            found.append(QueuedDelivery.id >= scope.lowest_id)
        choices.append(Delivery.id.in_(select(QueuedDelivery.id).where(*found)))
    return or_(*choices)


def _row_state(names: frozenset[str], scope: Scope) -> ColumnElement[bool]:
    """Return the condition by what the delivery itself says: for those that are at hand already."""
    final = names & {"succeeded", "dead", "cancelled"}
    choices: list[ColumnElement[bool]] = [Delivery.state.in_(final)] if final else []
    waiting = _queued(names)
    if waiting is not None:
        queued = exists().where(
            QueuedDelivery.workspace_id == scope.workspace_id, QueuedDelivery.id == Delivery.id, waiting
        )
        choices.append(and_(Delivery.state == "pending", queued))
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


def _code(meaning: meanings.Code) -> ColumnElement[bool]:
    choices: list[ColumnElement[bool]] = [
        Delivery.last_status.between(low, high) for low, high in meaning.ranges
    ]
    if meaning.errors:
        choices.append(Delivery.last_error_class.in_(meaning.errors))
    if meaning.none:
        choices.append(Delivery.last_status.is_(None))
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
    return exists().where(*found).correlate(Delivery)


def _header(meaning: meanings.Header) -> ColumnElement[bool]:
    """Return the condition on an attempt. Headers are kept as a JSON array of [name, value], in bytes."""
    # Bytes first: most rows have no such header, and need not be taken apart.
    return or_(
        *(_header_in(column, meaning) for column in (Attempt.request_headers, Attempt.response_headers))
    )


def _header_in(column: InstrumentedAttribute[bytes | None], meaning: meanings.Header) -> ColumnElement[bool]:
    variables = json.dumps({"part": meaning.part.lower()})
    pairs = func.jsonb_array_elements(_as_json(column)).table_valued("value", name="pair")
    pair = cast(pairs.c.value, JSONB)
    holding = exists(
        select(literal(1))
        .select_from(pairs)
        .where(
            func.lower(pair.op("->>")(0)) == meaning.name,
            func.strpos(func.lower(pair.op("->>")(1)), cast(literal(variables), JSONB).op("->>")("part")) > 0
            if meaning.part
            else true(),
        )
    )
    return case((column.is_(None), false()), (_is_strange(column), false()), else_=holding)


def _data(path: tuple[str, ...], wanted: Wanted) -> ColumnElement[bool]:
    """Return the condition on an event's data, which is kept as the bytes that were published.

    Most rows are told by their bytes: they hold neither the characters of the value nor an escape that may stand for
    one of them. Only the others are read as JSON. What Postgres cannot read as JSON (numbers beyond its own) is
    told by the last name and the value alone.
    """
    last = json.dumps(path[-1], ensure_ascii=False)
    place = "$" + "".join("." + json.dumps(name) for name in path)
    characters = func.convert_from(Event.data, "UTF8")
    number = wanted.literal if isinstance(wanted.literal, Decimal) else None
    if wanted.anything:
        needle, filtered, strange = path[-1], place, f"{_regex(last)}\\s*:"
    elif wanted.beginning:
        needle, filtered = wanted.text, f"{place} ? (@ starts with $text)"
        strange = f"{_regex(last)}\\s*:\\s*{_regex(json.dumps(wanted.text, ensure_ascii=False)[:-1])}"
    else:
        needle = wanted.text
        if number is not None:
            # 42.50 may also be written as 42.5.
            needle = format(number.normalize(), "f").lstrip("-")
        either = "@ == $text" if wanted.literal is ... else "@ == $text || @ == $literal"
        filtered = f"{place} ? ({either})"
        strange = f'{_regex(last)}\\s*:\\s*"?{_regex(wanted.text)}"?\\s*[,\\]}}]'
    document = json.dumps({"text": wanted.text})
    if wanted.literal is not ...:
        # As text: Python's own numbers would round it.
        document = (
            document[:-1] + f', "literal": {number if number is not None else json.dumps(wanted.literal)}}}'
        )
    found = func.jsonb_path_exists(
        _as_json(Event.data), cast(literal(filtered), JSONPATH), cast(literal(document), JSONB), true()
    )
    unlikely = [func.strpos(characters, literal(needle)) == 0, func.strpos(characters, literal("\\")) == 0]
    if number is not None:
        # 42 may also be written as 4.2e1.
        unlikely.append(not_(characters.op("~")(literal(_EXPONENT))))
    return case(
        (Event.data.is_(None), false()),
        (and_(*unlikely), false()),
        (_is_strange(Event.data), characters.op("~")(literal(strange))),
        else_=found,
    )


def _as_json(column: InstrumentedAttribute[Any]) -> ColumnElement[Any]:
    # U+0000 is legal in JSON, and no character of Postgres'.
    return cast(func.replace(func.convert_from(column, "UTF8"), "\\u0000", "\\ufffd"), JSONB)


def _is_strange(column: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
    return func.convert_from(column, "UTF8").op("~")(literal(_STRANGE_NUMBER))


def _regex(text: str) -> str:
    """Return a text as a regular expression of Postgres' that means its characters."""
    return "".join(
        char if char.isalnum() else f"\\u{ord(char):04x}" if ord(char) < 1 << 16 else "." for char in text
    )
