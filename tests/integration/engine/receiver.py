"""A small receiver on loopback: it verifies each request and answers as a script says."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bellwire import Webhook, WebhookVerificationError
from tests.integration.engine.making import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """Return the bytes of a response."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass(frozen=True)
class Received:
    """One request, as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes
    verified: bool

    @property
    def id(self) -> str:
        """Its `webhook-id`."""
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """What came in, and what is open at this moment."""

    port: int = 0
    secret: str = SECRET
    # By path: returns the response to the nth request (from 0), or None to hang up without one.
    scripts: dict[str, Callable[[int, Received], Awaitable[bytes | None]]] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    open: Counter[str] = field(default_factory=Counter)
    # The most that were open at once, by path; and for each request what else was open when it began.
    peak: Counter[str] = field(default_factory=Counter)
    company: list[tuple[str, int]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/") -> str:
        """Return an endpoint's URL."""
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        """Return the requests to one path, in their order."""
        return [request for request in self.requests if request.path == path]

    def answers(self, path: str, *responses: bytes) -> None:
        """Give these responses one after the other, and the last one from then on."""

        async def script(n: int, _request: Received) -> bytes:
            return responses[min(n, len(responses) - 1)]

        self.scripts[path] = script

    def waits(self, path: str, *, response: bytes = OK) -> asyncio.Event:
        """Answer nothing before the returned event is set."""
        may_answer = asyncio.Event()

        async def script(_n: int, _request: Received) -> bytes:
            await may_answer.wait()
            return response

        self.scripts[path] = script
        return may_answer

    async def until(self, condition: Callable[[], object], *, seconds: float = 30) -> None:
        """Wait until a condition on what came in is true."""
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = await self._read(reader)
                number = len(self.at(request.path))
                self.requests.append(request)
                self.open[request.path] += 1
                self.peak[request.path] = max(self.peak[request.path], self.open[request.path])
                self.company.append((request.path, self.open.total()))
                self.changed.set()
                try:
                    script = self.scripts.get(request.path)
                    response = await script(number, request) if script else OK
                finally:
                    self.open[request.path] -= 1
                    self.changed.set()
                if response is None:
                    break
                writer.write(response)
                await writer.drain()
        writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Received:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in head[1:] if line)
        headers = {name.lower(): value for name, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
        try:
            Webhook(self.secret).verify(body, headers)
        except WebhookVerificationError:
            verified = False
        else:
            verified = True
        return Received(head[0].split(" ")[1], headers, body, verified)


@asynccontextmanager
async def open_receiver() -> AsyncIterator[Receiver]:
    """Open a receiver; its connections end with it."""
    receiver = Receiver()
    serving: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(receiver.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)
        task.add_done_callback(lambda _: writer.close())

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()
