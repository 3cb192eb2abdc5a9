"""Row 16 of the fault tests: answers that are far larger than anybody needs, or grow when they are unpacked."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from app.core import ids
from tests.faults.harness.delivery_log import Verdict, attempts_to, verdict
from tests.faults.harness.memory import MIB, PeakMemory
from tests.faults.harness.misbehaving import Step, close, flood, send, stay
from tests.faults.harness.scene import Scene, open_scene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.faults.harness.stack import Endpoint

pytestmark = pytest.mark.faults

# Fewer failures in a row than open an endpoint's circuit.
EVENTS = 8
GROWTH_BYTES = 20 * MIB
KEPT_BODY = 64 * 1024
KEPT_HEADERS = 50
KEPT_HEADER_BYTES = 8 * 1024
UNPACKED = 200 * MIB
OK = b"HTTP/1.1 200 OK\r\n"
SUCCEEDED = ("succeeded", None)
TOO_LARGE = ("failed", "headers_too_large")


def bomb(size: int) -> bytes:
    """Return a gzip file that unpacks to `size` zeros."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(size // MIB)) + packer.flush()


def zipped(body: bytes) -> bytes:
    """Return a whole answer with this gzip file as its body."""
    return OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


BOMB = bomb(UNPACKED)
SMALL_BOMB = bomb(UNPACKED // 4)


@dataclass(frozen=True)
class Huge:
    """An answer, what it makes of an attempt, and the body that is kept of it."""

    name: str
    script: tuple[Step, ...]
    is_attempt: Verdict = SUCCEEDED
    kept: bytes = b""
    is_cut: bool = True


HUGE = [
    Huge("gzip bomb", (send(zipped(BOMB)), stay()), kept=BOMB[:KEPT_BODY]),
    Huge("gzip bomb that is small", (send(zipped(SMALL_BOMB)), stay()), kept=SMALL_BOMB, is_cut=False),
    Huge("endless body", (send(OK + b"\r\n"), flood(b"x" * 65_536)), kept=b"x" * KEPT_BODY),
    Huge("endless chunks", (send(OK + b"Transfer-Encoding: chunked\r\n\r\n"), flood(b"2\r\nxx\r\n" * 10_000)), kept=b"x" * KEPT_BODY),
    Huge("a length of 1 TiB", (send(OK + b"Content-Length: 1099511627776\r\n\r\n"), flood(b"x" * 65_536)), kept=b"x" * KEPT_BODY),
    Huge("header of 150 KB", (send(OK + b"X-A: b\r\nX-Huge: " + b"y" * 150_000 + b"\r\n\r\n"), close()), TOO_LARGE),
    Huge("5,000 headers", (send(OK + b"".join(b"X-%d: y\r\n" % n for n in range(5_000)) + b"\r\n"), close()), TOO_LARGE),
    Huge("endless headers", (send(OK + b"X-A: b\r\n"), flood(b"X-B: " + b"y" * 1_000 + b"\r\n")), TOO_LARGE),
    Huge("endless header", (send(OK + b"X-A: b\r\nX-Huge: "), flood(b"y" * 65_536)), TOO_LARGE),
    Huge("endless status line", (send(b"HTTP/1.1 200 "), flood(b"y" * 65_536)), TOO_LARGE),
]  # fmt: skip
# For each answer: its endpoint, the attempts of each delivery, and the worker's growth in bytes meanwhile.
Log: TypeAlias = "dict[str, tuple[Endpoint, list[list[dict[str, Any]]], int]]"


@pytest.fixture(scope="module")
async def scene() -> AsyncIterator[Scene]:
    """One worker with one child, whose memory is looked at."""
    async with open_scene() as scene:
        yield scene


@pytest.fixture(scope="module")
async def log(scene: Scene) -> Log:
    """One kind of answer after the other, so that the memory that each took is known."""
    stack, receiver = scene.stack, scene.receiver
    # What the first deliveries take for caches and connections is no answer's fault.
    await stack.create_endpoint("/usual", event_types=["huge.usual"])
    await scene.publisher.publish_many(100, event_types=["huge.usual"])
    await scene.checker.settle()
    (drain,) = stack.drains_of(stack.workers[0])
    log: Log = {}
    for n, huge in enumerate(HUGE):
        path, succeeds = f"/huge-{n}", huge.is_attempt == SUCCEEDED
        endpoint = await stack.create_endpoint(
            path, event_types=[f"huge.{n}"], max_in_flight=EVENTS, timeout_seconds=30, retry_schedule=[0, 0]
        )
        await receiver.behave(
            path, script=huge.script, script_times=1, script_status=200 if succeeds else None
        )
        memory = PeakMemory(drain)
        published = await scene.publisher.publish_many(EVENTS, event_types=[f"huge.{n}"])
        if not succeeds:
            scene.checker.explain({event.id for event in published})
        await scene.checker.settle()
        log[huge.name] = endpoint, await attempts_to(stack, endpoint), memory.growth()
    return log


@pytest.mark.parametrize("huge", HUGE, ids=lambda huge: huge.name)
def test_a_huge_answer_takes_little_memory(log: Log, huge: Huge) -> None:
    """Eight such answers at once, which are gigabytes when taken as they come, let the worker grow by 20 MiB at most."""
    _, deliveries, growth = log[huge.name]

    assert len(deliveries) == EVENTS
    assert growth < GROWTH_BYTES


@pytest.mark.parametrize(
    "huge", [huge for huge in HUGE if huge.is_attempt == SUCCEEDED], ids=lambda huge: huge.name
)
def test_the_status_line_decides_over_a_huge_body(scene: Scene, log: Log, huge: Huge) -> None:
    """A 2xx is a success however large its body is; its first 64 KiB are kept as they came, packed ones packed."""
    endpoint, deliveries, _ = log[huge.name]

    attempts = [attempt for attempts in deliveries for attempt in attempts]
    assert [verdict(attempt) for attempt in attempts] == [SUCCEEDED] * EVENTS
    assert {attempt["response"]["body_truncated"] for attempt in attempts} == {huge.is_cut}
    rows = scene.stack.sql(
        "SELECT response_body FROM attempts WHERE endpoint_id = %s",
        [ids.from_text(ids.ENDPOINT, endpoint.id)],
    )
    assert {bytes(body) for (body,) in rows} == {huge.kept}


@pytest.mark.parametrize(
    "huge", [huge for huge in HUGE if huge.is_attempt == TOO_LARGE], ids=lambda huge: huge.name
)
def test_a_huge_head_is_a_failure_and_retried(log: Log, huge: Huge) -> None:
    """A head over its cap is on record with its status and its first headers, and the delivery is tried again."""
    _, deliveries, _ = log[huge.name]

    histories = [[verdict(attempt) for attempt in attempts] for attempts in deliveries]
    assert histories == [[TOO_LARGE, SUCCEEDED]] * EVENTS
    for response in [attempts[0]["response"] for attempts in deliveries]:
        assert response["status"] == 200
        assert len(response["headers"]) <= KEPT_HEADERS
        assert len(str(response["headers"])) < 2 * KEPT_HEADER_BYTES
        assert response["body"] == ""


async def test_huge_answers_keep_the_invariants(scene: Scene, log: Log) -> None:
    """Every event arrives, once where the status line could be read to its end, and nothing is left in flight."""
    await scene.checker.check()

    for n, huge in enumerate(HUGE):
        expected = EVENTS if huge.is_attempt == SUCCEEDED else 2 * EVENTS
        assert len(scene.receiver.on(f"/huge-{n}")) == expected, huge.name
    assert log.keys() == {huge.name for huge in HUGE}
