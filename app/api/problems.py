"""Every error as `application/problem+json` (RFC 9457): the one place where errors get their HTTP status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import psycopg
import structlog
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.api.problem_types import ProblemType, find_problem_type
from app.api.validation import field_errors
from app.core import db
from app.core.errors import (
    BellwireError,
    DatabaseUnavailable,
    FieldError,
    Invalid,
    NotFound,
    RequestError,
)
from app.core.pasted_secrets import without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE = "application/problem+json"
# Long enough for a failover to get on, short enough that nobody waits for nothing.
DATABASE_RETRY_AFTER_SECONDS = 2

# Postgres: a character that its text cannot hold, in a text or in jsonb.
_BAD_TEXT_STATES = frozenset({"22021", "22P05"})
# Postgres: the statement took too long, or waited too long for a lock.
_TOO_SLOW_STATES = frozenset({"57014", "55P03"})
_STATUS_SLUGS = {
    400: "bad-request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid",
    429: "rate-limited",
    503: "too-busy",
}
_INTERNAL = "internal"

_log = structlog.get_logger(__name__)


class TooLarge(RequestError):
    """The body is longer than the limit; it was not read to its end."""

    slug = "too-large"


class UnsupportedMediaType(RequestError):
    """The body is not JSON by its own account."""

    slug = "unsupported-media-type"


class RateLimited(RequestError):
    """The key has used up its requests for now. `headers` are the `RateLimit-*` headers."""

    slug = "rate-limited"

    def __init__(self, detail: str, *, retry_after_seconds: int, headers: Mapping[str, str]) -> None:
        super().__init__(detail, retry_after_seconds=retry_after_seconds)
        self.headers = headers


def as_problem(error: RequestError, *, instance: str, request_id: str) -> dict[str, Any]:
    """Return an error as the members of a problem document; a batch puts it among its results."""
    return _members(
        _type_of(error.slug),
        detail=error.detail,
        instance=instance,
        request_id=request_id,
        errors=error.errors if isinstance(error, Invalid) else [],
    )


def problem_response(error: BaseException, *, instance: str, request_id: str) -> Response:
    """Return the answer for any exception; what is not known is logged and becomes a 500 without details."""
    known = _translate(error)
    if known is None:
        _log.error("request.failed", exc_info=error, request_id=request_id)
        members = _members(
            _type_of(_INTERNAL),
            detail="The server met a fault that it did not expect. Try again; if it happens again, give this "
            "request_id to the operator.",
            instance=instance,
            request_id=request_id,
            errors=[],
        )
        return _respond(members, {})
    headers: dict[str, str] = {}
    if known.retry_after_seconds is not None:
        headers["Retry-After"] = str(known.retry_after_seconds)
    if isinstance(known, RateLimited | _Plain):
        headers |= known.headers
    if known.slug == "unauthenticated":
        headers["WWW-Authenticate"] = 'Bearer realm="bellwire"'
    if known.slug == "too-large":
        # The rest of the body is not read, so nothing can follow on this connection.
        headers["Connection"] = "close"
    return _respond(as_problem(known, instance=instance, request_id=request_id), headers)


def install(app: FastAPI) -> None:
    """Let an application answer all its errors with problems."""
    for kind in (BellwireError, RequestValidationError, HTTPException, SQLAlchemyError, psycopg.Error):
        app.add_exception_handler(kind, _handle)


class _Plain(RequestError):
    """An error that Starlette raised by its status: no route, a wrong method."""

    def __init__(self, detail: str, *, slug: str, headers: Mapping[str, str]) -> None:
        super().__init__(detail, slug=slug)
        self.headers = headers


async def _handle(request: Request, error: Exception) -> Response:
    seen = request.app.state.auth_failures.judge(error, request)
    return problem_response(
        seen, instance=request.url.path, request_id=getattr(request.state, "request_id", "")
    )


def _translate(error: BaseException) -> RequestError | None:
    """Return the error that the caller may see, or None where the fault is ours."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, RequestValidationError):
        return _of_validation(error)
    if isinstance(error, HTTPException):
        return _of_status(error)
    found = _of_postgres(error)
    if found is not None:
        return found
    if db.is_away(error):
        _log.warning("database.unavailable", error=type(error).__name__)
        detail = str(error) if isinstance(error, DatabaseUnavailable) else ""
        return RequestError(
            detail or db.away_message(),
            slug="database-unavailable",
            retry_after_seconds=DATABASE_RETRY_AFTER_SECONDS,
        )
    return None


def _of_validation(error: RequestValidationError) -> RequestError:
    errors = field_errors(error.errors(), body=error.body)
    if len(errors) == 1:
        place = errors[0].pointer or "the body"
        return Invalid(f"{place}: {errors[0].detail}", errors=errors)
    return Invalid(f"{len(errors)} values are not allowed; `errors` says which and why.", errors=errors)


def _of_status(error: HTTPException) -> RequestError:
    slug = _STATUS_SLUGS.get(error.status_code, "bad-request" if error.status_code < 500 else _INTERNAL)  # noqa: PLR2004
    if slug == "not-found":
        return NotFound("No route has this path. All paths are listed at /docs.")
    headers = dict(error.headers or {})
    if slug == "method-not-allowed":
        detail = f"This path takes {headers.get('Allow', 'other methods')} only. See /docs."
    else:
        detail = str(error.detail)
    return _Plain(detail, slug=slug, headers=headers)


def _of_postgres(error: BaseException) -> RequestError | None:
    original = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(original, psycopg.Error):
        return None
    # psycopg itself refuses NUL before anything is sent; then there is no state.
    if original.sqlstate in _BAD_TEXT_STATES or "NUL" in str(original):
        return Invalid(
            "A text in the request holds the NUL character (\\u0000), which cannot be stored. Remove it."
        )
    if original.sqlstate in _TOO_SLOW_STATES:
        _log.warning("database.too_slow", sqlstate=original.sqlstate)
        return RequestError(
            "The database took too long, so the request was given up and nothing was stored. Try again.",
            slug="too-busy",
            retry_after_seconds=DATABASE_RETRY_AFTER_SECONDS,
        )
    return None


def _members(
    kind: ProblemType, *, detail: str, instance: str, request_id: str, errors: list[FieldError]
) -> dict[str, Any]:
    members: dict[str, Any] = {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": without_secrets(detail),
        "instance": without_secrets(instance),
        "request_id": request_id,
    }
    if errors:
        members["errors"] = [
            {"pointer": without_secrets(item.pointer), "detail": without_secrets(item.detail)}
            for item in errors
        ]
    return members


def _type_of(slug: str) -> ProblemType:
    found = find_problem_type(slug)
    if found is None:
        raise LookupError(f"The problem {slug!r} has no entry in app/api/problem_types.py.")
    return found


def _respond(members: dict[str, Any], headers: dict[str, str]) -> Response:
    return Response(
        orjson.dumps(members), status_code=members["status"], media_type=MEDIA_TYPE, headers=headers
    )
