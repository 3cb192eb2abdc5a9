"""Lists: what they are asked with and how they are answered."""

from collections.abc import Callable
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Query
from pydantic import Field

from app.api.schemas import Answer, Timestamp
from app.core import pagination
from app.core.pagination import DEFAULT_LIMIT, MAX_LIMIT, PageRequest
from app.core.ranges import TimeRange

RowT = TypeVar("RowT", bound=pagination.HasId)
ItemT = TypeVar("ItemT", bound=Answer)


class Page(Answer, Generic[ItemT]):
    """One page of a list, newest first."""

    data: list[ItemT]
    next_cursor: str | None = Field(description="`cursor` of the next, older page; null on the last one.")
    prev_cursor: str | None = Field(description="`cursor` of the page before, newer; null on the first one.")


def page_of(page: pagination.Page[RowT], show: Callable[[RowT], ItemT]) -> Page[ItemT]:
    """Return a page of rows as it is answered; `show` makes an answer of a row."""
    return Page(
        data=[show(row) for row in page.rows], next_cursor=page.next_cursor, prev_cursor=page.prev_cursor
    )


def _page_params(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many at most.")] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(description="`next_cursor` or `prev_cursor` of another page.")
    ] = None,
) -> PageRequest:
    return PageRequest(limit=limit, cursor=cursor)


def _created_range(
    gte: Annotated[
        Timestamp | None, Query(alias="created_at[gte]", description="Created at this time or later.")
    ] = None,
    lt: Annotated[
        Timestamp | None, Query(alias="created_at[lt]", description="Created before this time.")
    ] = None,
) -> TimeRange:
    return TimeRange(gte=gte, lt=lt)


PageParams = Annotated[PageRequest, Depends(_page_params)]
"""`limit` and `cursor`. Other query parameters than a route declares are refused by the route itself (422)."""

CreatedRange = Annotated[TimeRange, Depends(_created_range)]
"""`created_at[gte]` and `created_at[lt]`."""
