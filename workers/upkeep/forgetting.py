"""Rows with an end: publisher's uids, idempotency keys, workers that are gone, transitions of circuits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.settings import Settings

# Per round, so that no transaction is long.
MOST = 20_000
IDEMPOTENCY_HOURS = 24
HEARTBEAT_MINUTES = 60


async def forget_keys(connection: AsyncConnection, *, settings: Settings) -> int:  # noqa: ARG001 - one form for all duties
    """Delete expired uids and idempotency keys; return how many."""
    uids = await connection.execute(
        text(
            "DELETE FROM event_keys WHERE ctid = ANY(ARRAY("
            " SELECT ctid FROM event_keys WHERE expires_at < now() LIMIT :most FOR UPDATE SKIP LOCKED))"
        ),
        {"most": MOST},
    )
    keys = await connection.execute(
        text(
            "DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY("
            " SELECT ctid FROM idempotency_keys WHERE created_at < now() - make_interval(hours => :hours)"
            " LIMIT :most FOR UPDATE SKIP LOCKED))"
        ),
        {"most": MOST, "hours": IDEMPOTENCY_HOURS},
    )
    return uids.rowcount + keys.rowcount


async def forget_heartbeats(connection: AsyncConnection, *, settings: Settings) -> int:  # noqa: ARG001
    """Delete the rows of workers that have been silent for an hour; return how many."""
    gone = await connection.execute(
        text("DELETE FROM worker_heartbeats WHERE beat_at < now() - make_interval(mins => :minutes)"),
        {"minutes": HEARTBEAT_MINUTES},
    )
    return gone.rowcount


async def forget_transitions(connection: AsyncConnection, *, settings: Settings) -> int:
    """Delete transitions of circuits that are older than what was delivered then; return how many."""
    gone = await connection.execute(
        text(
            "DELETE FROM circuit_transitions WHERE id = ANY(ARRAY("
            " SELECT id FROM circuit_transitions WHERE at < now() - make_interval(days => :days)"
            " LIMIT :most FOR UPDATE SKIP LOCKED))"
        ),
        {"most": MOST, "days": settings.retention_days},
    )
    return gone.rowcount
