"""Rows with an end: uids, idempotency keys, heartbeats, transitions, sessions, audit entries, retired secrets."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.core import partitions
from app.core.ids import lowest_uuid_at

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.settings import Settings

# Per round, so that no transaction is long.
MOST = 20_000
IDEMPOTENCY_HOURS = 24
HEARTBEAT_MINUTES = 60
# By then every bucket of failed sign-ins has filled up, so it says nothing any more.
BUCKET_MINUTES = 60


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


async def forget_sign_ins(connection: AsyncConnection, *, settings: Settings) -> int:
    """Delete sessions and login links that have ended, and buckets that are full again; return how many."""
    gone = 0
    for statement in (
        "DELETE FROM sessions WHERE id = ANY(ARRAY(SELECT id FROM sessions WHERE expires_at < now()"
        " OR last_seen_at < now() - make_interval(secs => :idle) LIMIT :most FOR UPDATE SKIP LOCKED))",
        "DELETE FROM login_links WHERE id = ANY(ARRAY(SELECT id FROM login_links WHERE expires_at < now()"
        " LIMIT :most FOR UPDATE SKIP LOCKED))",
        "DELETE FROM sign_in_buckets WHERE key = ANY(ARRAY(SELECT key FROM sign_in_buckets"
        " WHERE updated_at < now() - make_interval(mins => :minutes) LIMIT :most FOR UPDATE SKIP LOCKED))",
    ):
        values = {"most": MOST, "idle": settings.session_idle_hours * 3600, "minutes": BUCKET_MINUTES}
        named = {name: value for name, value in values.items() if f":{name}" in statement}
        gone += (await connection.execute(text(statement), named)).rowcount
    return gone


async def forget_audit_entries(connection: AsyncConnection, *, settings: Settings) -> int:
    """Delete entries of the audit log whose retention is over; return how many.

    The table refuses every DELETE but this one (migration 0005), and this one too for entries younger than 30 days.
    It locks nothing beforehand: that would need the right to UPDATE, which may be taken from Bellwire's role.
    """
    oldest_kept = (
        await connection.execute(
            text("SELECT extract(epoch FROM now() - make_interval(days => :days))::float8"),
            {"days": settings.audit_retention_days},
        )
    ).scalar_one()
    await connection.execute(text("SET LOCAL bellwire.audit_upkeep = 'on'"))
    gone = await connection.execute(
        text(
            "DELETE FROM audit_log WHERE id = ANY(ARRAY("
            " SELECT id FROM audit_log"
            " WHERE id < CAST(:limit AS uuid) AND created_at < now() - make_interval(days => :days)"
            " ORDER BY id LIMIT :most))"
        ),
        {
            "limit": lowest_uuid_at(int(oldest_kept * 1000)),
            "days": settings.audit_retention_days,
            "most": MOST,
        },
    )
    return gone.rowcount


async def forget_secrets(connection: AsyncConnection, *, settings: Settings) -> int:  # noqa: ARG001
    """Delete secrets, and own headers of deleted endpoints, that no attempt on record was sent with; return how many.

    A retired secret is kept for as long as an attempt that it may have signed can be looked at, so that its signature
    can still be shown to verify.
    """
    oldest = await connection.run_sync(lambda sync: partitions.oldest_day(sync, "attempts"))
    if oldest is None:
        return 0
    # An attempt that was signed just before midnight may have been recorded after it.
    limit = {"before": oldest - timedelta(days=1), "most": MOST}
    retired = await connection.execute(
        text(
            "DELETE FROM endpoint_secrets WHERE id = ANY(ARRAY("
            " SELECT id FROM endpoint_secrets"
            " WHERE expires_at < CAST(:before AS date) AT TIME ZONE 'UTC' LIMIT :most FOR UPDATE SKIP LOCKED))"
        ),
        limit,
    )
    of_deleted = await connection.execute(
        text(
            "DELETE FROM endpoint_secrets WHERE id = ANY(ARRAY("
            " SELECT s.id FROM endpoint_secrets s JOIN endpoints e ON e.id = s.endpoint_id"
            " WHERE e.deleted_at < CAST(:before AS date) AT TIME ZONE 'UTC'"
            " LIMIT :most FOR UPDATE OF s SKIP LOCKED))"
        ),
        limit,
    )
    headers = await connection.execute(
        text(
            "UPDATE endpoints SET sealed_headers = NULL WHERE id = ANY(ARRAY("
            " SELECT id FROM endpoints"
            " WHERE sealed_headers IS NOT NULL AND deleted_at < CAST(:before AS date) AT TIME ZONE 'UTC'"
            " LIMIT :most FOR UPDATE SKIP LOCKED))"
        ),
        limit,
    )
    return retired.rowcount + of_deleted.rowcount + headers.rowcount
