"""Deliveries to endpoints that were deleted: accepted at the same moment, or more than one request could cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.deliveries import recover

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.settings import Settings

# Per round of upkeep, in statements that are short each: a backlog of a million is gone after ten minutes.
MOST_PER_STATEMENT = 5_000
STATEMENTS = 20


async def cancel_orphans(connection: AsyncConnection, *, settings: Settings) -> int:  # noqa: ARG001 - one form for all duties
    """Cancel them; return how many."""
    cancelled = 0
    for _ in range(STATEMENTS):
        found = await recover.cancel_orphans(connection, most=MOST_PER_STATEMENT)
        cancelled += found
        if found < MOST_PER_STATEMENT:
            break
    return cancelled
