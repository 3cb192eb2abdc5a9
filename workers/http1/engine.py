"""Send a request over a kept or a new connection to a vetted address, under one deadline."""

import asyncio
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Self

import msgspec

from workers.guard import EgressGuard
from workers.http1.connection import Connection
from workers.http1.dial import dial_first, make_ssl_context, start_plain, start_tls
from workers.http1.errors import BlockedAddress, EngineClosed, GuardNotInForce, SendError
from workers.http1.exchange import Exchange, Timings
from workers.http1.limits import EngineLimits
from workers.http1.pool import ConnectionPool, Origin
from workers.http1.proxy import Proxy, Tunnels
from workers.http1.request import encode_head, encode_headers
from workers.http1.target import Target

PROBE_SECONDS = 1.0

Dial = Callable[..., Awaitable[tuple[socket.socket, str]]]

_monotonic = time.monotonic


class EngineStats(msgspec.Struct, kw_only=True, frozen=True):
    """Counts: of this moment (requests in flight, connections idle and open), and since the start."""

    in_flight: int
    idle: int
    open: int
    connections_made: int
    connections_reused: int


class HttpEngine:
    """HTTP/1.1 client for one event loop; make it and use it inside that loop.

    It connects only where `guard` lets it, keeps connections by origin, follows no redirect, inflates nothing, and
    reads no proxy setting from the environment: `proxy` is the only one that it goes through. Safe for any number of requests at once; a cancelled request closes
    its connection.
    """

    def __init__(
        self,
        *,
        guard: EgressGuard,
        limits: EngineLimits | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._guard = guard
        self._limits = limits or EngineLimits()
        self._dial: Dial = dial_first
        if proxy is not None:
            self._dial = Tunnels(
                proxy, resolver=guard.resolver, next_address_seconds=self._limits.next_address_seconds
            ).dial
        self._ssl_context = ssl_context or make_ssl_context()
        self._loop = asyncio.get_running_loop()
        self._pool = ConnectionPool(self._limits)
        self._made = 0
        self._reused = 0
        self._closed = False

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
        lines = headers if isinstance(headers, bytes) else encode_headers(headers)
        data = b"%b%bcontent-length: %d\r\n\r\n%b" % (target.post_head, lines, len(body), body)
        return await self._send(target, data, deadline=deadline)

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
        lines = headers if isinstance(headers, bytes) else encode_headers(headers)
        data = encode_head(method, target=target, lines=lines, body_length=len(body)) + body
        return await self._send(target, data, deadline=deadline, bodiless=method == b"HEAD")

    async def prove_guarded(self) -> None:
        """Start-up self-test: forbidden targets must be refused before a socket is made; else GuardNotInForce."""
        for guard, host, port in self._guard.probes():
            try:
                await self._open(
                    Target.from_parts(scheme="http", host=host, port=port),
                    deadline=_monotonic() + PROBE_SECONDS,
                    timings=Timings(),
                    guard=guard,
                    dial=_refuse_to_dial,
                )
            except BlockedAddress:
                continue
            raise GuardNotInForce(f"The egress guard let {host} pass.")

    def in_flight(self, origin: str) -> int:
        """Return how many requests to `origin` (`Target.origin`) are under way: for a soft cap per host."""
        return self._pool.in_flight(origin)

    def stats(self) -> EngineStats:
        """Return the counts."""
        return EngineStats(
            in_flight=self._pool.total_in_flight,
            idle=self._pool.idle,
            open=self._pool.open,
            connections_made=self._made,
            connections_reused=self._reused,
        )

    async def aclose(self) -> None:
        """Close all connections; requests under way end with EngineClosed. Safe to repeat."""
        self._closed = True
        self._pool.close()
        # The event loop closes the sockets in its next round.
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _send(
        self, target: Target, data: bytes, *, deadline: float, bodiless: bool = False
    ) -> Exchange:
        if self._closed:
            raise EngineClosed("The HTTP engine is closed; the worker is stopping.")
        pool = self._pool
        origin = pool.begin(target.origin)
        try:
            connection = pool.take(origin, _monotonic())
            if connection is None:
                return await self._send_on_new(
                    target, data, origin=origin, deadline=deadline, bodiless=bodiless
                )
            self._reused += 1
            return await self._exchange(connection, data, origin=origin, deadline=deadline, bodiless=bodiless)
        finally:
            pool.finish(origin)

    async def _send_on_new(
        self, target: Target, data: bytes, *, origin: Origin, deadline: float, bodiless: bool
    ) -> Exchange:
        timings = Timings()
        try:
            connection = await self._open(
                target, deadline=deadline, timings=timings, guard=self._guard, dial=self._dial
            )
            exchange = await self._exchange(
                connection, data, origin=origin, deadline=deadline, bodiless=bodiless
            )
        except SendError as error:
            _add_opening(error.timings, timings)
            raise
        _add_opening(exchange.timings, timings)
        return exchange

    async def _exchange(
        self, connection: Connection, data: bytes, *, origin: Origin, deadline: float, bodiless: bool
    ) -> Exchange:
        try:
            exchange = await connection.send(data, deadline=deadline, bodiless=bodiless)
        except BaseException:
            connection.abort()
            raise
        if connection.reusable and not connection.closed:
            self._pool.put(origin, connection, _monotonic())
        return exchange

    async def _open(
        self, target: Target, *, deadline: float, timings: Timings, guard: EgressGuard, dial: Dial
    ) -> Connection:
        """Resolve, vet, connect, secure. The only place where a socket is made."""
        started_at = _monotonic()
        try:
            addresses = await guard.vet(target.host, port=target.port, deadline=deadline)
        finally:
            vetted_at = _monotonic()
            timings.dns_ms = (vetted_at - started_at) * 1e3
        self._pool.reserve()
        connection: Connection | None = None
        try:
            try:
                sock, ip = await dial(
                    addresses,
                    port=target.port,
                    deadline=deadline,
                    next_address_seconds=self._limits.next_address_seconds,
                )
            finally:
                dialled_at = _monotonic()
                timings.connect_ms = (dialled_at - vetted_at) * 1e3
            made = Connection(
                loop=self._loop, limits=self._limits, sock=sock, ip=ip, on_closed=self._pool.forget
            )
            if target.tls:
                try:
                    await start_tls(
                        made,
                        loop=self._loop,
                        sock=sock,
                        context=self._ssl_context,
                        host=target.host,
                        deadline=deadline,
                    )
                finally:
                    timings.tls_ms = (_monotonic() - dialled_at) * 1e3
            else:
                await start_plain(made, loop=self._loop, sock=sock)
            connection = made
        finally:
            self._pool.opened(connection)
        if self._closed:
            connection.abort()
            raise EngineClosed("The HTTP engine was closed while a connection was being made.")
        self._made += 1
        return connection


async def _refuse_to_dial(*_: object, **__: object) -> tuple[socket.socket, str]:
    raise GuardNotInForce("The egress guard let a forbidden address pass.")


def _add_opening(timings: Timings, opening: Timings) -> None:
    timings.dns_ms = opening.dns_ms
    timings.connect_ms = opening.connect_ms
    timings.tls_ms = opening.tls_ms
