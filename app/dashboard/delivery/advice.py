"""Why an attempt failed, in plain words, and what to do next: finer than its class where the record says more. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.core.error_classes import ErrorClass, explain
from app.dashboard.delivery.exchange import header_of, headers_of, phrase_of, redirect_of

if TYPE_CHECKING:
    from app.models import Attempt, Endpoint

_TITLES = {
    ErrorClass.DNS_ERROR: "Host name not found",
    ErrorClass.BLOCKED_ADDRESS: "Address is private or forbidden",
    ErrorClass.CONNECT_REFUSED: "Nothing is listening",
    ErrorClass.CONNECT_TIMEOUT: "No answer to the connection",
    ErrorClass.TLS_ERROR: "No trusted TLS connection",
    ErrorClass.READ_TIMEOUT: "No answer in time",
    ErrorClass.HTTP_3XX: "Redirected",
    ErrorClass.HTTP_4XX: "Receiver rejected the request",
    ErrorClass.HTTP_410: "Receiver said stop",
    ErrorClass.HTTP_429: "Receiver is limiting us",
    ErrorClass.HTTP_5XX: "Receiver error",
    ErrorClass.PROTOCOL_ERROR: "Broken HTTP answer",
    ErrorClass.HEADERS_TOO_LARGE: "Answer's headers are too large",
    ErrorClass.WORKER_LOST: "Worker lost",
    ErrorClass.EXPIRED: "Deadline passed",
}
_BY_STATUS = {
    400: "Receiver found the request malformed",
    401: "Receiver refused us: not authorised",
    403: "Receiver refused us: forbidden",
    404: "Wrong path: the receiver has no such route",
    405: "Wrong method: the route does not take POST",
    413: "Payload too large for the receiver",
    415: "Receiver does not take this content type",
    422: "Receiver did not accept the content",
}
# A proxy in front of the receiver answers with these when the receiver does not.
_FROM_PROXIES = {
    502: (
        "The proxy in front of the receiver got no usable answer from it.",
        "Check that the receiver's process runs and that the proxy's upstream is right.",
    ),
    503: (
        "The receiver, or the proxy in front of it, is overloaded or down.",
        "Check that the receiver is up. If it sheds load, set a rate limit or a lower concurrency on the endpoint.",
    ),
    504: (
        "The proxy in front of the receiver waited too long for it.",
        "Answer 2xx first and do the work afterwards: the proxy's own limit is shorter than the endpoint's timeout.",
    ),
}
# What the certificate's check says -> (title, likely cause, what to do).
_TLS = (
    (
        "has expired",
        "Certificate has expired",
        "Its renewal failed, or the server still serves the old file.",
        "Renew the certificate and reload the receiver's web server.",
    ),
    (
        "another host name",
        "Certificate is for another host name",
        "The URL names a host that the certificate does not: a new name, a missing SAN, or the wrong virtual host.",
        "Issue a certificate with this name, or save the URL under the name that the certificate has.",
    ),
    (
        "not for this IP address",
        "Certificate is not for this IP address",
        "The URL has an address where the certificate has a name.",
        "Use the host name in the endpoint's URL.",
    ),
    (
        "self-signed",
        "Certificate is self-signed",
        "No authority vouches for it.",
        "Use a certificate of a public authority.",
    ),
    (
        "chain is incomplete",
        "Certificate chain is incomplete",
        "The server sends its own certificate without the intermediate one. Browsers fetch it; programs do not.",
        "Serve the full chain (often fullchain.pem in place of cert.pem).",
    ),
    (
        "root that is not trusted",
        "Certificate's root is not trusted",
        "It was issued by a private authority.",
        "Use a certificate of a public authority.",
    ),
    (
        "not valid yet",
        "Certificate is not valid yet",
        "It begins in the future, or a clock is wrong.",
        "Check the certificate's dates and the clocks of both sides.",
    ),
    (
        "does not speak TLS",
        "The port does not speak TLS",
        "A plain HTTP server listens there.",
        "Correct the scheme or the port in the endpoint's URL.",
    ),
)
_PERMANENT = frozenset({301, 308})


@dataclass(frozen=True, slots=True)
class Advice:
    """`title` says what happened, `what` is the record's own sentence, then the likely cause and the next step.

    `redirect` is where a redirect points to, if that could be the endpoint's URL.
    """

    title: str
    what: str
    cause: str | None
    next_step: str
    error_class: str | None
    redirect: str | None = None


def advise(attempt: Attempt, endpoint: Endpoint) -> Advice | None:
    """Return what is to be said about an attempt that did not succeed; None if it did."""
    if attempt.outcome == "succeeded":
        return None
    error_class = ErrorClass(attempt.error_class) if attempt.error_class else ErrorClass.WORKER_LOST
    status = attempt.response_status
    sentence, hint = explain(error_class, status)
    title = _BY_STATUS.get(status or 0) if error_class is ErrorClass.HTTP_4XX else None
    title = title or _TITLES[error_class]
    cause: str | None = None
    redirect: str | None = None
    if error_class is ErrorClass.TLS_ERROR:
        found = next((row for row in _TLS if row[0] in (attempt.error_message or "")), None)
        if found is not None:
            _, title, cause, hint = found
    elif error_class is ErrorClass.READ_TIMEOUT:
        title = f"No answer in {endpoint.timeout_seconds} s"
        cause = "The receiver works through the event before it answers, or it is overloaded."
    elif error_class is ErrorClass.HTTP_3XX:
        redirect = redirect_of(attempt)
        title, cause, hint = _redirected(status, redirect)
    elif error_class is ErrorClass.HTTP_429:
        title, cause = _limited(attempt)
    elif error_class is ErrorClass.HTTP_5XX:
        title = f"Receiver error: {status} {phrase_of(status)}".rstrip()
        cause, hint = _FROM_PROXIES.get(status or 0, ("The receiver's own code failed.", hint))
    elif error_class is ErrorClass.HTTP_4XX and status == 405:  # noqa: PLR2004 - method not allowed
        allowed = header_of(headers_of(attempt.response_headers), "allow")
        cause = f"The receiver says that it allows {allowed}." if allowed else None
    elif error_class in (ErrorClass.DNS_ERROR, ErrorClass.CONNECT_REFUSED, ErrorClass.CONNECT_TIMEOUT):
        title = f"{title}: {_place(attempt.request_url)}"
    return Advice(
        title=title,
        what=attempt.error_message or sentence,
        cause=cause,
        next_step=hint,
        error_class=error_class.value,
        redirect=redirect,
    )


def _redirected(status: int | None, redirect: str | None) -> tuple[str, str, str]:
    cause = "The receiver has moved, or its server adds a slash, https or www. Redirects of webhooks are not followed."
    if redirect is None:
        return (
            "Redirected to nowhere",
            "The answer has no Location that could be an endpoint.",
            "Ask the receiver for the right address and save it as the endpoint's URL.",
        )
    hint = (
        "Save the target as the endpoint's URL."
        if status in _PERMANENT
        else "The receiver says that this is for a time only: ask which address is right, then save it."
    )
    return f"Redirected to {_place(redirect)} (not followed)", cause, hint


def _limited(attempt: Attempt) -> tuple[str, str]:
    seconds = attempt.retry_after_seconds
    asked = f", asks for {seconds:,} s" if seconds is not None else ""
    return (
        f"Receiver is limiting us{asked}",
        "More came than the receiver takes. All of the endpoint's deliveries wait as long as its Retry-After asks.",
    )


def _place(url: str) -> str:
    """Return host and port of an address."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return "the endpoint's host"
