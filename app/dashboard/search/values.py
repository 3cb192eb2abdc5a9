"""Reads the value of each qualifier, and says what is possible where it cannot. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import UUID

from app.core import ids
from app.core.error_classes import ErrorClass
from app.core.errors import BellwireError
from app.dashboard.search.json_paths import Wanted
from app.dashboard.search.meanings import (
    Application,
    Attempts,
    Bounds,
    Code,
    Data,
    Duration,
    Endpoint,
    Header,
    Id,
    Status,
    Text,
    Type,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.dashboard.search.words import Word

STATES = ("pending", "retrying", "sending", "succeeded", "dead", "cancelled")
# What people call error classes; the classes themselves are understood, too.
ERROR_WORDS: dict[str, frozenset[str]] = {
    "timeout": frozenset({ErrorClass.CONNECT_TIMEOUT.value, ErrorClass.READ_TIMEOUT.value}),
    "dns": frozenset({ErrorClass.DNS_ERROR.value}),
    "tls": frozenset({ErrorClass.TLS_ERROR.value}),
    "refused": frozenset({ErrorClass.CONNECT_REFUSED.value}),
    "blocked": frozenset({ErrorClass.BLOCKED_ADDRESS.value}),
    "protocol": frozenset({ErrorClass.PROTOCOL_ERROR.value, ErrorClass.HEADERS_TOO_LARGE.value}),
}
MAX_PATH = 20
MAX_NUMBER = 1_000_000_000

_KINDS = (ids.EVENT, ids.DELIVERY, ids.ENDPOINT, ids.ATTEMPT, ids.APPLICATION)
_ID = re.compile(rf"({'|'.join(_KINDS)})_([0-9a-z]{{1,26}})")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_BITS = 130
_CODE = re.compile(r"[1-5][0-9]{2}")
_CODE_CLASS = re.compile(r"([1-5])xx", re.IGNORECASE)
_COMPARISON = re.compile(r"(>=|<=|>|<|)([^.<>=][^<>=]*)")
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "min": 60_000}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|min|m)", re.IGNORECASE)


class NotUnderstood(BellwireError):
    """A term cannot be understood; the message says what is possible."""


def status(_: str, word: Word) -> Status:
    """Read `status:`."""
    names = frozenset(part.lower() for part in word.parts)
    unknown = sorted(names - set(STATES))
    if unknown:
        raise NotUnderstood(f"There is no state {_short(unknown[0])}. Possible are {', '.join(STATES)}.")
    return Status(names)


def code(_: str, word: Word) -> Code:
    """Read `code:`."""
    ranges: list[tuple[int, int]] = []
    errors: set[str] = set()
    none = False
    for part in word.parts:
        found = _CODE_CLASS.fullmatch(part)
        if found is not None:
            first = int(found[1]) * 100
            ranges.append((first, first + 99))
        elif _CODE.fullmatch(part):
            ranges.append((int(part), int(part)))
        elif part.lower() == "none":
            none = True
        elif part.lower() in ERROR_WORDS:
            errors |= ERROR_WORDS[part.lower()]
        elif part.lower() in {each.value for each in ErrorClass}:
            errors.add(part.lower())
        else:
            raise NotUnderstood(
                f"{_short(part)} is no status (503), class of statuses (5xx) or error. Errors are "
                f"{', '.join(ERROR_WORDS)}, and the classes of docs/reference/errors.md; `none` is no answer."
            )
    return Code(tuple(ranges), frozenset(errors), none)


def event_type(_: str, word: Word) -> Type:
    """Read `type:`."""
    return Type(tuple(_filled(word)))


def application(_: str, word: Word) -> Application:
    """Read `application:`."""
    return Application(tuple(_filled(word)))


def endpoint(_: str, word: Word) -> Endpoint:
    """Read `endpoint:`."""
    found: list[UUID] = []
    parts: list[str] = []
    for part in _filled(word):
        endpoint_id = ids.from_text(ids.ENDPOINT, part)
        if endpoint_id is not None:
            found.append(endpoint_id)
        elif part.startswith("ep_"):
            raise NotUnderstood(
                f"{_short(part)} is no endpoint's id: those have 26 letters and digits after ep_."
            )
        else:
            parts.append(part)
    return Endpoint(tuple(found), tuple(parts))


def attempts(_: str, word: Word) -> Attempts:
    """Read `attempt:`."""
    return Attempts(_bounds(word.value, _whole, example="attempt:>3 or attempt:2..5"))


def duration(_: str, word: Word) -> Duration:
    """Read `duration:`."""
    return Duration(_bounds(word.value, _milliseconds, example="duration:>2s or duration:500ms..2s"))


def data(place: str, word: Word) -> Data:
    """Read `data.place:`."""
    path = tuple(place.split("."))
    if not all(path) or len(path) > MAX_PATH:
        raise NotUnderstood(
            f"data. is followed by up to {MAX_PATH} names with single dots between them, as in data.order.id:42."
        )
    value, quoted = word.value, word.quoted
    if not quoted and value.endswith("*"):
        return Data(path, Wanted(value[:-1], beginning=True))
    return Data(path, Wanted(value, quoted=quoted))


def header(name: str, word: Word) -> Header:
    """Read `header.name:`."""
    if not name:
        raise NotUnderstood("header. is followed by a header's name, as in header.server:nginx.")
    return Header(name.lower(), "" if word.value == "*" and not word.quoted else word.value)


def text(word: Word) -> Id | Text:
    """Read a word without a qualifier: an id, the beginning of one, or part of a type or URL."""
    part = f"{word.name}:{word.value}" if word.name else word.value
    if not part:
        raise NotUnderstood("There is nothing between the quotation marks. Leave them out.")
    found = None if word.quoted else _ID.fullmatch(part.lower())
    if found is None:
        return Text(part)
    low, high = _id_bounds(found[2])
    return Id(found[1], low, high)


def _id_bounds(tail: str) -> tuple[UUID, UUID]:
    number = 0
    for char in tail:
        value = _ALPHABET.find(char)
        if value < 0:
            raise NotUnderstood(f"Ids have no {char!r} in them: copy the id once more.")
        number = number << 5 | value
    rest = _BITS - 5 * len(tail)
    low, high = number << rest, (number + 1 << rest) - 1
    if high >= 1 << 128:
        raise NotUnderstood("No id begins so: copy it once more.")
    return UUID(int=low), UUID(int=high)


def _bounds(value: str, read: Callable[[str], float | None], *, example: str) -> Bounds:
    below, dots, above = value.partition("..")
    if dots:
        low, high = read(below), read(above)
        if low is not None and high is not None:
            return Bounds(low=low, high=high)
    found = _COMPARISON.fullmatch(value)
    number = read(found[2]) if found is not None else None
    if found is None or number is None:
        raise NotUnderstood(f"{_short(value)} is not understood here. Write it like {example}.")
    if found[1].startswith(">"):
        return Bounds(low=number, above=found[1] == ">")
    if found[1].startswith("<"):
        return Bounds(high=number, below=found[1] == "<")
    return Bounds(low=number, high=number)


def _whole(text: str) -> float | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(MAX_NUMBER)) - 1 else None


def _milliseconds(text: str) -> float | None:
    found = _DURATION.fullmatch(text)
    value = float(found[1]) * _UNITS[found[2].lower()] if found is not None else None
    return value if value is not None and value <= MAX_NUMBER else None


def _filled(word: Word) -> list[str]:
    if not all(word.parts):
        raise NotUnderstood(f"{word.name}: has an empty value. Leave the comma or the quotation marks out.")
    return word.parts


def _short(value: str) -> str:
    return f"“{value[:40]}”"
