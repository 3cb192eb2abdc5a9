"""The classes of failed attempts: one table for workers, API, dashboard, docs and metrics.

A class says what went wrong in terms that a person can act on. Each has a sentence (what happened and why) and a
hint (what to do next); `explain` is finer where the status of the response says more than its class.
What makes a delivery wait (an open circuit, a rate limit, a full cap, a pause, a `Retry-After`) is not an error.
"""

from enum import StrEnum

FIRST_REDIRECT = 300
FIRST_CLIENT_ERROR = 400
FIRST_SERVER_ERROR = 500
END_OF_STATUSES = 600


class ErrorClass(StrEnum):
    """Why an attempt failed; the value is what API, metrics and tables show."""

    DNS_ERROR = "dns_error"
    BLOCKED_ADDRESS = "blocked_address"
    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS_ERROR = "tls_error"
    READ_TIMEOUT = "read_timeout"
    HTTP_3XX = "http_3xx"
    HTTP_4XX = "http_4xx"
    HTTP_410 = "http_410"
    HTTP_429 = "http_429"
    HTTP_5XX = "http_5xx"
    PROTOCOL_ERROR = "protocol_error"
    HEADERS_TOO_LARGE = "headers_too_large"
    WORKER_LOST = "worker_lost"
    EXPIRED = "expired"


def explain(error_class: ErrorClass, status: int | None = None) -> tuple[str, str]:
    """Return (sentence, hint) for a person; `status` makes them finer where the table has an entry for it."""
    if status is not None and error_class is ErrorClass.HTTP_4XX:
        finer = _BY_STATUS.get(status)
        if finer is not None:
            return finer
    return _BY_CLASS[error_class]


def classify_status(status: int) -> ErrorClass | None:
    """Return the class of a final response status, or None for a success (2xx).

    What is no HTTP status of a final response (below 200, 600 and above) is a protocol error.
    """
    if 200 <= status < FIRST_REDIRECT:  # noqa: PLR2004 - success is 2xx
        return None
    special = _SPECIAL_STATUSES.get(status)
    if special is not None:
        return special
    if FIRST_REDIRECT <= status < FIRST_CLIENT_ERROR:
        return ErrorClass.HTTP_3XX
    if FIRST_CLIENT_ERROR <= status < FIRST_SERVER_ERROR:
        return ErrorClass.HTTP_4XX
    if FIRST_SERVER_ERROR <= status < END_OF_STATUSES:
        return ErrorClass.HTTP_5XX
    return ErrorClass.PROTOCOL_ERROR


_SPECIAL_STATUSES = {410: ErrorClass.HTTP_410, 429: ErrorClass.HTTP_429}

_REFUSED = (
    "The receiver refused the request.",
    "Check the endpoint's auth header, the receiver's signature check, and its clock: "
    "signatures older than 5 minutes are refused.",
)
_WRONG_ROUTE = (
    "The receiver has no route for this request: wrong path or method.",
    "Check the path of the endpoint's URL; the route must accept POST.",
)

_BY_STATUS: dict[int, tuple[str, str]] = {
    401: _REFUSED,
    403: _REFUSED,
    404: _WRONG_ROUTE,
    405: _WRONG_ROUTE,
    413: (
        "The payload is too large for the receiver.",
        "Raise the receiver's limit for request bodies, or publish smaller events.",
    ),
}

_BY_CLASS: dict[ErrorClass, tuple[str, str]] = {
    ErrorClass.DNS_ERROR: (
        "The host name was not found.",
        "Check the endpoint's URL for a typing error, and that the name has a DNS record.",
    ),
    ErrorClass.BLOCKED_ADDRESS: (
        "The address is private or forbidden, so nothing was sent.",
        "Use a public address, or ask the operator to allow the range in BELLWIRE_EGRESS_ALLOW.",
    ),
    ErrorClass.CONNECT_REFUSED: (
        "Nothing is listening at this address.",
        "Check that the receiver runs and listens on the URL's port, and that a firewall lets our addresses in.",
    ),
    ErrorClass.CONNECT_TIMEOUT: (
        "The address did not answer when we connected.",
        "Check that the receiver is up and that a firewall lets our addresses in.",
    ),
    ErrorClass.TLS_ERROR: (
        "No trusted TLS connection could be made.",
        "Renew the certificate, make it match the host name, and send the full chain.",
    ),
    ErrorClass.READ_TIMEOUT: (
        "The receiver took the request but did not answer in time.",
        "Answer 2xx first and do the work afterwards, or raise the endpoint's timeout_seconds.",
    ),
    ErrorClass.HTTP_3XX: (
        "The receiver redirected the request; redirects are not followed.",
        "Save the redirect's target as the endpoint's URL.",
    ),
    ErrorClass.HTTP_4XX: (
        "The receiver rejected the request.",
        "Read the response body: it usually says what the receiver did not accept.",
    ),
    ErrorClass.HTTP_410: (
        "The receiver said that it wants no more deliveries (410 Gone), so the endpoint is disabled.",
        "Enable the endpoint again when the receiver is ready.",
    ),
    ErrorClass.HTTP_429: (
        "The receiver is limiting us.",
        "We wait as long as its Retry-After asks; consider a rate limit on the endpoint.",
    ),
    ErrorClass.HTTP_5XX: (
        "The receiver failed while it handled the request.",
        "Search the receiver's logs for the webhook-id of this delivery.",
    ),
    ErrorClass.PROTOCOL_ERROR: (
        "The receiver's answer was not valid HTTP.",
        "Look for a fault in the proxy or framework in front of the receiver; the attempt shows what came.",
    ),
    ErrorClass.HEADERS_TOO_LARGE: (
        "The header section of the receiver's answer was too large.",
        "Let the receiver answer with fewer and shorter headers: at most 50, and 8 KiB in all.",
    ),
    ErrorClass.WORKER_LOST: (
        "The worker was lost before the result could be recorded, so the delivery is sent again.",
        "Nothing to do for the receiver: it may get the same webhook-id twice. Operators find the cause in the "
        "worker's log.",
    ),
    ErrorClass.EXPIRED: (
        "The delivery grew older than its deadline before it succeeded.",
        "Repair the endpoint, then replay the delivery; max_age_seconds sets the deadline.",
    ),
}
