"""The same service over each broker that an operator may run: Redis and RabbitMQ, killed and back again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.harness.brokers import Broker, RabbitBroker, RedisBroker
from tests.faults.harness.scene import open_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BROKERS: dict[str, Callable[[Path], Broker]] = {"redis": RedisBroker, "rabbitmq": RabbitBroker}
EVENTS = 50
WAKE_SECONDS = 30.0
RESUME_SECONDS = 100.0


@pytest.fixture(params=BROKERS)
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker of its own, as Debian ships it."""
    broker = BROKERS[request.param](tmp_path)
    await broker.start()
    try:
        yield broker
    finally:
        broker.stop()


async def test_wake_ups_go_through_the_broker_and_survive_its_end(broker: Broker) -> None:
    """Wake-ups bring events to the workers at once; also after the broker was killed and came back."""
    async with open_scene(broker_url=broker.url, beats=0) as scene:
        publisher = scene.publisher
        await scene.stack.create_endpoint("/wake", event_types=["wake.*"])
        await scene.wait_until_woken("wake.before", seconds=WAKE_SECONDS)

        broker.kill()
        await publisher.publish_many(EVENTS, event_types=["wake.without"])
        await broker.start()

        await scene.wait_until_woken("wake.after", seconds=RESUME_SECONDS)
        await scene.checker.check()
        assert publisher.statuses.keys() == {202}
        assert all(process.is_running() for process in (scene.stack.api, *scene.stack.workers))
