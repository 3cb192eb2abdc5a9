"""A shorter limit for statements whose cost depends on what the caller asks for: lists with filters, statistics."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.core.errors import TooBusy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncSession

READ_SECONDS = 5.0
_QUERY_CANCELED = "57014"


@asynccontextmanager
async def time_limit(session: AsyncSession, *, seconds: float = READ_SECONDS) -> AsyncIterator[None]:
    """Limit each statement inside, for the rest of the transaction.

    Raises:
        TooBusy: one took longer; the transaction is over and can do nothing more.

    """
    await session.execute(text(f"SET LOCAL statement_timeout = {int(seconds * 1000)}"))
    try:
        yield
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _QUERY_CANCELED:
            raise
        raise TooBusy(
            f"This would take the database more than {seconds:g} seconds, so it was stopped. Ask for less: a shorter "
            "time (created_at[gte] and created_at[lt], or window), one application, or one endpoint."
        ) from None
