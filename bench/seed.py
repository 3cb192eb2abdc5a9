"""Old deliveries and attempts by the million, in minutes: `python -m bench.seed --deliveries 5000000`.

For the benchmark of a full history and for tests of the dashboard. Each day's partition is made beside its
table, filled by one INSERT ... SELECT, indexed afterwards, and attached; a partition that has rows already
(today's) is filled where it is. Two connections work at a time. Ids are UUIDv7 of their day, made from a
running number, so that events, deliveries and attempts refer to each other without being looked up.

Four deliveries of one event; most succeed at once, the rest have retries, most of them at a few bad
endpoints, and the longest end dead. The figures are exact: so many deliveries, so many attempts.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import psycopg
import typer

from app.core.settings import load_settings
from app.seeding.days import DAY, drop_empty, fill, one
from bench.endpoints import write_endpoints
from bench.seed_rows import BASE, EVENTS_EACH, FILL, FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from uuid import UUID


DAYS = 7
CONNECTIONS = 2
ENDPOINTS = 40
# Retries are dealt by `seed_rows.RETRIES`; with more than this the longest delivery had more than 12 attempts.
MOST_ATTEMPTS_EACH = 2.25
# Where nobody listens: the policy allows it, and no event that is published matches its endpoints.
URL = "http://127.0.0.1:8999/seed/{n}"
EVENT_TYPES = ["seed.*"]
SECRET = "whsec_" + "c2VlZHNlZWRzZWVkc2VlZHNlZWRzZWVk"


@dataclass(frozen=True, slots=True)
class Day:
    """One day's part: its rows are numbered on from `first` and spread from `begins` to `ends`."""

    day: date
    first: int
    deliveries: int
    begins: datetime
    ends: datetime


def seed(
    url: str,
    *,
    keys: Sequence[str],
    deliveries: int,
    attempts: int,
    days: int = DAYS,
    tell: Any = lambda _: None,
) -> None:
    """Write old deliveries, their attempts and their events into the default application, up to now.

    `url` is SQLAlchemy's form. Rows that are there already stay; a second run adds to them.

    Raises:
        ValueError: so many attempts cannot belong to so many deliveries.

    """
    if not deliveries <= attempts <= MOST_ATTEMPTS_EACH * deliveries:
        raise ValueError(
            f"{deliveries:,} deliveries have from {deliveries:,} to {int(MOST_ATTEMPTS_EACH * deliveries):,} attempts, "
            f"not {attempts:,}: each has at least one, and most succeed at once."
        )
    endpoints = write_endpoints(
        url, keys=keys, secret=SECRET, targets=[(URL.format(n=n), EVENT_TYPES) for n in range(ENDPOINTS)]
    )
    address = url.replace("postgresql+psycopg", "postgresql", 1)
    with psycopg.connect(address, autocommit=True) as connection:
        now = one(connection, "SELECT now()")
        parts = split(deliveries, now=now, days=days)
        for part in parts:
            drop_empty(connection, part.day)
    extra = attempts / deliveries - 1
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for line in pool.map(lambda part: _fill(address, part, endpoints=endpoints, extra=extra), parts):
            tell(line)
    with psycopg.connect(address, autocommit=True) as connection:
        for table in FILL:
            connection.execute(f"ANALYZE {table}")


def split(deliveries: int, *, now: datetime, days: int) -> list[Day]:
    """Return the parts: `days` × 24 hours up to now, cut at midnight, with deliveries in proportion."""
    now = now.astimezone(UTC)
    start = now - days * DAY
    cuts = [start]
    while (midnight := (cuts[-1] + DAY).replace(hour=0, minute=0, second=0, microsecond=0)) < now:
        cuts.append(midnight)
    cuts.append(now)
    # The deliveries of one event stay together.
    numbers = [int(deliveries * ((cut - start) / (now - start)) / EVENTS_EACH) * EVENTS_EACH for cut in cuts]
    numbers[-1] = deliveries
    return [
        Day(day=begins.date(), first=first, deliveries=until - first, begins=begins, ends=ends)
        for begins, ends, first, until in zip(cuts, cuts[1:], numbers, numbers[1:], strict=False)
        if until > first
    ]


def _fill(address: str, part: Day, *, endpoints: Sequence[UUID], extra: float) -> str:
    """Write one day and return a line that says so."""
    began = time.monotonic()
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute("SET maintenance_work_mem = '256MB'")
        connection.execute("SET work_mem = '64MB'")
        for function in FUNCTIONS:
            connection.execute(function)
        # Parameters are put in here: Postgres takes none in CREATE TABLE AS.
        psycopg.ClientCursor(connection).execute(
            BASE,
            {
                "first": part.first,
                "deliveries": part.deliveries,
                "begins": int(part.begins.timestamp() * 1000),
                "span": max(1, int((part.ends - part.begins).total_seconds() * 1000)),
                "ends": int(part.ends.timestamp() * 1000),
                "endpoints": list(endpoints),
                "extra": extra,
            },
        )
        for table, insert in FILL.items():
            fill(connection, table, part.day, insert)
    seconds = time.monotonic() - began
    return f"{part.day}: {part.deliveries:,} deliveries in {seconds:.0f} s"


def main(
    *,
    deliveries: Annotated[int, typer.Option(min=1, help="Deliveries to add.")] = 5_000_000,
    attempts: Annotated[
        int | None, typer.Option(help="Attempts to add; as many as deliveries if left out.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=25, help="Spread over so many days up to now.")] = DAYS,
) -> None:
    """Fill the history of the database at BELLWIRE_DATABASE_URL (with BELLWIRE_ENCRYPTION_KEYS)."""
    settings = load_settings()
    began = time.monotonic()
    try:
        seed(
            settings.sqlalchemy_url,
            keys=[key.get_secret_value() for key in settings.encryption_keys],
            deliveries=deliveries,
            attempts=attempts or deliveries,
            days=days,
            tell=lambda line: sys.stderr.write(f"{line}\n"),
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    sys.stderr.write(f"Done in {time.monotonic() - began:.0f} s.\n")


if __name__ == "__main__":
    typer.run(main)
