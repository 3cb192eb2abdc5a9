"""A TCP proxy between Bellwire and Postgres or the broker.

It can delay, stall, reset, half-close, refuse, and keep back the one answer that a fault is about.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

HOST = "127.0.0.1"
CHUNK = 65_536


class TcpProxy:
    """Forwards bytes to `(host, port)` from a port of its own, which stays the same while it lives."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.delay_seconds = 0.0
        # Bytes passed on so far, both ways together.
        self.forwarded = 0
        self._withhold_after: tuple[bytes, ...] = ()
        self._withheld = asyncio.Event()
        self.port = 0

    async def start(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._accepted, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close the listener and every connection."""
        await self.refuse()
        self.reset()
        serving = list(self._serving)
        for task in serving:  # Stalled ones would wait for ever.
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many connections go through it now."""
        return len(self._pairs)

    def delay(self, seconds: float) -> None:
        """Hold every chunk of bytes for so long from now on, both ways."""
        self.delay_seconds = seconds

    def stall(self) -> None:
        """Accept and keep connections, and forward nothing until `flow`."""
        self._flowing.clear()

    def flow(self) -> None:
        """Forward again, first what was held back."""
        self._flowing.set()

    def withhold_answer(self, *to: bytes) -> asyncio.Event:
        """Keep back the answer to what a client sends next; the event is set when the answer comes.

        `to` are the pieces to look for, one after the other on one connection; the last one's answer is kept back. The
        server has then done what it was asked for, and the client learns nothing of it, nor of what comes on that
        connection later, until it is cut.
        """
        self._withhold_after, self._withheld = to, asyncio.Event()
        for pair in self._pairs:
            pair.pieces_found = 0
        return self._withheld

    def reset(self, *, only_withheld: bool = False) -> int:
        """Cut connections with a TCP reset on both sides; return how many that were."""
        pairs = [pair for pair in self._pairs if pair.withholds or not only_withheld]
        for pair in pairs:
            pair.reset()
        return len(pairs)

    def half_close(self) -> int:
        """Send the clients the end of the stream while their own direction stays open."""
        pairs = list(self._pairs)
        for pair in pairs:
            pair.half_close()
        return len(pairs)

    async def refuse(self) -> None:
        """Refuse new connections; those that exist go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def accept(self) -> None:
        """Take new connections again, on the same port."""
        if self._server is None:
            await self.start()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            try:
                up_reader, up_writer = await asyncio.open_connection(*self._upstream)
            except OSError:
                _reset(writer)
                return
            await self._forward(reader, writer, up_reader, up_writer)
        finally:
            writer.close()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        pair = _Pair(writer, up_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(
                self._pump(reader, up_writer, passes=lambda data: self._note_request(pair, data)),
                self._pump(up_reader, writer, passes=lambda data: self._may_answer(pair, data)),
            )
        finally:
            self._pairs.discard(pair)
            up_writer.close()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, passes: Callable[[bytes], bool]
    ) -> None:
        """Forward until the end; what `passes` denies is thrown away."""
        try:
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                if passes(data):
                    writer.write(data)
                    self.forwarded += len(data)
                    await writer.drain()
            if passes(b""):
                writer.write_eof()
        except OSError:  # One side was cut: cut the other.
            _reset(writer)

    def _note_request(self, pair: _Pair, data: bytes) -> bool:
        """Look whether this is the request whose answer is to be kept back; it passes all the same."""
        wanted = self._withhold_after
        if wanted:
            seen = pair.last_sent + data
            while pair.pieces_found < len(wanted) and (at := seen.find(wanted[pair.pieces_found])) >= 0:
                seen = seen[at + len(wanted[pair.pieces_found]) :]
                pair.pieces_found += 1
            pair.last_sent = seen[-max(map(len, wanted)) :]
            if pair.pieces_found == len(wanted):
                pair.withholds, self._withhold_after = True, ()
        return True

    def _may_answer(self, pair: _Pair, data: bytes) -> bool:
        if pair.withholds and data:
            self._withheld.set()
        return not (pair.withholds or pair.half_closed)


class _Pair:
    """The two halves of one forwarded connection."""

    def __init__(self, client: asyncio.StreamWriter, upstream: asyncio.StreamWriter) -> None:
        self._client = client
        self._upstream = upstream
        self.half_closed = False
        # Its answers are kept back.
        self.withholds = False
        # The end of what the client sent: a piece that is looked for may be spread over two chunks.
        self.last_sent = b""
        self.pieces_found = 0

    def reset(self) -> None:
        _reset(self._client)
        _reset(self._upstream)

    def half_close(self) -> None:
        self.half_closed = True
        with suppress(OSError):
            self._client.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST: what is unsent is thrown away, and the other side sees an error, not an end."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
