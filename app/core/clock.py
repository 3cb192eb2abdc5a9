"""Time: the database's, so that a machine with a wrong clock cannot choose partitions or leases.

`DatabaseClock` holds the difference between this process's monotonic clock and Postgres' clock, measured at
every connection check; between two checks it costs no query.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SKEW_WORTH_REPORTING_SECONDS = 5.0


@dataclass(slots=True)
class DatabaseClock:
    """Tells Postgres' time without asking it. Before the first `adjust` it tells this machine's time."""

    _offset: float = field(default_factory=lambda: time.time() - time.monotonic())
    adjusted: bool = False

    def adjust(self, *, database_unix: float, asked_at: float, answered_at: float) -> None:
        """Take a sample: the database's Unix time, and the monotonic times before and after asking."""
        self._offset = database_unix - (asked_at + answered_at) / 2
        self.adjusted = True

    def unix(self) -> float:
        """Return seconds since 1970, by the database's clock."""
        return time.monotonic() + self._offset

    def unix_ms(self) -> int:
        """Return whole milliseconds since 1970, by the database's clock."""
        return int(self.unix() * 1000)

    def now(self) -> datetime:
        """Return the database's time, in UTC."""
        return EPOCH + timedelta(seconds=self.unix())

    def skew_seconds(self) -> float:
        """Return how far this machine's clock is ahead of the database's."""
        return time.time() - self.unix()


def rfc3339(value: datetime) -> str:
    """Return `2026-01-31T12:00:00.123456Z`; a naive time is a bug."""
    if value.tzinfo is None:
        raise ValueError("a time without a zone")
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def rfc3339_ms(value: datetime) -> str:
    """Return `2026-01-31T12:00:00.123Z`, the form that receivers get."""
    if value.tzinfo is not UTC:  # Postgres' times are in UTC already, and this is done for each event.
        value = value.astimezone(UTC)
    return value.isoformat(timespec="milliseconds")[:-6] + "Z"
