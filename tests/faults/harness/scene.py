"""A stack with its publisher and its checker: what a fault test works with."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.faults.harness.checker import Checker
from tests.faults.harness.publisher import Publisher
from tests.faults.harness.stack import Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.harness.ledger import LedgerReceiver


WOKEN_SECONDS = 0.25
WOKEN_IN_A_ROW = 5


@dataclass(frozen=True, slots=True)
class Scene:
    """Tests of one module share it, each with endpoints and event types of its own."""

    stack: Stack
    publisher: Publisher
    checker: Checker

    @property
    def receiver(self) -> LedgerReceiver:
        """The receiver and its ledger."""
        return self.stack.receiver

    async def wait_until_woken(self, event_type: str, *, seconds: float) -> None:
        """Publish one event after the other until wake-ups bring them to the receiver.

        Without wake-ups an event waits for the workers' next own look, half a second away or more: WOKEN_IN_A_ROW
        of them in a row that came much sooner were brought by a wake-up.
        """
        in_a_row = 0

        async def woken() -> bool:
            nonlocal in_a_row
            event = await self.publisher.publish(event_type)
            if event is None:
                return False
            await self.receiver.wait_for(
                lambda: self.receiver.of(event.id), seconds=seconds, what="an event arrives"
            )
            soon = self.receiver.of(event.id)[0].at - event.sent_at < WOKEN_SECONDS
            in_a_row = in_a_row + 1 if soon else 0
            return in_a_row >= WOKEN_IN_A_ROW

        await self.receiver.wait_for(woken, seconds=seconds, what="wake-ups reach the workers")


@asynccontextmanager
async def open_scene(**arguments: Any) -> AsyncIterator[Scene]:
    """Start a stack (the arguments are Stack's) and end it with everything it started."""
    async with Stack(**arguments) as stack:
        publisher = Publisher(stack)
        yield Scene(stack=stack, publisher=publisher, checker=Checker(stack, publisher))
