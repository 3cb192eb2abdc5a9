"""Ids: UUIDv7 in the tables, `prefix_` + 26 sortable characters in the API.

The text is Crockford's base 32 in lower case, of fixed length, so texts sort like the UUIDs and like time.
"""

from __future__ import annotations

import os
from uuid import UUID

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}
_LENGTH = 26  # 26 × 5 bits hold 128 bits; the first character holds the upper three
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_RANDOM_BITS = 74
_LAST_MS = 0
_LAST_TAIL = 0

APPLICATION, ENDPOINT, SUBSCRIPTION = "app", "ep", "sub"
EVENT, DELIVERY, ATTEMPT = "evt", "dlv", "att"
API_KEY, JOB, WORKSPACE = "key", "job", "wsp"
USER, SESSION, LOGIN_LINK = "usr", "ses", "lnk"


def uuid7(unix_ms: int) -> UUID:
    """Return a UUIDv7 (RFC 9562) for this time; within one millisecond of one process they ascend."""
    global _LAST_MS, _LAST_TAIL
    if unix_ms == _LAST_MS:
        # A random step keeps ids unguessable while they ascend; 32 bits never exhaust the 74 in a millisecond.
        tail = _LAST_TAIL + 1 + int.from_bytes(os.urandom(4))
    else:
        tail = int.from_bytes(os.urandom(10)) >> (80 - _RANDOM_BITS + 1)  # the top bit stays free for steps
    _LAST_MS, _LAST_TAIL = unix_ms, tail
    value = (unix_ms & 0xFFFFFFFFFFFF) << 80
    value |= 0x7 << 76 | (tail >> 62 & 0xFFF) << 64
    value |= 0b10 << 62 | tail & 0x3FFFFFFFFFFFFFFF
    return UUID(int=value)


def uuid7s(unix_ms: int, count: int) -> list[UUID]:
    """Return `count` UUIDs as `uuid7` makes them, in ascending order, with one call of the system for their chance."""
    global _LAST_MS, _LAST_TAIL
    if not count:
        return []
    made = [uuid7(unix_ms)]
    steps = os.urandom(4 * (count - 1))
    head = (unix_ms & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | 0b10 << 62
    tail = _LAST_TAIL
    for at in range(0, len(steps), 4):
        tail += 1 + int.from_bytes(steps[at : at + 4])
        made.append(UUID(int=head | (tail >> 62 & 0xFFF) << 64 | tail & 0x3FFFFFFFFFFFFFFF))
    _LAST_MS, _LAST_TAIL = unix_ms, tail
    return made


def lowest_uuid_at(unix_ms: int) -> UUID:
    """Return the smallest UUID of this millisecond: a bound for partitions and ranges."""
    return UUID(int=(unix_ms & 0xFFFFFFFFFFFF) << 80)


def to_text(prefix: str, value: UUID) -> str:
    """Return the API's form of an id, for example `evt_01j...`."""
    number = value.int
    chars = [_PAIRS[number >> shift & 0x3FF] for shift in range(120, -1, -10)]
    return prefix + "_" + "".join(chars)


def from_text(prefix: str, text: str) -> UUID | None:
    """Return the UUID of an API id, or None if it is not one of this kind (then the object does not exist)."""
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != _LENGTH:
        return None
    number = 0
    for char in tail:
        value = _VALUES.get(char)
        if value is None:
            return None
        number = number << 5 | value
    return UUID(int=number) if number < 1 << 128 else None
