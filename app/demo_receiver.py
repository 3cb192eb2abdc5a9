"""The built-in receiver: somewhere for a first event to go, and a model of what a receiver does.

It verifies each request with the `bellwire` package, acts on it once although it may come twice, answers, and
prints a line. A receiver of your own needs no more than `_receive` does.
"""

from __future__ import annotations

import re
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn

from app.core.errors import StartupError
from bellwire import InvalidSecretError, VerifiedMessage, Webhook, WebhookVerificationError

HOST = "127.0.0.1"
PATH = "/webhooks"
HEALTH_PATH = "/healthz"
MAX_BODY_BYTES = 16 * 1024 * 1024  # More than the largest event that Bellwire accepts.
REMEMBERED_IDS = 10_000  # The oldest are forgotten; a receiver of your own keeps them in its database.
STOP_SECONDS = 3

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# What a sender wrote is shown, never obeyed: no escape sequence reaches the terminal.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BACKLOG = 1024


def serve(*, port: int, secret: str, host: str = HOST, say: Callable[[str], None] | None = None) -> None:
    """Receive webhooks at `http://host:port/webhooks` until SIGINT or SIGTERM.

    `secret` is the endpoint's (`whsec_...` or `whpk_...`); `say` takes the lines (default: standard output).
    Raises StartupError if the secret cannot be used or the port is taken.
    """
    say = say or _print
    try:
        application = DemoReceiver(secret, say=say)
    except InvalidSecretError as error:
        raise StartupError(
            f"The demo receiver cannot verify anything: {error} Set BELLWIRE_DEMO_SECRET to the endpoint's secret, "
            "as its answer showed it when it was created."
        ) from error
    with _listen(host, port) as listener:
        say(f"listening on http://{host}:{listener.getsockname()[1]}{PATH}")
        server = uvicorn.Server(
            uvicorn.Config(
                application,
                interface="asgi3",
                lifespan="off",
                ws="none",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=STOP_SECONDS,
            )
        )
        server.run(sockets=[listener])


class DemoReceiver:
    """The receiver as an ASGI application."""

    def __init__(self, secret: str, *, say: Callable[[str], None]) -> None:
        """Raises InvalidSecretError if `secret` cannot be used."""
        self._webhook = Webhook(secret)
        self._say = say
        self._seen: OrderedDict[str, int] = OrderedDict()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        route = (scope["method"], scope["path"])
        if route == ("POST", PATH):
            try:
                body = await _read(receive)
            except ConnectionError:
                return  # The sender has gone, and with it everybody who could be answered.
            status, text = (413, "too large\n") if body is None else self._receive(body, scope["headers"])
        elif route in {("GET", HEALTH_PATH), ("GET", "/")}:
            status, text = 200, "The demo receiver is running.\n"
        else:
            status, text = 404, f"Webhooks are received at POST {PATH}.\n"
        await _answer(send, status=status, text=text)

    def _receive(self, body: bytes, headers: list[tuple[bytes, bytes]]) -> tuple[int, str]:
        """Verify, drop what came before, act: the three steps of every receiver."""
        try:
            message = self._webhook.verify(body, headers)
            line = f"{message.type}  {message.id}  sent {message.timestamp:%H:%M:%S} UTC  {len(body):,} bytes"
        except WebhookVerificationError as error:
            self._say(f"✗ refused ({error.reason}): {_plain(str(error))}")
            return 400, f"{error}\n"
        times = self._remember(message)
        if times > 1:
            # Bellwire delivers at least once; the id stays the same, so the second is easy to tell.
            self._say(f"= duplicate, dropped (number {times})  {_plain(line)}")
        else:
            self._say(f"✓ verified  {_plain(line)}")
        return 200, "ok\n"

    def _remember(self, message: VerifiedMessage) -> int:
        """Count how often this message has come, this time included."""
        times = self._seen.pop(message.id, 0) + 1
        self._seen[message.id] = times
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
        return times


async def _read(receive: Receive) -> bytes | None:
    """Return the body as it came, byte for byte; None if it is too large.

    Raises ConnectionError if the sender goes away before its end.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


async def _answer(send: Send, *, status: int, text: str) -> None:
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise StartupError(
            f"The demo receiver cannot listen on {host}:{port}: {error.strerror}. If another program uses the "
            "port, stop that program or choose another one with BELLWIRE_DEMO_PORT."
        ) from error
    return listener


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - its lines are what it is for


def _plain(text: str) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
