"""A list as a file: page after page, so that it takes the same memory whatever its length.

Each page is read in a transaction of its own, from the newest row backwards: a reader that is slow, or has gone, holds
nothing in the database, what comes meanwhile is not in the file, and nothing is in it twice. A file that is not whole
says so in its last line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from app.access.export import Format
from app.core.clock import rfc3339
from app.core.errors import TooBusy
from app.core.pagination import HasId, PageRequest
from app.core.spreadsheet import csv_lines
from app.dashboard.page import READ_SECONDS, read_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from datetime import datetime
    from typing import TypeVar

    from app.core.pagination import Page
    from app.dashboard.page import OpenPage

    RowT = TypeVar("RowT", bound=HasId)

# An hour of work for a spreadsheet; who needs more narrows the range, or reads the API page by page.
MOST_ROWS = 100_000
ROWS_PER_PAGE = 500


@dataclass(frozen=True, slots=True)
class Line:
    """One row: its fields in the order of the file, and JSON that is written as it is stored, by name."""

    fields: dict[str, str | int | float | bool | datetime | None]
    stored: dict[str, bytes] | None = None


async def pages(
    opened: OpenPage, read: Callable[[OpenPage, PageRequest], Awaitable[Page[RowT]]]
) -> AsyncIterator[Sequence[RowT]]:
    """Yield the rows of a list page by page, each in a transaction of its own."""
    cursor: str | None = None
    while True:
        async with read_on(opened) as reading:
            page = await read(reading, PageRequest(limit=ROWS_PER_PAGE, cursor=cursor))
        if page.rows:
            yield page.rows
        cursor = page.next_cursor
        if cursor is None:
            return


async def written(
    lines: AsyncIterator[Sequence[Line]], *, form: Format, headings: Sequence[str]
) -> AsyncIterator[bytes]:
    """Yield the file, piece by piece."""
    if form is Format.CSV:
        yield csv_lines([headings]).encode()
    count = 0
    try:
        async for some in lines:
            taken = some[: MOST_ROWS - count]
            count += len(taken)
            yield _csv(taken) if form is Format.CSV else _ndjson(taken)
            if len(taken) < len(some):
                yield _cut(form, count, f"a file has {MOST_ROWS:,} rows at most")
                return
    except TooBusy:
        yield _cut(form, count, f"the database needed more than {READ_SECONDS:g} seconds for a page of it")


def _csv(lines: Sequence[Line]) -> bytes:
    return csv_lines([_cell(value) for value in line.fields.values()] for line in lines).encode()


def _cell(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else rfc3339(value)


def _ndjson(lines: Sequence[Line]) -> bytes:
    return b"".join(_object(line) for line in lines)


def _object(line: Line) -> bytes:
    shown = {
        name: value if value is None or isinstance(value, str | int | float) else rfc3339(value)
        for name, value in line.fields.items()
    }
    # A line of the file is a row: between its tokens JSON may have line breaks, inside of them it has none.
    stored = b"".join(
        b",%b:%b" % (orjson.dumps(name), data.replace(b"\r", b" ").replace(b"\n", b" "))
        for name, data in (line.stored or {}).items()
    )
    return orjson.dumps(shown)[:-1] + stored + b"}\n"


def _cut(form: Format, count: int, why: str) -> bytes:
    said = f"Not complete: {why}. These are the newest {count:,}. Narrow the range or the filters for the others."
    if form is Format.CSV:
        return csv_lines([[said]]).encode()
    return orjson.dumps({"export": {"complete": False, "rows": count, "detail": said}}) + b"\n"
