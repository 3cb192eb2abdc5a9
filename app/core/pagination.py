"""Keyset pages, newest first: a cursor names the last row seen, so a page costs the same at any depth.

A cursor is opaque to callers: direction and id, in URL-safe base 64.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from uuid import UUID

from sqlalchemy import Integer

from app.core.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncSession

DEFAULT_LIMIT = 50
MAX_LIMIT = 250
_FORWARD, _BACK = b"n", b"p"
_MAX_NUMBER = 2**63 - 1


class HasId(Protocol):
    """A row with a sortable id."""

    @property
    def id(self) -> Any:
        """What pages are ordered by."""


RowT = TypeVar("RowT", bound="HasId")
SelectT = TypeVar("SelectT", bound="Select[*tuple[Any, ...]]")


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What the caller asked for: `limit` rows after (or before) a cursor."""

    limit: int = DEFAULT_LIMIT
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[RowT]):
    """Rows, newest first, and the cursors of the neighbouring pages (None where there is none)."""

    rows: Sequence[RowT]
    next_cursor: str | None
    prev_cursor: str | None


@dataclass(frozen=True, slots=True)
class Keyset:
    """The part of a list that a page is; for statements that join more to the rows than `fetch_page` can."""

    limit: int
    direction: bytes
    anchor: UUID | None
    descending: bool

    @classmethod
    def of(cls, page: PageRequest, *, oldest_first: bool = False) -> Keyset:
        """Read a page request.

        Raises:
            Invalid: the cursor was not made by this server.

        """
        direction, anchor = _decode(page.cursor)
        return cls(page.limit, direction, anchor, (direction == _FORWARD) is not oldest_first)

    def narrow(
        self, query: SelectT, *, id_column: ColumnElement[Any] | Any, most: int | None = None
    ) -> SelectT:
        """Let a select return the rows of this page only, and one more if there is one; or `most` from its beginning on."""
        if self.anchor is not None:
            # Cursors of rows that are numbered have the form of the others.
            key = min(self.anchor.int, _MAX_NUMBER) if isinstance(id_column.type, Integer) else self.anchor
            query = query.where(id_column < key if self.descending else id_column > key)
        return self.order(query, id_column=id_column).limit(self.limit + 1 if most is None else most)

    def order(self, query: SelectT, *, id_column: ColumnElement[Any] | Any) -> SelectT:
        """Order a select as this page is read, which is not always as it is shown."""
        return query.order_by(id_column.desc() if self.descending else id_column.asc())

    def page(self, found: Sequence[RowT]) -> Page[RowT]:
        """Return the page of the rows that a narrowed select has found."""
        rows = list(found)
        more = len(rows) > self.limit
        rows = rows[: self.limit]
        if self.direction == _BACK:
            rows.reverse()
            has_next, has_prev = self.anchor is not None, more
        else:
            has_next, has_prev = more, self.anchor is not None
        return Page(
            rows=rows,
            next_cursor=_encode(_FORWARD, rows[-1].id) if rows and has_next else None,
            prev_cursor=_encode(_BACK, rows[0].id) if rows and has_prev else None,
        )

    def go_on(self, page: Page[RowT], *, edge: UUID | None) -> Page[RowT]:
        """Return a page whose way on begins at `edge`, the last row that was looked at, where it has no further rows."""
        if edge is None:
            return page
        if self.direction == _BACK:
            return replace(page, prev_cursor=page.prev_cursor or _encode(_BACK, edge))
        back = _encode(_BACK, self.anchor) if self.anchor is not None else None
        return replace(
            page,
            next_cursor=page.next_cursor or _encode(_FORWARD, edge),
            prev_cursor=page.prev_cursor or back,
        )


async def fetch_page(
    session: AsyncSession,
    query: Select[RowT],
    *,
    id_column: ColumnElement[Any] | Any,
    page: PageRequest,
    oldest_first: bool = False,
) -> Page[RowT]:
    """Run a select of one entity as a page ordered by `id_column`, newest first (or oldest first).

    Raises:
        Invalid: the cursor was not made by this server.

    """
    keyset = Keyset.of(page, oldest_first=oldest_first)
    return keyset.page((await session.scalars(keyset.narrow(query, id_column=id_column))).all())


def _encode(direction: bytes, row_id: UUID | int) -> str:
    key = row_id.bytes if isinstance(row_id, UUID) else row_id.to_bytes(16)
    return base64.urlsafe_b64encode(direction + key).decode().rstrip("=")


def _decode(cursor: str | None) -> tuple[bytes, UUID | None]:
    if cursor is None:
        return _FORWARD, None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        if len(raw) == 17 and raw[:1] in (_FORWARD, _BACK):  # noqa: PLR2004 - one byte and a UUID
            return raw[:1], UUID(bytes=raw[1:])
    except (binascii.Error, ValueError):
        pass
    raise Invalid.at(
        "/cursor",
        "This cursor was not made by this server. Leave it out to start at the newest, or use next_cursor.",
    )
