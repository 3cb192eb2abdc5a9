"""Daily partitions of the large tables, by range of id: a UUIDv7 begins with its time.

They are made a week ahead: by the migrations, by each process that writes before it begins, and by upkeep.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from app.core.ids import lowest_uuid_at

if TYPE_CHECKING:
    from sqlalchemy import Connection

PARTITIONED = ("events", "deliveries", "attempts")
DAYS_AHEAD = 7
# A process whose clock is a little behind the database's may still write an id of yesterday.
DAYS_BEHIND = 1
# Deliveries are updated soon after they are written, all of a page at about the same time: with room for a second
# version of each row no update leaves its page, and none touches an index (with 70, every second one did).
FILLFACTOR = {"deliveries": 50}
_LOCK = 0x62656C6C_0002


def name_of(table: str, day: date) -> str:
    """Return a partition's name, for example `events_p20260131`."""
    return f"{table}_p{day:%Y%m%d}"


def day_of(partition: str) -> date | None:
    """Return the day of a partition's name, or None if it is not one."""
    table, _, tail = partition.rpartition("_p")
    if table not in PARTITIONED or len(tail) != 8 or not tail.isdigit():  # noqa: PLR2004
        return None
    return datetime.strptime(tail, "%Y%m%d").replace(tzinfo=UTC).date()


def ensure(connection: Connection, *, days_ahead: int = DAYS_AHEAD) -> list[str]:
    """Make the partitions that are missing from yesterday to `days_ahead` days from now; return their names.

    Days are the database's, in UTC. Safe to run at any time from many processes: an advisory lock lets one work.
    """
    today = connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date")).scalar_one()
    wanted = [
        (table, today + timedelta(days=offset))
        for table in PARTITIONED
        for offset in range(-DAYS_BEHIND, days_ahead + 1)
    ]
    if not _missing(connection, wanted):
        return []
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    made = []
    for table, day in _missing(connection, wanted):
        name = name_of(table, day)
        lower, upper = (lowest_uuid_at(_unix_ms(d)) for d in (day, day + timedelta(days=1)))
        storage = f" WITH (fillfactor = {FILLFACTOR[table]})" if table in FILLFACTOR else ""
        # Made beside the table and then attached: `PARTITION OF` would wait for every open transaction that has
        # written to the table, and every publish would wait behind it.
        connection.execute(text(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL){storage}"))
        connection.execute(
            text(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{lower}') TO ('{upper}')")
        )
        made.append(name)
    return made


def ahead(connection: Connection) -> int:
    """Return for how many days after today all partitions exist."""
    today = connection.execute(text("SELECT (now() AT TIME ZONE 'UTC')::date")).scalar_one()
    present = _present(connection)
    days = 0
    while all(name_of(table, today + timedelta(days=days + 1)) in present for table in PARTITIONED):
        days += 1
    return days


def older_than(connection: Connection, day: date) -> list[str]:
    """Return the partitions whose whole day is before `day`, oldest first."""
    found = [(d, name) for name in _present(connection) if (d := day_of(name)) is not None and d < day]
    return [name for _, name in sorted(found)]


def oldest_day(connection: Connection, table: str) -> date | None:
    """Return the day of the oldest partition of a table, or None if it has none."""
    days = [
        day
        for name in _present(connection)
        if name.startswith(f"{table}_p") and (day := day_of(name)) is not None
    ]
    return min(days, default=None)


def _present(connection: Connection) -> set[str]:
    rows = connection.execute(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " JOIN pg_class p ON p.oid = i.inhparent"
            " WHERE p.relname = ANY(:tables) AND p.relnamespace = current_schema()::regnamespace"
        ),
        {"tables": list(PARTITIONED)},
    )
    return {row[0] for row in rows}


def _missing(connection: Connection, wanted: list[tuple[str, date]]) -> list[tuple[str, date]]:
    present = _present(connection)
    return [(table, day) for table, day in wanted if name_of(table, day) not in present]


def _unix_ms(day: date) -> int:
    return int(datetime.combine(day, time(), tzinfo=UTC).timestamp() * 1000)
