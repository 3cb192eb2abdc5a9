"""An attempt as an HTTP archive: what HAR 1.2 requires is there, and the bytes are those of the record."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from app.dashboard.delivery.exchange import Received, Sent
from app.dashboard.delivery.har import har_of
from app.models import Attempt

# What the format requires of each part of an entry.
ENTRY = {"startedDateTime", "time", "request", "response", "cache", "timings"}
REQUEST = {"method", "url", "httpVersion", "cookies", "headers", "queryString", "headersSize", "bodySize"}
RESPONSE = {
    *("status", "statusText", "httpVersion", "cookies", "headers", "content", "redirectURL"),
    *("headersSize", "bodySize"),
}
BODY = b'{"id":9007199254740993}'


def entry_of(received: Received | None, *, sent_body: bytes | None = BODY, **fields: Any) -> dict[str, Any]:
    """The archive's entry, once it has all that the format requires."""
    attempt = Attempt(number=3, started_at=datetime(2026, 1, 31, 12, tzinfo=UTC), **fields)
    url = "https://shop.example.com/hooks?a=1&b="
    sent = Sent(
        method="POST",
        url=url,
        request_line="POST /hooks?a=1&b= HTTP/1.1",
        headers=[("content-type", "application/cloudevents+json"), ("authorization", "***")]
        if sent_body
        else [],
        body=sent_body,
        trace_id=None,
    )
    log = json.loads(har_of(attempt, sent, received))["log"]
    assert log["version"] == "1.2"
    assert {"name", "version"} <= log["creator"].keys()
    (entry,) = log["entries"]
    assert entry.keys() >= ENTRY
    assert entry["request"].keys() >= REQUEST
    assert entry["response"].keys() >= RESPONSE
    assert entry["response"]["content"].keys() >= {"size", "mimeType"}
    return dict(entry)


def answer(body: bytes = b"", **changes: Any) -> Received:
    """What came back."""
    values: dict[str, Any] = {
        "status": 200,
        "phrase": "OK",
        "headers": [("Content-Type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")],
        "body": body,
        "truncated": False,
        "whole_size": None,
    }
    return Received(**(values | changes))


def test_nothing_came_back() -> None:
    """A status of 0, as browsers write it, and why as a comment; nothing is invented."""
    entry = entry_of(None, sent_body=None, error_message="The host name was not found.")

    assert entry["response"]["status"] == 0
    assert entry["response"]["comment"] == "The host name was not found."
    assert "postData" not in entry["request"]
    assert entry["request"]["bodySize"] == -1
    assert "serverIPAddress" not in entry


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b"", {"size": 0, "text": ""}),
        (b"<b>\xc3\xa4\x00</b>", {"size": 10, "text": "<b>ä\x00</b>"}),
        (b"\xff\xfe", {"size": 2, "text": base64.b64encode(b"\xff\xfe").decode(), "encoding": "base64"}),
    ],
)
def test_bodies_come_through_byte_for_byte(body: bytes, content: dict[str, Any]) -> None:
    """What is no text travels as base64; numbers keep their digits."""
    entry = entry_of(answer(body))

    assert entry["response"]["content"] == content | {"mimeType": "text/plain"}
    assert entry["response"]["bodySize"] == len(body)
    assert entry["request"]["postData"] == {"mimeType": "application/cloudevents+json", "text": BODY.decode()}
    assert entry["request"]["bodySize"] == len(BODY)


def test_what_was_cut_off_says_so() -> None:
    """The beginning is there, with a comment."""
    entry = entry_of(answer(b"begin", truncated=True))

    assert "truncated" in entry["response"]["content"]["comment"]


def test_headers_and_queries_are_kept_in_their_order() -> None:
    """Repeated ones, too; masked values stay masked."""
    entry = entry_of(answer(headers=[("Location", "/x"), ("A", "1"), ("A", "2")], status=302), ip="192.0.2.7")

    assert entry["response"]["headers"][1:] == [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    assert entry["response"]["redirectURL"] == "/x"
    assert entry["request"]["queryString"] == [{"name": "a", "value": "1"}, {"name": "b", "value": ""}]
    assert {"name": "authorization", "value": "***"} in entry["request"]["headers"]
    assert entry["serverIPAddress"] == "192.0.2.7"


@pytest.mark.parametrize(
    ("measured", "timings"),
    [
        ({}, {"blocked": -1, "dns": -1, "connect": -1, "ssl": -1, "send": 0, "wait": 0, "receive": 0}),
        (
            {
                "queue_ms": 5.0,
                "dns_ms": 1.0,
                "connect_ms": 2.0,
                "tls_ms": 3.0,
                "send_ms": 4.0,
                "wait_ms": 9.0,
            },
            {"blocked": 5, "dns": 1, "connect": 5, "ssl": 3, "send": 4, "wait": 9, "receive": 0},
        ),
        (
            {"connect_ms": 2.0, "receive_ms": 7.0},
            {"blocked": -1, "dns": -1, "connect": 2, "ssl": -1, "send": 0, "wait": 0, "receive": 7},
        ),
    ],
)
def test_times_are_those_of_the_format(measured: dict[str, float], timings: dict[str, float]) -> None:
    """-1 is what does not apply; connect counts the handshake in; send, wait and receive are never missing."""
    assert entry_of(answer(), **measured)["timings"] == timings
