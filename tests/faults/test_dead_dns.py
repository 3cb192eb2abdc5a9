"""Row 18 of the fault tests: name servers that never answer for some endpoints' hosts.

How a worker is given such a name server, and what stands in for it without root: `harness.names`.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.faults.harness.delivery_log import attempts_to, verdict
from tests.faults.harness.names import own_names
from tests.faults.harness.scene import Scene, open_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.harness.publisher import Accepted
    from tests.faults.harness.stack import Endpoint

pytestmark = pytest.mark.faults

TIMEOUT_SECONDS = 20
DNS_SECONDS = 3.0
EARLY_SECONDS = 0.1
BOUND_SECONDS = 30.0
# More names than asyncio's own threads for look-ups: each in a domain of its own, and as many again in one domain.
DEAD_NAMES = 16
WELL_NAMES = 10
EVENTS = 5
# With one retry each: fewer failures in a row than open an endpoint's circuit.
UNRESOLVED = 4
# What others may take beside the dead names, against what they take alone: wide, but far below a look-up's ten seconds.
FACTOR = 10
ADDED_SECONDS = 2.0
DNS_ERROR = ("failed", "dns_error")


@pytest.fixture(scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    """One worker, which asks the test's name server."""
    async with own_names(tmp_path_factory.mktemp("names")) as names, open_scene(workers=0) as scene:
        worker = scene.stack.start_worker(**names.settings)
        scene.stack.workers.append(worker)
        await scene.stack.wait_for_worker(worker)
        yield scene


async def test_a_look_up_ends_at_its_deadline_and_is_remembered(scene: Scene) -> None:
    """A look-up without an answer is a `dns_error` after three seconds; the next tries soon after fail at once."""
    endpoint = await _create(scene, "/dead", host="one.dead.test", event_type="dead.one", retry_schedule=[0])
    await scene.publisher.publish_many(UNRESOLVED, event_types=["dead.one"])

    await scene.checker.check()

    deliveries = await attempts_to(scene.stack, endpoint)
    assert [[verdict(attempt) for attempt in attempts] for attempts in deliveries] == [
        [DNS_ERROR] * 2
    ] * UNRESOLVED
    messages = {attempt["error"]["message"] for attempts in deliveries for attempt in attempts}
    assert all(
        "The name servers of one.dead.test did not answer within 3.0 s." in message for message in messages
    )
    longest = max(attempts[0]["timing"]["dns_ms"] for attempts in deliveries) / 1000
    assert DNS_SECONDS - EARLY_SECONDS < longest < 10 * DNS_SECONDS
    remembered = [attempt["timing"]["dns_ms"] for attempts in deliveries for attempt in attempts[1:]]
    assert statistics.median(remembered) < (DNS_SECONDS - EARLY_SECONDS) * 1000
    assert scene.receiver.on("/dead") == []


async def test_dead_names_slow_nobody_else(scene: Scene) -> None:
    """While many look-ups hang, endpoints whose names have yet to be looked up get their events as fast as before."""
    stack = scene.stack
    alone = await _p95_of_new_names(scene, "alone")
    hosts = [f"shop.dead-{n}.test" for n in range(DEAD_NAMES)] + [
        f"shop-{n}.dead.test" for n in range(DEAD_NAMES)
    ]
    dead = [
        await _create(scene, f"/dead-{n}", host=host, event_type="dead.many", retry_schedule=[0])
        for n, host in enumerate(hosts)
    ]
    hanging = await scene.publisher.publish("dead.many")
    assert hanging is not None
    assert hanging.deliveries == len(dead)
    await scene.receiver.wait_for(
        lambda: len(scene.checker.leased_events()) == 1, seconds=BOUND_SECONDS, what="look-ups that hang"
    )

    beside = await _p95_of_new_names(scene, "beside")

    await scene.checker.check()
    assert beside < FACTOR * alone + ADDED_SECONDS
    classes = {
        verdict(attempt)
        for endpoint in dead
        for attempts in await attempts_to(stack, endpoint)
        for attempt in attempts
    }
    assert classes == {DNS_ERROR}


async def _p95_of_new_names(scene: Scene, kind: str) -> float:
    """Deliver to hosts that were never looked up before; return the 95th percentile of the seconds from publishing."""
    for n in range(WELL_NAMES):
        await _create(scene, f"/{kind}-{n}", host=f"{kind}-{n}.well.test", event_type=f"{kind}.{n}")
    types = [f"{kind}.{n}" for n in range(WELL_NAMES)]
    published: list[Accepted] = await scene.publisher.publish_many(WELL_NAMES * EVENTS, event_types=types)
    await scene.receiver.wait_for(
        lambda: {event.id for event in published} <= scene.receiver.succeeded(),
        seconds=BOUND_SECONDS,
        what="the others' events arrived",
    )
    seconds = [scene.receiver.of(event.id)[0].at - event.sent_at for event in published]
    return statistics.quantiles(seconds, n=20)[-1]


async def _create(
    scene: Scene, path: str, *, host: str, event_type: str, retry_schedule: list[int] | None = None
) -> Endpoint:
    port = urlsplit(scene.receiver.url(path)).port
    return await scene.stack.create_endpoint(
        path,
        url=f"http://{host}:{port}{path}",
        event_types=[event_type],
        timeout_seconds=TIMEOUT_SECONDS,
        retry_schedule=retry_schedule,
    )
