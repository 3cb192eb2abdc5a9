"""Event-type patterns: `order.placed`, `order.*`, `*`. Pure; compiled once, then matched for every event.

The `*` stands for one or more whole segments and is the last segment or the whole pattern, so `order.*` matches
`order.a` and `order.a.b`, and neither `order` nor `orders.a`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.core.errors import FieldError, Invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# As for names of event types (api.md).
MAX_LENGTH = 128
MAX_PATTERNS = 100
EVERYTHING = "*"

_SEGMENT = r"[A-Za-z0-9_-]+"
_NAME = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")
_PATTERN = re.compile(rf"\*|{_SEGMENT}(?:\.{_SEGMENT})*(?:\.\*)?")


class Matcher:
    """Patterns made ready: a match costs one set look-up, and one for each dot of the name."""

    __slots__ = ("_all", "_exact", "_prefixes")

    def __init__(self, patterns: Iterable[str]) -> None:
        given = frozenset(patterns)
        self._all = EVERYTHING in given
        self._prefixes = frozenset(pattern[:-1] for pattern in given if pattern.endswith(".*"))
        self._exact = frozenset(pattern for pattern in given if not pattern.endswith("*"))

    def matches(self, event_type: str) -> bool:
        """Tell whether one of the patterns stands for this event type."""
        if self._all or event_type in self._exact:
            return True
        if not self._prefixes:
            return False
        dot = event_type.find(".")
        while dot >= 0:
            if event_type[: dot + 1] in self._prefixes:
                return True
            dot = event_type.find(".", dot + 1)
        return False


def compile_patterns(patterns: Iterable[str]) -> Matcher:
    """Make a matcher of patterns that were checked when they were saved."""
    return Matcher(patterns)


def require_patterns(patterns: Sequence[str], *, pointer: str = "/event_types") -> list[str]:
    """Return the patterns in their order without repetitions.

    Raises:
        Invalid: there is none, there are too many, or one is not a pattern; `errors` points at each.

    """
    if not patterns:
        raise Invalid.at(pointer, 'Give at least one pattern, for example ["*"] for all event types.')
    if len(patterns) > MAX_PATTERNS:
        raise Invalid.at(
            pointer,
            f"There are {len(patterns)} patterns, and at most {MAX_PATTERNS} are allowed. "
            "Use `group.*` for a group of types, or a second subscription.",
        )
    faults = [
        FieldError(f"{pointer}/{position}", fault)
        for position, pattern in enumerate(patterns)
        if (fault := pattern_fault(pattern)) is not None
    ]
    if faults:
        raise Invalid("An event-type pattern cannot be used.", errors=faults)
    return list(dict.fromkeys(patterns))


def pattern_fault(pattern: str) -> str | None:
    """Return a sentence on what is wrong with a pattern, or None."""
    if len(pattern) > MAX_LENGTH:
        return f"The pattern has {len(pattern)} characters, and at most {MAX_LENGTH} are allowed."
    if _PATTERN.fullmatch(pattern):
        return None
    if EVERYTHING in pattern.removesuffix(".*"):
        return "A `*` may stand alone or be the last segment only, as in `order.*`."
    return "A pattern is made of segments of letters, digits, _ and -, separated by single dots."


def event_type_fault(name: str) -> str | None:
    """Return a sentence on what is wrong with the name of an event type, or None."""
    if len(name) > MAX_LENGTH:
        return f"The name has {len(name)} characters, and at most {MAX_LENGTH} are allowed."
    if _NAME.fullmatch(name):
        return None
    return "An event type is made of segments of letters, digits, _ and -, separated by single dots."
