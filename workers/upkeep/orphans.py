"""Deliveries to endpoints that were deleted while their event was being accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.deliveries import recover

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.settings import Settings


async def cancel_orphans(connection: AsyncConnection, *, settings: Settings) -> int:  # noqa: ARG001 - one form for all duties
    """Cancel them; return how many."""
    return await recover.cancel_orphans(connection)
