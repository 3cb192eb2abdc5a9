"""What can go wrong, as one tree. Statuses are mapped in one place: `app/api/problems.py`.

    BellwireError
    ├── StartupError            the process cannot start; the message is for the operator
    ├── DatabaseUnavailable     503, try again
    └── RequestError            the caller can do something about it
        ├── NotFound            404
        ├── Conflict            409
        ├── Forbidden           403
        ├── Unauthenticated     401
        ├── TooBusy             503 with Retry-After
        ├── QuotaExceeded       429 with Retry-After
        ├── Invalid             422 with pointers
        └── Malformed           400, the body is not JSON at all

Each message says what happened, why, and what to do next. Workers and API raise the same errors.
"""

from __future__ import annotations

from dataclasses import dataclass


class BellwireError(Exception):
    """Base of all errors of Bellwire."""


class StartupError(BellwireError):
    """A process cannot start. The message is one sentence and a next step."""


class DatabaseUnavailable(BellwireError):
    """Postgres did not answer in time; nothing was stored."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault in the input: a JSON pointer (RFC 6901) and a sentence."""

    pointer: str
    detail: str


class RequestError(BellwireError):
    """Something the caller can correct. `slug` names the page under `/problems/`."""

    slug = "bad-request"
    retry_after_seconds: int | None = None

    def __init__(
        self, detail: str, *, slug: str | None = None, retry_after_seconds: int | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        if slug is not None:
            self.slug = slug
        if retry_after_seconds is not None:
            self.retry_after_seconds = retry_after_seconds


class NotFound(RequestError):
    """There is no such object in the caller's workspace."""

    slug = "not-found"


class Conflict(RequestError):
    """The object's state, or another object, does not allow it."""

    slug = "conflict"


class Forbidden(RequestError):
    """The key is good, but its role does not allow it."""

    slug = "forbidden"


class Unauthenticated(RequestError):
    """No key, or one that is wrong, revoked or expired."""

    slug = "unauthenticated"


class TooBusy(RequestError):
    """The server cannot take it now; nothing was stored; the same request may be sent again."""

    slug = "too-busy"
    retry_after_seconds = 1


class QuotaExceeded(RequestError):
    """The workspace has used up what it may use for now; nothing was stored."""

    slug = "quota-exceeded"
    retry_after_seconds = 1


class Invalid(RequestError):
    """The input breaks a rule; `errors` says where."""

    slug = "invalid"

    def __init__(
        self, detail: str, *, errors: list[FieldError] | None = None, slug: str | None = None
    ) -> None:
        super().__init__(detail, slug=slug)
        self.errors = errors or []

    @classmethod
    def at(cls, pointer: str, detail: str) -> Invalid:
        """One fault at one place."""
        return cls(detail, errors=[FieldError(pointer, detail)])


class Malformed(RequestError):
    """The body is not JSON in UTF-8, or not of the form that any request has."""

    slug = "malformed"
