"""The bounds of one engine."""

import msgspec


class EngineLimits(msgspec.Struct, kw_only=True, frozen=True):
    """Bounds of one engine (one per worker process); sizes in bytes, times in seconds."""

    max_connections: int = 1_000
    max_idle: int = 512
    max_idle_per_origin: int = 128
    # Below the 5 s after which Node, Apache and uvicorn close an idle connection; `Keep-Alive: timeout` shortens it.
    idle_seconds: float = 4.0
    # A kept connection is given up at this age, so that a change of DNS is followed.
    max_age_seconds: float = 120.0
    # Start of the next address when one has not answered by then (RFC 8305 recommends 250 ms).
    next_address_seconds: float = 0.25
    status_line_bytes: int = 1_024
    header_bytes: int = 8_192
    header_count: int = 50
    # All 1xx answers to one request together.
    interim_bytes: int = 65_536
    # What is kept of a body, and what may come on the wire for it (chunk sizes and extensions count).
    body_bytes: int = 65_536
    body_wire_bytes: int = 1_048_576
