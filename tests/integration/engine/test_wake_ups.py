"""Wake-ups through Postgres: heard at once, shared under load, and back after every interruption."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from app.core import metrics
from app.core.db import make_engine
from app.core.notify import Notifier
from app.core.wake_ups import BROKER_INTERVAL_SECONDS, WakeUps
from tests.faults.harness.waiting import wait_until
from workers.listener import listen

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from app.core.settings import Settings
    from tests.integration.engine.making import Workshop

LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN bellwire_wake' AND datname = current_database()"
LONG_SECONDS = 600.0


class Ear:
    """Counts what a listener hears."""

    def __init__(self) -> None:
        self.heard = 0

    def hear(self) -> None:
        """Count one."""
        self.heard += 1

    async def until(self, number: int) -> None:
        """Wait until so many have been heard."""
        await wait_until(lambda: self.heard >= number, seconds=30, what=f"{number} notifications are heard")


@asynccontextmanager
async def listening(shop: Workshop) -> AsyncIterator[Ear]:
    """Listen; the beginning itself is heard as the first."""
    ear = Ear()
    task = asyncio.create_task(listen(shop.engine, heard=ear.hear))
    try:
        await ear.until(1)
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_wake_is_heard(shop: Workshop) -> None:
    """Whoever listens hears of a wake, each time."""
    notifier = Notifier(shop.engine, interval_seconds=0)
    notifier.start()
    async with listening(shop) as one, listening(shop) as other:
        for number in (2, 3):
            notifier.wake()
            await one.until(number)
            await other.until(number)
    await notifier.stop()


async def test_wakes_within_the_interval_share_one_notification(shop: Workshop) -> None:
    """A thousand publishes in a moment cost one notification, and the last one is not forgotten."""
    before = metrics.NOTIFIES_SENT._value.get()
    notifier = Notifier(shop.engine, interval_seconds=LONG_SECONDS)
    notifier.start()
    async with listening(shop) as ear:
        for _ in range(1_000):
            notifier.wake()
        await ear.until(2)
        # It may be heard before its sender knows that it was sent.
        await wait_until(
            lambda: metrics.NOTIFIES_SENT._value.get() > before, seconds=30, what="it is counted"
        )
        notifier.wake()
    await notifier.stop()

    assert metrics.NOTIFIES_SENT._value.get() - before == 1
    assert notifier._wanted.is_set()


async def test_listener_comes_back(shop: Workshop) -> None:
    """A listener whose connection was ended listens again, and looks for what it has missed."""
    notifier = Notifier(shop.engine, interval_seconds=0)
    notifier.start()
    async with listening(shop) as ear:
        await shop.sql(LISTENING.replace("count(*)", "pg_terminate_backend(pid)"))
        await ear.until(2)
        before = ear.heard
        notifier.wake()
        await ear.until(before + 1)
    await notifier.stop()


async def test_no_connection_stays_behind_that_listens(shop: Workshop) -> None:
    """The connection of a listener that has ended is closed, not handed to somebody else."""
    async with listening(shop):
        assert await shop.value(LISTENING) == 1

    await shop.until(LISTENING.replace("count(*)", "count(*) = 0"), what="nobody listens")


async def test_database_that_is_away_costs_only_the_hint(shop: Workshop) -> None:
    """Waking never raises, and stopping does not wait for a database that is away."""
    away = shop.settings.model_copy(update={"database_url": _nowhere(shop.settings)})
    engine = make_engine(away, name="test", pool_size=1)
    before = metrics.NOTIFIES_SENT._value.get()
    notifier = Notifier(engine, interval_seconds=0)
    notifier.start()
    for _ in range(3):
        notifier.wake()
        await asyncio.sleep(0)
    await notifier.stop()
    await engine.dispose()

    assert metrics.NOTIFIES_SENT._value.get() == before


async def test_without_notify_the_broker_is_as_quick_as_before(shop: Workshop) -> None:
    """Where transactions are pooled nothing is sent through Postgres, and the broker is asked as often as allowed."""
    quiet = shop.settings.model_copy(update={"wake_by_notify": False})

    without, both = WakeUps(quiet, engine=shop.engine), WakeUps(shop.settings, engine=shop.engine)

    assert (without._notifier, without._broker._interval_seconds) == (None, quiet.wake_interval_seconds)
    assert both._notifier is not None
    assert both._broker._interval_seconds == BROKER_INTERVAL_SECONDS


def _nowhere(settings: Settings) -> object:
    kind = type(settings.database_url)
    return kind("postgresql://nobody@127.0.0.1:9/nothing")
