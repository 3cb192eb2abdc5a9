"""A million waiting deliveries in a minute or two: the rows that publishing writes, written by SQL alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg

from app.deliveries import ranks
from bench.seed_rows import FUNCTIONS

if TYPE_CHECKING:
    from uuid import UUID

# In one transaction, as many as a few large batches.
SLICE = 10_000

# As in `app/events/accept.py`: the event, its delivery, and the queue row that the claim sees.
_ACCEPT = f"""
WITH rows AS MATERIALIZED (
  SELECT n, r.workspace_id, r.application_id, r.endpoint_id, now() AS created_at,
    pg_temp.seed_id((extract(epoch FROM now()) * 1000)::bigint, md5('event' || n || %(salt)s)) AS event_id,
    pg_temp.seed_id((extract(epoch FROM now()) * 1000)::bigint, md5('delivery' || n || %(salt)s)) AS id
  FROM endpoint_runtime r, generate_series(%(first)s::int, %(last)s::int) AS n
  WHERE r.endpoint_id = %(endpoint)s
), written AS (
  INSERT INTO events (id, workspace_id, application_id, type, data, occurred_at, deliveries, created_at)
  SELECT event_id, workspace_id, application_id, 'bench.flood',
    convert_to('{{"order":"' || lpad(n::text, 12, '0') || '","note":"' || repeat('x', 460) || '"}}', 'UTF8'),
    created_at, 1, created_at
  FROM rows
), recorded AS (
  INSERT INTO deliveries (id, workspace_id, application_id, event_id, event_type, endpoint_id, created_at,
    deadline_at)
  SELECT id, workspace_id, application_id, event_id, 'bench.flood', endpoint_id, created_at,
    created_at + interval '5 days'
  FROM rows
)
INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, seq, rank, due_at, deadline_at)
SELECT id, workspace_id, application_id, endpoint_id, event_id, nextval('delivery_queue_seq'), {ranks.NORMAL},
  created_at, created_at + interval '5 days'
FROM rows
"""  # noqa: S608 - Bellwire's own constants


def write_backlog(address: str, *, endpoint_id: UUID, rows: int) -> float:
    """Write so many waiting deliveries, each of an event of its own, to one endpoint; return the seconds it took."""
    began = time.monotonic()
    with psycopg.connect(address, autocommit=True) as connection:
        for function in FUNCTIONS:
            connection.execute(function)
        for first in range(1, rows + 1, SLICE):
            connection.execute(
                _ACCEPT,
                {
                    "first": first,
                    "last": min(first + SLICE - 1, rows),
                    "endpoint": endpoint_id,
                    "salt": str(endpoint_id),
                },
            )
    return time.monotonic() - began
