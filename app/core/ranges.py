"""Ranges of time in lists: `created_at[gte]` and `created_at[lt]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from app.core.ids import lowest_uuid_at

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select

RowT = TypeVar("RowT")

# An id is made a moment before or after its transaction began; a long transaction makes the two differ.
_SLACK_MS = 60_000


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `gte` (included) to `lt` (not included); None is open."""

    gte: datetime | None = None
    lt: datetime | None = None

    def apply(
        self,
        query: Select[RowT],
        *,
        id_column: ColumnElement[Any] | Any,
        created_at: ColumnElement[Any] | Any,
    ) -> Select[RowT]:
        """Narrow a query to the rows created in the range.

        The bounds on the id let Postgres look into the partitions of the range only: a UUIDv7 begins with its
        time, to the millisecond. `created_at`, which may be a little later, decides.
        """
        if self.gte is not None:
            query = query.where(
                id_column >= lowest_uuid_at(_ms(self.gte) - _SLACK_MS), created_at >= self.gte
            )
        if self.lt is not None:
            query = query.where(id_column < lowest_uuid_at(_ms(self.lt) + _SLACK_MS), created_at < self.lt)
        return query


def _ms(value: datetime) -> int:
    return min(max(int(value.timestamp() * 1000), _SLACK_MS), (1 << 48) - 1 - _SLACK_MS)
