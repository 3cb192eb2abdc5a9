"""Send a request over a kept or a new connection to a vetted address, under one deadline."""

import ssl
from collections.abc import Iterable
from typing import Self

import msgspec

from workers.guard import EgressGuard
from workers.http1.exchange import Exchange
from workers.http1.target import Target


class EngineLimits(msgspec.Struct, kw_only=True, frozen=True):
    """Bounds of one engine (one per worker process); sizes in bytes, times in seconds."""

    max_connections: int = 1_000
    max_idle: int = 512
    max_idle_per_origin: int = 128
    # Below the 5 s after which Node, Apache and uvicorn close an idle connection.
    idle_seconds: float = 4.0
    # A kept connection is given up at this age, so that a change of DNS is followed.
    max_age_seconds: float = 120.0
    status_line_bytes: int = 1_024
    header_bytes: int = 8_192
    header_count: int = 50
    body_bytes: int = 65_536


class EngineStats(msgspec.Struct, kw_only=True, frozen=True):
    """Counts of this moment."""

    in_flight: int
    idle: int
    opened: int
    reused: int


class HttpEngine:
    """HTTP/1.1 client for one event loop; make it and use it inside that loop.

    It connects only where `guard` lets it, keeps connections by origin, follows no redirect, inflates nothing, and
    reads no proxy setting from the environment. Safe for any number of requests at once; a cancelled request closes
    its connection.
    """

    def __init__(
        self,
        *,
        guard: EgressGuard,
        limits: EngineLimits | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None: ...

    async def post(
        self,
        target: Target,
        *,
        headers: bytes | Iterable[tuple[bytes, bytes]],
        body: bytes,
        deadline: float,
    ) -> Exchange:
        """Send a POST and return the final response.

        `headers` are pairs, or the bytes that `encode_headers` made; the engine adds host, accept-encoding and
        content-length. `deadline` is an instant of `time.monotonic()` that bounds everything: DNS, connect, TLS,
        send, headers, body. Raises SendError (an attempt that failed) or EngineFault (our own fault, no attempt).
        """
        raise NotImplementedError

    async def request(
        self,
        target: Target,
        *,
        method: bytes,
        headers: bytes | Iterable[tuple[bytes, bytes]],
        body: bytes,
        deadline: float,
    ) -> Exchange:
        """Send any method; otherwise as `post`."""
        raise NotImplementedError

    async def prove_guarded(self) -> None:
        """Start-up self-test: forbidden targets must be refused before a socket is made; else GuardNotInForce."""
        raise NotImplementedError

    def in_flight(self, origin: str) -> int:
        """Return how many requests to `origin` (`Target.origin`) are under way: for a soft cap per host."""
        raise NotImplementedError

    def stats(self) -> EngineStats:
        """Return the counts of this moment."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close all connections; requests under way end with EngineClosed. Safe to repeat."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
