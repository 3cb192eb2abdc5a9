"""A receiver in its own process that keeps a ledger of all it got.

It verifies every request with PyPI's `standardwebhooks`, the independent implementation, and appends one line of
JSON when a request has been read in full, one when it was answered, and one when its connection went away
first. Lines go straight to the file, so a killed receiver loses none. How a path behaves is told over the
control port: one JSON command a line, one answer a line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httptools
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.faults.harness.listeners import BACKLOG, HOST, Listeners, open_listener
from tests.faults.harness.misbehaving import Player, Step

BODY_KEPT = 4_096  # Characters of a body that go into the ledger.
COMMAND_BYTES = 4_194_304  # The longest command: it may hold the script of a large answer.


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a path answers.

    `statuses` are given one after the other to the requests of each webhook-id; the last one stays.
    `after_seconds` is waited before each answer. `hold` answers nothing before it is released. `reset` cuts
    the connection instead of answering. `script` is played instead of an answer to the first `script_times`
    requests (None: to all) of each webhook-id; `script_status` is the status that the sender can read in it, None
    when it can read none.
    """

    statuses: tuple[int, ...] = (200,)
    after_seconds: float = 0.0
    hold: bool = False
    reset: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    script: tuple[Step, ...] = ()
    script_times: int | None = None
    script_status: int | None = None

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Behaviour:
        """Read it from a control command."""
        script = tuple(Step.from_json(step) for step in value.get("script", ()))
        return cls(**{**value, "statuses": tuple(value.get("statuses", (200,))), "script": script})

    def plays(self, turn: int) -> bool:
        """Return whether the script answers this request of a webhook-id (0 is its first)."""
        return bool(self.script) and (self.script_times is None or turn < self.script_times)


class Ledger:
    """The file that everything is appended to."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.requests = 0

    def write(self, entry: dict[str, Any]) -> None:
        """Append one line, at once."""
        os.write(self._descriptor, json.dumps({"at": time.monotonic(), **entry}).encode() + b"\n")


class Receiver:
    """What all connections share: secrets and behaviours by path, what is held, who is in progress."""

    def __init__(self, *, ledger: Ledger, secret: str) -> None:
        self.ledger = ledger
        self.secret = secret
        self.secrets: dict[str, str] = {}
        self.behaviours: dict[str, Behaviour] = {}
        self.default = Behaviour()
        self.seen: Counter[tuple[str, str]] = Counter()
        self.in_progress: Counter[str] = Counter()
        self.held: defaultdict[str, list[Connection]] = defaultdict(list)
        self.connections = 0
        self._webhooks: dict[str, Webhook] = {}

    def verify(self, path: str, headers: dict[str, str], body: bytes) -> str | None:
        """Return None for a genuine request, else what is wrong with it."""
        secret = self.secrets.get(path, self.secret)
        webhook = self._webhooks.setdefault(secret, Webhook(secret))
        try:
            webhook.verify(body, headers)
        except (
            WebhookVerificationError,
            ValueError,
        ) as error:  # ValueError: no JSON, or a token without comma
            return f"{type(error).__name__}: {error}"
        return None

    def command(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what a control command asks."""
        name, path = command["do"], command.get("path")
        if name == "behave":
            behaviour = Behaviour.from_json(command["behaviour"])
            if path is None:
                self.default, self.behaviours = behaviour, {}
            else:
                self.behaviours[path] = behaviour
        elif name == "secret":
            self.secrets[command["path"]] = command["secret"]
        elif name == "release":
            paths = list(self.held) if path is None else [path]
            return {"released": sum(self._release(each, status=command["status"]) for each in paths)}
        else:
            raise ValueError(f"no such command: {name}")
        return {}

    def _release(self, path: str, *, status: int) -> int:
        held = self.held.pop(path, [])
        for connection in held:
            connection.answer(status, {})
        return len(held)


class Connection(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    transport: asyncio.Transport

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        receiver.connections += 1
        self._number = receiver.connections
        self._parser = httptools.HttpRequestParser(self)
        self._request: int | None = None
        self._path = ""
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._playing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._player = Player(transport)

    def pause_writing(self) -> None:
        """Hold a script back while the sender does not take it."""
        self._player.pause()

    def resume_writing(self) -> None:
        """Let a script go on."""
        self._player.resume()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Note a request that will not be answered."""
        if self._playing is not None:
            self._playing.cancel()
        if self._request is not None:
            self._receiver.ledger.write({"lost": self._request, "path": self._path})
            self._finished()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._receiver.ledger.write({"garbage": repr(error), "connection": self._number})
            self.transport.abort()

    def on_url(self, url: bytes) -> None:
        """Begin a request."""
        self._path, self._headers, self._body = url.decode(), {}, bytearray()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Collect a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Write the request down, then behave as this path was told to."""
        receiver, path = self._receiver, self._path
        wrong = receiver.verify(path, self._headers, bytes(self._body))
        event = self._headers.get("webhook-id", "")
        receiver.ledger.requests += 1
        receiver.in_progress[path] += 1
        self._request = receiver.ledger.requests
        receiver.ledger.write(
            {
                "request": self._request,
                "path": path,
                "id": event,
                "ok": wrong is None,
                "wrong": wrong,
                "unix": time.time(),
                "timestamp": self._headers.get("webhook-timestamp"),
                "connection": self._number,
                "concurrent": receiver.in_progress[path],
                "headers": self._headers,
                "body": self._body[:BODY_KEPT].decode(errors="replace"),
            }
        )
        behaviour = receiver.behaviours.get(path, receiver.default)
        turn = receiver.seen[path, event]
        receiver.seen[path, event] += 1
        if behaviour.plays(turn):
            self._playing = asyncio.get_running_loop().create_task(self._play(behaviour))
        elif behaviour.reset:
            self.transport.abort()
        elif behaviour.hold:
            receiver.held[path].append(self)
        else:
            status = behaviour.statuses[min(turn, len(behaviour.statuses) - 1)]
            if behaviour.after_seconds:
                loop = asyncio.get_running_loop()
                loop.call_later(behaviour.after_seconds, self.answer, status, behaviour.headers)
            else:
                self.answer(status, behaviour.headers)

    def answer(self, status: int, headers: dict[str, str]) -> None:
        """Send the answer, unless the sender has gone."""
        if self._request is None or self.transport.is_closing():
            return
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        phrase = HTTPStatus(status).phrase
        self.transport.write(f"HTTP/1.1 {status} {phrase}\r\ncontent-length: 0\r\n{lines}\r\n".encode())
        self._receiver.ledger.write({"answered": self._request, "path": self._path, "status": status})
        self._finished()

    async def _play(self, behaviour: Behaviour) -> None:
        ledger, status = self._receiver.ledger, behaviour.script_status
        ledger.write({"decided": self._request, "path": self._path, "status": status})
        await self._player.play(behaviour.script)
        ledger.write({"answered": self._request, "path": self._path, "status": status})
        self._finished()

    def _finished(self) -> None:
        self._receiver.in_progress[self._path] -= 1
        held = self._receiver.held[self._path]
        if self in held:
            held.remove(self)
        self._request = None


async def serve(*, ledger: Path, secret: str, stop: asyncio.Event) -> None:
    """Listen until `stop` is set; the ledger's first line tells the two ports."""
    receiver = Receiver(ledger=Ledger(ledger), secret=secret)

    listeners = Listeners(lambda: Connection(receiver))

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            command = json.loads(line)
            if command["do"] == "listen":
                path = command["certificate"]
                certificate = None if path is None else Path(path)
                answer = {"port": await listeners.listen(port=command["port"], certificate=certificate)}
            else:
                answer = receiver.command(command)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    loop = asyncio.get_running_loop()
    deliveries = await loop.create_server(lambda: Connection(receiver), sock=open_listener(), backlog=BACKLOG)
    controls = await asyncio.start_server(control, HOST, 0, limit=COMMAND_BYTES)
    receiver.ledger.write(
        {
            "port": deliveries.sockets[0].getsockname()[1],
            "control_port": controls.sockets[0].getsockname()[1],
        }
    )
    await stop.wait()
    deliveries.close()
    listeners.close()
    controls.close()


def main() -> None:
    """Run the receiver until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--secret", required=True)
    options = parser.parse_args()

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await serve(ledger=options.ledger, secret=options.secret, stop=stop)

    asyncio.run(run())


if __name__ == "__main__":
    main()
