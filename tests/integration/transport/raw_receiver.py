"""A receiver that is made of raw bytes: a script says what each connection sees."""

import asyncio
import contextlib
import fcntl
import socket
import ssl
import struct
import sys
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from workers.transport import Target, encode_headers

HEADERS = encode_headers([(b"content-type", b"application/json"), (b"webhook-id", b"evt_1")])
BODY = b'{"type":"order.placed","data":{}}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Script = Callable[["Peer"], Awaitable[None]]


@dataclass
class Peer:
    """One accepted connection, from the receiver's side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """Read one whole request; empty when the client has closed."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            return head + await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""

    async def send(self, data: bytes) -> None:
        """Write and flush."""
        self.writer.write(data)
        await self.writer.drain()

    async def settled(self) -> None:
        """Wait until the client's machine has acknowledged all that was sent, and its loop has had time to read."""
        sock = self.writer.get_extra_info("socket")
        await until(lambda: not _unacknowledged(sock))
        for _ in range(20):
            await asyncio.sleep(0)

    def half_close(self) -> None:
        """Say that nothing more will come, and go on reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Close with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def closed_by_client(self) -> None:
        """Wait until the client has closed the connection."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass


@dataclass
class Receiver:
    """A listening socket that runs its script for each connection."""

    port: int
    connections: int = 0
    came: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    gone: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def target(self, path: str = "/hook", *, host: str = "127.0.0.1", scheme: str = "http") -> Target:
        """The target that leads here."""
        return Target.from_url(f"{scheme}://{host}:{self.port}{path}")

    async def all_gone(self) -> None:
        """Wait until every connection that was accepted has ended."""
        async with asyncio.timeout(20):
            for _ in range(self.connections):
                await self.gone.acquire()


@contextlib.asynccontextmanager
async def receivers() -> AsyncIterator[Callable[..., Awaitable[Receiver]]]:
    """Yield a function that starts receivers; all are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def start(
            script: Script,
            *,
            ssl_context: ssl.SSLContext | None = None,
            host: str = "127.0.0.1",
            port: int = 0,
        ) -> Receiver:
            tasks: set[asyncio.Task[None]] = set()

            async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                task = asyncio.current_task()
                assert task is not None
                tasks.add(task)
                receiver.connections += 1
                receiver.came.release()
                try:
                    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                        await script(Peer(reader, writer))
                finally:
                    writer.close()
                    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                        await writer.wait_closed()
                    receiver.gone.release()
                    tasks.discard(task)

            server = await asyncio.start_server(handle, host, port, ssl=ssl_context)
            receiver = Receiver(port=server.sockets[0].getsockname()[1])

            async def stop() -> None:
                server.close()
                for task in tuple(tasks):
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await server.wait_closed()

            stack.push_async_callback(stop)
            return receiver

        yield start


def _unacknowledged(sock: socket.socket) -> int:
    """Bytes in the send queue that the peer has not acknowledged (Linux, macOS: SIOCOUTQ)."""
    size = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return int.from_bytes(size, sys.byteorder)


def answering(*answers: bytes, log: list[bytes] | None = None) -> Script:
    """A script that answers every request with the same pieces."""

    async def script(peer: Peer) -> None:
        while request := await peer.request():
            if log is not None:
                log.append(request)
            for piece in answers:
                await peer.send(piece)

    return script


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition that nothing signals; fails after 20 s."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)


def in_seconds(seconds: float = 20.0) -> float:
    """A deadline, by default so far away that only a fault reaches it."""
    return time.monotonic() + seconds
