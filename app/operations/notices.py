"""Notices: what happened in a workspace that its operators should hear of, noted in the transaction that did it.

The table is an outbox: `app.operations.outbox` publishes each notice as one event of the application `operations`.
Of that application's own endpoints and deliveries nothing is noted, or a receiver of these events that fails would
cause further ones for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec
import orjson
from sqlalchemy import text

from app.core import ids
from app.core.clock import rfc3339
from app.models import OPERATIONS_APPLICATION_UID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

DELIVERY_DEAD = "delivery.dead"
CIRCUIT_OPENED = "endpoint.circuit_opened"
CIRCUIT_CLOSED = "endpoint.circuit_closed"
ENDPOINT_DISABLED = "endpoint.disabled"
ENDPOINT_FAILING = "endpoint.failing"
SECRET_ROTATED = "secret.rotated"  # noqa: S105 - the name of an event type

# Members of a notice that hold ids, and the kind of each; `endpoint_id` and `endpoint` mean the same.
_KINDS = {
    "application": ids.APPLICATION,
    "delivery": ids.DELIVERY,
    "endpoint": ids.ENDPOINT,
    "event": ids.EVENT,
}
_TIMES = ("_at", "_since", "_until")


class Notice(msgspec.Struct, frozen=True):
    """What is to be told of an endpoint; `data` may hold UUIDs and times, but no secret."""

    endpoint_id: UUID
    type: str
    data: Mapping[str, Any]


# The query string of an endpoint's URL may be a secret.
_NOTE = text(
    f"""
INSERT INTO notices (workspace_id, type, data)
SELECT e.workspace_id, t.type, jsonb_build_object('endpoint', e.id, 'url', split_part(e.url, '?', 1),
  'application', a.id, 'application_uid', a.uid) || t.data
FROM jsonb_to_recordset(CAST(:notices AS jsonb)) AS t(endpoint_id uuid, type text, data jsonb)
JOIN endpoints e ON e.id = t.endpoint_id JOIN applications a ON a.id = e.application_id
WHERE a.uid IS DISTINCT FROM '{OPERATIONS_APPLICATION_UID}'
"""  # noqa: S608 - Bellwire's own constants
)


async def note(connection: AsyncConnection | AsyncSession, notices: Sequence[Notice]) -> None:
    """Write notices, in the caller's transaction; each one gets the endpoint, its URL and its application."""
    if notices:
        await connection.execute(_NOTE, {"notices": orjson.dumps(notices, default=_plain).decode()})


def tell_of_dead(died: str) -> str:
    """Return the SQL that notes deliveries as dead, for the end of a statement that settles them.

    `died` is a SELECT of workspace_id, application_id, endpoint_id, id, event_id, event_type, attempt_count,
    error_class and error_message. Where it has no row, nothing is looked up.
    """
    return f"""
  INSERT INTO notices (workspace_id, type, data)
  SELECT dead.workspace_id, '{DELIVERY_DEAD}', jsonb_build_object(
    'delivery', dead.id, 'event', jsonb_build_object('id', dead.event_id, 'type', dead.event_type),
    'endpoint', dead.endpoint_id, 'application', dead.application_id, 'application_uid', a.uid,
    'attempt_count', dead.attempt_count,
    'error', jsonb_build_object('class', dead.error_class, 'message', dead.error_message))
  FROM ({died}) AS dead
  -- OFFSET keeps it a look-up by key for each of them, whatever the planner thinks of their number.
  CROSS JOIN LATERAL (SELECT uid FROM applications WHERE id = dead.application_id OFFSET 0) a
  WHERE a.uid IS DISTINCT FROM '{OPERATIONS_APPLICATION_UID}'
"""  # noqa: S608 - Bellwire's own constants


def shown(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a notice's data as the API shows such things: ids as text, times in UTC with a Z."""
    return {name.removesuffix("_id"): _shown(name.removesuffix("_id"), value) for name, value in data.items()}


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        inner = {key: _shown(key, member) for key, member in value.items()}
        return inner | {"id": _shown(name, value["id"])} if name in _KINDS and "id" in value else inner
    # What is not of its form is shown as it is: one odd notice must not hold up all others.
    with suppress(ValueError):
        if isinstance(value, str) and name in _KINDS:
            return ids.to_text(_KINDS[name], UUID(value))
        if isinstance(value, str) and name.endswith(_TIMES):
            return rfc3339(datetime.fromisoformat(value))
    return value


def _plain(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        return {name: getattr(value, name) for name in value.__struct_fields__}
    raise TypeError(type(value))
