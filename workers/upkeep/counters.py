"""In-flight counters against leased rows: a difference is a bug, corrected and reported as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from app.core import metrics
from app.deliveries import recover

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.settings import Settings

log = structlog.get_logger(__name__)


async def correct_counters(connection: AsyncConnection, *, settings: Settings) -> int:  # noqa: ARG001 - one form for all duties
    """Correct counters that differ; return how many."""
    wrong = await recover.reconcile(connection)
    for endpoint_id, was, really in wrong:
        log.error("upkeep.counter_wrong", endpoint_id=str(endpoint_id), in_flight=was, leased=really)
        metrics.COUNTERS_WRONG.inc()
    return len(wrong)
