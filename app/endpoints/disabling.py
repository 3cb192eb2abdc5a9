"""Disabling an endpoint whose receiver said that it is gone (410)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.deliveries import ranks

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

GONE_REASON = (
    "The receiver answered 410 Gone: it wants no more webhooks. Enable the endpoint when it does again."
)

# In the order of locks: application, endpoint, runtime.
_BUMP_ROUTING = text(
    "UPDATE applications SET routing_version = routing_version + 1"
    " WHERE id = (SELECT application_id FROM endpoints WHERE id = :id AND enabled)"
)
_DISABLE = text(
    "UPDATE endpoints SET enabled = false, disabled_reason = :reason, updated_at = now(),"
    " settings_version = settings_version + 1 WHERE id = :id AND enabled AND deleted_at IS NULL"
)
# What a person asked to be sent at once goes back among the others: it would pass the closed endpoint.
_FORGET_RETRIES = text(
    "UPDATE delivery_queue q SET rank = CASE WHEN r.fifo THEN :first ELSE :retry END FROM endpoint_runtime r"
    " WHERE q.endpoint_id = :id AND r.endpoint_id = :id AND q.rank = :forced AND q.state = 0 AND q.trigger <> 3"
)
_CLOSE = text(
    "UPDATE endpoint_runtime r SET open = false, settings_version = e.settings_version"
    " FROM endpoints e WHERE e.id = r.endpoint_id AND r.endpoint_id = :id AND NOT e.enabled"
)


async def disable_gone(connection: AsyncConnection, *, endpoint_id: UUID) -> None:
    """Disable an endpoint because of a 410, in the caller's transaction; repeating it changes nothing."""
    await connection.execute(_BUMP_ROUTING, {"id": endpoint_id})
    await connection.execute(_DISABLE, {"id": endpoint_id, "reason": GONE_REASON})
    await connection.execute(
        _FORGET_RETRIES,
        {"id": endpoint_id, "first": ranks.HIGH, "retry": ranks.RETRY, "forced": ranks.FORCED},
    )
    await connection.execute(_CLOSE, {"id": endpoint_id})
