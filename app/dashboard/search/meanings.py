"""What a term means: one small type a qualifier, each of which judges a candidate. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core import ids
from app.dashboard.search.json_paths import Wanted, holds

if TYPE_CHECKING:
    from uuid import UUID

    from app.dashboard.search.candidate import Candidate


@dataclass(frozen=True, slots=True)
class Id:
    """An id, or its beginning: all ids from `low` to `high`."""

    prefix: str
    low: UUID
    high: UUID

    @property
    def whole(self) -> bool:
        """Tell whether it names one object: that is looked for in all that is kept, not in the span only."""
        return self.low == self.high

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        found = {
            ids.DELIVERY: row.delivery_id,
            ids.EVENT: row.event_id,
            ids.ENDPOINT: row.endpoint_id,
            ids.APPLICATION: row.application_id,
            ids.ATTEMPT: row.attempt_id,
        }[self.prefix]
        return found is not None and self.low <= found <= self.high


@dataclass(frozen=True, slots=True)
class Text:
    """Part of an event type, or of an endpoint's URL; small and capital letters are the same."""

    part: str

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        part = self.part.lower()
        return part in row.event_type.lower() or part in open_part(row.url).lower()


@dataclass(frozen=True, slots=True)
class Status:
    """One of these states; `retrying` is pending after at least one attempt."""

    names: frozenset[str]

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        return row.state in self.names or (
            "retrying" in self.names and row.state == "pending" and row.attempts > 0
        )


@dataclass(frozen=True, slots=True)
class Code:
    """What the last attempt brought: a status in one of these ranges, an error class, or no answer at all."""

    ranges: tuple[tuple[int, int], ...]
    errors: frozenset[str]
    none: bool

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        if row.code is None:
            return self.none or row.error_class in self.errors
        return row.error_class in self.errors or any(low <= row.code <= high for low, high in self.ranges)


@dataclass(frozen=True, slots=True)
class Type:
    """One of these event types; `*` stands for any characters."""

    patterns: tuple[str, ...]

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        return any(_glob(pattern).fullmatch(row.event_type) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Application:
    """One of these applications, by id or uid."""

    references: tuple[str, ...]

    @property
    def ids(self) -> tuple[UUID, ...]:
        """Those of the references that may be ids."""
        found = (ids.from_text(ids.APPLICATION, reference) for reference in self.references)
        return tuple(each for each in found if each is not None)

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        return row.application_id in self.ids or row.application_uid in self.references


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of these endpoints, by id or by part of the URL."""

    ids: tuple[UUID, ...]
    parts: tuple[str, ...]

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        url = open_part(row.url).lower()
        return row.endpoint_id in self.ids or any(part.lower() in url for part in self.parts)


@dataclass(frozen=True, slots=True)
class Bounds:
    """From `low` to `high`; None is open, and `above`/`below` leave the bound itself out."""

    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False

    def hold(self, value: float) -> bool:
        """Tell whether a number lies between."""
        if self.low is not None and (value < self.low or (self.above and value == self.low)):
            return False
        return self.high is None or not (value > self.high or (self.below and value == self.high))


@dataclass(frozen=True, slots=True)
class Attempts:
    """So many attempts were made."""

    bounds: Bounds

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        return self.bounds.hold(row.attempts)


@dataclass(frozen=True, slots=True)
class Duration:
    """An attempt took so many milliseconds."""

    bounds: Bounds

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        return row.duration_ms is not None and self.bounds.hold(row.duration_ms)


@dataclass(frozen=True, slots=True)
class Data:
    """The published JSON holds this value at this place; a list on the way stands for each of its elements."""

    path: tuple[str, ...]
    wanted: Wanted

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        return row.data is not None and holds(row.data, self.path, self.wanted)


@dataclass(frozen=True, slots=True)
class Header:
    """A header of a request or of its answer holds this text; no text means that there is such a header."""

    name: str
    part: str

    def matches(self, row: Candidate) -> bool:
        """Judge a candidate."""
        part = self.part.lower()
        return any(name.lower() == self.name and part in value.lower() for name, value in row.headers)


Meaning = Id | Text | Status | Code | Type | Application | Endpoint | Attempts | Duration | Data | Header


def open_part(url: str) -> str:
    """Return a URL without its query string, which is a secret."""
    return url.partition("?")[0]


def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
