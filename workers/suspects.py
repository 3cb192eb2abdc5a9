"""Deliveries whose worker died while they were under way: each is sent alone in its process.

One that kills the process takes no other delivery with it. Their turns are short: a few slow ones must not stop
the process for everybody.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from app.deliveries import recover

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.core.db import Autocommit
    from app.deliveries.claim import Claimed

log = structlog.get_logger(__name__)

# After so long a turn of the suspects the others have as long a one.
TURN_SECONDS = 1.0
# The leases of those that wait are renewed so often.
RENEWALS_PER_MARGIN = 3


class Suspects:
    """The suspects of one process in their order, and whose turn it is: theirs or everybody else's."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._waiting: list[Claimed] = []
        self._turn_since: float | None = None
        self._others_until = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, item: Claimed) -> bool:
        """Keep one until its turn; False: there are too many already."""
        if len(self._waiting) >= self._most:
            return False
        self._waiting.append(item)
        return True

    def take_all(self) -> list[Claimed]:
        """Give up those that wait."""
        waiting, self._waiting = self._waiting, []
        return waiting

    def is_their_turn(self, *, in_flight: int, now: float) -> bool:
        """Tell whether nothing else may begin. `in_flight` counts the process's deliveries, these included."""
        if self._turn_since is None:
            if not self._waiting or now < self._others_until:
                return False
            self._turn_since = now
        if in_flight > len(self._waiting):
            return True
        if not self._waiting or now - self._turn_since >= TURN_SECONDS:
            self._others_until = now + (now - self._turn_since)
            self._turn_since = None
            return False
        return True

    def next(self, *, in_flight: int) -> Claimed | None:
        """Take the next one, if nothing is under way: for `is_their_turn`."""
        return self._waiting.pop(0) if self._waiting and in_flight <= len(self._waiting) else None

    def end_wait(self, *, in_flight: int) -> bool:
        """Begin their turn at once, if there are any and the others have nothing to do; return whether it does."""
        if self._waiting and in_flight <= len(self._waiting):
            self._others_until = 0.0
            return True
        return False

    async def hold(
        self, engine: Autocommit, *, margin_seconds: float, lost: Callable[[Claimed], object]
    ) -> None:
        """Keep the leases of those that wait, until cancelled: losing them would look like another lost worker.

        `lost` gets those whose lease is not ours any more.
        """
        while True:
            await asyncio.sleep(margin_seconds / RENEWALS_PER_MARGIN)
            waiting = list(self._waiting)
            if not waiting:
                continue
            try:
                async with engine.connect() as connection:
                    ours = await recover.renew_leases(connection, waiting, margin_seconds=margin_seconds)
            except Exception as error:  # noqa: BLE001 - tried again soon; a lease that ends meanwhile is swept
                log.warning(
                    "suspects.leases_not_renewed", error=type(error).__name__, deliveries=len(waiting)
                )
                continue
            for item in waiting:
                if item.id not in ours and item in self._waiting:
                    self._waiting.remove(item)
                    lost(item)
