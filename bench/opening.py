"""Opening rigs: a fresh stack for each scenario, or one for all of a quick run."""

from __future__ import annotations

import secrets
from base64 import b64encode
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Self

from bench.peer import Peer
from bench.receiver import COUNTER_BYTES
from bench.rig import Rig
from tests.faults.harness.stack import Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bench.sizes import Size

# Counts statements; it costs Postgres a few per cent of its time.
STATISTICS = {
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "top",
    "pg_stat_statements.track_utility": "off",
}


class Bench:
    """What a scenario is given: how much of everything, and a rig to do it on."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self._shared: Rig | None = None
        self._until_end = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Nothing is started before a scenario asks for it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop a stack that was shared."""
        await self._until_end.aclose()

    @asynccontextmanager
    async def open_rig(self, *, workers: int = 1) -> AsyncIterator[Rig]:
        """Give a rig whose queue is empty, with so many workers (0 or 1) at work."""
        if self.size.fresh_stacks:
            async with _open(workers=workers) as rig:
                yield rig
            return
        if self._shared is None:
            self._shared = await self._until_end.enter_async_context(_open(workers=workers))
        await _make_ready(self._shared, workers=workers)
        yield self._shared


@asynccontextmanager
async def _open(*, workers: int) -> AsyncIterator[Rig]:
    """Start a fresh stack with the settings as shipped, a receiver and a generator."""
    secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    async with Stack(short=False, workers=workers, receives=False, postgres_settings=STATISTICS) as stack:
        stack.sql("CREATE EXTENSION pg_stat_statements")
        counter = stack.folder / "counter"
        counter.write_bytes(bytes(COUNTER_BYTES))
        async with (
            Peer("bench.receiver", secret, str(counter)) as receiver,
            Peer("bench.generator", str(counter)) as generator,
        ):
            rig = Rig(stack=stack, receiver=receiver, generator=generator, secret=secret, counter=counter)
            await rig.forget()
            yield rig


async def _make_ready(rig: Rig, *, workers: int) -> None:
    """Leave nothing of the scenario before in the queue, and have the wanted number of workers."""
    if rig.asides:
        # What waits for a bad neighbour would go on: its worker ends, and its rows go.
        rig.stop_workers()
        rig.stack.sql("DELETE FROM delivery_queue WHERE endpoint_id = ANY(%s)", [rig.asides])
        rig.stack.sql("UPDATE endpoint_runtime SET in_flight = 0 WHERE endpoint_id = ANY(%s)", [rig.asides])
        rig.asides.clear()
    if len(rig.stack.workers) != workers:
        rig.stop_workers()
        if workers:
            rig.start_worker()
    for worker in rig.stack.workers:
        await rig.stack.wait_for_worker(worker)
    await rig.forget()
