"""Waiting for the feed: one look every quarter of a second for all who wait, and no connection held between looks."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import structlog
from sqlalchemy import text

from app.core.db import Autocommit, away_message, is_away
from app.core.errors import DatabaseUnavailable
from app.events.feed import FeedPage, Position, encode_cursor, find_horizon, read_page, start_of

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.25

# For each who waits one step into ix_events_feed; the LIMIT keeps Postgres from joining whole tables.
NEWS = text("""
SELECT w.n
FROM unnest(CAST(:ns AS int[]), CAST(:applications AS uuid[]), CAST(:xids AS text[]), CAST(:ids AS uuid[]))
  AS w(n, application_id, xid, id)
CROSS JOIN LATERAL (
  SELECT FROM events e
  WHERE e.application_id = w.application_id AND (e.xid, e.id) > (CAST(w.xid AS xid8), w.id)
    AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
  ORDER BY e.xid, e.id LIMIT 1
) news
""")


class _Waiter(msgspec.Struct, eq=False):
    application_id: UUID
    after: Position
    news: asyncio.Future[None]


class FeedWatch:
    """Tells readers of the feed that something has come. One per API process."""

    def __init__(self, engine: AsyncEngine, *, look_seconds: float = LOOK_SECONDS) -> None:
        self._engine = Autocommit(engine)
        self._look_seconds = look_seconds
        self._waiters: set[_Waiter] = set()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many wait for news now."""
        return len(self._waiters)

    async def wait(self, application_id: UUID, after: Position, *, seconds: float) -> bool:
        """Return True as soon as the application's feed has something after a place, False when time is up.

        Raises:
            DatabaseUnavailable: it cannot be looked at.

        """
        if self._closed or seconds <= 0:
            return False
        waiter = _Waiter(application_id, after, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_while_anybody_waits())
        try:
            async with asyncio.timeout(seconds):
                await waiter.news
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return not self._closed

    def close(self) -> None:
        """Let everybody go: the process stops."""
        self._closed = True
        for waiter in self._waiters:
            if not waiter.news.done():
                waiter.news.set_result(None)

    async def stop(self) -> None:
        """Let everybody go, and stop looking."""
        self.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_while_anybody_waits(self) -> None:
        while True:
            await asyncio.sleep(self._look_seconds)
            waiting = [waiter for waiter in self._waiters if not waiter.news.done()]
            if not waiting:
                return
            try:
                found = await self._look(waiting)
            except Exception as error:
                if not is_away(error):
                    log.exception("feed.look_failed")
                _fail(waiting, DatabaseUnavailable(away_message()) if is_away(error) else error)
                continue
            for n in found:
                if not waiting[n].news.done():
                    waiting[n].news.set_result(None)

    async def _look(self, waiting: list[_Waiter]) -> list[int]:
        async with self._engine.connect() as connection:
            rows = await connection.execute(
                NEWS,
                {
                    "ns": list(range(len(waiting))),
                    "applications": [waiter.application_id for waiter in waiting],
                    "xids": [str(waiter.after.xid) for waiter in waiting],
                    "ids": [waiter.after.event_id for waiter in waiting],
                },
            )
            return [row[0] for row in rows]


async def follow(
    engine: AsyncEngine,
    watch: FeedWatch,
    *,
    workspace_id: UUID,
    application_id: UUID,
    cursor: str | None,
    types: list[str] | None,
    limit: int,
    wait_seconds: float,
) -> tuple[FeedPage, str]:
    """Return the page after a cursor and the cursor after the page; wait until there is something in it.

    When the time is up the page is empty. No connection is held while waiting.

    Raises:
        Invalid: the cursor cannot be used.
        DatabaseUnavailable: the database went away while waiting.

    """
    until = time.monotonic() + wait_seconds
    reading = Autocommit(engine)
    async with reading.connect() as connection:
        horizon = await find_horizon(connection)
        epoch = horizon.epoch
        after = start_of(cursor, application_id=application_id, horizon=horizon)
        page = await read_page(
            connection,
            workspace_id=workspace_id,
            application_id=application_id,
            after=after,
            horizon=horizon,
            types=types,
            limit=limit,
        )
    while not page.events and await watch.wait(
        application_id, page.position, seconds=until - time.monotonic()
    ):
        async with reading.connect() as connection:
            horizon = await find_horizon(connection)
            if horizon.epoch != epoch:
                # The old cursor is returned, and the next request is told what has happened.
                break
            page = await read_page(
                connection,
                workspace_id=workspace_id,
                application_id=application_id,
                after=page.position,
                horizon=horizon,
                types=types,
                limit=limit,
            )
    return page, encode_cursor(page.position, application_id=application_id, epoch=epoch)


def _fail(waiting: list[_Waiter], error: Exception) -> None:
    for waiter in waiting:
        if not waiter.news.done():
            waiter.news.set_exception(error)
