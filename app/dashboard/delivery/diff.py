"""What differs between two attempts: facts side by side, headers, and the lines of the bodies. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from app.dashboard.json_view import plain_text
from app.dashboard.words import milliseconds, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.dashboard.delivery.exchange import Headers, Received, Sent
    from app.models import Attempt

# Comparing costs the product of both lengths at worst.
MOST_LINES = 600
_CONTEXT = 3
_ABSENT = "—"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two attempts."""

    attempt: Attempt
    sent: Sent
    received: Received | None


@dataclass(frozen=True, slots=True)
class Row:
    """One fact of both."""

    name: str
    left: str
    right: str

    @property
    def differs(self) -> bool:
        """Tell whether it is not the same."""
        return self.left != self.right


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tables of facts by heading, and the bodies' differing lines (None: the same)."""

    left: Side
    right: Side
    tables: Sequence[tuple[str, Sequence[Row]]]
    request_body: Markup | None
    response_body: Markup | None

    @property
    def differing(self) -> int:
        """How many things differ."""
        rows = sum(row.differs for _, table in self.tables for row in table)
        return rows + (self.request_body is not None) + (self.response_body is not None)


def compare(left: Side, right: Side) -> Comparison:
    """Compare two attempts of one delivery."""
    tables = [
        ("Result", _facts(left, right)),
        ("Timing", _timings(left.attempt, right.attempt)),
        ("Request headers", _headers(left.sent.headers, right.sent.headers)),
        ("Response headers", _headers(_received(left), _received(right))),
    ]
    return Comparison(
        left=left,
        right=right,
        tables=[(name, rows) for name, rows in tables if rows],
        request_body=_lines(left.sent.body or b"", right.sent.body or b""),
        response_body=_lines(
            left.received.body if left.received else b"", right.received.body if right.received else b""
        ),
    )


def _facts(left: Side, right: Side) -> list[Row]:
    one, other = left.attempt, right.attempt
    return [
        Row("Outcome", one.outcome, other.outcome),
        Row("Status", _text(one.response_status), _text(other.response_status)),
        Row("Error", _text(one.error_class), _text(other.error_class)),
        Row("URL", left.sent.url, right.sent.url),
        Row("IP address", _text(one.ip), _text(other.ip)),
        Row("TLS", _text(one.tls_version), _text(other.tls_version)),
        Row("Connection", _reused(one), _reused(other)),
        Row("Response body", _size(left.received), _size(right.received)),
        Row("Worker", _text(one.worker), _text(other.worker)),
    ]


def _timings(left: Attempt, right: Attempt) -> list[Row]:
    names = (
        *(("Whole", "duration_ms"), ("Queue wait", "queue_ms"), ("DNS", "dns_ms"), ("TCP", "connect_ms")),
        *(("TLS", "tls_ms"), ("Send", "send_ms"), ("Wait", "wait_ms"), ("Receive", "receive_ms")),
    )
    return [
        Row(name, milliseconds(getattr(left, column)), milliseconds(getattr(right, column)))
        for name, column in names
    ]


def _headers(left: Headers, right: Headers) -> list[Row]:
    """Return the headers of both by name; the values of a repeated one stand together."""
    joined: list[dict[str, str]] = []
    for headers in (left, right):
        values: dict[str, str] = {}
        for name, value in headers:
            key = name.lower()
            values[key] = f"{values[key]}, {value}" if key in values else value
        joined.append(values)
    one, other = joined
    return [
        Row(name, one.get(name, _ABSENT), other.get(name, _ABSENT)) for name in dict.fromkeys([*one, *other])
    ]


def _lines(left: bytes, right: bytes) -> Markup | None:
    """Return the lines that differ, with some around them; None if the bodies are the same."""
    if left == right:
        return None
    one, other = (plain_text(body).splitlines()[: MOST_LINES + 1] for body in (left, right))
    cut = max(len(one), len(other)) > MOST_LINES
    shown = difflib.unified_diff(one[:MOST_LINES], other[:MOST_LINES], lineterm="", n=_CONTEXT)
    # The first two lines name files.
    parts = [_line(line) for line in list(shown)[2:]]
    if not parts:
        parts = [Markup("<span>Only space, or what is not shown, differs.</span>")]
    if cut:
        parts.append(Markup("<span>Compared are the first {} lines.</span>").format(MOST_LINES))
    return Markup("\n").join(parts)


def _line(line: str) -> Markup:
    tag = {"+": "ins", "-": "del"}.get(line[:1], "span")
    return Markup("<{0}>{1}</{0}>").format(Markup(tag), escape(line))  # noqa: S704 - one of three constants


def _received(side: Side) -> Headers:
    return side.received.headers if side.received else []


def _size(received: Received | None) -> str:
    return size(len(received.body)) if received else _ABSENT


def _reused(attempt: Attempt) -> str:
    if attempt.connection_reused is None:
        return _ABSENT
    return "kept from before" if attempt.connection_reused else "new"


def _text(value: object) -> str:
    return _ABSENT if value is None else str(value)
