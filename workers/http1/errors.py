"""Why a request brought no usable answer, typed by when it happened.

SendError                  the receiver's side failed: it is an attempt
├── NotSent                nothing of the request left
│   ├── DnsError           dns_error
│   ├── BlockedAddress     blocked_address
│   ├── ConnectRefused     connect_refused
│   ├── ConnectTimeout     connect_timeout
│   └── TlsError           tls_error
└── NoAnswer               some of the request left, no complete status line and header section came back
    ├── ReadTimeout        read_timeout
    ├── ProtocolError      protocol_error
    └── HeadersTooLarge    headers_too_large
EngineFault                our own side failed: it is no attempt, hand the delivery back
├── EngineClosed
├── EngineSaturated
├── ProxyFault
└── GuardNotInForce
"""

from typing import ClassVar

from app.core.error_classes import ErrorClass
from workers.http1.exchange import ConnectionInfo, Timings


class SendError(Exception):
    """The request brought no usable answer; `error_class` says why, `message` says it in a sentence.

    `timings` tells how far it came, `connection` is None when none was made. `status` and `headers` are set where a
    status line came but the header section could not be used; `received` holds the first bytes that came (at most
    1 KiB) where they were no HTTP.
    """

    error_class: ClassVar[ErrorClass]

    def __init__(
        self,
        message: str,
        *,
        timings: Timings | None = None,
        connection: ConnectionInfo | None = None,
        status: int | None = None,
        headers: list[tuple[bytes, bytes]] | None = None,
        received: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.timings = timings or Timings()
        self.connection = connection
        self.status = status
        self.headers = headers or []
        self.received = received


class NotSent(SendError):
    """Nothing of the request left this machine."""


class DnsError(NotSent):
    """The host name has no address, or its name servers did not answer in time."""

    error_class = ErrorClass.DNS_ERROR


class BlockedAddress(NotSent):
    """The egress policy forbids the target; the message says nothing of what is behind the name."""

    error_class = ErrorClass.BLOCKED_ADDRESS


class ConnectRefused(NotSent):
    """The address refused the connection, or there is no way to it."""

    error_class = ErrorClass.CONNECT_REFUSED


class ConnectTimeout(NotSent):
    """The deadline came before a connection was made."""

    error_class = ErrorClass.CONNECT_TIMEOUT


class TlsError(NotSent):
    """The TLS handshake failed or did not end in time: not trusted, expired, wrong name, no common version."""

    error_class = ErrorClass.TLS_ERROR


class NoAnswer(SendError):
    """Some of the request left; whether the receiver acted on it is not known."""


class ReadTimeout(NoAnswer):
    """The deadline came before a complete status line and header section."""

    error_class = ErrorClass.READ_TIMEOUT


class ProtocolError(NoAnswer):
    """The connection ended without an answer, or what came was not HTTP/1."""

    error_class = ErrorClass.PROTOCOL_ERROR


class HeadersTooLarge(NoAnswer):
    """The status line or the header section is over its cap; `status` and the first `headers` are kept."""

    error_class = ErrorClass.HEADERS_TOO_LARGE


class EngineFault(Exception):
    """Our own side could not send: this is no attempt. Hand the delivery back, due at once."""


class EngineClosed(EngineFault):
    """The engine was closed before or while the request was under way."""


class EngineSaturated(EngineFault):
    """No connection, file descriptor or look-up is free; claim fewer deliveries, or raise the engine's limits."""


class ProxyFault(EngineFault):
    """The egress proxy cannot be reached, does not let us in, or is none."""


class GuardNotInForce(EngineFault):
    """The start-up self-test reached a forbidden address: do not send anything."""
