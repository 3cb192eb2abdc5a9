"""`BELLWIRE_EGRESS_PROXY`: connections through an HTTP proxy, by CONNECT, to addresses that were vetted here.

The proxy is told an address and never a name, so that it cannot resolve the name to another one; TLS goes to the
receiver through the tunnel and checks the name as without a proxy. Plain http goes through a tunnel, too: one way for
both, and the proxy sees no request. The proxy's own address is the operator's choice and is not vetted.

What failed decides the class: a proxy that cannot be reached, does not let us in or makes no sense is a fault of our
own side (ProxyFault, no attempt); one that says why it made no tunnel speaks of the receiver.
"""

import asyncio
import re
import socket
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import msgspec

from app.core.egress import parse_literal
from workers.http1.dial import dial_first, dial_one
from workers.http1.errors import (
    BlockedAddress,
    ConnectRefused,
    ConnectTimeout,
    DnsError,
    ProxyFault,
    SendError,
)
from workers.resolver import Resolver

# The proxy is near; a receiver's whole deadline is not spent on reaching it.
REACH_SECONDS = 5.0
ANSWER_BYTES = 8_192
HEAD_END = b"\r\n\r\n"

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")
_FORBIDDEN = frozenset({403, 451})
_UNREACHABLE = frozenset({502, 503})
_TIMED_OUT = 504


class Proxy(msgspec.Struct, kw_only=True, frozen=True):
    """Where the proxy is, and the value of `Proxy-Authorization` (empty without credentials)."""

    host: str
    port: int
    authorization: bytes = b""

    def __repr__(self) -> str:
        """Leave the credentials out of logs and tracebacks."""
        return f"Proxy({self.host}:{self.port})"

    @classmethod
    def from_url(cls, url: str) -> "Proxy | None":
        """Read the setting, which was checked at the start; None where it is empty."""
        if not url:
            return None
        parts = urlsplit(url)
        authorization = b""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            authorization = b"Basic " + b64encode(pair.encode())
        return cls(host=parts.hostname or "", port=parts.port or 80, authorization=authorization)

    def request(self, address: str, port: int) -> bytes:
        """Return the bytes that ask for a tunnel."""
        place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        line = b"Proxy-Authorization: %b\r\n" % self.authorization if self.authorization else b""
        return b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (place.encode(), place.encode(), line)

    async def addresses(self, resolver: Resolver, *, deadline: float) -> list[str]:
        """Return the proxy's addresses, which no policy vets; raises ProxyFault or EngineSaturated."""
        if parse_literal(self.host) is not None:
            return [self.host]
        try:
            return await resolver.resolve(self.host, deadline=deadline)
        except DnsError as error:
            raise ProxyFault(f"The name of the egress proxy was not resolved. {error.message}") from None

    def cannot_be_reached(self, why: object) -> ProxyFault:
        """Return the fault of a proxy that does not take connections."""
        return ProxyFault(f"The egress proxy {self.host}:{self.port} cannot be reached: {why}")


class Tunnels:
    """Opens sockets that lead through the proxy to one vetted address each."""

    def __init__(self, proxy: Proxy, *, resolver: Resolver, next_address_seconds: float) -> None:
        self._proxy = proxy
        self._resolver = resolver
        self._next_address_seconds = next_address_seconds

    async def dial(
        self, addresses: list[str], *, port: int, deadline: float, next_address_seconds: float
    ) -> tuple[socket.socket, str]:
        """As `dial_first`, through the proxy; raises ProxyFault and BlockedAddress, too."""
        return await dial_first(
            addresses,
            port=port,
            deadline=deadline,
            next_address_seconds=next_address_seconds,
            dial=self._dial_one,
        )

    async def _dial_one(self, address: str, *, port: int, deadline: float) -> socket.socket:
        proxy = self._proxy
        loop = asyncio.get_running_loop()
        reach_by = min(deadline, time.monotonic() + REACH_SECONDS)
        try:
            sock, _ = await dial_first(
                await proxy.addresses(self._resolver, deadline=reach_by),
                port=proxy.port,
                deadline=reach_by,
                next_address_seconds=self._next_address_seconds,
                dial=dial_one,
            )
        except SendError as error:
            raise proxy.cannot_be_reached(error.message) from None
        try:
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                await loop.sock_sendall(sock, proxy.request(address, port))
                await read_answer(lambda most: loop.sock_recv(sock, most))
        except BaseException as error:
            sock.close()
            if isinstance(error, TimeoutError):
                raise no_tunnel_in_time() from None
            if isinstance(error, OSError):
                raise proxy.cannot_be_reached("it closed the connection.") from None
            raise
        return sock


async def read_answer(receive: Callable[[int], Awaitable[bytes]]) -> None:
    """Read the answer to a CONNECT and return once there is a tunnel; raises SendError or ProxyFault."""
    head = b""
    while HEAD_END not in head:
        piece = await receive(ANSWER_BYTES)
        if not piece:
            raise ProxyFault("The egress proxy closed the connection before it answered.")
        head += piece
        if len(head) > ANSWER_BYTES:
            raise ProxyFault("The egress proxy answered with a header section that is too large.")
    status_line = _STATUS_LINE.match(head)
    if status_line is None:
        raise ProxyFault("What listens at BELLWIRE_EGRESS_PROXY is no HTTP proxy.")
    status = int(status_line[1])
    if not 200 <= status < 300:  # noqa: PLR2004 - every 2xx makes a tunnel (RFC 9110, 9.3.6)
        _refuse(status)
    if not head.endswith(HEAD_END):
        # The receiver speaks second, in HTTP and in TLS.
        raise ProxyFault("The egress proxy sent bytes of its own into the tunnel.")


def no_tunnel_in_time() -> ConnectTimeout:
    """Return the error of a tunnel that was asked for and had not come by the deadline."""
    return ConnectTimeout("The egress proxy had made no connection to the receiver by the deadline.")


def _refuse(status: int) -> NoReturn:
    if status in _FORBIDDEN:
        raise BlockedAddress(f"The egress proxy does not let deliveries go there ({status}).")
    if status in _UNREACHABLE:
        raise ConnectRefused(f"The egress proxy could not connect to the receiver ({status}).")
    if status == _TIMED_OUT:
        raise ConnectTimeout(f"The receiver did not answer the egress proxy's connection request ({status}).")
    raise ProxyFault(
        f"The egress proxy answered {status} to CONNECT; see its log, and BELLWIRE_EGRESS_PROXY."
    )
