"""Partitions: made a week ahead, dropped when their retention is over."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text

from app.core import metrics, partitions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.settings import Settings

log = structlog.get_logger(__name__)

# Fewer days ahead than this is an alarm: something has kept upkeep from working for days.
FEW_DAYS_AHEAD = 2
# A drop waits for its lock at most so long, for publishing waits behind it; the next minute tries again.
DROP_LOCK_TIMEOUT = "250ms"


async def make_partitions(connection: AsyncConnection, *, settings: Settings) -> int:  # noqa: ARG001 - one form for all duties
    """Make what is missing of the coming week; return how many."""
    made = await connection.run_sync(partitions.ensure)
    ahead = await connection.run_sync(partitions.ahead)
    metrics.PARTITION_DAYS_AHEAD.set(ahead)
    if ahead < FEW_DAYS_AHEAD:
        log.error("upkeep.few_partitions_ahead", days=ahead)
    return len(made)


async def drop_old_partitions(connection: AsyncConnection, *, settings: Settings) -> int:
    """Drop the partitions whose whole day is older than the retention; return how many."""
    today = (await connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date"))).scalar_one()
    limit = today - timedelta(days=settings.retention_days)
    old = await connection.run_sync(lambda sync: partitions.older_than(sync, limit))
    if old:
        await connection.execute(text(f"SET LOCAL lock_timeout = '{DROP_LOCK_TIMEOUT}'"))
    for name in old:
        await connection.execute(text(f"DROP TABLE {name}"))
    return len(old)
