"""Conditions on what is kept as bytes: the published JSON of events, and the headers of attempts.

None of them can fail, whatever somebody managed to publish or to answer.
"""

from __future__ import annotations

import json
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

from app.models import Attempt, Event

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute

    from app.dashboard.search import meanings
    from app.dashboard.search.json_paths import Wanted

# Numbers that Postgres' JSON may refuse: long ones, and those with long exponents.
_STRANGE_NUMBER = "[0-9]{255}|[0-9][eE][+-]?[0-9]{4}"
_EXPONENT = "[:,\\[]\\s*-?[0-9.]+[eE]"


def header_holds(meaning: meanings.Header) -> ColumnElement[bool]:
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


def data_holds(path: tuple[str, ...], wanted: Wanted, event: type[Event] = Event) -> ColumnElement[bool]:
    """Return the condition on an event's data, which is kept as the bytes that were published.

    Most rows are told by their bytes: they hold neither the characters of the value nor an escape that may stand for
    one of them. Only the others are read as JSON. What Postgres cannot read as JSON (numbers beyond its own) is
    told by the last name and the value alone.
    """
    last = json.dumps(path[-1], ensure_ascii=False)
    place = "$" + "".join("." + json.dumps(name) for name in path)
    characters = func.convert_from(event.data, "UTF8")
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
        _as_json(event.data), cast(literal(filtered), JSONPATH), cast(literal(document), JSONB), true()
    )
    unlikely = [func.strpos(characters, literal(needle)) == 0, func.strpos(characters, literal("\\")) == 0]
    if number is not None:
        # 42 may also be written as 4.2e1.
        unlikely.append(not_(characters.op("~")(literal(_EXPONENT))))
    return case(
        (event.data.is_(None), false()),
        (and_(*unlikely), false()),
        (_is_strange(event.data), characters.op("~")(literal(strange))),
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
