"""The clients under test, and receivers of raw bytes to send to."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from ipaddress import ip_network

import pytest

from app.core.egress import EgressPolicy
from tests.integration.transport.raw_receiver import Receiver, receivers
from workers.guard import EgressGuard
from workers.resolver import ThreadResolver
from workers.transport import HttpEngine, StockSender

LOOPBACK = [ip_network("127.0.0.0/8"), ip_network("::1/128")]


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Receiver]]]:
    """Start receivers; they are stopped after the test."""
    async with receivers() as start:
        yield start


@pytest.fixture
def guard() -> Iterator[EgressGuard]:
    """A guard that lets loopback pass."""
    resolver = ThreadResolver()
    yield EgressGuard(policy=EgressPolicy(allow=LOOPBACK), resolver=resolver)
    resolver.close()


@pytest.fixture
async def engine(guard: EgressGuard) -> AsyncIterator[HttpEngine]:
    """The engine, as shipped."""
    async with HttpEngine(guard=guard) as made:
        yield made


@pytest.fixture
async def stock(guard: EgressGuard) -> AsyncIterator[StockSender]:
    """The stock sender."""
    made = StockSender(guard=guard)
    yield made
    await made.aclose()
