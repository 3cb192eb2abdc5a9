"""Filling days of the partitioned tables fast: each partition is made beside its table, filled, indexed, attached.

A partition that has rows already (today's) is filled where it is. Ids must be UUIDv7 of their day.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from app.core.ids import lowest_uuid_at
from app.core.partitions import FILLFACTOR, PARTITIONED, name_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from psycopg import Connection

DAY = timedelta(days=1)
_INDEX = re.compile(r"^CREATE (UNIQUE )?INDEX \S+ ON ONLY \S+ ")


def drop_empty(connection: Connection[Any], day: date) -> None:
    """Remove partitions of this day that have no rows: they are made anew, filled, and attached."""
    for table in PARTITIONED:
        name = name_of(table, day)
        if one(connection, "SELECT to_regclass(%s) IS NOT NULL", name) and not one(
            connection,
            f"SELECT EXISTS (SELECT FROM {name})",  # noqa: S608
        ):
            with connection.transaction():
                connection.execute(f"ALTER TABLE {table} DETACH PARTITION {name}")
                connection.execute(f"DROP TABLE {name}")


def fill(
    connection: Connection[Any],
    table: str,
    day: date,
    insert: str,
    values: Mapping[str, object] | None = None,
) -> None:
    """Write one day of a table by `insert`, in which {partition} stands for the partition's name.

    The planner learns of it by an ANALYZE of the table, once all days are there.
    """
    name = name_of(table, day)
    present = one(connection, "SELECT to_regclass(%s) IS NOT NULL", name)
    # One transaction: a table that is made in it is not written to the log, row by row, before it is synced.
    with connection.transaction():
        if not present:
            storage = f" WITH (fillfactor = {FILLFACTOR[table]})" if table in FILLFACTOR else ""
            connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL EXCLUDING INDEXES){storage}")
        connection.execute(insert.format(partition=name), values)
        if not present:
            connection.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")
            for definition in _indexes_of(connection, table):
                connection.execute(_INDEX.sub(rf"CREATE \1INDEX ON {name} ", definition))
            lower, upper = (lowest_uuid_at(midnight_ms(d)) for d in (day, day + DAY))
            connection.execute(
                f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{lower}') TO ('{upper}')"
            )
    connection.execute(f"VACUUM {name}")


def midnight_ms(day: date) -> int:
    """Return the beginning of a day, in milliseconds since 1970."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def one(connection: Connection[Any], query: str, *parameters: object) -> Any:
    """Return the first value of the only row."""
    row = connection.execute(query, parameters or None).fetchone()
    if row is None:
        raise LookupError("the query has no row")
    return row[0]


def _indexes_of(connection: Connection[Any], table: str) -> list[str]:
    rows = connection.execute(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = %s::regclass AND NOT indisprimary",
        [table],
    ).fetchall()
    return [row[0] for row in rows]
