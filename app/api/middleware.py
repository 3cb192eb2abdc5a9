"""What happens around every request, whatever it is: ids, limits, security headers, metrics, the last resort.

Pure ASGI: Starlette's BaseHTTPMiddleware costs a task and two queues per request.
"""

from __future__ import annotations

import os
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request

from app.api.problems import TooLarge, problem_response
from app.api.security_headers import SecurityHeaders
from app.core import metrics

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

BATCH_PATH = "/v1/events/batch"
SLOW_SECONDS = 1.0

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_READ = frozenset({b"x-request-id", b"traceparent", b"content-length"})

_log = structlog.get_logger(__name__)


class RequestMiddleware:
    """Gives each request its id and its body limit, and each answer its headers; turns any fault into a problem.

    Puts into the request's state: `request_id` (text) and `traceparent` (W3C Trace Context, or None).
    """

    def __init__(
        self, app: ASGIApp, *, max_body_bytes: int, max_batch_body_bytes: int, over_tls: bool
    ) -> None:
        """`over_tls`: callers reach this server by https, whatever stands in between."""
        self.app = app
        self.security_headers = SecurityHeaders(over_tls=over_tls)
        self.max_body_bytes = max_body_bytes
        self.max_batch_body_bytes = max_batch_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; lifespan events pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        given = _headers_of(scope)
        request_id = _request_id(given.get(b"x-request-id"))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["traceparent"] = _traceparent(given.get(b"traceparent"))
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = self.security_headers.completed(message.get("headers", ()))
                headers.append((b"x-request-id", request_id.encode()))
                message["headers"] = headers
            await send(message)

        limit = self.max_batch_body_bytes if scope["path"] == BATCH_PATH else self.max_body_bytes
        limited = _limited(receive, limit=limit, content_length=given.get(b"content-length"))
        try:
            await self.app(scope, limited, send_with_headers)
        except Exception as error:
            # Publishing comes here; what FastAPI's routes raise is answered by `problems`.
            seen = scope["app"].state.auth_failures.judge(error, Request(scope))
            response = problem_response(seen, instance=scope["path"], request_id=request_id)
            if status:
                # Too late for another answer; the server closes the connection.
                raise
            await response(scope, receive, send_with_headers)
        finally:
            _record(scope, status=status, seconds=time.monotonic() - began)
            structlog.contextvars.unbind_contextvars("request_id")


def _headers_of(scope: Scope) -> dict[bytes, bytes]:
    return {name: value for name, value in scope["headers"] if name in _READ}


def _request_id(given: bytes | None) -> str:
    if given:
        text = given.decode("latin-1")
        if _REQUEST_ID.fullmatch(text):
            return text
    return os.urandom(16).hex()


def _traceparent(given: bytes | None) -> str | None:
    if given is None:
        return None
    text = given.decode("latin-1")
    return text if _TRACEPARENT.fullmatch(text) else None


def _limited(receive: Receive, *, limit: int, content_length: bytes | None) -> Receive:
    """Raise `TooLarge` when the body is read and is longer than `limit` bytes; by its header, before the first."""
    announced = int(content_length) if content_length and content_length.isdigit() else 0
    seen = 0

    async def receive_limited() -> Message:
        nonlocal seen
        if announced > limit:
            raise _too_large(limit)
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > limit:
                raise _too_large(limit)
        return message

    return receive_limited


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        f"The body is longer than the {limit:,} bytes that this path takes, and was not read. Send less at once, "
        "or ask the operator to raise BELLWIRE_MAX_BODY_BYTES."
    )


def _record(scope: Scope, *, status: int, seconds: float) -> None:
    # The template, not the path: a path holds ids and would make a time series each.
    route = getattr(scope.get("route"), "path", "unmatched")
    requests, times = _counters_of(scope["method"], route, status)
    requests.inc()
    times.observe(seconds)
    if status >= 400 or seconds >= SLOW_SECONDS:  # noqa: PLR2004 - the rest is in the metrics
        _log.info(
            "request.finished",
            method=scope["method"],
            route=route,
            status=status,
            duration_ms=round(seconds * 1000, 1),
        )


@lru_cache(maxsize=1_000)
def _counters_of(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Remember the counters of a method, route and status: looking them up costs more than counting."""
    return metrics.HTTP_REQUESTS.labels(method, route, str(status)), metrics.HTTP_SECONDS.labels(
        method, route
    )
