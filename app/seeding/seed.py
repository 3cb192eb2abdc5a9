"""Fills a workspace with believable deliveries: some thousands for a look at the dashboard, or millions for measuring it.

The story is in `story.py`; Postgres plays it (`scratch.py`) and writes the rows day by day (`rows.py`, `days.py`), two
days at a time. What follows from the rows is written last: the queue, what is undelivered, runtime rows, roll-ups.
"""

from __future__ import annotations

import math
import random as chance
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql
from sqlalchemy import create_engine, pool
from sqlalchemy.orm import Session

from app.core.clock import DatabaseClock
from app.core.crypto import Keyring
from app.core.error_classes import ErrorClass, explain
from app.core.errors import BellwireError
from app.seeding import aftermath, rows, scratch
from app.seeding.days import DAY, drop_empty, fill, midnight_ms, one
from app.seeding.objects import write_objects
from app.seeding.story import Fault, pattern, url_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date
    from uuid import UUID

    from psycopg import Connection

    from app.core.settings import Settings
    from app.seeding.objects import Taker
    from app.seeding.story import Pattern

CONNECTIONS = 2
DAYS = 7
# Hours UTC at which there is the most traffic.
BUSIEST_HOUR = 14
# To find how often requests must fail for a wanted number of attempts, so many deliveries are played.
SAMPLE = 20_000
ROUNDS = 3
MOST_FLAKY = 0.65
_FOREVER_MS = 1 << 47
# What else goes wrong where more attempts are wanted, and its part.
_FLAKES: tuple[tuple[float, ErrorClass, int | None], ...] = (
    (0.55, ErrorClass.HTTP_5XX, 503),
    (0.25, ErrorClass.HTTP_5XX, 500),
    (0.12, ErrorClass.READ_TIMEOUT, None),
    (0.08, ErrorClass.CONNECT_REFUSED, None),
)
_SAID = {
    ErrorClass.DNS_ERROR: "Name or service not known.",
    ErrorClass.TLS_ERROR: "certificate has expired",
    ErrorClass.READ_TIMEOUT: "No answer within 15 s.",
    ErrorClass.CONNECT_REFUSED: "Connection refused.",
}


class CannotSeed(BellwireError):
    """There is nowhere to write to, or what was asked for does not fit together."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted: how many deliveries, about how many attempts (None: as the story has it), over how many days."""

    deliveries: int
    attempts: int | None = None
    days: int = DAYS
    seed: int = 1
    workspace_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Seeded:
    """What was written."""

    workspace_id: UUID
    deliveries: int
    attempts: int
    waiting: int
    undelivered: int


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where and when the story is played; times are milliseconds since 1970."""

    order: Order
    workspace_id: UUID
    begins: datetime
    now: datetime
    takers: Sequence[Taker]
    pattern: Pattern

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of the statements."""
        deliveries, slots = self.order.deliveries, len(self.pattern.deliveries)
        rounds, rest = divmod(deliveries, slots)
        kinds = [kind for kind, _ in self.pattern.deliveries[:rest]]
        events = rounds * len(self.pattern.events) + (kinds[-1] + 1 if kinds else 0)
        in_last = kinds or [kind for kind, _ in self.pattern.deliveries]
        return {
            "seed": str(self.order.seed), "salt": self.order.seed * 1_000, "workspace": self.workspace_id,
            "begins": _ms(self.begins), "ends": _ms(self.now), "span": _ms(self.now) - _ms(self.begins),
            "days": self.order.days, "swing": scratch.SWING,
            "phase": 2 * math.pi * (self.begins.hour + self.begins.minute / 60 - BUSIEST_HOUR) / 24,
            "deliveries": deliveries, "slots": slots, "events": events, "kinds": len(self.pattern.events),
            "last_deliveries": in_last.count(in_last[-1]), "every": 1, "parts": 1, "part": 0,
        }  # fmt: skip


def seed(settings: Settings, order: Order, *, tell: Callable[[str], None] = lambda _: None) -> Seeded:
    """Write it, up to now. What is there already stays; a second run adds to it.

    Raises:
        CannotSeed: there is no workspace, or so many attempts cannot belong to so many deliveries.

    """
    if order.attempts is not None and order.attempts < order.deliveries:
        raise CannotSeed(
            f"{order.deliveries:,} deliveries have at least as many attempts, not {order.attempts:,}. Ask for more attempts, or leave --attempts out."
        )
    url = settings.sqlalchemy_url
    address = url.replace("postgresql+psycopg", "postgresql", 1)
    began = time.monotonic()
    with _connect(address) as connection, ThreadPoolExecutor(CONNECTIONS) as threads:
        stage = _set_up(connection, settings, order)
        try:
            _play(connection, threads, address, stage)
            tell(f"played in {time.monotonic() - began:.0f} s")
            days = _days_of(stage)
            for day in days:
                drop_empty(connection, day)
            for line in threads.map(lambda day: _write(address, day, stage), days):
                tell(line)
            waiting, undelivered = aftermath.write(connection, stage.values)
            minutes = aftermath.minutes_of(connection, stage.values)
            attempts = one(connection, f"SELECT count(*) FROM {scratch.SCHEMA}.tries")  # noqa: S608
        finally:
            connection.execute(scratch.DROP)
        list(threads.map(lambda table: _analyze(address, table), reversed(rows.TABLES)))
    tell("adding up")
    aftermath.add_up(settings, minutes)
    return Seeded(stage.workspace_id, order.deliveries, attempts, waiting, undelivered)


def _set_up(connection: Connection[Any], settings: Settings, order: Order) -> _Stage:
    now: datetime = one(connection, "SELECT now()")
    begins = now - timedelta(days=order.days)
    found = connection.execute(
        "SELECT id FROM workspaces WHERE %(id)s::uuid IS NULL OR id = %(id)s::uuid ORDER BY id LIMIT 1",
        {"id": order.workspace_id},
    ).fetchone()
    if found is None:
        raise CannotSeed(
            "There is no workspace to fill. Start the API once (`make run` or `bellwire api`): it makes the first one. "
            "Then run this again."
        )
    random = chance.Random(order.seed)  # noqa: S311 - a story, no secret of anybody
    engine = create_engine(settings.sqlalchemy_url, poolclass=pool.NullPool)
    clock = DatabaseClock()
    clock.adjust(database_unix=now.timestamp(), asked_at=time.monotonic(), answered_at=time.monotonic())
    with Session(engine, expire_on_commit=False) as session, session.begin():
        takers = write_objects(
            session, workspace_id=found[0], random=random, clock=clock, begins=begins, now=now,
            keyring=Keyring(key.get_secret_value() for key in settings.encryption_keys),
        )  # fmt: skip
    engine.dispose()
    stage = _Stage(order, found[0], begins, now, takers, pattern(random))
    for statement in scratch.PREPARE:
        connection.execute(statement)
    _cast(connection, stage, schedule=settings.retry_schedule)
    return stage


def _cast(connection: Connection[Any], stage: _Stage, *, schedule: Sequence[int]) -> None:
    """Write the pattern, the receivers and their faults into the scratch tables."""
    applications = {taker.receiver.application: taker.application_id for taker in stage.takers}
    places = [kind for kind, _ in stage.pattern.deliveries]
    with connection.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO {scratch.SCHEMA}.slots VALUES (%s, %s, %s)",  # noqa: S608
            [(place, kind, taker) for place, (kind, taker) in enumerate(stage.pattern.deliveries)],
        )
        cursor.executemany(
            f"INSERT INTO {scratch.SCHEMA}.kinds VALUES (%s, %s, %s, %s)",  # noqa: S608
            [
                (place, applications[application], event_type, places.count(place))
                for place, (application, event_type) in enumerate(stage.pattern.events)
            ],
        )
        cursor.executemany(
            f"INSERT INTO {scratch.SCHEMA}.receivers VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",  # noqa: S608
            [
                (
                    place, taker.endpoint_id, url_of(taker.receiver), taker.receiver.median_ms, taker.receiver.spread,
                    [0.0, *accumulate(float(delay) for delay in taker.receiver.retry_schedule or schedule)],
                    _closed_ms(stage, taker), f"203.0.113.{10 + place}", taker.receiver.tls,
                    ("nginx", "cloudfront", "envoy")[place % 3], taker.inner_pad, taker.outer_pad,
                )
                for place, taker in enumerate(stage.takers)
            ],
        )  # fmt: skip
    for place, taker in enumerate(stage.takers):
        for fault in taker.receiver.faults:
            _add_fault(connection, stage, place, fault)


def _play(connection: Connection[Any], threads: ThreadPoolExecutor, address: str, stage: _Stage) -> None:
    # Parameters are put in here: Postgres takes none in CREATE TABLE AS.
    cursor = psycopg.ClientCursor(connection)
    cursor.execute(scratch.EVENTS, stage.values)
    connection.execute(f"ALTER TABLE {scratch.SCHEMA}.events ADD PRIMARY KEY (key)")
    connection.execute(f"ANALYZE {scratch.SCHEMA}.events")
    payloads = threads.submit(_write_payloads, address, stage)
    cursor.execute(scratch.DELIVERIES, stage.values)
    connection.execute(f"ANALYZE {scratch.SCHEMA}.deliveries")
    if stage.order.attempts is not None:
        _make_flaky(connection, stage, wanted=stage.order.attempts / stage.order.deliveries)
    payloads.result()
    list(threads.map(lambda part: _play_part(address, stage, part), range(CONNECTIONS)))
    for statement in scratch.INDEXES:
        connection.execute(statement)


def _write_payloads(address: str, stage: _Stage) -> None:
    with _connect(address) as connection:
        psycopg.ClientCursor(connection).execute(scratch.PAYLOADS, stage.values)


def _play_part(address: str, stage: _Stage, part: int) -> None:
    """Play one delivery in CONNECTIONS to its end."""
    values = stage.values | {"parts": CONNECTIONS, "part": part}
    with _connect(address) as connection:
        _try(connection, values)
        psycopg.ClientCursor(connection).execute(scratch.ENDS, values)


def _make_flaky(connection: Connection[Any], stage: _Stage, *, wanted: float) -> None:
    """Let requests fail everywhere, as often as it takes for the wanted attempts a delivery."""
    every = max(1, stage.order.deliveries // SAMPLE)
    played = len(range(0, stage.order.deliveries, every))
    share = 0.0
    for _ in range(ROUNDS + 1):
        found = _try(connection, stage.values | {"every": every}) / played
        connection.execute(f"TRUNCATE {scratch.SCHEMA}.tries")
        if abs(found - wanted) < 0.003 * wanted or (found > wanted and not share):
            return
        # A request that fails with this share is made 1 / (1 - share) times.
        odds = max(0.0, share / (1 - share) + wanted - found)
        share = min(MOST_FLAKY, odds / (1 + odds))
        connection.execute(
            f"DELETE FROM {scratch.SCHEMA}.faults WHERE place >= %s",  # noqa: S608
            [sum(len(taker.receiver.faults) for taker in stage.takers)],
        )
        for place in range(len(stage.takers)):
            for part, error_class, status in _FLAKES:
                _add_fault(connection, stage, place, Fault(0.0, 1.0, part * share, error_class, status))


def _try(connection: Connection[Any], values: dict[str, Any]) -> int:
    """Make all tries of some deliveries and return how many that were."""
    cursor = psycopg.ClientCursor(connection)
    cursor.execute(scratch.FIRST_TRIES, values)
    number, made = 2, cursor.rowcount
    while cursor.rowcount > 0:
        cursor.execute(scratch.NEXT_TRIES, values | {"k": number})
        number, made = number + 1, made + cursor.rowcount
    return made


def _add_fault(connection: Connection[Any], stage: _Stage, receiver: int, fault: Fault) -> None:
    sentence = explain(fault.error_class, fault.status)[0]
    said = f"(HTTP {fault.status})" if fault.status else _SAID[fault.error_class]
    connection.execute(
        f"INSERT INTO {scratch.SCHEMA}.faults SELECT count(*), %s, %s, %s, %s, %s, %s, %s, %s FROM {scratch.SCHEMA}.faults",  # noqa: S608
        [
            receiver,
            _share_ms(stage, fault.since),
            _share_ms(stage, fault.until) if fault.until < 1 else _FOREVER_MS,
            fault.share,
            fault.error_class.value,
            fault.status,
            f"{sentence} {said}",
            fault.body,
        ],
    )


def _write(address: str, day: date, stage: _Stage) -> str:
    """Write one day and return a line that says so."""
    began = time.monotonic()
    values = stage.values | {"lo": midnight_ms(day), "hi": midnight_ms(day + DAY)}
    with _connect(address) as connection:
        for table, insert in rows.TABLES.items():
            fill(connection, table, day, insert, values)
    return f"{day}: {time.monotonic() - began:.0f} s"


def _analyze(address: str, table: str) -> None:
    with _connect(address) as connection:
        connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table)))


def _connect(address: str) -> Connection[Any]:
    """Connect with the memory that sorting a day takes; a crash may lose what is made up."""
    settings = (
        "-c timezone=UTC -c jit=off -c synchronous_commit=off -c work_mem=128MB -c maintenance_work_mem=256MB"
    )
    return psycopg.connect(address, autocommit=True, options=settings)


def _days_of(stage: _Stage) -> list[date]:
    days = [stage.begins.astimezone(UTC).date()]
    while days[-1] < stage.now.astimezone(UTC).date():
        days.append(days[-1] + DAY)
    return days


def _closed_ms(stage: _Stage, taker: Taker) -> int:
    ends = [at for at in (taker.receiver.paused_at, taker.receiver.open_at) if at is not None]
    # A try that would end after now is not made.
    return _share_ms(stage, min(ends)) if ends else _ms(stage.now) - 15_500


def _share_ms(stage: _Stage, share: float) -> int:
    return _ms(stage.begins + (stage.now - stage.begins) * share)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
