"""What the installation looks like from inside: its workers, its tables, and how far upkeep has come. One statement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.stats.queue_now import MOST_COUNTED, QUEUE_NOW, SAMPLE_SECONDS, QueueNow
from app.stats.rollups import scope_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

# Workers that stopped longer ago are of no interest, and are deleted by upkeep.
SHOWN_SECONDS = 3_600
MOST_WORKERS = 200

_SYSTEM = text(
    f"""
WITH waiting (due, scheduled, blocked, in_flight, oldest, capped, sampled_at) AS ({QUEUE_NOW.text}),
worker AS (
  SELECT * FROM worker_heartbeats WHERE beat_at > now() - make_interval(secs => :shown)
  ORDER BY beat_at DESC LIMIT {MOST_WORKERS}
), sizes AS (
  SELECT coalesce(p.relname, c.relname)::text AS name, sum(pg_total_relation_size(c.oid))::bigint AS bytes,
    sum(greatest(c.reltuples, 0))::bigint AS rows, count(i.inhrelid) AS parts
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class p ON p.oid = i.inhparent
  WHERE n.nspname = current_schema() AND c.relkind = 'r'
  GROUP BY 1
)
SELECT w.*, (SELECT at FROM rollup_progress WHERE name = 'fresh'), current_setting('server_version'),
  pg_database_size(current_database()),
  ARRAY(SELECT name FROM worker ORDER BY name, id), ARRAY(SELECT version FROM worker ORDER BY name, id),
  ARRAY(SELECT started_at FROM worker ORDER BY name, id), ARRAY(SELECT beat_at FROM worker ORDER BY name, id),
  ARRAY(SELECT in_flight FROM worker ORDER BY name, id), ARRAY(SELECT skew_seconds FROM worker ORDER BY name, id),
  ARRAY(SELECT name FROM sizes ORDER BY bytes DESC, name), ARRAY(SELECT bytes FROM sizes ORDER BY bytes DESC, name),
  ARRAY(SELECT rows FROM sizes ORDER BY bytes DESC, name), ARRAY(SELECT parts FROM sizes ORDER BY bytes DESC, name)
FROM waiting w
"""  # noqa: S608 - constants of this package and of app.stats
)


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process."""

    name: str
    version: str
    started_at: datetime
    beat_at: datetime
    in_flight: int
    skew_seconds: float


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its indexes; `rows` is Postgres' own estimate, `parts` how many days it is divided into."""

    name: str
    bytes: int
    rows: int
    parts: int


@dataclass(frozen=True, slots=True)
class System:
    """All of it."""

    waiting: QueueNow
    counted_until: datetime | None
    postgres: str
    database_bytes: int
    workers: Sequence[Worker]
    tables: Sequence[Table]


async def read_system(session: AsyncSession, caller: Caller) -> System:
    """Return how the installation stands; what waits is the workspace's own."""
    row = (
        await session.execute(
            _SYSTEM,
            scope_of(caller) | {"most": MOST_COUNTED, "sample": SAMPLE_SECONDS, "shown": SHOWN_SECONDS},
        )
    ).one()
    counted_until, postgres, database_bytes = row[7:10]
    return System(
        waiting=QueueNow(*row[:7]),
        counted_until=counted_until,
        postgres=postgres,
        database_bytes=database_bytes,
        workers=[Worker(*each) for each in zip(*row[10:16], strict=True)],
        tables=[Table(*each) for each in zip(*row[16:20], strict=True)],
    )
