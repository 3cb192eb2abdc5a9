"""The audit log as a file: page after page, so that it takes the same memory whatever its length.

Each page is read in a transaction of its own: a reader that is slow, or has gone, holds nothing in the database. Pages go
from the newest entry backwards, so what is written meanwhile is not in the file, and nothing is in it twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from app.access import audit
from app.access.schemas import AuditEntryAnswer
from app.core import ids
from app.core.clock import rfc3339
from app.core.pagination import PageRequest
from app.core.ranges import TimeRange
from app.core.spreadsheet import csv_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

    from app.core.context import Caller
    from app.models import AuditEntry

ROWS_PER_PAGE = 500

_HEADINGS = (
    "id",
    "created_at",
    "action",
    "actor_kind",
    "actor_id",
    "object_kind",
    "object_id",
    "before",
    "after",
    "address",
    "request_id",
)


class Format(StrEnum):
    """What the file is made of."""

    NDJSON = "ndjson"
    CSV = "csv"


MEDIA_TYPES = {
    Format.NDJSON: "application/x-ndjson",
    Format.CSV: "text/csv; charset=utf-8; header=present",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: all that match; None is any."""

    action: str | None = None
    actor_id: str | None = None
    object_id: str | None = None
    created: TimeRange = field(default_factory=TimeRange)


async def record_export(session: AsyncSession, caller: Caller, *, form: Format, wanted: Wanted) -> None:
    """Note who takes the audit log with them, and which part of it."""
    given = {
        "format": form.value,
        "action": wanted.action,
        "actor": wanted.actor_id,
        "object": wanted.object_id,
        "created_at[gte]": rfc3339(wanted.created.gte) if wanted.created.gte else None,
        "created_at[lt]": rfc3339(wanted.created.lt) if wanted.created.lt else None,
    }
    await audit.record(
        session,
        caller,
        action="audit_log.exported",
        object_kind="workspace",
        object_id=ids.to_text(ids.WORKSPACE, caller.workspace_id),
        after={name: value for name, value in given.items() if value is not None},
    )


async def export(
    sessions: async_sessionmaker[AsyncSession], *, workspace_id: UUID, form: Format, wanted: Wanted
) -> AsyncIterator[bytes]:
    """Yield the file, piece by piece. An error in the middle breaks the transfer off, which its reader notices."""
    if form is Format.CSV:
        yield csv_lines([_HEADINGS]).encode()
    cursor: str | None = None
    while True:
        async with sessions() as session:
            page = await audit.list_entries(
                session,
                workspace_id=workspace_id,
                action=wanted.action,
                actor_id=wanted.actor_id,
                object_id=wanted.object_id,
                created=wanted.created,
                page=PageRequest(limit=ROWS_PER_PAGE, cursor=cursor),
            )
        if page.rows:
            yield _written(page.rows, form=form)
        cursor = page.next_cursor
        if cursor is None:
            return


def file_name(form: Format) -> str:
    """Return a name for the file; nothing in it is a caller's."""
    return f"bellwire-audit-log.{form.value}"


def _written(rows: Sequence[AuditEntry], *, form: Format) -> bytes:
    answers = (AuditEntryAnswer.of(row) for row in rows)
    if form is Format.NDJSON:
        return "".join(answer.model_dump_json() + "\n" for answer in answers).encode()
    return csv_lines(_cells(answer) for answer in answers).encode()


def _cells(entry: AuditEntryAnswer) -> tuple[str | None, ...]:
    return (
        entry.id,
        rfc3339(entry.created_at),
        entry.action,
        entry.actor.kind,
        entry.actor.id,
        entry.object.kind,
        entry.object.id,
        _json(entry.before),
        _json(entry.after),
        entry.address,
        entry.request_id,
    )


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
