"""Straight to the database, for commands that work on it or must know that it is ready.

A database that is out of reach, too old, or behind in its schema is said in one sentence with a next step.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, pool, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from app.cli.outcome import Unavailable
from app.core import database_faults
from app.core.db import is_away

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

    from app.core.clock import DatabaseClock
    from app.core.settings import Settings

MIN_POSTGRES = 15
STATEMENT_TIMEOUT_SECONDS = 30


@contextmanager
def connect(settings: Settings) -> Iterator[Connection]:
    """Open one connection without a transaction; begin one with `connection.begin()`.

    Raises:
        Unavailable: Postgres cannot be reached, or went away in between.

    """
    try:
        engine = create_engine(
            settings.sqlalchemy_url,
            poolclass=pool.NullPool,
            connect_args={
                "connect_timeout": max(2, int(settings.database_connect_timeout_seconds)),
                "options": f"-c application_name=bellwire-cli -c timezone=UTC"
                f" -c statement_timeout={STATEMENT_TIMEOUT_SECONDS * 1000}",
            },
        )
    except (ArgumentError, ValueError):
        raise Unavailable(
            "BELLWIRE_DATABASE_URL cannot be read as an address. It must look like "
            "postgresql://user:password@host:5432/name; write special characters of the password as %XX."
        ) from None
    try:
        with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        if not is_away(error) and not _refuses_us(error):
            raise
        raise away(settings, error) from None
    finally:
        engine.dispose()


@asynccontextmanager
async def transaction(settings: Settings) -> AsyncIterator[tuple[AsyncSession, DatabaseClock]]:
    """Open one transaction for services, with the database's clock; it commits unless an error leaves it.

    Raises:
        Unavailable: Postgres cannot be reached, or went away in between.

    """
    from app.core.clock import DatabaseClock
    from app.core.db import adjust_clock, make_engine, make_sessions

    engine = make_engine(settings, name="cli", pool_size=1)
    clock = DatabaseClock()
    try:
        await adjust_clock(engine, clock)
        async with make_sessions(engine).begin() as session:
            yield session, clock
    except DBAPIError as error:
        if not is_away(error) and not _refuses_us(error):
            raise
        raise away(settings, error) from None
    finally:
        await engine.dispose()


@asynccontextmanager
async def sessions(settings: Settings) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Open an engine for transactions one after the other, and give what makes their sessions.

    Raises:
        Unavailable: Postgres cannot be reached, or went away in between.

    """
    from app.core.db import make_engine, make_sessions

    engine = make_engine(settings, name="cli", pool_size=1)
    try:
        yield make_sessions(engine)
    except DBAPIError as error:
        if not is_away(error) and not _refuses_us(error):
            raise
        raise away(settings, error) from None
    finally:
        await engine.dispose()


def away(settings: Settings, error: BaseException) -> Unavailable:
    """Return the error for a database that cannot be used: where, what it said, what to do."""
    return Unavailable(database_faults.sentence(error, url=make_url(settings.sqlalchemy_url)))


def place(settings: Settings) -> str:
    """Return host, port and name of the database, for people; never its password."""
    return database_faults.place(make_url(settings.sqlalchemy_url))


def require_ready(settings: Settings) -> None:
    """Return when the database can be reached, is new enough, and has the schema of this version.

    Raises:
        Unavailable: it is not so; the message says what to do.

    """
    from app.core.migrate import state_of

    with connect(settings) as connection:
        require_version(connection)
        state = state_of(connection)
    if not state.up_to_date:
        raise Unavailable(state.sentence())


def require_version(connection: Connection) -> str:
    """Return the server's version, for people.

    Raises:
        Unavailable: it is older than Bellwire supports.

    """
    number = int(connection.execute(text("SELECT current_setting('server_version_num')")).scalar_one())
    shown = str(connection.execute(text("SHOW server_version")).scalar_one())
    if number < MIN_POSTGRES * 10_000:
        raise Unavailable(
            f"The database is Postgres {shown}, and Bellwire needs {MIN_POSTGRES} or newer. Upgrade it, or name "
            "another with BELLWIRE_DATABASE_URL."
        )
    return shown


def _refuses_us(error: DBAPIError) -> bool:
    """Tell whether the server answered, but would not let us in (or may not be written to)."""
    state = getattr(error.orig, "sqlstate", None)
    return isinstance(state, str) and state.startswith(("28", "3D", "42501"))
