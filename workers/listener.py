"""Hears the notifications that publishers send after a commit, on a connection of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import structlog

from app.core import metrics
from app.core.notify import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg
    from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger(__name__)

RETRY_SECONDS = 1.0


async def listen(engine: AsyncEngine, *, heard: Callable[[], None]) -> None:
    """Call `heard` at each notification until cancelled; a lost connection is made again.

    It also calls `heard` whenever it begins to listen: what was told before, nobody heard.
    """
    while True:
        try:
            await _listen_once(engine, heard=heard)
        except Exception as error:  # noqa: BLE001 - whatever it is, workers look for themselves meanwhile
            log.warning("listener.interrupted", error=type(error).__name__)
        await asyncio.sleep(RETRY_SECONDS)


async def _listen_once(engine: AsyncEngine, *, heard: Callable[[], None]) -> None:
    async with engine.connect() as connection:
        try:
            raw = await connection.get_raw_connection()
            driver = cast("psycopg.AsyncConnection[object]", raw.driver_connection)
            await driver.set_autocommit(True)
            await driver.execute(f"LISTEN {CHANNEL}")
            heard()
            async for _ in driver.notifies():
                metrics.NOTIFIES_HEARD.inc()
                heard()
        finally:
            # A connection that listens must not go back among the others.
            await connection.invalidate()
