"""What one HTTP request brought back: the answer, how long each phase took, and over which connection."""

import msgspec


class Timings(msgspec.Struct, gc=False, kw_only=True):
    """Milliseconds by phase; None for a phase that was not reached or not needed (a kept connection has no DNS).

    `queue_ms` is the caller's: the engine leaves it at None.
    """

    queue_ms: float | None = None
    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    send_ms: float | None = None
    wait_ms: float | None = None
    receive_ms: float | None = None


class ConnectionInfo(msgspec.Struct, gc=False, kw_only=True, frozen=True):
    """The connection that carried a request.

    `ip` is the vetted address that was connected to, `http_version` is "1.1" or "1.0" (None before an answer),
    `tls_version` is as "TLSv1.3" (None over plain HTTP), `certificate_expires_at` is in Unix seconds.
    """

    ip: str
    reused: bool
    http_version: str | None = None
    tls_version: str | None = None
    certificate_expires_at: int | None = None


class Exchange(msgspec.Struct, gc=False, kw_only=True):
    """One request and the final response to it.

    `headers` are as received (names keep their case). `body` holds at most the engine's `body_bytes`;
    `body_truncated` says that more came or was announced. `note` tells, in a sentence, what was wrong with a response
    whose status line and headers were good (a broken body); None when all of it was in order.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    body_truncated: bool
    timings: Timings
    connection: ConnectionInfo
    note: str | None = None

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of the header `name` (in lower case), or None."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None
