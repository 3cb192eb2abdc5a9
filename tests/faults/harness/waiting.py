"""Waiting for a condition with a bound: the harness never sleeps for its own sake."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_SECONDS = 0.02


class NotInTime(AssertionError):
    """A condition did not become true within its bound; the message says which, and how things stood."""


async def wait_until(
    condition: Callable[[], object], *, seconds: float, what: str, state: Callable[[], object] | None = None
) -> None:
    """Return as soon as `condition` (sync or async) is true, asking every LOOK_SECONDS.

    Raises:
        NotInTime: it took longer than `seconds`; `what` and the outcome of `state` are in the message.

    """
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        if time.monotonic() > deadline:
            shown = f"; it stood at: {state()}" if state is not None else ""
            raise NotInTime(f"Not within {seconds:g} s: {what}{shown}")
        await asyncio.sleep(LOOK_SECONDS)
