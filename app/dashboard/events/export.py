"""Events as lines of a file; NDJSON has their data, as it is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from sqlalchemy import select

from app.access.export import Format
from app.dashboard.events.queries import list_rows
from app.dashboard.exporting.files import Line, pages
from app.dashboard.page import read_on
from app.models import Event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from datetime import datetime
    from uuid import UUID

    from app.core.pagination import Page, PageRequest
    from app.dashboard.events.queries import EventRow
    from app.dashboard.page import OpenPage
    from app.dashboard.search import Query

HEADINGS = (
    *("id", "type", "application", "application_name", "uid", "correlation_id", "test"),
    *("created_at", "occurred_at", "data_bytes", "data_erased"),
    *("deliveries", "succeeded", "waiting", "dead", "cancelled"),
)
# As much data as is read at once: a page of large events would take too much memory.
MOST_BYTES = 4 * 1_048_576
# Of an event that was dropped while the file was written.
_GONE = {"metadata": b"null", "data": b"null"}


async def event_lines(opened: OpenPage, query: Query, form: Format) -> AsyncIterator[Sequence[Line]]:
    """Yield the lines of a list of events, newest first."""

    async def read(reading: OpenPage, page: PageRequest) -> Page[EventRow]:
        found, _ = await list_rows(reading, query, page=page)
        return found

    async for rows in pages(opened, read):
        if form is Format.CSV:
            yield [Line(_fields(row)) for row in rows]
            continue
        for some in _parts(rows):
            data = await _read_data(opened, [row.id for row in some])
            yield [Line(_fields(row), stored=data.get(row.id, _GONE)) for row in some]


def _parts(rows: Sequence[EventRow]) -> Iterator[list[EventRow]]:
    """Cut a page into parts whose data is read at once; there is at least one row in each."""
    part: list[EventRow] = []
    size = 0
    for row in rows:
        if part and size + (row.size or 0) > MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(row)
        size += row.size or 0
    if part:
        yield part


async def _read_data(opened: OpenPage, events: Sequence[UUID]) -> dict[UUID, dict[str, bytes]]:
    async with read_on(opened) as reading:
        found = await reading.session.execute(
            select(Event.id, Event.custom, Event.data).where(
                Event.workspace_id == opened.caller.workspace_id, Event.id.in_(events)
            )
        )
        return {row.id: {"metadata": orjson.dumps(row.custom), "data": row.data or b"null"} for row in found}


def _fields(row: EventRow) -> dict[str, str | int | float | bool | datetime | None]:
    values = (
        *(row.event, row.type, row.application, row.application_name, row.uid, row.correlation_id, row.test),
        *(row.created_at, row.occurred_at, row.size, row.erased),
        *(row.matched, row.succeeded, row.waiting, row.dead, row.cancelled),
    )
    return dict(zip(HEADINGS, values, strict=True))
