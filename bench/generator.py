"""The load generator: a process of its own that speaks HTTP/1.1 over kept connections, and little else.

It keeps the time at which each request was to start (not when a connection was free: a slow server must not
make its own latency look better) and the ids that were answered.
"""

from __future__ import annotations

import asyncio
import mmap
import re
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import uvloop

from bench.peer import serve_commands
from bench.receiver import COUNTER_BYTES

# While the backlog is full, look again after so long.
FULL_WAIT_SECONDS = 0.001
_EVENT_ID = re.compile(rb'"id":"(evt_[0-9a-z]{26})"')


@dataclass(slots=True)
class Load:
    """What to send and how.

    One of `seconds` and `requests` says when to stop. `rate` (requests per second) makes an open loop; without
    it each connection sends as fast as it is answered, but never lets more than `backlog` accepted events wait for
    their receipt. `bodies` are sent in turn, `#` × 12 in each replaced by a running number.
    """

    host: str
    port: int
    head: str
    bodies: list[str]
    connections: int
    seconds: float | None = None
    requests: int | None = None
    rate: float | None = None
    backlog: int | None = None
    keep_ids: bool = True


@dataclass(slots=True)
class Outcome:
    """What came of it: accepted [id, started, answered] in nanoseconds of the monotonic clock, and statuses."""

    accepted: list[tuple[str, int, int]] = field(default_factory=list)
    events: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    began: int = 0
    ended: int = 0


class Run:
    """One load on its way."""

    def __init__(self, load: Load, *, counter: mmap.mmap) -> None:
        self._load = load
        self._counter = counter
        self._parts = [body.encode().split(b"#" * 12) for body in load.bodies]
        self._head = load.head.encode()
        self._sent = 0
        self._open = 0
        self._idle: deque[Connection] = deque()
        self._due: deque[int] = deque()
        self._more_to_come = load.rate is not None
        self._finished = asyncio.get_running_loop().create_future()
        self.outcome = Outcome()
        self._loop = asyncio.get_running_loop()

    async def run(self) -> Outcome:
        """Connect, send, and return when the last request was answered."""
        load = self._load
        connections = []
        for _ in range(load.connections):
            _, connection = await self._loop.create_connection(lambda: Connection(self), load.host, load.port)
            connections.append(connection)
        self.outcome.began = time.monotonic_ns()
        if load.rate is None:
            for connection in connections:
                self.next(connection)
        else:
            self._idle.extend(connections)
            await self._tick(load.rate)
        await self._finished
        self.outcome.ended = time.monotonic_ns()
        for connection in connections:
            connection.transport.close()
        return self.outcome

    def next(self, connection: Connection) -> None:
        """Give a free connection its next request, or let it rest."""
        if self._load.rate is not None:
            if self._due:
                self._send(connection, self._due.popleft())
            else:
                self._idle.append(connection)
                self._end_if_done()
        elif self._is_over():
            self._end_if_done()
        elif self._is_full():
            self._loop.call_later(FULL_WAIT_SECONDS, self.next, connection)
        else:
            self._send(connection, time.monotonic_ns())

    def answered(self, connection: Connection, started: int, status: int, body: bytes) -> None:
        """Take an answer."""
        outcome = self.outcome
        self._open -= 1
        outcome.statuses[status] += 1
        if status in (200, 202):
            if self._load.keep_ids:
                now = time.monotonic_ns()
                found = _EVENT_ID.findall(body)
                outcome.events += len(found)
                outcome.accepted += [(event.decode(), started, now) for event in found]
            else:
                outcome.events += 1
        self.next(connection)

    async def _tick(self, rate: float) -> None:
        """Open loop: put a request into the queue at its time, whatever became of those before."""
        began = time.monotonic_ns()
        interval = int(1e9 / rate)
        number = 0
        while not self._is_over(started=number):
            due = began + number * interval
            wait = (due - time.monotonic_ns()) / 1e9
            if wait > 0:
                await asyncio.sleep(wait)
            number += 1
            if self._idle:
                self._send(self._idle.popleft(), due)
            else:
                self._due.append(due)
        self._more_to_come = False
        self._end_if_done()

    def _send(self, connection: Connection, started: int) -> None:
        parts = self._parts[self._sent % len(self._parts)]
        body = (b"%012d" % self._sent).join(parts)
        self._sent += 1
        self._open += 1
        connection.send(b"%bcontent-length: %d\r\n\r\n%b" % (self._head, len(body), body), started)

    def _is_over(self, *, started: int | None = None) -> bool:
        load = self._load
        if load.requests is not None:
            return (self._sent if started is None else started) >= load.requests
        return time.monotonic_ns() - self.outcome.began >= (load.seconds or 0) * 1e9

    def _is_full(self) -> bool:
        if self._load.backlog is None:
            return False
        received = int.from_bytes(self._counter[:COUNTER_BYTES], "little")
        return self.outcome.events + self._open - received >= self._load.backlog

    def _end_if_done(self) -> None:
        waiting = self._open or self._due or self._more_to_come
        if not waiting and self._is_over() and not self._finished.done():
            self._finished.set_result(None)


class Connection(asyncio.Protocol):
    """One kept connection with at most one request on it."""

    transport: asyncio.Transport

    def __init__(self, run: Run) -> None:
        self._run = run
        self._started = 0
        self._kept = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport  # type: ignore[assignment]

    def send(self, request: bytes, started: int) -> None:
        """Send a request."""
        self._started = started
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Hand on an answer that is complete; Bellwire's have a Content-Length."""
        data = self._kept + data if self._kept else data
        end = data.find(b"\r\n\r\n") + 4
        if end >= 4:
            names = data[:end].lower()
            at = names.find(b"\r\ncontent-length:")
            length = int(names[at + 17 : names.find(b"\r\n", at + 2)]) if at >= 0 else 0
            if len(data) >= end + length:
                self._kept = b""
                self._run.answered(self, self._started, int(data[9:12]), data[end : end + length])
                return
        self._kept = data

    def connection_lost(self, exc: Exception | None) -> None:
        """A connection that breaks under a request breaks the benchmark: nothing is to be hidden."""
        if exc is not None:
            raise exc


async def serve(*, counter_path: Path) -> None:
    """Obey until standard input ends."""
    with counter_path.open("r+b") as file:
        counter = mmap.mmap(file.fileno(), COUNTER_BYTES)

    async def obey(command: dict[str, Any]) -> dict[str, Any]:
        outcome = await Run(Load(**command["load"]), counter=counter).run()
        _write(outcome, file=command["file"])
        return {
            "events": outcome.events,
            "statuses": {str(status): number for status, number in outcome.statuses.items()},
            "began": outcome.began,
            "ended": outcome.ended,
        }

    await serve_commands(obey, hello={})


def _write(outcome: Outcome, *, file: str) -> None:
    """Leave the accepted ids in a file: too many for the pipe."""
    Path(file).write_bytes(orjson.dumps(outcome.accepted))


if __name__ == "__main__":
    uvloop.run(serve(counter_path=Path(sys.argv[1])))
