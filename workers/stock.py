"""The plain way to send, kept beside the engine: httpcore2, which httpx2's own transport stands on.

`BELLWIRE_WORKER_TRANSPORT=stock` selects it: slower by far, but another implementation of HTTP/1.1 to compare with
when a receiver behaves in a strange way. The egress guard sits in its network backend, so that it too connects to
vetted addresses only. Its `connect_ms` holds the DNS look-up.
"""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import httpcore2

from workers.guard import EgressGuard
from workers.http1.dial import make_ssl_context
from workers.http1.errors import (
    BlockedAddress,
    ConnectRefused,
    ConnectTimeout,
    EngineSaturated,
    GuardNotInForce,
    HeadersTooLarge,
    ProtocolError,
    ProxyFault,
    ReadTimeout,
    SendError,
    TlsError,
)
from workers.http1.exchange import ConnectionInfo, Exchange, Timings
from workers.http1.limits import EngineLimits
from workers.http1.proxy import REACH_SECONDS, Proxy, no_tunnel_in_time, read_answer
from workers.http1.request import encode_headers
from workers.http1.target import Target

PROBE_SECONDS = 1.0
# httpcore2 closes its socket when a timeout of its own ends a handshake, not when we cancel it: its timeouts come
# first, and the total deadline, which they do not know, a moment later.
LATE_SECONDS = 0.25
# Of a look-up whose request has no timeout of its own; the deadline of the whole request comes before it.
PATIENCE_SECONDS = 60.0

SocketOptions = Iterable[tuple[Any, ...]]


class StockSender:
    """Same calls and same results as `HttpEngine`, by httpcore2."""

    def __init__(
        self,
        *,
        guard: EgressGuard,
        limits: EngineLimits | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: Proxy | None = None,
    ) -> None:
        self._guard = guard
        self._proxy = proxy
        self._limits = limits or EngineLimits()
        self._in_flight: Counter[str] = Counter()
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or make_ssl_context(),
            max_connections=self._limits.max_connections,
            max_keepalive_connections=self._limits.max_idle,
            keepalive_expiry=self._limits.idle_seconds,
            network_backend=_GuardedBackend(guard, inner=httpcore2.AnyIOBackend(), proxy=proxy),
        )

    async def post(
        self,
        target: Target,
        *,
        headers: bytes | Iterable[tuple[bytes, bytes]],
        body: bytes,
        deadline: float,
    ) -> Exchange:
        """Send a POST and return the final response; as `HttpEngine.post`."""
        lines = headers if isinstance(headers, bytes) else encode_headers(headers)
        pairs = [
            (name, value)
            for name, _, value in (line.partition(b": ") for line in lines.split(b"\r\n"))
            if name
        ]
        request = httpcore2.Request(
            method=b"POST",
            url=httpcore2.URL(
                scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path
            ),
            headers=[
                (b"host", target.host_header),
                (b"accept-encoding", b"identity"),
                *pairs,
                (b"content-length", b"%d" % len(body)),
            ],
            content=body,
        )
        phases = _Phases()
        request.extensions["trace"] = phases.note
        patience = max(deadline - time.monotonic(), 0)
        request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), patience)
        self._in_flight[target.origin] += 1
        try:
            async with asyncio.timeout(patience + LATE_SECONDS):
                response = await self._pool.handle_async_request(request)
        except SendError as error:
            error.timings = phases.timings()
            raise
        except httpcore2.PoolTimeout:
            raise EngineSaturated("All connections of this worker are busy. Give it fewer slots.") from None
        except (TimeoutError, httpcore2.TimeoutException):
            raise phases.late() from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise phases.failure(error) from None
        else:
            return await self._read(response, phases=phases, deadline=deadline)
        finally:
            self._in_flight[target.origin] -= 1
            if not self._in_flight[target.origin]:
                del self._in_flight[target.origin]

    async def prove_guarded(self) -> None:
        """Start-up self-test; as `HttpEngine.prove_guarded`."""
        for guard, host, port in self._guard.probes():
            backend = _GuardedBackend(guard, inner=_RefusingBackend(), proxy=self._proxy)
            try:
                await backend.connect_tcp(host, port, timeout=PROBE_SECONDS)
            except BlockedAddress:
                continue
            raise GuardNotInForce(f"The egress guard let {host} pass.")

    def in_flight(self, origin: str) -> int:
        """Return how many requests to `origin` are under way."""
        return self._in_flight[origin]

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    async def _read(self, response: httpcore2.Response, *, phases: "_Phases", deadline: float) -> Exchange:
        limits = self._limits
        stream = response.extensions["network_stream"]
        connection = _describe(stream, response=response, reused=phases.connected_at is None)
        size = sum(len(name) + len(value) + 4 for name, value in response.headers)
        chunks: list[bytes] = []
        room = limits.body_bytes
        truncated, note = False, None
        try:
            if size > limits.header_bytes or len(response.headers) > limits.header_count:
                raise HeadersTooLarge(
                    f"The header section is larger than {limits.header_bytes:,} bytes "
                    f"or has more than {limits.header_count} headers.",
                    timings=phases.timings(),
                    connection=connection,
                    status=response.status,
                    headers=list(response.headers[: limits.header_count]),
                )
            async with asyncio.timeout(max(deadline - time.monotonic(), 0)):
                async for chunk in response.aiter_stream():
                    chunks.append(chunk[:room])
                    truncated = len(chunk) > room
                    room -= len(chunks[-1])
                    if truncated:
                        break
        except TimeoutError:
            truncated, note = True, "The body did not end before the deadline."
        except httpcore2.TimeoutException:
            truncated, note = True, "The receiver stopped in the middle of the body."
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            note = f"The body was broken: {error}."
        finally:
            await response.aclose()
        return Exchange(
            status=response.status,
            headers=list(response.headers),
            body=b"".join(chunks),
            body_truncated=truncated,
            timings=phases.timings(),
            connection=connection,
            note=note,
        )


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    def __init__(
        self, guard: EgressGuard, *, inner: httpcore2.AsyncNetworkBackend, proxy: Proxy | None
    ) -> None:
        self._guard = guard
        self._inner = inner
        self._proxy = proxy

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore2's signature
        local_address: str | None = None,
        socket_options: SocketOptions | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        deadline = time.monotonic() + (timeout if timeout is not None else PATIENCE_SECONDS)
        failure: Exception | None = None
        for address in await self._guard.vet(host, port=port, deadline=deadline):
            try:
                if self._proxy is not None:
                    return await self._tunnel(self._proxy, address, port=port, deadline=deadline)
                return await self._inner.connect_tcp(
                    address,
                    port,
                    timeout=timeout,
                    local_address=local_address,
                    socket_options=socket_options,
                )
            except (
                httpcore2.ConnectError,
                httpcore2.ConnectTimeout,
                ConnectRefused,
                ConnectTimeout,
            ) as error:
                failure = error
        raise failure or httpcore2.ConnectError("There is no address to connect to.")

    async def _tunnel(
        self, proxy: Proxy, address: str, *, port: int, deadline: float
    ) -> httpcore2.AsyncNetworkStream:
        stream = await self._reach(proxy, deadline=min(deadline, time.monotonic() + REACH_SECONDS))
        try:
            patience = max(deadline - time.monotonic(), 0)
            await stream.write(proxy.request(address, port), timeout=patience)
            await read_answer(lambda most: stream.read(most, timeout=max(deadline - time.monotonic(), 0)))
        except BaseException as error:
            await stream.aclose()
            if isinstance(error, httpcore2.TimeoutException):
                raise no_tunnel_in_time() from None
            if isinstance(error, httpcore2.NetworkError):
                raise proxy.cannot_be_reached("it closed the connection.") from None
            raise
        return _Tunnel(stream, place=(address, port))

    async def _reach(self, proxy: Proxy, *, deadline: float) -> httpcore2.AsyncNetworkStream:
        failure: ProxyFault | None = None
        for address in await proxy.addresses(self._guard.resolver, deadline=deadline):
            try:
                return await self._inner.connect_tcp(
                    address, proxy.port, timeout=max(deadline - time.monotonic(), 0)
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = proxy.cannot_be_reached(f"{error or 'no answer in time'}.")
        raise failure or proxy.cannot_be_reached("it has no address.")


class _Tunnel(httpcore2.AsyncNetworkStream):
    """A stream through the proxy whose other end, for the delivery log, is the receiver."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream, *, place: tuple[str, int]) -> None:
        self._stream = stream
        self._place = place

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._stream.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore2.AsyncNetworkStream:
        stream = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return _Tunnel(stream, place=self._place)

    def get_extra_info(self, info: str) -> Any:
        return self._place if info == "server_addr" else self._stream.get_extra_info(info)


class _RefusingBackend(httpcore2.AsyncNetworkBackend):
    async def connect_tcp(
        self,
        host: str,
        port: int,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        local_address: str | None = None,  # noqa: ARG002
        socket_options: SocketOptions | None = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        raise GuardNotInForce(f"The egress guard let {host} pass.")


class _Phases:
    """When httpcore2 reached what, and what a failure means there."""

    def __init__(self) -> None:
        self._started_at = time.monotonic()
        self._at: dict[str, float] = {}

    async def note(self, event: str, _: dict[str, Any]) -> None:
        self._at.setdefault(event, time.monotonic())

    @property
    def connected_at(self) -> float | None:
        return self._at.get("connection.connect_tcp.complete")

    def timings(self) -> Timings:
        now = time.monotonic()
        headers_at = self._at.get("http11.receive_response_headers.complete")
        return Timings(
            connect_ms=self._between("connection.connect_tcp.started", "connection.connect_tcp.complete"),
            tls_ms=self._between("connection.start_tls.started", "connection.start_tls.complete"),
            send_ms=self._between("http11.send_request_headers.started", "http11.send_request_body.complete"),
            wait_ms=self._between(
                "http11.send_request_body.complete", "http11.receive_response_headers.complete"
            ),
            receive_ms=(now - headers_at) * 1e3 if headers_at is not None else None,
        )

    def late(self) -> SendError:
        waited = f"{time.monotonic() - self._started_at:.1f} s"
        if "http11.send_request_headers.started" in self._at:
            return ReadTimeout(f"No answer came within {waited}.", timings=self.timings())
        if "connection.start_tls.started" in self._at:
            return TlsError(f"The TLS handshake did not end within {waited}.", timings=self.timings())
        return ConnectTimeout(
            "The address did not answer the connection request in time.", timings=self.timings()
        )

    def failure(self, error: Exception) -> SendError:
        if "http11.send_request_headers.started" in self._at:
            return ProtocolError(
                f"The connection ended without a proper answer: {error or 'it was closed'}.",
                timings=self.timings(),
            )
        if "connection.start_tls.started" in self._at:
            return TlsError(f"The TLS handshake failed: {error}.", timings=self.timings())
        return ConnectRefused(f"The connection was not made: {error}.", timings=self.timings())

    def _between(self, start: str, end: str) -> float | None:
        started_at, ended_at = self._at.get(start), self._at.get(end)
        return (ended_at - started_at) * 1e3 if started_at is not None and ended_at is not None else None


def _describe(
    stream: httpcore2.AsyncNetworkStream, *, response: httpcore2.Response, reused: bool
) -> ConnectionInfo:
    peer = stream.get_extra_info("server_addr")
    session: ssl.SSLObject | None = stream.get_extra_info("ssl_object")
    ends = (session.getpeercert() or {}).get("notAfter") if session is not None else None
    return ConnectionInfo(
        ip=str(peer[0]),
        reused=reused,
        http_version=response.extensions["http_version"].decode().removeprefix("HTTP/"),
        tls_version=session.version() if session is not None else None,
        certificate_expires_at=int(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None,
    )
