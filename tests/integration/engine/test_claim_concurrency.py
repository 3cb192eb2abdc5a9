"""Many claimers at once, with everything that may happen to them; and nobody is starved.

See `chaos.py` for what a simulated day is, and for the variables that make a long run of it.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import event

from app.core import ids
from tests.integration.engine.chaos import ROUNDS, open_day, seeds
from tests.integration.engine.making import open_workshop
from tests.integration.engine.receiver import OK, answer, open_receiver
from tests.integration.engine.worker import open_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.core.settings import Settings
    from tests.conftest import Seed
    from tests.integration.engine.making import Workshop
    from tests.integration.engine.receiver import Received, Receiver
    from tests.integration.engine.worker import Worker


@pytest.mark.timeout(120 * ROUNDS)
async def test_days_of_chaos_break_no_promise(clean_database: str, seed: Seed, settings: Settings) -> None:
    """Through kills, lost leases and all that people do: no double claim, no overshoot, no row lost, order kept."""
    for number in seeds():
        seed.restore(clean_database)
        async with open_workshop(settings) as shop, open_day(shop, seed=number) as day:
            await day.run()
            await day.check_books()
            # A day without these would prove little.
            assert (
                min(
                    day.seen[what]
                    for what in (
                        "claimed",
                        "taken at once",
                        "places used again",
                        "stale",
                        "connections lost",
                        "looks",
                    )
                )
                > 0
            )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """Verifies and answers."""
    async with open_receiver() as made:
        yield made


class Claims:
    """Counts the claims of a worker."""

    def __init__(self, worker: Worker) -> None:
        self.count = 0
        event.listen(worker.engine.sync_engine, "before_cursor_execute", self._note)

    def _note(self, _c: object, _cursor: object, statement: str, *_: object) -> None:
        self.count += "delivery_lease_seq" in statement


async def test_paused_lanes_and_a_backlog_starve_nobody(shop: Workshop, receiver: Receiver) -> None:
    """Behind 500 paused lanes and one with a huge backlog, a hundred healthy ones are served within one walk or two."""
    paused = await shop.endpoint(paused=True)
    closed = [paused, *await shop.copies(paused, 499)]
    busy = await shop.endpoint(url=receiver.url("/busy"), max_in_flight=100)
    first = await shop.endpoint(url=receiver.url("/healthy"))
    healthy = [first, *await shop.copies(first, 99)]
    await shop.accept(shop.submission([*closed, *healthy]))
    await shop.accept(*(shop.submission([busy]) for _ in range(2_000)))

    async with open_worker(shop) as worker:
        claims = Claims(worker)
        await receiver.until(lambda: len(receiver.at("/healthy")) == 100)

    # Of 40 slots at least ten are free at each claim: 601 lanes take 61 claims.
    assert claims.count <= 3 * 61
    assert 0 < len(receiver.at("/busy")) < 2_000
    assert all(request.verified for request in receiver.requests)


async def test_a_workspace_with_one_endpoint_has_its_turns(shop: Workshop, receiver: Receiver) -> None:
    """Beside a workspace with 1,000 endpoints, that of another one gets as many turns as all of them together."""
    large = await shop.endpoint(url=receiver.url("/large"))
    await shop.accept(shop.submission([large, *await shop.copies(large, 999)]))
    workspace = await shop.workspace()
    application = await shop.application(workspace_id=workspace)
    small = await shop.endpoint(
        workspace_id=workspace, application_id=application, url=receiver.url("/small"), max_in_flight=50
    )
    await shop.publish(small, 12)

    async with open_worker(shop):
        await receiver.until(lambda: len(receiver.at("/small")) == 12)
        meanwhile = len(receiver.at("/large"))

    # At most a tenth of the 40 slots is one endpoint's, so three turns are needed. Endpoint by endpoint the second one
    # would come after a thousand.
    assert meanwhile < 1_000


@pytest.mark.timeout(120 * ROUNDS)
async def test_workers_that_vanish_break_no_promise_to_the_receiver(
    clean_database: str, seed: Seed, settings: Settings, receiver: Receiver
) -> None:
    """Real loops that are killed and cut off from Postgres: caps and order hold at the receiver, all is delivered."""
    for number in seeds():
        seed.restore(clean_database)
        async with open_workshop(settings) as shop:
            await a_day_at_the_receiver(shop, receiver, random.Random(number))  # noqa: S311 - choices


async def a_day_at_the_receiver(shop: Workshop, receiver: Receiver, choices: random.Random) -> None:
    """Deliver to a moody receiver while workers come and go."""
    receiver.requests.clear()
    receiver.peak.clear()
    caps, lines = {"/a": 1, "/b": 3, "/fifo": 1}, {}

    async def moody(_n: int, _request: Received) -> bytes | None:
        await asyncio.sleep(0)
        # Not so often that a circuit opens.
        return choices.choice([*[OK] * 9, answer(503), answer(429, "Retry-After: 0"), None])

    for path, cap in caps.items():
        receiver.scripts[path] = moody
        endpoint = await shop.endpoint(
            url=receiver.url(path), max_in_flight=cap, fifo=path == "/fifo", timeout_seconds=1,
            retry_schedule=[0] * 20,
        )  # fmt: skip
        await shop.publish(endpoint, 25, fifo=path == "/fifo")
        rows = await shop.sql(
            "SELECT event_id FROM delivery_queue WHERE endpoint_id = :id ORDER BY seq", id=endpoint
        )
        lines[path] = [ids.to_text(ids.EVENT, row[0]) for row in rows]

    async with AsyncExitStack() as stack:
        for n in range(3):
            await stack.enter_async_context(open_worker(shop, name=f"stays:{n}", lease_margin_seconds=0.5))
        for n in range(4):
            wanted = len(receiver.requests) + 8
            async with open_worker(shop, name=f"goes:{n}", lease_margin_seconds=0.5) as worker:
                await receiver.until(lambda wanted=wanted: len(receiver.requests) >= wanted)
                await worker.vanish()
            await shop.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'bellwire-test-worker' AND datname = current_database()"
            )
        await shop.until(
            "SELECT NOT EXISTS (SELECT 1 FROM delivery_queue)", what="all is settled", seconds=60
        )

    assert {path for path, cap in caps.items() if receiver.peak[path] > cap} == set()
    seen = [request.id for request in receiver.at("/fifo")]
    assert seen == sorted(seen, key=lines["/fifo"].index)
    for path, line in lines.items():
        assert {request.id for request in receiver.at(path)} == set(line)
    assert all(request.verified for request in receiver.requests)
    ((states,),) = await shop.sql("SELECT array_agg(DISTINCT state) FROM deliveries")
    assert states == ["succeeded"]
    assert await shop.value("SELECT sum(in_flight) FROM endpoint_runtime") == 0
    # None was recorded as delivered twice.
    assert await shop.value("SELECT count(*) FROM attempts WHERE outcome = 'succeeded' AND NOT stale") == 75
