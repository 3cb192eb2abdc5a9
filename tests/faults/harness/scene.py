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


@asynccontextmanager
async def open_scene(**arguments: Any) -> AsyncIterator[Scene]:
    """Start a stack (the arguments are Stack's) and end it with everything it started."""
    async with Stack(**arguments) as stack:
        publisher = Publisher(stack)
        yield Scene(stack=stack, publisher=publisher, checker=Checker(stack, publisher))
