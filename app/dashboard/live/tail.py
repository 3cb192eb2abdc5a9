"""The stream of the live tail: an open page that reads what has come, once a second at most, and thins it out."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import structlog
from fastapi.sse import KEEPALIVE_COMMENT

from app.core.db import Autocommit, is_away
from app.dashboard.live.stream import HEARTBEAT_SECONDS, RETRY_MS, event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.dashboard.live.attempts import AttemptReader, News
    from app.dashboard.live.watch import Listener

log = structlog.get_logger(__name__)

# More than so many rows a second nobody reads.
ROWS_A_LOOK = 50


async def say_rows(engine: AsyncEngine, listener: Listener, reader: AttemptReader) -> AsyncIterator[bytes]:
    """Yield rows each time something has changed in the workspace; `gone` says that nobody is signed in any more."""
    yield event("ready", {}, retry=RETRY_MS)
    reading = Autocommit(engine)
    while not listener.over:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                topics = await listener.wait()
        except TimeoutError:
            yield KEEPALIVE_COMMENT
            continue
        if not topics:
            continue
        try:
            async with reading.connect() as connection:
                news = await reader.read(connection)
        except Exception as error:
            # Nothing is lost: the next look begins where the last one ended.
            if not is_away(error):
                log.exception("dashboard.tail_failed")
            continue
        if news.rows:
            yield event("rows", thinned(news), place=news.last_ms)
    if listener.signed_out:
        yield event("gone", {})


def thinned(news: News) -> dict[str, object]:
    """Return at most ROWS_A_LOOK rows, evenly chosen, and one in how many they are."""
    step = math.ceil(len(news.rows) / ROWS_A_LOOK)
    share = news.came / max(1, news.read)
    # Where only some were read, each row stands for more.
    sampling = max(step, round(step * share))
    return {"rows": news.rows[::-1][::step][::-1], "sampling": sampling}
