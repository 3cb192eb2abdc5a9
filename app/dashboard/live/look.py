"""One look at what has changed: a statement that costs the same however much is stored.

Each thing that is listened to has a fingerprint. Of a workspace it covers the newest rows of a table, of an object the
row versions (`xmin`) of the object and of what waits for it. No fingerprint says what changed: the page is read again.
Ids are made a moment before their rows are committed, so the newest id alone would miss a row that comes late; the
newest hundred do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.dashboard.live.topics import ATTEMPTS, AUDIT, CIRCUITS, DELIVERIES, DELIVERY, ENDPOINT, EVENT, EVENTS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from decimal import Decimal
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

# (part or kind of object, workspace, object)
Key = tuple[str, "UUID", "UUID | None"]

# A delivery's own version and that of its place in the queue: leased, due earlier, asked to be cancelled.
_VERSION = """uuid_hash_extended(d.id, d.xmin::text::bigint)::numeric
    + coalesce(uuid_hash_extended(q.id, q.xmin::text::bigint), 0)"""

LOOK = text(
    f"""
WITH w AS MATERIALIZED (
  SELECT * FROM unnest(CAST(:workspaces AS uuid[]), CAST(:floors AS uuid[])) AS w(workspace_id, floor)
), o AS MATERIALIZED (
  SELECT * FROM unnest(CAST(:kinds AS text[]), CAST(:owners AS uuid[]), CAST(:ids AS uuid[])) AS o(kind, workspace_id, id)
)
SELECT '{ATTEMPTS}' AS what, w.workspace_id, NULL::uuid AS id, sum(uuid_hash_extended(n.id, 0)) AS version,
  (array_agg(n.id ORDER BY n.id DESC))[1] AS newest
FROM w CROSS JOIN LATERAL (
  SELECT a.id FROM attempts a WHERE a.workspace_id = w.workspace_id AND a.id >= w.floor ORDER BY a.id DESC LIMIT 100
) n GROUP BY w.workspace_id
UNION ALL
SELECT '{EVENTS}', w.workspace_id, NULL, sum(uuid_hash_extended(n.id, n.version)),
  (array_agg(n.id ORDER BY n.id DESC))[1]
FROM w CROSS JOIN LATERAL (
  SELECT e.id, e.xmin::text::bigint AS version FROM events e
  WHERE e.workspace_id = w.workspace_id AND e.id >= w.floor ORDER BY e.id DESC LIMIT 50
) n GROUP BY w.workspace_id
UNION ALL
SELECT '{AUDIT}', w.workspace_id, NULL, sum(uuid_hash_extended(n.id, 0)), (array_agg(n.id ORDER BY n.id DESC))[1]
FROM w CROSS JOIN LATERAL (
  SELECT a.id FROM audit_log a WHERE a.workspace_id = w.workspace_id AND a.id >= w.floor ORDER BY a.id DESC LIMIT 20
) n GROUP BY w.workspace_id
UNION ALL
SELECT '{DELIVERIES}', w.workspace_id, NULL, sum({_VERSION}), (array_agg(d.id ORDER BY d.id DESC))[1]
FROM w CROSS JOIN LATERAL (
  SELECT d.id, d.xmin FROM deliveries d
  WHERE d.workspace_id = w.workspace_id AND d.id >= w.floor ORDER BY d.id DESC LIMIT 50
) d LEFT JOIN delivery_queue q ON q.id = d.id GROUP BY w.workspace_id
UNION ALL
SELECT '{CIRCUITS}', c.workspace_id, NULL, sum(c.id), NULL
FROM (SELECT workspace_id, id FROM circuit_transitions ORDER BY id DESC LIMIT 200) c JOIN w USING (workspace_id)
GROUP BY c.workspace_id
UNION ALL
SELECT o.kind, o.workspace_id, o.id, {_VERSION}, NULL
FROM o JOIN deliveries d ON d.id = o.id AND d.workspace_id = o.workspace_id LEFT JOIN delivery_queue q ON q.id = d.id
WHERE o.kind = '{DELIVERY}'
UNION ALL
SELECT o.kind, o.workspace_id, o.id, e.xmin::text::bigint + coalesce(f.version, 0), NULL
FROM o JOIN events e ON e.id = o.id AND e.workspace_id = o.workspace_id CROSS JOIN LATERAL (
  SELECT sum({_VERSION}) AS version FROM (
    SELECT d.id, d.xmin FROM deliveries d WHERE d.event_id = o.id AND d.workspace_id = o.workspace_id LIMIT 200
  ) d LEFT JOIN delivery_queue q ON q.id = d.id
) f WHERE o.kind = '{EVENT}'
UNION ALL
SELECT o.kind, o.workspace_id, o.id, uuid_hash_extended(e.id, e.xmin::text::bigint)::numeric
  + coalesce(uuid_hash_extended(r.endpoint_id, r.xmin::text::bigint), 0), NULL
FROM o JOIN endpoints e ON e.id = o.id AND e.workspace_id = o.workspace_id
LEFT JOIN endpoint_runtime r ON r.endpoint_id = e.id WHERE o.kind = '{ENDPOINT}'
"""  # noqa: S608 - Bellwire's own constants
)

# Whether the people who listen are still signed in, and as what.
SESSIONS = text("""
SELECT s.id, u.role FROM sessions s JOIN users u ON u.id = s.user_id
 WHERE s.id = ANY(CAST(:ids AS uuid[])) AND u.disabled_at IS NULL AND s.expires_at > now()
   AND s.last_seen_at > now() - make_interval(secs => :idle_seconds)
""")


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found: versions by key, and the time (Unix, ms) of the newest row of each part of a workspace."""

    versions: Mapping[Key, Decimal]
    newest_ms: Mapping[tuple[str, UUID], int]


async def look(
    connection: AsyncConnection, *, floors: Mapping[UUID, UUID], objects: Collection[tuple[str, UUID, UUID]]
) -> Seen:
    """Look at workspaces (rows below their floor are of no interest) and at objects (kind, workspace, id)."""
    rows = await connection.execute(
        LOOK,
        {
            "workspaces": list(floors),
            "floors": list(floors.values()),
            "kinds": [kind for kind, _, _ in objects],
            "owners": [workspace_id for _, workspace_id, _ in objects],
            "ids": [object_id for _, _, object_id in objects],
        },
    )
    versions: dict[Key, Decimal] = {}
    newest_ms: dict[tuple[str, UUID], int] = {}
    for what, workspace_id, object_id, version, newest in rows:
        versions[what, workspace_id, object_id] = version
        if newest is not None:
            newest_ms[what, workspace_id] = newest.int >> 80
    return Seen(versions=versions, newest_ms=newest_ms)
