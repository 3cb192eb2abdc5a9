"""The benchmark's receiver: a process of its own that verifies and counts, and does as little else as it can.

It reads one JSON command a line from its standard input and writes one answer a line: that ends it with its
parent, too. Every request's signature is checked. How many came is in shared memory, so that the load
generator can keep the backlog bounded without asking. `bench` measures its ceiling in the same run.

Paths under /aside/ are the bad neighbours: their requests are counted apart and answered late, or never.
"""

from __future__ import annotations

import asyncio
import hmac
import mmap
import socket
import sys
import time
from base64 import b64decode, b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import uvloop

from app.core.egress import EgressDenied, EgressPolicy
from app.embedded.kept import choose_port
from bench.peer import serve_commands

HOST = "127.0.0.1"
BACKLOG = 1_024
COUNTER_BYTES = 8

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_UNSIGNED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
_NOTHING = b""
_ASIDE = b"/aside/"


class Tally:
    """What came since the last `forget`: event id, time and path of each request, and what did not verify."""

    def __init__(self, *, secret: str, counter: mmap.mmap) -> None:
        self.key = b64decode(secret.removeprefix("whsec_"))
        self.received: list[tuple[bytes, int, bytes]] = []
        self.unsigned = 0
        self.aside = 0
        self.aside_open = 0
        self.aside_most_open = 0
        # When a request under /aside/ is answered: after so many seconds, or never.
        self.aside_seconds: float | None = 0.0
        self._counter = counter

    def add(self, event: bytes, path: bytes) -> None:
        """Count a request at this moment."""
        self.received.append((event, time.monotonic_ns(), path))
        self._counter[:COUNTER_BYTES] = len(self.received).to_bytes(COUNTER_BYTES, "little")

    def begin_aside(self) -> None:
        """Count a request of a bad neighbour, which is open until `end_aside`."""
        self.aside += 1
        self.aside_open += 1
        self.aside_most_open = max(self.aside_most_open, self.aside_open)

    def end_aside(self) -> None:
        """One of them was answered, or its connection is gone."""
        self.aside_open -= 1

    def verify(self, event: bytes, body: bytes, timestamp: bytes, signature: bytes) -> bool:
        """Tell whether a signature is good; one that is not is counted."""
        digest = hmac.digest(self.key, b"%b.%b.%b" % (event, timestamp, body), "sha256")
        if b"v1," + b64encode(digest) in signature.split(b" "):
            return True
        self.unsigned += 1
        return False

    def forget(self) -> None:
        """Begin anew."""
        self.received = []
        self.unsigned = 0
        self.aside = 0
        self.aside_most_open = self.aside_open
        self._counter[:COUNTER_BYTES] = bytes(COUNTER_BYTES)


class Connection(asyncio.Protocol):
    """Reads POSTs with a Content-Length, one after the other, and answers 200."""

    transport: asyncio.Transport

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._kept = _NOTHING
        self._late: asyncio.TimerHandle | None = None
        self._open_aside = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        if self._kept:
            data = self._kept + data
            self._kept = _NOTHING
        while data:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                break
            head = data[:end]
            names = head.lower()
            length = int(_header(head, names, b"\r\ncontent-length:") or 0)
            if len(data) < end + length:
                break
            event = _header(head, names, b"\r\nwebhook-id:")
            path = head[5 : head.find(b" ", 5)]
            aside = path.startswith(_ASIDE)
            if not aside:
                self._tally.add(event, path)
            genuine = self._tally.verify(
                event,
                data[end : end + length],
                _header(head, names, b"\r\nwebhook-timestamp:"),
                _header(head, names, b"\r\nwebhook-signature:"),
            )
            if aside and genuine:
                self._begin_aside()
            else:
                self.transport.write(_ANSWER if genuine else _UNSIGNED)
            data = data[end + length :]
        self._kept = data

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's form
        """Whoever waited for an answer has given up."""
        if self._late is not None:
            self._late.cancel()
        self._end_aside()

    def _begin_aside(self) -> None:
        self._tally.begin_aside()
        self._open_aside = True
        seconds = self._tally.aside_seconds
        if seconds == 0:
            self._answer_late()
        elif seconds is not None:
            self._late = asyncio.get_running_loop().call_later(seconds, self._answer_late)

    def _answer_late(self) -> None:
        self._late = None
        self._end_aside()
        self.transport.write(_ANSWER)

    def _end_aside(self) -> None:
        if self._open_aside:
            self._open_aside = False
            self._tally.end_aside()


def _header(head: bytes, names: bytes, name: bytes) -> bytes:
    """Return the value of a header, or nothing; `names` is the head in lower case."""
    start = names.find(name)
    if start < 0:
        return _NOTHING
    start += len(name)
    return head[start : head.find(b"\r\n", start)].strip()


async def serve(*, secret: str, counter_path: Path) -> None:
    """Receive and obey until standard input ends."""
    with counter_path.open("r+b") as file:
        tally = Tally(secret=secret, counter=mmap.mmap(file.fileno(), COUNTER_BYTES))
    listener = _listen()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(tally), sock=listener, backlog=BACKLOG
    )

    def obey(command: dict[str, Any]) -> dict[str, Any]:
        if command["do"] == "forget":
            tally.forget()
            return {}
        if command["do"] == "report":
            # Many thousand pairs: by a file, not by the pipe.
            report = [
                (event.decode("latin-1"), at, path.decode("latin-1")) for event, at, path in tally.received
            ]
            Path(command["file"]).write_bytes(orjson.dumps(report))
            return {"received": len(tally.received), "unsigned": tally.unsigned}
        if command["do"] == "answer_aside":
            tally.aside_seconds = command["seconds"]
            return {}
        if command["do"] == "aside":
            return {"requests": tally.aside, "open": tally.aside_open, "most_open": tally.aside_most_open}
        raise ValueError(f"no such command: {command['do']}")

    await serve_commands(obey, hello={"port": listener.getsockname()[1]})
    server.close()


def _listen() -> socket.socket:
    """Return a socket on a port that the egress policy lets deliveries go to."""
    policy = EgressPolicy()
    while True:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(EgressDenied, OSError):
            port = choose_port()
            policy.check_port(port)
            listener.bind((HOST, port))
            return listener
        listener.close()


if __name__ == "__main__":
    uvloop.run(serve(secret=sys.argv[1], counter_path=Path(sys.argv[2])))
