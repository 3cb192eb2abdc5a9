"""Both ways to wake workers, as one: Postgres tells those that listen, the broker tells the rest.

Neither carries work, and nothing depends on them but latency.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.core.notify import Notifier
from app.core.queue import Waker

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.core.settings import Settings

# Beside notifications a wake-up through the broker is the second string: it costs more CPU than a publish.
BROKER_INTERVAL_SECONDS = 1.0


class WakeUps:
    """One per API process, on its event loop. `wake` returns at once and never raises."""

    def __init__(self, settings: Settings, *, engine: AsyncEngine) -> None:
        interval = settings.wake_interval_seconds
        self._notifier = Notifier(engine, interval_seconds=interval) if settings.wake_by_notify else None
        self._broker = Waker(
            settings, interval_seconds=BROKER_INTERVAL_SECONDS if self._notifier is not None else interval
        )

    def start(self) -> None:
        """Begin to send."""
        if self._notifier is not None:
            self._notifier.start()
        self._broker.start()

    def wake(self) -> None:
        """Ask workers to look for work now."""
        if self._notifier is not None:
            self._notifier.wake()
        self._broker.wake()

    async def stop(self) -> None:
        """Stop sending; waits for the broker's thread."""
        if self._notifier is not None:
            await self._notifier.stop()
        await asyncio.to_thread(self._broker.stop)
