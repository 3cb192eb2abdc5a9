"""The windows of time that statistics look back over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from app.core.ids import lowest_uuid_at

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

WindowName = Literal["15m", "1h", "24h", "7d"]
Step = Literal["minute", "hour"]

# A row's id is made a moment before or after the time that it carries.
_SLACK = timedelta(minutes=1)
_LENGTHS: dict[WindowName, timedelta] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
}


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` (included) to `until` (not included), in steps of a minute or an hour."""

    name: WindowName
    since: datetime
    until: datetime

    @property
    def step(self) -> Step:
        """How long the steps of a series are."""
        return "minute" if self.name in {"15m", "1h"} else "hour"

    @property
    def lowest_id(self) -> UUID:
        """No row of the window has a smaller id: bounds the partitions that are read."""
        return lowest_uuid_at(int((self.since - _SLACK).timestamp() * 1000))


def window_until(name: WindowName, now: datetime) -> Window:
    """Return the window of this name that ends now."""
    return Window(name=name, since=now - _LENGTHS[name], until=now)
