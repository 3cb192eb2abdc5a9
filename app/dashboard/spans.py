"""How far a page looks back: the `range` of its address, which every link on it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from app.core.ids import lowest_uuid_at
from app.stats.spans import SHAPES, SpanName

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

# Their lengths are those of the charts, which show whole steps of the roll-ups (`app.stats.spans.Span`).
_WORDS: dict[SpanName, str] = {
    "1h": "last hour",
    "4h": "last 4 hours",
    "24h": "last 24 hours",
    "7d": "last 7 days",
}
SPANS: dict[SpanName, tuple[timedelta, str]] = {
    name: (timedelta(minutes=SHAPES[name].length), words) for name, words in _WORDS.items()
}
DEFAULT: SpanName = "24h"

# A row's id is made a moment before or after the time that it carries.
_SLACK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` (included) to `until` (now)."""

    name: SpanName
    since: datetime
    until: datetime

    @property
    def words(self) -> str:
        """The span as people say it."""
        return SPANS[self.name][1]

    @property
    def lowest_id(self) -> UUID:
        """No row of the span has a smaller id: bounds the partitions that are read."""
        return lowest_uuid_at(int((self.since - _SLACK).timestamp() * 1000))


def span_of(text: str | None, *, now: datetime) -> Span:
    """Return the span of this name; an address that names none means the default."""
    name = text if text in SPANS else DEFAULT
    return Span(name=name, since=now - SPANS[name][0], until=now)
