"""A soft cap on requests to one target host, per worker process.

Many endpoints, of many workspaces, may share a host; without a cap they would take every slot while it is slow.
"""

from __future__ import annotations

import asyncio
from collections import deque


class HostSlots:
    """Hands out at most `limit` slots for each origin, first come first served."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken: dict[str, int] = {}
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    def take(self, origin: str) -> bool:
        """Take one slot if the host has one left; False: `wait` for it. Whoever has one gives it back."""
        taken = self._taken.get(origin, 0)
        if taken >= self._limit:
            return False
        self._taken[origin] = taken + 1
        return True

    async def wait(self, origin: str) -> None:
        """Wait in line for a slot, and take it."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(origin, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # The slot was handed over in the moment of the cancellation.
                self.give_back(origin)
            raise

    def give_back(self, origin: str) -> None:
        """Hand a slot on to the next in line, or back."""
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
