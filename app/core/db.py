"""The one way to Postgres: SQLAlchemy's async engine over psycopg 3, with deadlines on everything.

Separate pools keep publishing, requests and upkeep from waiting for each other's connections.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from app.core.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.core.clock import DatabaseClock
    from app.core.settings import Settings

# Deadlock and serialization failure: the same statement with the same ids may be tried again.
_RETRY_STATES = frozenset({"40P01", "40001"})
# Connection failures, shutdown of the server, statement timeout, too many connections, disk full, start-up in progress.
_AWAY_STATES = ("08", "57", "53")
# How long the end of a process waits for connections that cancelled tasks are giving back.
CLOSE_SECONDS = 2.0


class Autocommit:
    """An engine's connections with each statement a transaction of its own.

    Not `engine.execution_options(isolation_level="AUTOCOMMIT").connect()`: that switches the connection between taking
    it from the pool and handing it out, and psycopg lets a busy loop run others there. A task that is cancelled in that
    moment would lose the connection, and the pool its place, until the garbage collector finds it.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Take a connection; it goes back into the pool whatever ends the block, a cancellation included."""
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection


async def close_engine(engine: AsyncEngine) -> None:
    """Close all connections of an engine.

    A task that was cancelled gives its connection back a moment later; one that came after this would stay open.
    """
    until = time.monotonic() + CLOSE_SECONDS
    while (  # noqa: ASYNC110 - the pool tells of a connection's return before it is back
        engine.pool.checkedout() and time.monotonic() < until  # type: ignore[attr-defined]
    ):
        await asyncio.sleep(0.001)
    await engine.dispose()


def make_engine(
    settings: Settings,
    *,
    name: str,
    pool_size: int,
    statement_timeout_seconds: float | None = None,
    few_statements: bool = False,
) -> AsyncEngine:
    """Make an engine whose connections carry an application name and a statement timeout.

    `pool_size` is a hard bound; a caller waits for a connection at most as long as for a new one. `few_statements`
    is for engines that run the same few large statements again and again: each is planned once per connection,
    not once per use (planning a claim takes as long as running it).
    """
    timeout = statement_timeout_seconds or settings.database_statement_timeout_seconds
    options = {
        "application_name": f"bellwire-{name}",
        "statement_timeout": int(timeout * 1000),
        "idle_in_transaction_session_timeout": int(timeout * 2000),
        # Bellwire's statements are short and many: compiling them costs more than it gains.
        "jit": "off",
        "timezone": "UTC",
        # Connections notice a server that is gone without waiting for the kernel's two hours.
        "tcp_user_timeout": 5000,
    }
    if few_statements:
        options["plan_cache_mode"] = "force_generic_plan"
        # A plan that was made while the queue was empty would read all of it, and is kept while it fills: with
        # 200,000 rows a claim took 850 ms until the next ANALYZE. Hot statements look up rows by keys, always.
        options["enable_seqscan"] = "off"
    return create_async_engine(
        settings.sqlalchemy_url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=settings.database_connect_timeout_seconds,
        pool_pre_ping=False,
        pool_use_lifo=True,
        # The text of an error goes into logs; payloads and secrets that a statement carried do not.
        hide_parameters=True,
        connect_args={
            "connect_timeout": max(2, int(settings.database_connect_timeout_seconds)),
            # The same from this side: a server that vanished is noticed in about ten seconds.
            "tcp_user_timeout": 10_000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "options": " ".join(f"-c {key}={value}" for key, value in options.items()),
            # Statements of the hot path are prepared at once, not after five uses.
            "prepare_threshold": 0 if few_statements else 2,
        },
    )


def make_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Make the factory of sessions; only the edge (a request, a command, an upkeep duty) commits."""
    return async_sessionmaker(engine, expire_on_commit=False, autoflush=True)


async def adjust_clock(engine: AsyncEngine, clock: DatabaseClock) -> None:
    """Sample the database's clock (see `app.core.clock`)."""
    async with engine.connect() as connection:
        asked = time.monotonic()
        unix = (
            await connection.execute(text("SELECT extract(epoch FROM clock_timestamp())::float8"))
        ).scalar_one()
        clock.adjust(database_unix=unix, asked_at=asked, answered_at=time.monotonic())


def is_away(error: BaseException) -> bool:
    """Tell whether an error means that Postgres cannot be reached or cannot work now (then: 503, try later)."""
    if isinstance(error, DatabaseUnavailable | PoolTimeout | InterfaceError | ConnectionError):
        return True
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, psycopg.Error):
        state = original.sqlstate
        if state is None:
            return isinstance(original, psycopg.OperationalError | psycopg.InterfaceError)
        return state.startswith(_AWAY_STATES) or state == "25006"
    return isinstance(error, OperationalError) and error.connection_invalidated


def may_retry(error: BaseException) -> bool:
    """Tell whether the same statement with the same ids should simply be tried again."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(original, psycopg.Error) and original.sqlstate in _RETRY_STATES


def away_message() -> str:
    """Return the sentence that callers see while Postgres is away."""
    return (
        "The database cannot be reached, so nothing was stored. Send the same request again in a few seconds."
    )


__all__ = [
    "AsyncEngine",
    "AsyncSession",
    "Autocommit",
    "adjust_clock",
    "away_message",
    "close_engine",
    "is_away",
    "make_engine",
    "make_sessions",
    "may_retry",
]
