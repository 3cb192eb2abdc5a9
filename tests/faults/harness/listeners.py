"""More ports of the receiver, whose TLS a test breaks and mends while the port stays open."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from app.core.egress import EgressDenied, EgressPolicy
from app.embedded.kept import choose_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "127.0.0.1"
BACKLOG = 1_024
GARBAGE = bytes(range(256)) * 4


class Garbage(asyncio.Protocol):
    """Answers the first byte of a handshake with what is no TLS, and hangs up."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - asyncio's signature
        """Send it."""
        self.transport.write(GARBAGE)
        self.transport.close()


class Listeners:
    """Ports beside the receiver's own; what comes on them is served by the same protocol, behind TLS."""

    def __init__(self, serve: Callable[[], asyncio.Protocol]) -> None:
        self._serve = serve
        self._sockets: dict[int, socket.socket] = {}
        self._servers: dict[int, asyncio.Server] = {}

    async def listen(self, *, port: int | None, certificate: Path | None) -> int:
        """Serve a port (None: a new one) with this certificate, or without one with garbage; return the port.

        The socket itself stays open all the while, so that nobody is refused a connection meanwhile.
        """
        listener = open_listener() if port is None else self._sockets[port]
        port = int(listener.getsockname()[1])
        self._sockets[port] = listener
        if port in self._servers:
            self._servers.pop(port).close()
        context = None
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
        self._servers[port] = await asyncio.get_running_loop().create_server(
            self._serve if context is not None else Garbage,
            sock=listener.dup(),
            ssl=context,
            backlog=BACKLOG,
        )
        return port

    def close(self) -> None:
        """Close all ports."""
        for server in self._servers.values():
            server.close()
        for listener in self._sockets.values():
            listener.close()


def open_listener() -> socket.socket:
    """Return a bound socket on a port that the egress policy lets deliveries go to."""
    policy = EgressPolicy()
    while True:
        port = choose_port()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(EgressDenied, OSError):
            policy.check_port(port)
            listener.bind((HOST, port))
            return listener
        listener.close()
