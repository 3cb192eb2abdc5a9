"""What Bellwire tells a workspace's own operators is published beside the drain: its rounds do not wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from app.core import metrics
from app.core.db import is_away, may_retry
from app.operations.outbox import MOST_AT_ONCE, Outbox, any_waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from app.core.clock import DatabaseClock
    from app.core.settings import Settings

log = structlog.get_logger(__name__)


class NoticePublisher:
    """Publishes notices, a few hundred at a time, until none is left. `routed` is called when some have receivers."""

    def __init__(
        self, *, engine: AsyncEngine, clock: DatabaseClock, settings: Settings, routed: Callable[[], None]
    ) -> None:
        self._outbox = Outbox(engine=engine, clock=clock, settings=settings)
        self._routed = routed
        self._running = False
        self._closed = False

    async def are_waiting(self, connection: AsyncConnection) -> bool:
        """Tell whether `publish` has something to do."""
        return not self._running and not self._closed and await any_waiting(connection)

    async def publish(self) -> None:
        """Publish what waits. What fails is left for the next sweep, and so is what another worker is at."""
        if self._running:
            return
        self._running = True
        try:
            while not self._closed:
                turn = await self._outbox.publish_oldest(most=MOST_AT_ONCE)
                if turn.routed:
                    self._routed()
                if turn.found < MOST_AT_ONCE or not turn.settled:
                    break
        except Exception as error:
            # At a stop its threads have gone; the next process publishes what is left.
            if self._closed or is_away(error) or may_retry(error):
                log.warning("notices.delayed", error=type(error).__name__)
            else:
                log.exception("notices.not_published")
                metrics.DRAIN_FAILURES.inc()
        finally:
            self._running = False

    def close(self) -> None:
        """Publish nothing more; what waits is for the next process."""
        self._closed = True
        self._outbox.close()
