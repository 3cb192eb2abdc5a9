"""Endpoints that fail for days: their operators are warned, then they are disabled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from app.endpoints.failing import settle_failing

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.settings import Settings

log = structlog.get_logger(__name__)


async def attend_to_failing(connection: AsyncConnection, *, settings: Settings) -> int:  # noqa: ARG001 - one form for all duties
    """Warn and disable; return of how many endpoints."""
    warned, disabled = await settle_failing(connection)
    if disabled:
        log.warning("upkeep.endpoints_disabled", endpoints=disabled)
    return warned + disabled
