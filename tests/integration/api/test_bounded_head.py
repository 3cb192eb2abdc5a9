"""Heads of requests over a real socket: what is endless is refused, and memory stays bounded."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import uvicorn
from uvicorn.server import ServerState

from app.cli import bounded_http
from app.cli.bounded_http import MAX_HEAD_BYTES, BoundedHttpProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: test\r\n"
PIECE = b"a" * 4_096


@asynccontextmanager
async def connection(
    app: FastAPI, *, served_by: list[BoundedHttpProtocol] | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve the application as `bellwire api` does, and connect to it; `served_by` gets the server's side."""
    served = [] if served_by is None else served_by

    def serve() -> BoundedHttpProtocol:
        served.append(BoundedHttpProtocol(config=config, server_state=ServerState(), app_state={}))
        return served[-1]

    config = uvicorn.Config(
        app, interface="asgi3", http=BoundedHttpProtocol, ws="none", lifespan="off", log_config=None
    )
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET /", PIECE),
        (REQUEST + b"X-Endless: ", PIECE),
        (REQUEST + b"X", PIECE),
        (REQUEST, b"X-Many: a\r\n" * 16),
    ],
    ids=["path", "value", "name", "number"],
)
async def test_an_endless_head_is_refused(app: FastAPI, start: bytes, piece: bytes) -> None:
    """431 with a problem, and the connection is closed, whichever part of the head does not end."""
    async with connection(app) as (reader, writer):
        writer.write(start)
        sent = 0
        try:
            while not reader.at_eof() and sent < 10 * MAX_HEAD_BYTES and not reader._buffer:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
                sent += len(piece)
        except ConnectionError:
            pass
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""

    assert sent < 10 * MAX_HEAD_BYTES
    if answer:  # A reset may come before it is read: we were still sending.
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 431 ")
        assert json.loads(body)["type"] == "/problems/headers-too-large"


async def test_ordinary_requests_one_after_the_other_are_answered(app: FastAPI) -> None:
    """What was sent on a connection before does not count; neither does a body, nor a request in pieces."""
    async with connection(app) as (reader, writer):
        statuses = []
        for n in range(40):
            body = b"[" + b"1," * 2_000 + b"1]"
            request = (
                REQUEST
                if n % 2
                else b"POST /v1/events HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n" % len(body)
            )
            for part in (request[:20], request[20:] + b"X-Filler: " + b"f" * 3_000 + b"\r\n", b"\r\n"):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
            if not n % 2:
                writer.write(body)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            statuses.append(int(head.split(b" ")[1]))

    assert statuses == [401, 200] * 20


async def test_a_body_that_goes_on_after_its_refusal_is_cut_off(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gets time to see the answer; what it sends for ever is not read for ever."""
    monkeypatch.setattr(bounded_http, "MAX_REST_BYTES", 8 * len(PIECE))
    async with connection(app) as (reader, writer):
        writer.write(b"POST /v1/events HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        status = (await reader.readline()).split(b" ")[1]
        writer.write(b"0\r\nX-Endless: ")
        sent = 0
        try:
            while sent < 10 * MAX_HEAD_BYTES and not writer.is_closing():
                writer.write(PIECE)
                await writer.drain()
                await asyncio.sleep(0)
                sent += len(PIECE)
            await reader.read()
        except ConnectionError:
            pass

    assert status == b"401"
    assert sent < 10 * MAX_HEAD_BYTES


async def test_a_body_that_comes_at_once_is_no_head(app: FastAPI, admin: dict[str, str]) -> None:
    """A body of which more than a head's bound arrives in its last read is read, and answered for what it is."""
    body = b" " * (2 * MAX_HEAD_BYTES)
    served: list[BoundedHttpProtocol] = []
    async with connection(app, served_by=served) as (reader, writer):
        writer.write(
            b"POST /v1/applications HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n"
            % (admin["Authorization"].encode(), len(body))
        )
        async with asyncio.timeout(20):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            # Not over the socket, which would cut it as it likes.
            served[0].data_received(body)
            assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
