"""Upkeep that nobody asks for: beat has ended, or the broker is away. Workers notice, and run it by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

# Charts are counted up to the last minute or two. Each process looks so often, at one row.
LOOK_SECONDS = 60.0
OVERDUE_MINUTES = 5
FIRST_LOOK_SECONDS = 60.0 * OVERDUE_MINUTES

_OVERDUE = text(
    "SELECT coalesce((SELECT at FROM rollup_progress WHERE name = 'fresh')"
    " < now() - make_interval(mins => :minutes), true)"
)


async def is_overdue(engine: AsyncEngine) -> bool:
    """Tell whether no process has run upkeep for OVERDUE_MINUTES, or none ever has."""
    async with engine.connect() as connection:
        return bool((await connection.execute(_OVERDUE, {"minutes": OVERDUE_MINUTES})).scalar_one())
