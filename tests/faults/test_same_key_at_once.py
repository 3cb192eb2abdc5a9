"""Row 22 of the fault tests: the same publish many times at once, through two API processes.

One event, whatever the clients do; other content under the same name is told apart: 422 for an Idempotency-Key, 409
for a uid.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx2
import pytest

from tests.faults.harness.scene import Scene, open_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.faults

AT_ONCE = 50
BOUND_SECONDS = 60.0


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One of each but beat."""
    async with open_scene(beats=0) as scene:
        yield scene


@pytest.fixture(params=["/v1/events", "/v1/events/batch"])
def path(request: pytest.FixtureRequest) -> str:
    """Where it is published: alone, or as a batch of one."""
    return str(request.param)


async def test_fifty_at_once_with_one_key_make_one_event(scene: Scene, path: str) -> None:
    """All fifty are told the same event, 49 of them that it is a replay; it is stored and delivered once."""
    event_type = await _endpoint(scene)
    body = {"type": event_type, "data": {"mark": "one"}}
    answers = await _at_once(scene, [(path, body, f"key-{uuid4()}")] * AT_ONCE)

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert Counter(answer.headers.get("idempotent-replayed") for answer in answers) == {None: 1, "true": 49}
    await _check_one_delivery(scene, event_type, _id_of(answers[0]))


async def test_fifty_at_once_with_one_key_and_two_bodies(scene: Scene, path: str) -> None:
    """The first body that is stored has the key; every request with the other one is 422 and stores nothing."""
    event_type = await _endpoint(scene)
    key = f"key-{uuid4()}"
    bodies = [{"type": event_type, "data": {"mark": mark}} for mark in ("one", "two")]
    answers = await _at_once(scene, [(path, bodies[n % 2], key) for n in range(AT_ONCE)])

    statuses = [Counter(answer.status_code for answer in answers[n::2]) for n in (0, 1)]
    assert sorted(statuses, key=str) == [Counter({202: 25}), Counter({422: 25})]
    refused = next(answer for answer in answers if answer.status_code == 422)
    assert refused.json()["type"] == "/problems/idempotency-key-reused"
    await _check_one_delivery(
        scene, event_type, _id_of(next(answer for answer in answers if answer.status_code == 202))
    )


async def test_fifty_at_once_with_one_uid_make_one_event(scene: Scene, path: str) -> None:
    """Without a key the uid does it: one is first, 49 are told of the first."""
    event_type = await _endpoint(scene)
    body = {"type": event_type, "data": {"mark": "one"}, "uid": f"uid-{uuid4()}"}
    answers = await _at_once(scene, [(path, body, None)] * AT_ONCE)

    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({_id_of(answer) for answer in answers}) == 1
    assert sum(_is_replayed(answer) for answer in answers) == AT_ONCE - 1
    await _check_one_delivery(scene, event_type, _id_of(answers[0]))


async def test_fifty_at_once_with_one_uid_and_other_content(scene: Scene) -> None:
    """One content wins; each request with another one is 409, and nothing of it is stored."""
    event_type = await _endpoint(scene)
    uid = f"uid-{uuid4()}"
    bodies = [{"type": event_type, "data": {"mark": n}, "uid": uid} for n in range(AT_ONCE)]
    answers = await _at_once(scene, [("/v1/events", body, None) for body in bodies])

    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: AT_ONCE - 1}
    won = next(answer for answer in answers if answer.status_code == 202)
    await _check_one_delivery(scene, event_type, won.json()["id"])


async def _endpoint(scene: Scene) -> str:
    event_type = f"same.t{uuid4().hex}"
    await scene.stack.create_endpoint(f"/{event_type}", event_types=[event_type])
    return event_type


async def _at_once(scene: Scene, requests: list[tuple[str, dict[str, Any], str | None]]) -> list[Any]:
    """Send all of them at the same moment, each on a connection of its own."""
    start = asyncio.Event()
    limits = httpx2.Limits(max_connections=len(requests), max_keepalive_connections=len(requests))
    async with httpx2.AsyncClient(
        base_url=scene.stack.base_url,
        headers={"authorization": f"Bearer {scene.stack.api_key}"},
        timeout=BOUND_SECONDS,
        limits=limits,
        trust_env=False,
    ) as client:

        async def send(path: str, body: dict[str, Any], key: str | None) -> Any:
            await start.wait()
            return await client.post(
                path,
                json={"events": [body]} if path.endswith("batch") else body,
                headers={"idempotency-key": key} if key else None,
            )

        sending = [asyncio.create_task(send(*request)) for request in requests]
        start.set()
        return await asyncio.gather(*sending)


def _id_of(answer: Any) -> str:
    shown = answer.json()
    return str((shown["results"][0] if "results" in shown else shown)["id"])


def _is_replayed(answer: Any) -> bool:
    shown = answer.json()
    if "results" in shown:
        return bool(shown["results"][0].get("replayed", False))
    return bool(answer.headers.get("idempotent-replayed") == "true")


async def _check_one_delivery(scene: Scene, event_type: str, event_id: str) -> None:
    """One event of the type is stored, and it arrives once: nothing else waits."""
    receiver = scene.receiver
    await receiver.wait_for(
        lambda: event_id in receiver.succeeded(), seconds=BOUND_SECONDS, what="it arrives"
    )
    assert scene.stack.number("SELECT count(*) FROM events WHERE type = %s", [event_type]) == 1
    assert scene.stack.number("SELECT count(*) FROM deliveries WHERE event_type = %s", [event_type]) == 1
    await receiver.wait_for(
        lambda: scene.stack.number("SELECT count(*) FROM delivery_queue") == 0,
        seconds=BOUND_SECONDS,
        what="nothing waits any more",
    )
    assert [receipt.event_id for receipt in receiver.on(f"/{event_type}")] == [event_id]
