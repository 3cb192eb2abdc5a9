"""Connections find their way back into the pool, whatever ends the work that took them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg.waiting
import pytest
from sqlalchemy import text

from app.core.db import Autocommit, close_engine, make_engine
from app.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

# More turns of the loop than the work below takes.
TURNS = 40


@pytest.fixture
async def engine(clean_database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AsyncEngine]:
    """An engine on a loop that is so busy that psycopg lets others run at each step."""
    monkeypatch.setattr(psycopg.waiting, "MAX_BUSY_TIME", -1.0)
    made = make_engine(Settings(database_url=clean_database), name="test", pool_size=1)
    yield made
    await close_engine(made)


async def test_a_task_that_is_cancelled_loses_no_connection(engine: AsyncEngine) -> None:
    """Whichever step it was at: the pool of one connection has it for the next."""
    ended = 0
    for turns in range(TURNS):
        task = asyncio.create_task(_ask(engine))
        for _ in range(turns):
            await asyncio.sleep(0)
        ended += not task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        # The cancelled task's connection is given back by a task of its own, in a moment.
        async with asyncio.timeout(5):
            assert await _ask(engine) == 1
    assert ended > 0


async def test_closing_waits_for_what_is_being_given_back(engine: AsyncEngine) -> None:
    """A connection that comes back after the pool was closed would stay open."""
    async with engine.connect() as connection:
        closing = asyncio.create_task(close_engine(engine))
        await asyncio.sleep(0)
        raw = (await connection.get_raw_connection()).driver_connection
        assert not closing.done()
    await closing

    assert isinstance(raw, psycopg.AsyncConnection)
    assert raw.closed


async def _ask(engine: AsyncEngine) -> int:
    async with Autocommit(engine).connect() as connection:
        return int((await connection.execute(text("SELECT 1"))).scalar_one())
