"""Row 3 of the fault tests: the API dies after it committed, before it woke anybody."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.engine import make_url

from tests.faults.harness.proxy import TcpProxy
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.stack import SHORT_SETTINGS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.faults

POLL_SECONDS = float(SHORT_SETTINGS["BELLWIRE_WORKER_POLL_SECONDS"])
EVENTS = 20
LOAD_EVENTS = 200
BOUND_SECONDS = 30.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """No beat, no notifications: nobody but the API wakes the workers, through the broker; they look every second."""
    async with open_scene(beats=0, settings={"BELLWIRE_WAKE_BY_NOTIFY": "false"}) as scene:
        yield scene


@pytest.fixture
async def proxy(scene: Scene) -> AsyncIterator[TcpProxy]:
    """Stands between the API and the broker; the workers reach the broker directly."""
    broker = make_url(scene.stack.broker_url)
    proxy = await TcpProxy("127.0.0.1", broker.port or 0).start()
    try:
        scene.stack.api.kill()
        through = broker.set(port=proxy.port).render_as_string(hide_password=False)
        scene.stack.start_api(BELLWIRE_BROKER_URL=through)
        await scene.stack.wait_for_api()
        yield proxy
    finally:
        scene.stack.api.kill()
        await proxy.stop()
        scene.stack.start_api()
        await scene.stack.wait_for_api()


async def test_events_of_a_killed_api_are_found_by_the_poll(scene: Scene, proxy: TcpProxy) -> None:
    """Events whose wake-up never left the API are delivered when the workers look for themselves."""
    receiver = scene.receiver
    await scene.stack.create_endpoint("/poll", event_types=["poll.*"])
    await scene.publisher.publish("poll.before")
    await scene.checker.settle()
    proxy.stall()
    sent_before = proxy.forwarded

    published = await scene.publisher.publish_many(EVENTS, event_types=["poll.killed"])
    scene.stack.api.kill()

    ids = {event.id for event in published}
    await receiver.wait_for(
        lambda: ids <= receiver.succeeded(), seconds=10 * POLL_SECONDS, what="the poll found the events"
    )
    assert len(ids) == EVENTS
    assert proxy.forwarded == sent_before, "a wake-up got through, so this showed nothing"
    await scene.checker.check()


async def test_api_killed_under_load_keeps_what_it_accepted(scene: Scene) -> None:
    """An API that dies in the middle of many publishes has stored every event that it answered with 202."""
    stack, publisher = scene.stack, scene.publisher
    await stack.create_endpoint("/load", event_types=["test.*"])
    before = len(publisher.accepted)
    stop = asyncio.Event()
    load = asyncio.create_task(publisher.publish_until(stop))
    await scene.receiver.wait_for(
        lambda: len(publisher.accepted) > before + LOAD_EVENTS, seconds=BOUND_SECONDS, what="a running load"
    )

    stack.api.kill()
    stop.set()
    await load
    stack.start_api()
    await stack.wait_for_api()

    await scene.checker.check()
