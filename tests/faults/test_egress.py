"""Row 19 of the fault tests: what the egress policy forbids, in real workers, with real look-ups and real listeners.

The targets are written into the database by hand, past the check at save, so that only the one at connect stands
between them and a socket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from app.core import ids
from tests.egress.vectors import VECTORS, Vector
from tests.faults.harness.delivery_log import attempts_to, verdict
from tests.faults.harness.names import own_names
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.unreached import Connected, unreached
from workers.http1.target import Target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.faults.harness.names import Names
    from tests.faults.harness.processes import ManagedProcess
    from tests.faults.harness.stack import Endpoint

pytestmark = pytest.mark.faults

RECEIVER = "127.0.0.1"
INSIDE, INSIDE_6 = "127.66.6.6", "::1"
METADATA = "169.254.169.254"
BLOCKED = ("failed", "blocked_address")
REDIRECTED = ("failed", "http_3xx")
SUCCEEDED = ("succeeded", None)
# A blocked target is tried three times, then the delivery is dead.
TRIES = 3
SOON = [0, 0, 0, 0]
BOUND_SECONDS = 120.0


def is_target(vector: Vector) -> bool:
    """Tell whether a sender can make something of the text at all; where not, nothing is sent."""
    try:
        Target.from_url(vector.target)
    except ValueError:
        return False
    return True


FORBIDDEN = [
    vector
    for vector in VECTORS
    if vector.refused != "never"
    and not (vector.settings or vector.form or vector.rebound)
    and is_target(vector)
]


@dataclass(frozen=True, slots=True)
class Network:
    """A stack whose workers live among the test's names, and write down what they connect to."""

    scene: Scene
    names: Names
    folder: Path

    async def worker(self, name: str, *, allow: str) -> tuple[ManagedProcess, Connected]:
        """Start a worker that may deliver to these ranges."""
        stack = self.scene.stack
        broker = urlsplit(stack.broker_url).port
        assert broker is not None
        connected = Connected(self.folder / f"connections-{name}", besides={broker})
        worker = stack.start_worker(**self.names.settings, **connected.settings, BELLWIRE_EGRESS_ALLOW=allow)
        stack.workers.append(worker)
        await stack.wait_for_worker(worker)
        return worker, connected


@pytest.fixture(scope="module")
async def network(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Network]:
    """No worker yet: each test starts its own."""
    folder = tmp_path_factory.mktemp("egress")
    async with own_names(folder) as names, open_scene(workers=0) as scene:
        yield Network(scene=scene, names=names, folder=folder)


async def test_no_vector_of_the_policy_makes_a_worker_open_a_connection(network: Network) -> None:
    """Every forbidden target ends as `blocked_address` and dead, and the worker has connected to nothing."""
    scene, stack = network.scene, network.scene.stack
    endpoints: dict[str, Endpoint] = {}
    for n, vector in enumerate(FORBIDDEN):
        path = f"/vector-{n}"
        made = await stack.create_endpoint(path, event_types=["vector"], retry_schedule=SOON)
        _overwrite(scene, made, url=_at_its_own_name(network.names, vector, n))
        endpoints[vector.title] = made
    worker, connected = await network.worker("all", allow="")

    await scene.publisher.publish("vector")
    await scene.checker.settle(seconds=BOUND_SECONDS)

    wrong = {}
    for title, endpoint in endpoints.items():
        deliveries = await attempts_to(stack, endpoint)
        verdicts = [[verdict(attempt) for attempt in attempts] for attempts in deliveries]
        if verdicts != [[BLOCKED] * TRIES]:
            wrong[title] = verdicts
        _overwrite(scene, endpoint, url=endpoint.body["url"])
    assert wrong == {}
    assert len(endpoints) >= 80
    assert connected.places() == set()
    await scene.checker.check()
    worker.kill_tree()


async def test_a_name_that_is_bound_anew_leads_to_no_connection(network: Network) -> None:
    """A name is good when its endpoint is saved and used, then leads inside: the worker that asks again is not misled."""
    scene, stack = network.scene, network.scene.stack
    port = urlsplit(scene.receiver.url("/")).port
    assert port is not None
    allow = f"{RECEIVER}/32"
    host = "rebound.test"
    endpoint = await stack.create_endpoint(
        "/rebound",
        url=f"http://{host}:{port}/rebound",
        event_types=["rebound"],
        retry_schedule=SOON,
    )
    network.names.lead(host, RECEIVER)
    first, _ = await network.worker("first", allow=allow)
    await scene.publisher.publish("rebound")
    await scene.checker.check()
    # A worker remembers an answer for half a minute; a new one knows nothing.
    first.kill_tree()

    async with unreached((INSIDE, port), (INSIDE_6, port)) as inside:
        for n, addresses in enumerate([(INSIDE,), (RECEIVER, INSIDE), (INSIDE_6, RECEIVER)]):
            network.names.lead(host, *addresses)
            worker, connected = await network.worker(f"rebound-{n}", allow=allow)
            await scene.publisher.publish("rebound")
            await scene.checker.check()
            worker.kill_tree()
            assert connected.places() == set(), addresses

    verdicts = [[verdict(attempt) for attempt in attempts] for attempts in await attempts_to(stack, endpoint)]
    assert sorted(verdicts) == [[BLOCKED] * TRIES] * 3 + [[SUCCEEDED]]
    assert inside.connections == 0
    messages = [
        attempt["error"]["message"]
        for attempts in await attempts_to(stack, endpoint)
        for attempt in attempts
        if attempt["error"]
    ]
    assert not any(INSIDE in message for message in messages)


async def test_redirects_are_not_followed(network: Network) -> None:
    """A 307 to metadata, to loopback or to a name inside is a failed attempt, and no second request."""
    scene, stack = network.scene, network.scene.stack
    port = urlsplit(scene.receiver.url("/")).port
    assert port is not None
    locations = {
        "/to-metadata": f"http://{METADATA}/latest/meta-data/",
        "/to-loopback": f"http://[{INSIDE_6}]:{port}/",
        "/to-inside": f"http://{INSIDE}:{port}/",
        "/to-allowed": scene.receiver.url("/never"),
    }
    made = []
    for path, location in locations.items():
        await scene.receiver.behave(path, statuses=[307], headers={"location": location})
        made.append(await stack.create_endpoint(path, event_types=["redirected"], retry_schedule=[0]))
    worker, connected = await network.worker("redirects", allow=f"{RECEIVER}/32")

    async with unreached((INSIDE, port), (INSIDE_6, port)) as inside:
        await scene.publisher.publish("redirected")
        await scene.checker.check()

    for endpoint in made:
        assert [
            [verdict(attempt) for attempt in attempts] for attempts in await attempts_to(stack, endpoint)
        ] == [[REDIRECTED] * 2]
    assert inside.connections == 0
    assert connected.places() == {(RECEIVER, port)}
    assert scene.receiver.on("/never") == []
    worker.kill_tree()


def _overwrite(scene: Scene, endpoint: Endpoint, *, url: str) -> None:
    """Write a target into the database by hand."""
    scene.stack.sql(
        "UPDATE endpoints SET url = %s, settings_version = settings_version + 1 WHERE id = %s",
        [url, ids.from_text(ids.ENDPOINT, endpoint.id)],
    )


def _at_its_own_name(names: Names, vector: Vector, number: int) -> str:
    """Return the target; one that a look-up decides gets a name of its own, because it has an answer of its own."""
    if vector.refused != "connect":
        return vector.target
    host = f"v{number}.{Target.from_url(vector.target).host}"
    names.lead(host, *(address.partition("%")[0] for address in vector.answers))
    return f"http://{host}/"
