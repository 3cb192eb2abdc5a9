"""A soft cap on requests to one target host, per worker process.

Many endpoints, of many workspaces, may share a host; without a cap they would take every slot while it is slow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class HostSlots:
    """Hands out at most `limit` slots for each origin, first come first served."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def slot(self, origin: str) -> AsyncIterator[None]:
        """Hold one slot; waits while the host has all of its own taken."""
        if self._taken.get(origin, 0) >= self._limit:
            await self._wait(origin)
        else:
            self._taken[origin] = self._taken.get(origin, 0) + 1
        try:
            yield
        finally:
            self._give_back(origin)

    async def _wait(self, origin: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(origin, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # The slot was handed over in the moment of the cancellation.
                self._give_back(origin)
            raise

    def _give_back(self, origin: str) -> None:
        waiting = self._waiting.get(origin)
        while waiting:
            turn = waiting.popleft()
            if not turn.done():
                # The slot goes on to the next in line.
                turn.set_result(None)
                return
        self._waiting.pop(origin, None)
        left = self._taken[origin] - 1
        if left:
            self._taken[origin] = left
        else:
            del self._taken[origin]
