"""What an attempt means: from the exchange, or from the error that ended it. Pure: no clock, no I/O."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from app.core.error_classes import ErrorClass, classify_status, explain
from workers.http1.errors import SendError
from workers.http1.exchange import Exchange

MAX_RETRY_AFTER_SECONDS = 86_400.0
# Longer values are no date and no number that anybody meant.
MAX_RETRY_AFTER_LENGTH = 64
HONOURS_RETRY_AFTER = frozenset({429, 503})
MAX_LOCATION_LENGTH = 200


class Outcome(msgspec.Struct, gc=False, kw_only=True, frozen=True):
    """The result of one attempt in the words of the delivery log.

    `message` and `hint` are None on success; `note` tells of a broken body behind a good status line.
    `retry_after_seconds` is what a 429 or 503 asked for, in 0..86,400 from now; None when it did not.
    `gone` is a 410: the endpoint is to be disabled. `blocked` is a target that the egress policy forbids.
    """

    succeeded: bool
    status: int | None = None
    error_class: ErrorClass | None = None
    message: str | None = None
    hint: str | None = None
    note: str | None = None
    retry_after_seconds: float | None = None
    gone: bool = False
    blocked: bool = False


def classify_exchange(exchange: Exchange, *, now: datetime) -> Outcome:
    """Return the outcome of a final response; `now` (aware) is what an HTTP date in `Retry-After` counts from."""
    status = exchange.status
    error_class = classify_status(status)
    if error_class is None:
        return Outcome(succeeded=True, status=status, note=exchange.note)
    sentence, hint = explain(error_class, status)
    retry_after = exchange.header(b"retry-after") if status in HONOURS_RETRY_AFTER else None
    return Outcome(
        succeeded=False,
        status=status,
        error_class=error_class,
        message=f"{sentence} (HTTP {status}){_where_to(exchange, error_class)}",
        hint=hint,
        note=exchange.note,
        retry_after_seconds=parse_retry_after(retry_after, now=now) if retry_after is not None else None,
        gone=error_class is ErrorClass.HTTP_410,
    )


def classify_error(error: SendError) -> Outcome:
    """Return the outcome of an attempt that brought no usable answer."""
    sentence, hint = explain(error.error_class)
    return Outcome(
        succeeded=False,
        status=error.status,
        error_class=error.error_class,
        message=f"{sentence} {error.message}",
        hint=hint,
        blocked=error.error_class is ErrorClass.BLOCKED_ADDRESS,
    )


def parse_retry_after(value: bytes, *, now: datetime) -> float | None:
    """Return seconds from `now`, at most 86,400; None for garbage, negatives and dates in the past."""
    text = value.strip().decode("latin-1")
    if not text or len(text) > MAX_RETRY_AFTER_LENGTH:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        date = parsedate_to_datetime(text)
        # RFC 9110: an HTTP date is in GMT, also when its obsolete forms do not say so.
        seconds = (date if date.tzinfo is not None else date.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return min(seconds.total_seconds(), MAX_RETRY_AFTER_SECONDS) if seconds.total_seconds() >= 0 else None


def _where_to(exchange: Exchange, error_class: ErrorClass) -> str:
    """Name a redirect's target, without its query: that may hold a secret."""
    location = exchange.header(b"location") if error_class is ErrorClass.HTTP_3XX else None
    if not location:
        return ""
    plain = location.decode("latin-1").partition("#")[0].partition("?")[0]
    shown = "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in plain
    )
    return f" It points to {shown[:MAX_LOCATION_LENGTH]}."
