"""What one attempt sent and got back, put together again from the record: pure.

The record has the headers (own values masked) and the response; the body is made again from the event, by the code
that workers use, so it is the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import orjson

from app.core import ids
from app.endpoints.headers import MASK
from app.endpoints.targets import shown_url
from app.events.bodies import CLOUDEVENTS, STANDARD, cloudevents_body, standard_body

if TYPE_CHECKING:
    from app.core.context import Caller
    from app.models import Attempt, Event

Headers = list[tuple[str, str]]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_TRACE_PARTS = 4
# A receiver's header that names an address; its query is a secret as the endpoint's own is.
_ADDRESSES = frozenset({"location", "content-location"})


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it went out. `headers` is empty where nothing was sent; `body` is None where it is gone."""

    method: str
    url: str
    request_line: str
    headers: Headers
    body: bytes | None
    trace_id: str | None

    @property
    def masked(self) -> list[str]:
        """The names of headers whose values are not shown."""
        return [name for name, value in self.headers if value == MASK]


@dataclass(frozen=True, slots=True)
class Received:
    """What came back: a whole response, or the first bytes of what was none."""

    status: int | None
    phrase: str
    headers: Headers
    body: bytes
    truncated: bool
    # How long the receiver said that its body is.
    whole_size: int | None

    @property
    def content_type(self) -> str | None:
        """What the receiver says that its body is."""
        return header_of(self.headers, "content-type")


def headers_of(stored: bytes | None) -> Headers:
    """Return stored headers as pairs, in their order, repeated ones too."""
    return [(name, value) for name, value in orjson.loads(stored)] if stored else []


def header_of(headers: Headers, name: str) -> str | None:
    """Return the first value of a header; the case of its name makes no difference."""
    return next((value for key, value in headers if key.lower() == name), None)


def bodies_of(event: Event | None) -> dict[str, bytes]:
    """Return the bodies that an event is sent as, by format; none once its data is gone."""
    if event is None or event.data is None:
        return {}
    return {
        STANDARD: standard_body(event_type=event.type, occurred_at=event.occurred_at, data=event.data),
        CLOUDEVENTS: cloudevents_body(
            event_id=ids.to_text(ids.EVENT, event.id),
            application_id=event.application_id,
            event_type=event.type,
            occurred_at=event.occurred_at,
            data=event.data,
        ),
    }


def format_of(headers: Headers, *, now: str) -> str:
    """Return the format that an attempt was sent in, by its content type; `now` is the endpoint's present one."""
    content_type = (header_of(headers, "content-type") or "").lower()
    if content_type.startswith("application/cloudevents"):
        return CLOUDEVENTS
    # A content type of the endpoint's own is masked and says nothing.
    return STANDARD if content_type.startswith("application/json") else now


def sent_by(attempt: Attempt, *, body: bytes | None, caller: Caller) -> Sent:
    """Return the request of an attempt, with the three headers that every request has and the record leaves out."""
    own = headers_of(attempt.request_headers)
    url = shown_url(attempt.request_url, caller)
    headers: Headers = []
    if own:
        headers = [("host", host_of(attempt.request_url)), ("accept-encoding", "identity"), *own]
        if body is not None:
            headers.append(("content-length", str(len(body))))
    return Sent(
        method="POST",
        url=url,
        request_line=f"POST {_path_of(url)} HTTP/{attempt.http_version or '1.1'}",
        headers=headers,
        body=body,
        trace_id=_trace_id(header_of(own, "traceparent")),
    )


def received_by(attempt: Attempt, *, caller: Caller) -> Received | None:
    """Return what came back, or None if nothing did."""
    if attempt.response_status is None and not attempt.response_body:
        return None
    headers = [
        (name, shown_url(value, caller) if name.lower() in _ADDRESSES else value)
        for name, value in headers_of(attempt.response_headers)
    ]
    length = header_of(headers, "content-length") or ""
    body = attempt.response_body or b""
    return Received(
        status=attempt.response_status,
        phrase=phrase_of(attempt.response_status),
        headers=headers,
        body=body,
        truncated=attempt.response_body_truncated,
        whole_size=int(length) if length.isascii() and length.isdigit() and len(body) < int(length) else None,
    )


def phrase_of(status: int | None) -> str:
    """Return the words that go with a status; none for one that nobody has defined."""
    try:
        return HTTPStatus(status or 0).phrase
    except ValueError:
        return ""


def redirect_of(attempt: Attempt) -> str | None:
    """Return where a redirect points to, as a whole address; None if it names no place that could be an endpoint."""
    location = header_of(headers_of(attempt.response_headers), "location")
    if not location:
        return None
    try:
        target = urljoin(attempt.request_url, location.strip())
        parts = urlsplit(target)
        usable = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.username is None
    except ValueError:
        return None
    plain = target.partition("#")[0]
    return plain if usable and plain != attempt.request_url else None


def host_of(url: str) -> str:
    """Return the `host` header of requests to an address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if port is None or port == _DEFAULT_PORTS.get(parts.scheme) else f"{host}:{port}"


def _path_of(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "/"
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _trace_id(traceparent: str | None) -> str | None:
    parts = (traceparent or "").split("-")
    return parts[1] if len(parts) == _TRACE_PARTS else None
