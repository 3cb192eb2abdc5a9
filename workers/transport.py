"""The one seam that Bellwire sends through: the engine of `workers.http1`, and an httpx2 transport over it.

The drain calls `HttpEngine.post` itself, below httpx2's request and response objects, because these cost more than the
delivery; everything else hands `BellwireTransport` to an `httpx2.AsyncClient`.
"""

import ssl
import time
from collections.abc import Iterable
from typing import Literal, Protocol

import httpx2

from workers.guard import EgressGuard
from workers.http1.engine import EngineStats, HttpEngine
from workers.http1.errors import (
    BlockedAddress,
    ConnectRefused,
    ConnectTimeout,
    DnsError,
    EngineClosed,
    EngineFault,
    EngineSaturated,
    GuardNotInForce,
    HeadersTooLarge,
    NoAnswer,
    NotSent,
    ProtocolError,
    ProxyFault,
    ReadTimeout,
    SendError,
    TlsError,
)
from workers.http1.exchange import ConnectionInfo, Exchange, Timings
from workers.http1.limits import EngineLimits
from workers.http1.proxy import Proxy
from workers.http1.request import encode_headers
from workers.http1.target import Target
from workers.stock import StockSender

__all__ = [
    "BellwireTransport",
    "BlockedAddress",
    "ConnectRefused",
    "ConnectTimeout",
    "ConnectionInfo",
    "DnsError",
    "EngineClosed",
    "EngineFault",
    "EngineLimits",
    "EngineSaturated",
    "EngineStats",
    "Exchange",
    "GuardNotInForce",
    "HeadersTooLarge",
    "HttpEngine",
    "NoAnswer",
    "NotSent",
    "ProtocolError",
    "Proxy",
    "ProxyFault",
    "ReadTimeout",
    "SendError",
    "Sender",
    "StockSender",
    "Target",
    "Timings",
    "TlsError",
    "encode_headers",
    "make_sender",
]


# Of a request that brings no timeout of its own.
DEFAULT_SECONDS = 30.0
# Ours, or meaningless between us and a receiver: what the engine writes itself, and HTTP/1.1's hop-by-hop headers.
_ENGINE_HEADERS = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"connection",
        b"keep-alive",
        b"accept-encoding",
        b"te",
    }
)


class Sender(Protocol):
    """What the drain needs of a client: `HttpEngine`, or `StockSender` beside it."""

    async def post(
        self, target: Target, *, headers: bytes | Iterable[tuple[bytes, bytes]], body: bytes, deadline: float
    ) -> Exchange:
        """Send a POST and return the final response; raises SendError or EngineFault."""

    async def prove_guarded(self) -> None:
        """Prove that the egress guard is in force; raises GuardNotInForce."""

    def in_flight(self, origin: str) -> int:
        """Return how many requests to `origin` (`Target.origin`) are under way."""

    async def aclose(self) -> None:
        """Close all connections."""


def make_sender(
    kind: Literal["engine", "stock"],
    *,
    guard: EgressGuard,
    limits: EngineLimits | None = None,
    ssl_context: ssl.SSLContext | None = None,
    proxy: Proxy | None = None,
) -> Sender:
    """Return the sender that `BELLWIRE_WORKER_TRANSPORT` names; call it inside the event loop that sends."""
    if kind == "stock":
        return StockSender(guard=guard, limits=limits, ssl_context=ssl_context, proxy=proxy)
    return HttpEngine(guard=guard, limits=limits, ssl_context=ssl_context, proxy=proxy)


class BellwireTransport(httpx2.AsyncBaseTransport):
    """Sends httpx2 requests over `engine`: vetted addresses, capped responses, one deadline, no redirects.

    The engine stays the caller's: closing the transport does not close it.
    """

    def __init__(self, engine: HttpEngine) -> None:
        self._engine = engine

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; the longest of its timeouts bounds all of it (30 s without any).

        Raises httpx2's exceptions; a SendError or EngineFault is their cause. A compressed body stays as it came: its
        `content-encoding` is taken off, so that httpx2 does not inflate it. `response.extensions["exchange"]` is the
        Exchange with all headers.
        """
        body = await request.aread()
        seconds = [value for value in request.extensions.get("timeout", {}).values() if value is not None]
        deadline = time.monotonic() + max(seconds, default=DEFAULT_SECONDS)
        headers = [
            (name, value) for name, value in request.headers.raw if name.lower() not in _ENGINE_HEADERS
        ]
        try:
            exchange = await self._engine.request(
                Target.from_url(request.url),
                method=request.method.encode("ascii"),
                headers=headers,
                body=body,
                deadline=deadline,
            )
        except (SendError, EngineFault) as error:
            raise _EXCEPTIONS[type(error)](str(error), request=request) from error
        except ValueError as error:
            raise httpx2.LocalProtocolError(str(error), request=request) from error
        return httpx2.Response(
            exchange.status,
            headers=[
                (name, value)
                for name, value in exchange.headers
                if name.lower() not in {b"content-encoding", b"transfer-encoding"}
            ],
            stream=httpx2.ByteStream(exchange.body),
            extensions={"exchange": exchange, "http_version": b"HTTP/1.1"},
            request=request,
        )


_EXCEPTIONS: dict[type[Exception], type[httpx2.TransportError]] = {
    DnsError: httpx2.ConnectError,
    BlockedAddress: httpx2.ConnectError,
    ConnectRefused: httpx2.ConnectError,
    ConnectTimeout: httpx2.ConnectTimeout,
    TlsError: httpx2.ConnectError,
    ReadTimeout: httpx2.ReadTimeout,
    ProtocolError: httpx2.RemoteProtocolError,
    HeadersTooLarge: httpx2.RemoteProtocolError,
    EngineClosed: httpx2.CloseError,
    EngineSaturated: httpx2.PoolTimeout,
    ProxyFault: httpx2.ProxyError,
    GuardNotInForce: httpx2.ConnectError,
    EngineFault: httpx2.NetworkError,
}
