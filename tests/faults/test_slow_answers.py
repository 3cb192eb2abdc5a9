"""Row 15 of the fault tests: receivers that keep an attempt alive with one byte after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.harness.delivery_log import Verdict, attempts_to, verdict
from tests.faults.harness.memory import MIB, PeakMemory
from tests.faults.harness.misbehaving import Step, drip, flood, send
from tests.faults.harness.scene import Scene, open_scene
from tests.faults.harness.stack import ENDPOINT_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.faults

# Far below the deadline: a read timeout that begins anew with each byte would never end these.
EVERY_SECONDS = 0.1
# The report promises half a second around the deadline; tests allow ten times as much after it, and clocks' grains before.
EARLY_SECONDS = 0.1
LATE_SECONDS = 5.0
ENDPOINTS = 8
EVENTS = 5
ROUNDS = 1
# Long enough for all of a round to be under way at once, also on a busy machine.
MANY_TIMEOUT_SECONDS = 4
GROWTH_BYTES = 20 * MIB
SUCCEEDED = ("succeeded", None)
TIMED_OUT = ("failed", "read_timeout")
OK = b"HTTP/1.1 200 OK\r\n"


@dataclass(frozen=True)
class Slow:
    """An answer without an end, what it makes of an attempt, and what the attempt says of it."""

    name: str
    script: tuple[Step, ...]
    is_attempt: Verdict
    words: str
    status: int | None = None


SLOW = [
    Slow("status", (send(b"HTTP/1.1 200 "), drip(b"O", every_seconds=EVERY_SECONDS)), TIMED_OUT, "No answer came within"),
    Slow("headers", (send(OK + b"X-Slow: "), drip(b"y", every_seconds=EVERY_SECONDS)), TIMED_OUT, "No answer came within"),
    Slow("interim", (drip(b"HTTP/1.1 102 Processing\r\n\r\n", every_seconds=EVERY_SECONDS),), TIMED_OUT, "No answer came within"),
    Slow("body", (send(OK + b"Content-Length: 60000\r\n\r\n"), drip(b"x", every_seconds=EVERY_SECONDS)), SUCCEEDED, "The body did not end within", 200),
    Slow("chunks", (send(OK + b"Transfer-Encoding: chunked\r\n\r\n"), drip(b"1\r\nx\r\n", every_seconds=EVERY_SECONDS)), SUCCEEDED, "The body did not end within", 200),
    Slow("body-of-failure", (send(b"HTTP/1.1 500 Oh\r\n\r\n"), drip(b"x", every_seconds=EVERY_SECONDS)), ("failed", "http_5xx"), "The body did not end within", 500),
]  # fmt: skip


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """All endpoints are on one host, so its limit must not be in the way."""
    async with open_scene(settings={"BELLWIRE_WORKER_HOST_LIMIT": "400"}) as scene:
        yield scene


@pytest.fixture(scope="module")
async def first_round(scene: Scene) -> dict[str, list[dict[str, Any]]]:
    """All slow answers at once, each to one delivery; the attempts of each, by the answer's name."""
    endpoints = {}
    for slow in SLOW:
        path = f"/slow-{slow.name}"
        endpoints[slow.name] = await scene.stack.create_endpoint(
            path, event_types=["slow.*"], retry_schedule=[0, 0]
        )
        await scene.receiver.behave(path, script=slow.script, script_times=1, script_status=slow.status)
    event = await scene.publisher.publish("slow.one")
    assert event is not None
    assert event.deliveries == len(SLOW)
    await scene.checker.settle()
    attempts = {}
    for name, endpoint in endpoints.items():
        (attempts[name],) = await attempts_to(scene.stack, endpoint)
    return attempts


@pytest.mark.parametrize("slow", SLOW, ids=lambda slow: slow.name)
def test_a_dripping_answer_ends_at_the_deadline(
    first_round: dict[str, list[dict[str, Any]]], slow: Slow
) -> None:
    """However slowly an answer comes, its attempt ends at the endpoint's timeout, with the outcome of what came."""
    attempt, *others = first_round[slow.name]

    assert verdict(attempt) == slow.is_attempt
    assert slow.words in (attempt["note"] or attempt["error"]["message"])
    assert [verdict(other) for other in others] == ([] if slow.is_attempt == SUCCEEDED else [SUCCEEDED])
    assert _is_at_deadline(attempt)


async def test_dripping_answers_keep_the_invariants(
    scene: Scene, first_round: dict[str, list[dict[str, Any]]]
) -> None:
    """What failed in time came again and arrived; what succeeded in time did not come again."""
    failed = {
        attempts[0]["event"]["id"] for attempts in first_round.values() if attempts[0]["outcome"] == "failed"
    }
    scene.checker.explain(failed)

    await scene.checker.check()

    again = {slow.name for slow in SLOW if len(scene.receiver.on(f"/slow-{slow.name}")) > 1}
    assert again == {slow.name for slow in SLOW if slow.is_attempt != SUCCEEDED}


async def test_interim_answers_without_end_are_cut(scene: Scene) -> None:
    """A receiver that floods the worker with 1xx answers is cut off long before the deadline."""
    endpoint = await scene.stack.create_endpoint(
        "/flood", event_types=["flood.*"], timeout_seconds=30, retry_schedule=[0, 0]
    )
    await scene.receiver.behave("/flood", script=[flood(b"HTTP/1.1 102 Processing\r\n\r\n")], script_times=1)
    event = await scene.publisher.publish("flood.one")
    assert event is not None
    scene.checker.explain({event.id})

    await scene.checker.check()

    ((attempt, success),) = await attempts_to(scene.stack, endpoint)
    assert verdict(attempt) == ("failed", "protocol_error")
    assert "interim answers (1xx)" in attempt["error"]["message"]
    assert attempt["duration_ms"] < 30_000
    assert verdict(success) == SUCCEEDED


async def test_dripping_answers_leave_memory_flat(scene: Scene) -> None:
    """Many dripping answers at once take next to no memory, and a second round takes no more than the first."""
    stack, receiver = scene.stack, scene.receiver
    kinds = [SLOW[n % len(SLOW)] for n in range(ENDPOINTS)]
    endpoints = []
    for n, slow in enumerate(kinds):
        path = f"/many-{n}"
        endpoints.append(
            await stack.create_endpoint(
                path,
                event_types=["many.*"],
                max_in_flight=EVENTS,
                retry_schedule=[0, 0],
                timeout_seconds=MANY_TIMEOUT_SECONDS,
            )
        )
        await receiver.behave(path, script=slow.script, script_times=1, script_status=slow.status)
    (drain,) = stack.drains_of(stack.workers[0])
    growths = []
    for _ in range(1 + ROUNDS):
        memory = PeakMemory(drain)
        published = await scene.publisher.publish_many(EVENTS, event_types=["many.one"])
        scene.checker.explain({event.id for event in published})
        await receiver.wait_for(
            lambda: receiver.in_progress() == ENDPOINTS * EVENTS,
            seconds=LATE_SECONDS * 10,
            what="all drip at once",
        )
        await scene.checker.check()
        growths.append(memory.growth())

    # The first round warms up: connections, caches, buffers.
    assert max(growths[1:]) < GROWTH_BYTES, f"bytes of growth by round: {growths}"
    deliveries = [each for endpoint in endpoints for each in await attempts_to(stack, endpoint)]
    assert len(deliveries) == ENDPOINTS * EVENTS * (1 + ROUNDS)
    first = [attempts[0] for attempts in deliveries]
    early_or_late = [
        attempt["duration_ms"]
        for attempt in first
        if not _is_at_deadline(attempt, timeout_seconds=MANY_TIMEOUT_SECONDS)
    ]
    assert early_or_late == []


def _is_at_deadline(attempt: dict[str, Any], *, timeout_seconds: float = ENDPOINT_TIMEOUT_SECONDS) -> bool:
    late_by = attempt["duration_ms"] / 1000 - timeout_seconds
    return bool(-EARLY_SECONDS < late_by < LATE_SECONDS)
