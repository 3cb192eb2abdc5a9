"""What an attempt means: from the exchange, or from the error that ended it. Pure: no clock, no I/O."""

from datetime import datetime

import msgspec

from app.core.error_classes import ErrorClass
from workers.http1.errors import SendError
from workers.http1.exchange import Exchange


class Outcome(msgspec.Struct, kw_only=True, frozen=True):
    """The result of one attempt in the words of the delivery log.

    `message` and `hint` are None on success; `note` may be set then (a broken body after a 2xx).
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
    raise NotImplementedError


def classify_error(error: SendError) -> Outcome:
    """Return the outcome of an attempt that brought no usable answer."""
    raise NotImplementedError


def parse_retry_after(value: bytes, *, now: datetime) -> float | None:
    """Return seconds from `now`, clamped to 24 h; None for garbage, negatives and dates in the past."""
    raise NotImplementedError
