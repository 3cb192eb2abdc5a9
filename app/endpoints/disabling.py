"""Disabling an endpoint without being asked to: its receiver said that it is gone (410), or has failed for days.

It is audited as Bellwire's own act, and the workspace's operators are told.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from app.access import audit
from app.core import ids
from app.deliveries import ranks
from app.operations import notices
from app.operations.notices import Notice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    from app.models import Endpoint

GONE_REASON = (
    "The receiver answered 410 Gone: it wants no more webhooks. Enable the endpoint when it does again."
)


class DisabledBy(StrEnum):
    """Why an endpoint was disabled, as its operators are told."""

    GONE = "gone"
    FAILING = "failing"
    PERSON = "person"


# A result that came after its lease had ended changes nothing: another attempt decides.
_IN_TIME = text("SELECT 1 FROM attempts WHERE id = :attempt AND NOT stale")
# In the order of locks: application, endpoint, queue rows.
_LOCKS = (
    text(
        "SELECT id FROM applications WHERE id IN"
        " (SELECT application_id FROM endpoints WHERE id = ANY(CAST(:ids AS uuid[]))) ORDER BY id FOR UPDATE"
    ),
    text("SELECT id FROM endpoints WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR UPDATE"),
    text(
        "SELECT id FROM delivery_queue WHERE endpoint_id = ANY(CAST(:ids AS uuid[]))"  # noqa: S608 - Bellwire's own constants
        f" AND rank = {ranks.FORCED} AND state = 0 AND trigger <> 3 ORDER BY id FOR UPDATE"
    ),
)
_BUMP_ROUTING = text(
    "UPDATE applications SET routing_version = routing_version + 1 WHERE id IN"
    " (SELECT application_id FROM endpoints WHERE id = ANY(CAST(:ids AS uuid[])))"
)
_DISABLE = text(
    "UPDATE endpoints e SET enabled = false, disabled_reason = given.reason, updated_at = now(),"
    " settings_version = e.settings_version + 1"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:reasons AS text[])) AS given(id, reason)"
    " WHERE e.id = given.id AND e.enabled AND e.deleted_at IS NULL RETURNING e.id, e.workspace_id"
)
# What a person asked to be sent at once goes back among the others: it would pass the closed endpoint.
_FORGET_RETRIES = text(
    "UPDATE delivery_queue q SET rank = CASE WHEN r.fifo THEN :first ELSE :retry END FROM endpoint_runtime r"
    " WHERE q.endpoint_id = ANY(CAST(:ids AS uuid[])) AND r.endpoint_id = q.endpoint_id"
    " AND q.rank = :forced AND q.state = 0 AND q.trigger <> 3"
)
_CLOSE = text(
    "UPDATE endpoint_runtime r SET open = false, settings_version = e.settings_version"
    " FROM endpoints e WHERE e.id = r.endpoint_id AND r.endpoint_id = ANY(CAST(:ids AS uuid[])) AND NOT e.enabled"
)


async def is_in_time(connection: AsyncConnection, *, attempt_id: UUID | None) -> bool:
    """Tell whether a recorded attempt settled its delivery, so that its 410 disables the endpoint."""
    return (await connection.execute(_IN_TIME, {"attempt": attempt_id})).first() is not None


async def disable_gone(connection: AsyncConnection, *, endpoint_id: UUID) -> None:
    """Disable an endpoint because of a 410, in the caller's transaction; repeating it changes nothing."""
    await lock_for_disabling(connection, [endpoint_id])
    await disable(connection, {endpoint_id: GONE_REASON}, by=DisabledBy.GONE)


async def lock_for_disabling(connection: AsyncConnection, endpoint_ids: Sequence[UUID]) -> None:
    """Lock what `disable` changes, in the order of locks, but the runtime rows, which come last."""
    if not endpoint_ids:
        return
    for statement in _LOCKS:
        await connection.execute(statement, {"ids": list(endpoint_ids)})


async def disable(
    connection: AsyncConnection,
    reasons: Mapping[UUID, str],
    *,
    by: DisabledBy,
    told: Mapping[UUID, Mapping[str, Any]] | None = None,
) -> int:
    """Disable locked endpoints, each for its reason, and return how many were still enabled.

    `told` is what the operators are told of each, beside the reason.
    """
    found = await connection.execute(_DISABLE, {"ids": list(reasons), "reasons": list(reasons.values())})
    disabled = found.all()
    if not disabled:
        return 0
    which = {"ids": [row.id for row in disabled]}
    await connection.execute(_BUMP_ROUTING, which)
    await connection.execute(
        _FORGET_RETRIES, which | {"first": ranks.HIGH, "retry": ranks.RETRY, "forced": ranks.FORCED}
    )
    await connection.execute(_CLOSE, which)
    for row in disabled:
        await audit.record(
            connection,
            audit.own_caller(row.workspace_id),
            action="endpoint.disabled",
            object_kind="endpoint",
            object_id=ids.to_text(ids.ENDPOINT, row.id),
            after={"reason": reasons[row.id]},
        )
    await notices.note(
        connection,
        [_notice(row.id, by=by, reason=reasons[row.id], more=(told or {}).get(row.id)) for row in disabled],
    )
    return len(disabled)


async def tell_of_disabled(session: AsyncSession, endpoint: Endpoint) -> None:
    """Let the workspace's operators know that a person has disabled an endpoint."""
    await notices.note(session, [_notice(endpoint.id, by=DisabledBy.PERSON, reason=endpoint.disabled_reason)])


def _notice(
    endpoint_id: UUID, *, by: DisabledBy, reason: str | None, more: Mapping[str, Any] | None = None
) -> Notice:
    data = {"by": by, "reason": reason, "failing_since": None, "consecutive_failures": None}
    return Notice(endpoint_id, notices.ENDPOINT_DISABLED, data | dict(more or {}))
