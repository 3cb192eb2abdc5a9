"""The httpx2 transport over the engine: what an httpx2 user sees."""

import asyncio
import gzip

import httpx2
import pytest

from app.core.egress import EgressPolicy
from tests.integration.transport.conftest import LOOPBACK
from tests.integration.transport.raw_receiver import OK, answering
from workers.guard import EgressGuard
from workers.http1.errors import EngineFault, SendError
from workers.resolver import ThreadResolver
from workers.transport import _EXCEPTIONS as EXCEPTIONS
from workers.transport import (
    BellwireTransport,
    EngineLimits,
    EngineSaturated,
    HeadersTooLarge,
    HttpEngine,
    ReadTimeout,
)


@pytest.fixture
async def client(engine):
    async with httpx2.AsyncClient(transport=BellwireTransport(engine)) as made:
        yield made


async def silent(peer):
    await peer.request()
    await peer.closed_by_client()


async def test_a_client_sends_through_the_engine(serve, client):
    """Method, query, headers and body arrive; the engine's own headers are not doubled."""
    log = []
    receiver = await serve(answering(OK, log=log))

    response = await client.put(
        f"http://127.0.0.1:{receiver.port}/a?b=c", headers={"X-One": "1"}, content=b"hello"
    )

    assert (response.status_code, response.content) == (200, b"ok")
    head, _, body = log[0].partition(b"\r\n\r\n")
    names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert head.startswith(b"PUT /a?b=c HTTP/1.1\r\n")
    assert body == b"hello"
    assert sorted(names) == sorted(set(names))
    assert {b"host", b"x-one", b"content-length", b"accept-encoding"} <= set(names)
    assert b"accept-encoding: identity" in head


async def test_the_exchange_is_an_extension(serve, client):
    """Timings and the connection are within reach."""
    receiver = await serve(answering(OK))

    response = await client.get(f"http://127.0.0.1:{receiver.port}/")

    assert response.extensions["exchange"].connection.ip == "127.0.0.1"


async def test_a_compressed_body_is_not_inflated(serve, client):
    """httpx2 would inflate it without any bound."""
    bomb = gzip.compress(b"\x00" * 10_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    receiver = await serve(answering(head + bomb))

    response = await client.get(f"http://127.0.0.1:{receiver.port}/")

    assert response.content == bomb
    assert (b"Content-Encoding", b"gzip") in response.extensions["exchange"].headers


async def test_a_redirect_is_not_followed_by_the_transport(serve, client):
    """A client follows only when it is told to, and the guard sees each hop."""
    receiver = await serve(
        answering(b"HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n")
    )
    url = f"http://127.0.0.1:{receiver.port}/"

    plain = await client.get(url)
    with pytest.raises(httpx2.ConnectError, match="private"):
        await client.get(url, follow_redirects=True)

    assert plain.status_code == 302


@pytest.mark.parametrize(
    ("url", "exception"),
    [
        ("http://10.0.0.1/", httpx2.ConnectError),
        ("http://127.0.0.1:1024/", httpx2.ConnectError),
        ("http://no-such-name.invalid/", httpx2.ConnectError),
    ],
    ids=["blocked", "refused", "unknown"],
)
async def test_failures_are_httpx2_s_exceptions(client, url, exception):
    """A user of httpx2 needs to know no other; ours is the cause."""
    with pytest.raises(exception) as caught:
        await client.get(url)

    assert isinstance(caught.value.__cause__, SendError)
    assert caught.value.request.url == url


async def test_a_timeout_bounds_the_whole_request(serve, client):
    """The longest of a request's timeouts is its deadline."""
    receiver = await serve(silent)

    with pytest.raises(httpx2.ReadTimeout) as caught:
        await client.get(f"http://127.0.0.1:{receiver.port}/", timeout=0.2)

    assert isinstance(caught.value.__cause__, ReadTimeout)


async def test_an_oversized_head_is_a_protocol_error(serve, client):
    """The engine's caps hold here too."""
    receiver = await serve(answering(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 100 + b"\r\n"))

    with pytest.raises(httpx2.RemoteProtocolError) as caught:
        await client.get(f"http://127.0.0.1:{receiver.port}/")

    assert isinstance(caught.value.__cause__, HeadersTooLarge)


async def test_a_saturated_engine_is_a_pool_timeout(serve):
    """Our own shortage is no fault of the receiver."""
    receiver = await serve(silent)
    resolver = ThreadResolver()
    guard = EgressGuard(policy=EgressPolicy(allow=LOOPBACK), resolver=resolver)
    async with (
        HttpEngine(guard=guard, limits=EngineLimits(max_connections=1)) as engine,
        httpx2.AsyncClient(transport=BellwireTransport(engine)) as client,
    ):
        url = f"http://127.0.0.1:{receiver.port}/"
        busy = asyncio.create_task(client.get(url))
        await receiver.came.acquire()

        with pytest.raises(httpx2.PoolTimeout) as caught:
            await client.get(url)

        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
    resolver.close()
    assert isinstance(caught.value.__cause__, EngineSaturated)


def test_every_error_has_an_httpx2_exception():
    """A new error class cannot be forgotten."""
    leaves = [
        kind for base in (SendError, EngineFault) for kind in _descendants(base) if not kind.__subclasses__()
    ]

    assert [kind for kind in leaves if kind not in EXCEPTIONS] == []


def _descendants(kind):
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)
