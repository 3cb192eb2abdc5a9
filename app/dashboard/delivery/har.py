"""An attempt as an HTTP archive (HAR 1.2), which browsers and many tools open. Pure."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from app.core.clock import rfc3339_ms
from app.dashboard.delivery.exchange import Headers, header_of

if TYPE_CHECKING:
    from app.dashboard.delivery.exchange import Received, Sent
    from app.models import Attempt

# HAR's "does not apply".
_NONE = -1


def har_of(attempt: Attempt, sent: Sent, received: Received | None) -> bytes:
    """Return the archive: one entry, values masked as on the page."""
    entry: dict[str, Any] = {
        "startedDateTime": rfc3339_ms(attempt.started_at),
        "time": attempt.duration_ms or 0,
        "request": _request(attempt, sent),
        "response": _response(attempt, received),
        "cache": {},
        "timings": _timings(attempt),
        "comment": f"attempt {attempt.number}; the queue wait before it is in timings.blocked",
    }
    if attempt.ip:
        entry["serverIPAddress"] = attempt.ip
    archive = {
        "log": {
            "version": "1.2",
            "creator": {"name": "Bellwire", "version": "1"},
            "entries": [entry],
        }
    }
    return orjson.dumps(archive, option=orjson.OPT_INDENT_2)


def _request(attempt: Attempt, sent: Sent) -> dict[str, Any]:
    request: dict[str, Any] = {
        "method": sent.method,
        "url": sent.url,
        "httpVersion": _version(attempt),
        "cookies": [],
        "headers": _pairs(sent.headers),
        "queryString": [
            {"name": name, "value": value}
            for name, value in parse_qsl(urlsplit(sent.url).query, keep_blank_values=True)
        ],
        "headersSize": _NONE,
        "bodySize": len(sent.body) if sent.body is not None else _NONE,
    }
    if sent.body is not None:
        request["postData"] = {
            "mimeType": header_of(sent.headers, "content-type") or "application/json",
            "text": sent.body.decode("utf-8", "replace"),
        }
    return request


def _response(attempt: Attempt, received: Received | None) -> dict[str, Any]:
    if received is None:
        # A status of 0 is how browsers write that no answer came.
        return {
            "status": 0,
            "statusText": "",
            "httpVersion": _version(attempt),
            "cookies": [],
            "headers": [],
            "content": {"size": 0, "mimeType": "x-unknown"},
            "redirectURL": "",
            "headersSize": _NONE,
            "bodySize": _NONE,
            "comment": attempt.error_message or "",
        }
    content: dict[str, Any] = {
        "size": len(received.body),
        "mimeType": received.content_type or "x-unknown",
    }
    try:
        content["text"] = received.body.decode()
    except UnicodeDecodeError:
        content |= {"text": base64.b64encode(received.body).decode(), "encoding": "base64"}
    if received.truncated:
        content["comment"] = "truncated: only the beginning was kept"
    return {
        "status": received.status or 0,
        "statusText": received.phrase,
        "httpVersion": _version(attempt),
        "cookies": [],
        "headers": _pairs(received.headers),
        "content": content,
        "redirectURL": header_of(received.headers, "location") or "",
        "headersSize": _NONE,
        "bodySize": len(received.body),
    }


def _timings(attempt: Attempt) -> dict[str, float]:
    connect = None
    if attempt.connect_ms is not None or attempt.tls_ms is not None:
        # HAR counts the handshake in, and says it once more by itself.
        connect = (attempt.connect_ms or 0) + (attempt.tls_ms or 0)
    measured = {
        "blocked": attempt.queue_ms,
        "dns": attempt.dns_ms,
        "connect": connect,
        "ssl": attempt.tls_ms,
    }
    sent = {"send": attempt.send_ms, "wait": attempt.wait_ms, "receive": attempt.receive_ms}
    return {name: _NONE if ms is None else ms for name, ms in measured.items()} | {
        name: ms or 0 for name, ms in sent.items()
    }


def _pairs(headers: Headers) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers]


def _version(attempt: Attempt) -> str:
    return f"HTTP/{attempt.http_version or '1.1'}"
