"""Filters that err are counted at their endpoint, so that its owner sees them: written every few seconds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.core.runtime import Runtime
    from app.events.matching import EventMatcher

log = structlog.get_logger(__name__)

REPORT_SECONDS = 2.0

ADD = text(
    "WITH n AS (SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:counts AS bigint[]), CAST(:messages AS text[]))"
    " AS t(id, count, message)),"
    " locked AS MATERIALIZED (SELECT endpoint_id FROM endpoint_runtime WHERE endpoint_id IN (SELECT id FROM n)"
    " ORDER BY endpoint_id FOR UPDATE)"
    " UPDATE endpoint_runtime r SET filter_errors = r.filter_errors + n.count, last_filter_error = n.message"
    " FROM n JOIN locked ON locked.endpoint_id = n.id WHERE r.endpoint_id = n.id"
)


async def report_filter_errors(runtime: Runtime, matcher: EventMatcher) -> None:
    """Write the counts until cancelled; while the database is away they wait."""
    waiting: dict[UUID, tuple[int, str]] = {}
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        for endpoint_id, (count, message) in matcher.collect_errors().items():
            waiting[endpoint_id] = (waiting.get(endpoint_id, (0, ""))[0] + count, message)
        if not waiting:
            continue
        try:
            await add_filter_errors(runtime.engine, waiting)
        except Exception as error:  # noqa: BLE001 - counts are not worth a failure of anything
            log.warning("filter_errors.not_written", error=type(error).__name__)
            continue
        waiting.clear()


async def add_filter_errors(engine: AsyncEngine, errors: Mapping[UUID, tuple[int, str]]) -> None:
    """Add (count, last message) to each of these endpoints, and log them."""
    async with engine.begin() as connection:
        await connection.execute(
            ADD,
            {
                "ids": list(errors),
                "counts": [count for count, _ in errors.values()],
                "messages": [message.replace("\0", " ")[:500] for _, message in errors.values()],
            },
        )
    for endpoint_id, (count, message) in errors.items():
        log.warning("filter.erred", endpoint_id=str(endpoint_id), count=count, message=message)
