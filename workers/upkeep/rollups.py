"""Roll-ups: minutes are counted while they are fresh and once more, for good, when no result can be late any more.

Two marks in `rollup_progress` say how far both are, so that after any time switched off they are caught up in short
transactions: `fresh` is the first minute that is not counted as a whole, `settled` the first that is not counted for good.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.core import partitions
from app.core.clock import EPOCH
from app.core.ids import lowest_uuid_at
from app.stats.keeping import count_minutes, sample_backlog
from app.stats.spans import MINUTE, STEPS, floor_to
from workers.upkeep.forgetting import MOST
from workers.upkeep.stepping import Step

if TYPE_CHECKING:
    from datetime import date

    from sqlalchemy.ext.asyncio import AsyncConnection

    from app.core.settings import Settings

# A result is on record so soon after its attempt has ended, unless the database was away for longer from a worker alone.
LATEST = timedelta(minutes=15)
# Results of a minute are mostly there when it has been over for so long.
SOON = timedelta(seconds=10)
# In one transaction: a minute of 6,000 attempts a second takes about a second.
MOST_MINUTES = 5
FORGETS = 5

_FRESH, _SETTLED = "fresh", "settled"
_A_MINUTE = timedelta(minutes=MINUTE)

_PROGRESS = text(
    "SELECT coalesce(CAST(:now AS timestamptz), now()), (SELECT at FROM rollup_progress WHERE name = 'fresh'),"
    " (SELECT at FROM rollup_progress WHERE name = 'settled')"
)
_ADVANCE = text(
    "INSERT INTO rollup_progress (name, at) VALUES (:name, :at) ON CONFLICT (name) DO UPDATE SET at = excluded.at"
)
# The first attempt and the first end since a moment. An attempt's id begins with milliseconds since 1970.
_NEXT_ATTEMPT = text("SELECT id FROM attempts WHERE id >= :lowest ORDER BY id LIMIT 1")
_NEXT_END = text("SELECT ended_at FROM undelivered WHERE ended_at >= :since ORDER BY ended_at LIMIT 1")

# From scope to scope, and in each by its key.
_FORGET_BACKLOG = text("""
WITH RECURSIVE scopes(id) AS (
  (SELECT scope_id FROM backlog_minutes ORDER BY scope_id LIMIT 1)
  UNION ALL
  SELECT (SELECT b.scope_id FROM backlog_minutes b WHERE b.scope_id > s.id ORDER BY b.scope_id LIMIT 1)
  FROM scopes s WHERE s.id IS NOT NULL
), old AS (
  SELECT b.scope_id, b.at FROM scopes s CROSS JOIN LATERAL (
    SELECT scope_id, at FROM backlog_minutes WHERE scope_id = s.id AND at < :day LIMIT :most
  ) b LIMIT :most
)
DELETE FROM backlog_minutes b USING old WHERE b.scope_id = old.scope_id AND b.at = old.at
""")
_FORGET_ROLLUPS = text(
    "DELETE FROM attempt_rollups WHERE ctid = ANY(ARRAY(SELECT ctid FROM attempt_rollups"
    " WHERE step_minutes = ANY(:steps) AND at < :day LIMIT :most))"
)
_FORGET_UNDELIVERED = text(
    "DELETE FROM undelivered WHERE ctid = ANY(ARRAY(SELECT ctid FROM undelivered"
    " WHERE delivery_id < CAST(:lowest AS uuid) LIMIT :most))"
)
_FORGET = (_FORGET_ROLLUPS, _FORGET_BACKLOG, _FORGET_UNDELIVERED)


async def count_fresh(
    connection: AsyncConnection,
    *,
    settings: Settings,  # noqa: ARG001 - one form for all duties
    now: datetime | None = None,
) -> Step:
    """Count the minutes from the last whole one on, this one included; there is more after a time switched off.

    `now` is the database's time, if it is not given.
    """
    now, fresh, _ = (await connection.execute(_PROGRESS, {"now": now})).one()
    this = floor_to(now, MINUTE)
    # What is older is settled by the other step, and need not be counted twice.
    begins = max(this - LATEST, fresh or this - LATEST)
    ends = min(this, begins + (MOST_MINUTES - 1) * _A_MINUTE)
    changed = await count_minutes(connection, _minutes(begins, ends + _A_MINUTE))
    whole = min(ends + _A_MINUTE, floor_to(now - SOON, MINUTE))
    await connection.execute(_ADVANCE, {"name": _FRESH, "at": whole})
    return Step(count=changed, more=ends < this)


async def settle(
    connection: AsyncConnection,
    *,
    settings: Settings,  # noqa: ARG001 - as above
    now: datetime | None = None,
) -> Step:
    """Count minutes whose last result is on record, once and for good; passes over time in which nothing was sent."""
    now, _, settled = (await connection.execute(_PROGRESS, {"now": now})).one()
    limit = floor_to(now - LATEST, MINUTE)
    begins = min(limit, await _next_minute(connection, settled) or limit)
    ends = min(limit, begins + MOST_MINUTES * _A_MINUTE)
    changed = await count_minutes(connection, _minutes(begins, ends))
    await connection.execute(_ADVANCE, {"name": _SETTLED, "at": ends})
    return Step(count=changed, more=ends < limit)


async def note_backlog(connection: AsyncConnection, *, settings: Settings) -> int:  # noqa: ARG001 - as above
    """Sample what waits; return how many rows were written."""
    return await sample_backlog(connection)


async def forget_rollups(connection: AsyncConnection, *, settings: Settings) -> int:
    """Delete roll-ups that are older than what they count, and ends of deliveries that are gone; return how many."""
    oldest = await connection.run_sync(lambda sync: partitions.oldest_day(sync, "deliveries"))
    today = (await connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date"))).scalar_one()
    day: date = min(oldest or today, today - timedelta(days=settings.retention_days))
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    values = {
        "day": midnight,
        "lowest": lowest_uuid_at(_unix_ms(midnight)),
        "most": MOST,
        "steps": list(STEPS),
    }
    gone = 0
    for statement in _FORGET:
        for _ in range(FORGETS):
            named = {name: value for name, value in values.items() if f":{name}" in statement.text}
            deleted = (await connection.execute(statement, named)).rowcount
            gone += deleted
            if deleted < MOST:
                break
    return gone


async def _next_minute(connection: AsyncConnection, since: datetime | None) -> datetime | None:
    """Return the first minute from `since` on in which an attempt or a delivery ended; None if there is none."""
    begins = since or EPOCH
    attempt = await connection.execute(_NEXT_ATTEMPT, {"lowest": lowest_uuid_at(_unix_ms(begins))})
    end = await connection.execute(_NEXT_END, {"since": begins})
    found = [end.scalar_one_or_none()]
    if (attempt_id := attempt.scalar_one_or_none()) is not None:
        found.append(EPOCH + timedelta(milliseconds=attempt_id.int >> 80))
    return min((floor_to(at, MINUTE) for at in found if at is not None), default=None)


def _unix_ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _minutes(begins: datetime, ends: datetime) -> list[datetime]:
    """Return the minutes from one (included) to another (not included)."""
    return [begins + n * _A_MINUTE for n in range(max(0, int((ends - begins) / _A_MINUTE)))]
