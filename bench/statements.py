"""What single statements cost: the figures of docs/decisions. Run `python -m bench.statements`.

On an embedded Postgres with its settings as shipped (durable commits), from one connection, with nothing else on it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import text

from app.core import ids, migrate
from app.core.db import make_engine
from app.core.settings import Settings
from app.deliveries.claim import Lane, claim, discover
from app.embedded.postgres import EmbeddedPostgres
from app.endpoints.patterns import compile_patterns
from app.events.routing import Route, RoutingTable, _Subscriber

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

ROUNDS = 30
WARM_UP_ROUNDS = 10  # Statements are prepared after their second use.
BUSY_ROWS = 300_000
OTHER_ENDPOINTS = 2_000
HOPS = 200
SUBSCRIBERS = 1_000
TYPES = 100
COMMITS = 1_000

_FILL = """
INSERT INTO workspaces (id, name) SELECT md5('w')::uuid, 'w';
INSERT INTO applications (id, workspace_id, uid, name) SELECT md5('a')::uuid, md5('w')::uuid, 'bench', 'a';
INSERT INTO endpoints (id, workspace_id, application_id, url)
  SELECT md5('e' || n)::uuid, md5('w')::uuid, md5('a')::uuid, 'http://127.0.0.1:1/'
  FROM generate_series(0, {others}) n;
INSERT INTO endpoint_runtime (endpoint_id, workspace_id, application_id)
  SELECT id, workspace_id, application_id FROM endpoints;
INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, deadline_at)
  SELECT md5('b' || n)::uuid, md5('w')::uuid, md5('a')::uuid, md5('e0')::uuid, md5('v')::uuid, now() + interval '1 day'
  FROM generate_series(1, {busy}) n;
INSERT INTO delivery_queue (id, workspace_id, application_id, endpoint_id, event_id, deadline_at)
  SELECT md5('o' || n)::uuid, md5('w')::uuid, md5('a')::uuid, md5('e' || n)::uuid, md5('v')::uuid,
    now() + interval '1 day' FROM generate_series(1, {others}) n;
ANALYZE;
"""
_NAIVE = text(
    "SELECT q.endpoint_id FROM delivery_queue q JOIN endpoint_runtime r USING (endpoint_id)"
    " WHERE q.state = 0 AND r.in_flight < r.max_in_flight ORDER BY q.due_at, q.seq LIMIT 200"
    " FOR UPDATE OF q SKIP LOCKED"
)
_COMMIT = text("INSERT INTO bench_commits DEFAULT VALUES")


async def main() -> None:
    """Measure everything and print a line each."""
    with tempfile.TemporaryDirectory() as folder, EmbeddedPostgres(Path(folder) / "postgres") as postgres:
        migrate.upgrade(postgres.url)
        settings = Settings(database_url=SecretStr(postgres.url), environment="development")
        engine = make_engine(settings, name="bench", pool_size=2)
        await _transactions(engine)
        await _claims(engine)
        await engine.dispose()
    _matching()


async def _transactions(engine: AsyncEngine) -> None:
    autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with autocommit.connect() as connection:
        await connection.execute(text("CREATE TABLE bench_commits (n bigserial)"))

    async def alone() -> None:
        async with autocommit.connect() as connection:
            await connection.execute(_COMMIT)

    async def begun() -> None:
        async with engine.begin() as connection:
            await connection.execute(_COMMIT)

    # In turns, so that whatever else the machine does meets both alike.
    times: dict[str, list[float]] = {}
    for _ in range(COMMITS):
        for what, work in (("autocommit", alone), ("between BEGIN and COMMIT", begun)):
            times.setdefault(what, []).append(await _seconds(work))
    for what, seconds in times.items():
        _show(seconds, f"one INSERT, {what}")


async def _claims(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for statement in _FILL.format(others=OTHER_ENDPOINTS, busy=BUSY_ROWS).split(";"):
            if statement.strip():
                await connection.execute(text(statement))
    what = f"{BUSY_ROWS:,} rows on one endpoint, one on each of {OTHER_ENDPOINTS:,}"
    async with engine.connect() as connection:

        async def walk() -> None:
            await discover(connection, after=None, hops=HOPS)

        reached: list[int] = []
        lanes = await discover(connection, after=None, hops=HOPS)

        async def claim_lanes() -> None:
            await _claim(connection, lanes)

        async def claim_by_age() -> None:
            rows = (await connection.execute(_NAIVE)).all()
            reached.append(len({row[0] for row in rows}))
            await connection.rollback()

        await _time(f"walk over {HOPS} lanes ({what})", walk)
        await _time(f"claim of 1 each of {HOPS} lanes, rolled back", claim_lanes)
        await _time("the oldest 200 below their cap, of any endpoint, rolled back", claim_by_age)
        sys.stdout.write(f"              which belong to {reached[-1]} endpoint(s)\n")


async def _claim(connection: AsyncConnection, lanes: list[Lane]) -> None:
    taken, _ = await claim(
        connection, [(lane.endpoint_id, 1) for lane in lanes], margin_seconds=10.0, worker="bench"
    )
    await connection.rollback()
    if len(taken) != len(lanes):
        raise RuntimeError(f"{len(taken)} of {len(lanes)} lanes were claimed")


def _matching() -> None:
    subscribers = [
        _Subscriber(
            Route(ids.uuid7(n), fifo=False, max_age_seconds=1),
            ((compile_patterns([f"order.t{n % TYPES}", "user.*"]), None),),
        )
        for n in range(SUBSCRIBERS)
    ]
    table = RoutingTable(
        workspace_id=UUID(int=1),
        application_id=UUID(int=2),
        uid=None,
        version=1,
        subscribers=subscribers,
        rules={},
    )
    for what in ("the first event of a type", "further events of a type"):
        seconds = []
        for n in range(TYPES):
            started = time.perf_counter()
            table.routes_for(f"order.t{n}")
            seconds.append(time.perf_counter() - started)
        _show(seconds, f"match among {SUBSCRIBERS:,} endpoints, {what}")


async def _time(what: str, work: Callable[[], Awaitable[None]]) -> None:
    for _ in range(WARM_UP_ROUNDS):
        await work()
    _show([await _seconds(work) for _ in range(ROUNDS)], what)


async def _seconds(work: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await work()
    return time.perf_counter() - started


def _show(seconds: list[float], what: str) -> None:
    """Print the median: a noisy machine moves it less than the mean."""
    sys.stdout.write(f"{statistics.median(seconds) * 1e6:10.1f} µs  {what}\n")


if __name__ == "__main__":
    asyncio.run(main())
