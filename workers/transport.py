"""The one seam that Bellwire sends through: an httpx2 transport over the engine of `workers.http1`.

The drain calls `HttpEngine.post` itself, below httpx2's request and response objects, because these cost more than the
delivery; everything else hands `BellwireTransport` to an `httpx2.AsyncClient`.
"""

import httpx2

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
    ReadTimeout,
    SendError,
    TlsError,
)
from workers.http1.exchange import ConnectionInfo, Exchange, Timings
from workers.http1.limits import EngineLimits
from workers.http1.request import encode_headers
from workers.http1.target import Target

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
    "ReadTimeout",
    "SendError",
    "Target",
    "Timings",
    "TlsError",
    "encode_headers",
]


class BellwireTransport(httpx2.AsyncBaseTransport):
    """Sends httpx2 requests over `engine`: vetted addresses, capped responses, one deadline, no redirects."""

    def __init__(self, engine: HttpEngine) -> None:
        self._engine = engine

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; the sum of its timeouts is its deadline. Raises httpx2's transport exceptions.

        `response.extensions["bellwire_exchange"]` holds the `Exchange`.
        """
        raise NotImplementedError
