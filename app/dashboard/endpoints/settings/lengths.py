"""Lengths of time as people type them: `90`, `90s`, `5m`, `2h`, `5d`, one or several. Pure."""

from __future__ import annotations

import re

from app.core.errors import Invalid

_SECONDS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400}
_LENGTH = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(s|min|m|h|d|)(?![\w.])", re.ASCII | re.IGNORECASE)
_BETWEEN = re.compile(r"[\s,;]*")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"))


def read_lengths(text: str, *, pointer: str) -> list[int]:
    """Return the lengths that a text holds, in whole seconds.

    Raises:
        Invalid: a part of it is no length.

    """
    found: list[int] = []
    at = 0
    text = text.strip()
    while at < len(text):
        length = _LENGTH.match(text, at)
        if length is None:
            raise Invalid.at(
                pointer,
                f"{text[at : at + 20]!r} is no length of time. Write seconds, or a number with s, m, h or d: 30s, 5m, 2h.",
            )
        found.append(round(float(length[1]) * _SECONDS[length[2].lower()]))
        at = length.end()
        between = _BETWEEN.match(text, at)
        at = between.end() if between else at
    return found


def write_length(seconds: int) -> str:
    """Return a length in its largest unit that leaves no rest: reading it again gives the same."""
    for size, unit in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def write_lengths(lengths: list[int]) -> str:
    """Return several lengths, for a form."""
    return ", ".join(map(write_length, lengths))
