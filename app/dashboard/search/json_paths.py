"""Whether published JSON holds a value at a place, as Postgres' lax JSON paths decide it. Pure.

A list on the way, and at its end, stands for each of its elements. Numbers are compared as numbers of
any size: 9007199254740993 is not 9007199254740992.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBER_CHARACTERS = frozenset("+-0123456789.eE")
# Beyond this Postgres' numbers and those here need not agree, so the characters are compared.
MAX_DIGITS = 255


@dataclass(frozen=True, slots=True)
class Wanted:
    """A value as it was typed: bare, `42` is the number and the text; in quotes it is the text only.

    `beginning`: any text that begins so; if nothing is said of its beginning, any value at all.
    """

    text: str
    quoted: bool = False
    beginning: bool = False

    @property
    def anything(self) -> bool:
        """Tell whether every value will do."""
        return self.beginning and not self.text

    @property
    def literal(self) -> Any:
        """The number, true, false or null that a bare value may also mean; `...` where it means none."""
        if self.quoted or self.beginning:
            return ...
        if self.text in _LITERALS:
            return _LITERALS[self.text]
        number = number_of(self.text)
        return ... if number is None else number

    def fits(self, value: Any) -> bool:
        """Judge one value of a document."""
        if self.anything:
            return True
        if isinstance(value, str):
            return value.startswith(self.text) if self.beginning else value == self.text
        literal = self.literal
        if literal is ... or isinstance(value, dict | list):
            return False
        if isinstance(value, bool) or value is None or isinstance(literal, bool) or literal is None:
            return value is literal
        return bool(value == literal)


def number_of(text: str) -> Decimal | None:
    """Return the number that a text writes as JSON does, or None."""
    if not 0 < len(text) <= MAX_DIGITS or not _NUMBER_CHARACTERS.issuperset(text):
        return None
    try:
        read = json.loads(text, parse_int=Decimal, parse_float=Decimal)
    except (ValueError, InvalidOperation):
        return None
    return read if isinstance(read, Decimal) and abs(read.adjusted()) < MAX_DIGITS else None


def holds(document: bytes, path: tuple[str, ...], wanted: Wanted) -> bool:
    """Tell whether a document holds a value at a place."""
    try:
        found = json.loads(document, parse_int=_number, parse_float=_number, object_pairs_hook=dict)
    except (ValueError, RecursionError):
        return False
    return any(wanted.fits(value) for value in _elements(_at(found, path)))


def _number(text: str) -> Decimal | object:
    number = number_of(text)
    return _Strange() if number is None else number


class _Strange:
    """A number beyond all that can be asked for: equal to nothing."""


def _at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if not path:
        yield value
        return
    for each in value if isinstance(value, list) else (value,):
        if isinstance(each, dict) and path[0] in each:
            yield from _at(each[path[0]], path[1:])


def _elements(values: Iterator[Any], levels: int = 2) -> Iterator[Any]:
    """Go into lists: a filter does that once, and its comparison once more."""
    for value in values:
        if isinstance(value, list) and levels:
            yield from _elements(iter(value), levels - 1)
        yield value


_LITERALS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
