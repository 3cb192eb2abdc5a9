"""The loop of a worker process, in the test's own process: real drain, recorder, sender and HTTP engine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from app.core.clock import DatabaseClock
from app.core.crypto import Keyring
from app.core.db import Autocommit, make_engine
from app.core.outbound import policy_of
from app.core.settings import Settings
from workers.drain import Drain
from workers.endpoint_settings import EndpointCache
from workers.event_bodies import EventCache
from workers.guard import EgressGuard
from workers.recorder import Recorder
from workers.resident import POOL_SIZE
from workers.resolver import ThreadResolver
from workers.sender import Sender
from workers.transport import HttpEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sqlalchemy.ext.asyncio import AsyncEngine

    from app.deliveries.record import Finished
    from tests.integration.engine.making import Workshop


class Worker:
    """A drain that runs. `stop` ends it as a worker's shutdown does."""

    def __init__(self, settings: Settings, *, engine: AsyncEngine, http: HttpEngine, name: str) -> None:
        clock = DatabaseClock()
        self.recorder = Recorder(
            engine=Autocommit(engine),
            transactions=engine,
            flush_seconds=settings.worker_flush_seconds,
            settled=self._note_settled,
        )
        self.drain = Drain(
            engine=engine,
            clock=clock,
            settings=settings,
            endpoints=EndpointCache(
                keyring=Keyring(key.get_secret_value() for key in settings.encryption_keys),
                default_schedule=settings.retry_schedule,
            ),
            events=EventCache(),
            sender=Sender(engine=http, clock=clock, worker=name),
            recorder=self.recorder,
            worker=name,
        )
        self.engine = engine
        self._running: asyncio.Task[None] | None = None

    def _note_settled(self, finished: Sequence[Finished]) -> None:
        self.drain.note_settled(finished)

    def start(self) -> Self:
        """Begin to drain."""
        self.recorder.start()
        self._running = asyncio.get_running_loop().create_task(self.drain.run())
        return self

    async def stop(self, *, grace_seconds: float = 30.0) -> None:
        """Stop claiming, finish within the grace, hand the rest back."""
        if self._running is None:
            return
        await self.drain.stop(grace_seconds=grace_seconds)
        async with asyncio.timeout(30):
            await self._running
        await self.recorder.stop()
        self._running = None

    async def vanish(self) -> None:
        """End as a killed process does: of what is in its hands nothing is recorded, nothing handed back."""
        assert self._running is not None
        self.drain._stopping = True
        self.drain.kick()
        requests = list(self.drain._tasks)
        for request in requests:
            request.cancel()
        await asyncio.gather(self._running, *requests, return_exceptions=True)
        self.recorder._waiting.clear()
        await self.recorder.stop()
        self._running = None


@asynccontextmanager
async def open_worker(
    shop: Workshop, *, url: str | None = None, name: str = "test:1", **settings: Any
) -> AsyncIterator[Worker]:
    """Open a worker and start it; it is stopped in the end."""
    changed = Settings(**shop.settings.model_dump() | {"database_url": url or shop.url} | settings)
    engine = make_engine(changed, name="test-worker", pool_size=POOL_SIZE, few_statements=True)
    resolver = ThreadResolver()
    guard = EgressGuard(policy=policy_of(changed), resolver=resolver)
    try:
        async with HttpEngine(guard=guard) as http:
            worker = Worker(changed, engine=engine, http=http, name=name).start()
            try:
                yield worker
            finally:
                await worker.stop()
    finally:
        resolver.close()
        await engine.dispose()
