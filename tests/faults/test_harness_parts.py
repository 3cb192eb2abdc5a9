"""The harness itself: a fault that does not happen, or a wrong that nobody notices, would prove nothing."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx2
import pytest

from bellwire import Webhook
from tests.faults.harness.ledger import LedgerReceiver
from tests.faults.harness.proxy import TcpProxy
from tests.faults.harness.stack import ROOT
from tests.faults.harness.waiting import NotInTime, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.faults

BOUND_SECONDS = 20.0
BODY = b'{"type":"a","timestamp":"2026-01-01T00:00:00.000Z","data":{"mark":"m"}}'


@pytest.fixture
async def receiver(tmp_path: Path) -> AsyncIterator[LedgerReceiver]:
    """A receiver process of the test's own."""
    receiver = await LedgerReceiver(tmp_path, root=ROOT, environment=dict(os.environ)).start()
    try:
        yield receiver
    finally:
        receiver.stop()


@pytest.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that sends back what it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1024):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def proxy(echo: int) -> AsyncIterator[TcpProxy]:
    """A proxy before the echo server."""
    proxy = await TcpProxy("127.0.0.1", echo).start()
    yield proxy
    await proxy.stop()


async def _post(receiver: LedgerReceiver, path: str, *, event: str, secret: str | None = None) -> int:
    headers = Webhook(secret or receiver.secret).signed_headers(event, BODY)
    async with httpx2.AsyncClient(trust_env=False) as client:
        answer = await client.post(receiver.url(path), content=BODY, headers=headers)
    return answer.status_code


async def test_ledger_tells_genuine_from_forged(receiver: LedgerReceiver) -> None:
    """A request signed with another secret is written down as not genuine, with the reason."""
    await _post(receiver, "/a", event="evt_1")
    await _post(receiver, "/a", event="evt_2", secret="whsec_" + "A" * 43 + "=")

    assert receiver.received() == {"evt_1"}
    (forged,) = receiver.of("evt_2")
    assert forged.wrong is not None
    assert "No matching signature" in forged.wrong


async def test_statuses_go_by_event(receiver: LedgerReceiver) -> None:
    """A sequence of statuses starts anew for each event, and its last one stays."""
    await receiver.behave("/flaky", statuses=[503, 200])

    answers = [await _post(receiver, "/flaky", event=event) for event in ("evt_1", "evt_2", "evt_1", "evt_1")]

    assert answers == [503, 503, 200, 200]


async def test_held_requests_count_as_concurrent_until_released(receiver: LedgerReceiver) -> None:
    """The ledger shows how many requests a path had at once, and that a release answers them."""
    await receiver.behave("/held", hold=True)
    posts = [asyncio.create_task(_post(receiver, "/held", event=f"evt_{n}")) for n in range(3)]
    await receiver.wait_for(lambda: receiver.in_progress() == 3, seconds=BOUND_SECONDS, what="three held")

    released = await receiver.release("/held", status=204)

    assert released == 3
    assert await asyncio.gather(*posts) == [204, 204, 204]
    assert max(receipt.concurrent for receipt in receiver.on("/held")) == 3
    assert receiver.in_progress() == 0


async def test_lost_sender_ends_its_request(receiver: LedgerReceiver) -> None:
    """A sender that goes away before the answer is written down, and is in progress no more."""
    await receiver.behave("/held", hold=True)
    post = asyncio.create_task(_post(receiver, "/held", event="evt_1"))
    await receiver.wait_for(lambda: receiver.in_progress() == 1, seconds=BOUND_SECONDS, what="one held")

    post.cancel()

    await receiver.wait_for(lambda: receiver.in_progress() == 0, seconds=BOUND_SECONDS, what="none held")
    (receipt,) = receiver.of("evt_1")
    assert receipt.status is None


async def test_proxy_stalls_and_flows(proxy: TcpProxy) -> None:
    """While it stalls nothing arrives; afterwards what was held back does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.stall()
    writer.write(b"hello")
    answer = asyncio.create_task(reader.readexactly(5))
    with pytest.raises(NotInTime):
        await wait_until(answer.done, seconds=0.3, what="an answer")

    proxy.flow()

    assert await asyncio.wait_for(answer, BOUND_SECONDS) == b"hello"
    assert proxy.forwarded == 10
    writer.close()


async def test_proxy_resets(proxy: TcpProxy) -> None:
    """A reset reaches the client as an error, not as an end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    await reader.readexactly(5)

    assert proxy.reset() == 1

    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), BOUND_SECONDS)
    writer.close()


async def test_proxy_withholds_one_answer(proxy: TcpProxy) -> None:
    """The answer to the named request never arrives, however it is cut into pieces; other connections go on."""
    other_reader, other = await asyncio.open_connection("127.0.0.1", proxy.port)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    answered = proxy.withhold_answer(b"this", b"COMMIT")
    other.write(b"COMMIT")
    assert await asyncio.wait_for(other_reader.readexactly(6), BOUND_SECONDS) == b"COMMIT"
    writer.write(b"this COM")
    assert await asyncio.wait_for(reader.readexactly(8), BOUND_SECONDS) == b"this COM"
    writer.write(b"MIT")

    await asyncio.wait_for(answered.wait(), BOUND_SECONDS)
    other.write(b"this COMMIT")
    assert await asyncio.wait_for(other_reader.readexactly(11), BOUND_SECONDS) == b"this COMMIT"

    assert proxy.reset(only_withheld=True) == 1
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), BOUND_SECONDS)
    writer.close()
    other.close()


async def test_proxy_half_closes(proxy: TcpProxy) -> None:
    """After a half-close the client reads the end of the stream while its own bytes still go through."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"hello")
    await reader.readexactly(5)

    proxy.half_close()

    assert await asyncio.wait_for(reader.read(), BOUND_SECONDS) == b""
    writer.write(b"again")
    await wait_until(lambda: proxy.forwarded == 15, seconds=BOUND_SECONDS, what="the bytes go through")
    writer.close()


async def test_proxy_delays(proxy: TcpProxy) -> None:
    """A delay holds each chunk, there and back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    proxy.delay(0.1)
    began = asyncio.get_running_loop().time()
    writer.write(b"hello")

    await asyncio.wait_for(reader.readexactly(5), BOUND_SECONDS)

    assert asyncio.get_running_loop().time() - began >= 0.2
    writer.close()


async def test_proxy_refuses_and_accepts_on_its_port(proxy: TcpProxy) -> None:
    """Refusing looks like a server that is not there; accepting again happens on the same port."""
    port = proxy.port
    await proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)

    await proxy.accept()

    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    assert proxy.port == port
