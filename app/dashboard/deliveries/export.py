"""Deliveries as lines of a file: what their list shows, and no payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from app.dashboard.exporting.files import Line, pages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from app.access.export import Format
    from app.core.pagination import Page, PageRequest
    from app.dashboard.deliveries.rows import DeliveryRow
    from app.dashboard.page import OpenPage
    from app.dashboard.search import Query

HEADINGS = (
    *("id", "status", "event", "event_type", "test", "endpoint", "url", "application", "application_name"),
    *("attempt_count", "last_status", "last_error_class", "last_error", "last_duration_ms"),
    *("created_at", "completed_at", "next_attempt_at", "waiting"),
)


class ReadRows(Protocol):
    """Reads a page of a list of deliveries."""

    async def __call__(self, opened: OpenPage, query: Query, *, page: PageRequest) -> Page[DeliveryRow]:
        """Return the page that is asked for."""
        ...


async def delivery_lines(
    read_rows: ReadRows, opened: OpenPage, query: Query, _form: Format
) -> AsyncIterator[Sequence[Line]]:
    """Yield the lines of a list of deliveries, newest first."""

    async def read(reading: OpenPage, page: PageRequest) -> Page[DeliveryRow]:
        return await read_rows(reading, query, page=page)

    async for rows in pages(opened, read):
        yield [_line(row) for row in rows]


def _line(row: DeliveryRow) -> Line:
    values = (
        *(row.delivery, row.status, row.event, row.event_type, row.test),
        *(row.endpoint, row.url, row.application, row.application_name),
        *(row.tries, row.code, row.error_class, row.error, row.duration_ms),
        *(row.created_at, row.completed_at, row.next_at, row.wait),
    )
    return Line(dict(zip(HEADINGS, values, strict=True)))
