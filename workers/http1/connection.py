"""One connection: writes a request, reads the response to it, ends at the deadline.

The hot path of the product: one request costs one write, one read, and one wake-up. The timer is one per connection
and is moved when it fires, so a request that ends in time costs no timer at all.
"""

import asyncio
import math
import select
import socket
import time
from typing import TYPE_CHECKING, cast

from workers.http1.errors import (
    EngineClosed,
    EngineFault,
    HeadersTooLarge,
    ProtocolError,
    ReadTimeout,
    SendError,
)
from workers.http1.exchange import ConnectionInfo, Exchange, Timings
from workers.http1.limits import EngineLimits
from workers.http1.response import BrokenHead, HeadTooLarge, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Callable

# Of a peer's announced keep-alive time; the rest is for its clock and the way there.
KEEP_ALIVE_SHARE = 0.8

_monotonic = time.monotonic


class TlsFacts:
    """What the handshake settled: the version, and the end of the certificate's life in Unix seconds."""

    __slots__ = ("certificate_expires_at", "version")

    def __init__(self, *, version: str | None, certificate_expires_at: int | None) -> None:
        self.version = version
        self.certificate_expires_at = certificate_expires_at


class Connection(asyncio.Protocol):
    """An open connection to a vetted address, for one request at a time.

    `reusable` says after an exchange whether another request may follow; `closed` is final. Times are instants of
    `time.monotonic()`.
    """

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        limits: EngineLimits,
        sock: socket.socket,
        ip: str,
        on_closed: "Callable[[Connection], None]",
    ) -> None:
        self.reusable = False
        self.closed = False
        self._loop = loop
        self._sock = sock
        self._ip = ip
        self._on_closed = on_closed
        self._transport: asyncio.Transport
        self._reader = ResponseReader(limits)
        self._tls: TlsFacts | None = None
        self._info: ConnectionInfo | None = None
        self._answered = 0
        self._dies_at = _monotonic() + limits.max_age_seconds
        self._idle_seconds = limits.idle_seconds
        self._idle_until = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._writing_paused = False
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        # The exchange under way; None between exchanges.
        self._waiter: asyncio.Future[Exchange] | None = None
        self._started_at = 0.0
        self._sent_at = 0.0
        self._deadline = 0.0

    def secured(self, facts: TlsFacts) -> None:
        """Note what the handshake settled."""
        self._tls = facts

    def is_stale(self, now: float) -> bool:
        """Return whether a kept connection may not be used: too old, closed by the peer, or with unasked data."""
        if self.closed or now >= self._idle_until or self._transport.is_closing():
            return True
        # A third of the price of a read that finds nothing, and this is asked before each request.
        if not self._readable.poll(0):
            return False
        try:
            seen = self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        # TLS may send session tickets at any time; plain HTTP has nothing to say before it is asked.
        return not seen or self._tls is None

    def send(self, data: bytes, *, deadline: float, bodiless: bool = False) -> "asyncio.Future[Exchange]":
        """Write a whole request; the future brings its exchange, a SendError or an EngineFault.

        `bodiless` is for HEAD. Whoever cancels the future calls `abort`.
        """
        waiter = self._waiter = self._loop.create_future()
        self._reader.reset(bodiless=bodiless)
        self._deadline = deadline
        self._sent_at = 0.0
        self.reusable = False
        now = self._started_at = _monotonic()
        if self._timer_at > deadline:
            self._set_timer(deadline, now)
        self._transport.write(data)
        if not self._writing_paused:
            self._sent_at = _monotonic()
        return waiter

    def keep(self, now: float) -> None:
        """Start the idle time, after which the connection closes itself."""
        self._idle_until = min(now + self._idle_seconds, self._dies_at)
        if self._timer_at > self._idle_until:
            self._set_timer(self._idle_until, now)

    def abort(self, error: Exception | None = None) -> None:
        """Close at once; an exchange under way ends with `error` (EngineClosed if there is none)."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(error or EngineClosed("Bellwire itself closed the connection."))
        self._let_go()
        self._transport.abort()

    # --- Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        # With 0 the loop tells us when the last byte has been taken: that ends the send phase.
        self._transport.set_write_buffer_limits(high=0)

    def pause_writing(self) -> None:
        """Note that bytes wait to be taken."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Note that the last byte was taken."""
        self._writing_paused = False
        if self._waiter is not None and not self._sent_at:
            self._sent_at = _monotonic()

    def data_received(self, data: bytes) -> None:
        """Read on; settle the exchange once its response is complete."""
        if self._waiter is None:
            self.abort()  # Nothing was asked.
            return
        try:
            complete = self._reader.feed(data)
        except BrokenHead as error:
            self.abort(self._failure(ProtocolError, str(error)))
        except HeadTooLarge as error:
            self.abort(self._failure(HeadersTooLarge, str(error)))
        except Exception as error:  # noqa: BLE001 - the waiter must learn of a fault of our own
            self.abort(
                EngineFault(f"The response could not be read because of a fault in Bellwire: {error!r}")
            )
        else:
            if complete:
                self._finish()

    def eof_received(self) -> None:
        """Take the end of what the peer sends."""
        if self._waiter is not None:
            self._ended("was closed", proper=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Take the end of the connection, proper or not."""
        if self._waiter is not None:
            self._ended("was reset" if exc is not None else "was closed", proper=exc is None)
        self._let_go()

    # --- Private

    def _finish(self, *, note: str | None = None, truncated: bool = False) -> None:
        reader = self._reader
        waiter, self._waiter = self._waiter, None
        self._answered += 1
        self.reusable = reader.keep_alive and not self._writing_paused
        if waiter is not None and not waiter.done():
            waiter.set_result(
                Exchange(
                    status=reader.status,
                    headers=reader.headers,
                    body=reader.body,
                    body_truncated=reader.truncated or truncated,
                    timings=self._timings(),
                    connection=self._connection_info(),
                    note=note or reader.note,
                )
            )
        if not self.reusable:
            self.abort()
        elif self._answered == 1:
            self._heed_keep_alive(reader.headers)

    def _ended(self, how: str, *, proper: bool) -> None:
        """Take the end of the connection: the end of a body, a broken body, or no answer."""
        if not self._reader.head_done:
            where = (
                "in the middle of the header section" if self._reader.began_at else "before an answer came"
            )
            self.abort(self._failure(ProtocolError, f"The connection {how} {where}."))
        elif proper and self._reader.end():
            self._finish()
        else:
            self._finish(note=f"The connection {how} before the end of the body.")

    def _deadline_passed(self) -> None:
        waited = _monotonic() - self._started_at
        if self._reader.head_done:
            self._finish(note=f"The body did not end within {waited:.1f} s.", truncated=True)
        elif self._sent_at:
            self.abort(self._failure(ReadTimeout, f"No answer came within {waited:.1f} s."))
        else:
            self.abort(self._failure(ReadTimeout, f"The request was not taken within {waited:.1f} s."))

    def _failure(self, kind: type[SendError], message: str) -> SendError:
        reader = self._reader
        return kind(
            message,
            timings=self._timings(),
            connection=self._connection_info(),
            status=reader.status or None,
            headers=reader.headers,
            # With a status line it is HTTP, and its head is no body.
            received=b"" if reader.status else reader.received,
        )

    def _timings(self) -> Timings:
        now = _monotonic()
        began_at = self._reader.began_at
        # An early answer ends the send phase.
        sent_at = self._sent_at or began_at
        return Timings(
            send_ms=((sent_at or now) - self._started_at) * 1e3,
            wait_ms=max((began_at or now) - sent_at, 0.0) * 1e3 if sent_at else None,
            receive_ms=(now - began_at) * 1e3 if began_at else None,
        )

    def _connection_info(self) -> ConnectionInfo:
        """One for the first exchange, one for all that follow."""
        if self._info is not None and self._info.reused:
            return self._info
        tls = self._tls
        self._info = ConnectionInfo(
            ip=self._ip,
            reused=self._info is not None,
            http_version=self._reader.http_version if self._reader.head_done else None,
            tls_version=tls.version if tls is not None else None,
            certificate_expires_at=tls.certificate_expires_at if tls is not None else None,
        )
        return self._info

    def _heed_keep_alive(self, headers: list[tuple[bytes, bytes]]) -> None:
        for name, value in headers:
            if name.lower() == b"keep-alive":
                seconds = value.lower().partition(b"timeout=")[2].partition(b",")[0].strip()
                if seconds.isdigit():
                    self._idle_seconds = min(self._idle_seconds, int(seconds[:6]) * KEEP_ALIVE_SHARE)

    def _set_timer(self, at: float, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_later(max(at - now, 0.0), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        now = _monotonic()
        due = self._idle_until if self._waiter is None else self._deadline
        if now < due:
            if due < math.inf:
                self._set_timer(due, now)
        elif self._waiter is None:
            self.abort()
        else:
            self._deadline_passed()

    def _let_go(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._reader.release()
        self._on_closed(self)
