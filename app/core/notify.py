"""Wake-ups through Postgres: NOTIFY after a commit, heard by every worker process that listens.

A message of the broker takes 3 to 6 ms and as much CPU to reach a worker's loop, a notification a fraction of
one. It goes out in a transaction of its own, at most once in a while: a NOTIFY among a publish's own writes
would make all publishes commit one after the other. See docs/decisions/0008.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import text

from app.core import metrics
from app.core.db import Autocommit

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

log = structlog.get_logger(__name__)

CHANNEL = "bellwire_wake"
AFTER_FAILURE_SECONDS = 1.0

# A hint need not survive a crash, so its commit waits for no disk.
NOTIFY = text(f"SELECT set_config('synchronous_commit', 'off', true), pg_notify('{CHANNEL}', '')")


class Notifier:
    """Sends notifications from a task of its own. `wake` returns at once and never raises.

    Belongs to one event loop; `wake` may be called on its thread only.
    """

    def __init__(self, engine: AsyncEngine, *, interval_seconds: float) -> None:
        self._engine = Autocommit(engine)
        self._interval_seconds = interval_seconds
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="notifier")

    def wake(self) -> None:
        """Ask workers to look for work now; what comes within the interval shares one notification."""
        self._wanted.set()

    async def stop(self) -> None:
        """Stop sending. A hint that was still to be sent is dropped: workers look for themselves."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                async with self._engine.connect() as connection:
                    await connection.execute(NOTIFY)
                metrics.NOTIFIES_SENT.inc()
            except Exception as error:  # noqa: BLE001 - a hint was not sent, whatever the reason
                log.warning("notify.failed", error=type(error).__name__)
                await asyncio.sleep(AFTER_FAILURE_SECONDS)
            await asyncio.sleep(self._interval_seconds)
