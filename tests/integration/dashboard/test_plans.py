"""What the pages read of a large history: what they show, or as many rows as a page may judge, and never all there are."""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event

from app.access.workspaces import ensure_first_workspace
from app.core.runtime import Runtime
from app.core.settings import Settings
from app.dashboard.deliveries import queries as list_queries
from app.dashboard.search import reach
from app.main import create_app
from app.seeding.seed import Order, seed
from bench.pages import addresses, signed_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI
    from sqlalchemy import Connection

    from tests.conftest import MakeDatabase

DELIVERIES = 30_000
# A page judges so many rows here, with what it looks up for each, and counts so many.
JUDGED = 200
# Of the large tables a page reads at most so many rows in all its statements.
MOST_READ = 4_000
LARGE = ("events", "deliveries", "attempts")
_READ = (
    "SELECT regexp_replace(relname, '_p[0-9]+$', ''), sum(seq_tup_read + coalesce(idx_tup_fetch, 0))"
    " FROM pg_stat_xact_user_tables GROUP BY 1"
)


@pytest.fixture
async def full(make_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    """The application on a day's history, with pages that judge fewer rows than usual."""
    for name in ("LOOKED", "LOOKED_INSIDE", "LOOKED_INTO_HEADERS", "FEW"):
        monkeypatch.setattr(reach, name, JUDGED)
    monkeypatch.setattr(list_queries, "MOST", JUDGED)
    settings = Settings.model_validate(
        {
            "environment": "development",
            "database_url": make_database(),
            "encryption_keys": base64.b64encode(bytes(32)).decode(),
        }
    )
    runtime = Runtime.open(settings, name="test")
    await ensure_first_workspace(runtime)
    await runtime.close()
    await asyncio.to_thread(seed, settings, Order(deliveries=DELIVERIES, days=1))
    # At size nothing else is chosen; a few thousand rows may be read whole, or hashed, at less cost.
    with psycopg.connect(
        settings.sqlalchemy_url.replace("postgresql+psycopg", "postgresql", 1), autocommit=True
    ) as connection:
        for setting in ("enable_seqscan", "enable_hashjoin", "enable_mergejoin"):
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = off").format(
                    sql.Identifier(connection.info.dbname), sql.Identifier(setting)
                )
            )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


async def test_no_page_reads_all_there_is(full: FastAPI) -> None:
    """Every page, and searches with every qualifier: few rows of the large tables, at most five statements, no failure."""
    found: dict[str, Any] = {}
    engine = full.state.runtime.engine.sync_engine
    rows: dict[str, int] = {}
    statements: list[str] = []

    def add(connection: Connection, *, sign: int) -> None:
        read = dict(connection.exec_driver_sql(_READ).all())
        for table in LARGE:
            rows[table] = rows.get(table, 0) + sign * int(read.get(table, 0))

    # What a connection has read is counted up until it is reported, which is not at each end of a transaction.
    watched = {
        "begin": lambda connection: add(connection, sign=-1),
        "commit": lambda connection: add(connection, sign=1),
        "rollback": lambda connection: add(connection, sign=1),
    }

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement != _READ and not statement.startswith("SET "):
            statements.append(statement)

    async with signed_in(full) as browser:
        paths = await addresses(full)
        for path in paths:
            await browser.get(path)
            rows.clear()
            statements.clear()
            for name, note in watched.items():
                event.listen(engine, name, note)
            event.listen(engine, "before_cursor_execute", count)
            answer = await browser.get(path)
            event.remove(engine, "before_cursor_execute", count)
            for name, note in watched.items():
                event.remove(engine, name, note)
            many = {table: read for table, read in rows.items() if read > MOST_READ}
            if many or len(statements) > 5 or answer.status_code != 200:
                found[path] = (answer.status_code, len(statements), many)

    assert found == {}
    assert len(paths) > 60
