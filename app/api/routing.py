"""The routes of the API: what happens around each handler, in the order of settled.md §4.4.

`ApiRoute`: key (401), role (403), rate (429), size of the body (413), its type (415), its JSON (400), unknown
query parameters (422), then FastAPI's own validation (422) and the handler.

`TransactionalRoute` adds one database transaction per request. It commits before the answer is sent: FastAPI runs
the exit code of dependencies after the response, when it is too late to take a 201 back.
"""

from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID

import orjson
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response

from app.api import idempotency
from app.api.auth import ALL_WORKSPACES, guard_of, header_of, runtime_of
from app.api.problems import UnsupportedMediaType
from app.core import db
from app.core.context import Caller
from app.core.errors import DatabaseUnavailable, FieldError, Invalid, Malformed, NotFound
from app.core.pointers import pointer_to
from app.models import confine

# Deeper ones are no requests of ours, and would exhaust the stack of whatever walks them.
MAX_DEPTH = 128
# A deadlock or a serialization failure is nobody's fault: the whole request is done again from its start.
MAX_TRIES = 3

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JsonRequest(Request):
    """A request whose body is read by orjson: strictly UTF-8, no NaN, no lone surrogates, at most 128 levels."""

    _parsed: Any = None

    async def json(self) -> Any:
        """Return the parsed body.

        Raises:
            Malformed: it is not JSON.

        """
        if self._parsed is None:
            body = await self.body()
            try:
                self._parsed = orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise Malformed(
                    f"The body is not JSON in UTF-8: {error}. Let a JSON library write it."
                ) from None
            if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _is_deep(self._parsed):
                raise Malformed(f"The body is nested more than {MAX_DEPTH} levels deep. Make it flatter.")
        return self._parsed


class ApiRoute(APIRoute):
    """A route that asks for a key and a role before it looks at anything else."""

    def get_route_handler(self) -> Handler:
        """Wrap FastAPI's handler; called once, when the route is made."""
        handler = super().get_route_handler()
        guard = guard_of(self.dependant)
        if guard is None:
            raise TypeError(f"{self.path} has no guard: give its handler a parameter like `caller: Viewer`.")
        known = _query_parameters(self.dependant)
        takes_body = self.body_field is not None
        needs_body = takes_body and bool(self.body_field and self.body_field.field_info.is_required())

        async def handle(request: Request) -> Response:
            request = JsonRequest(request.scope, request.receive)
            await guard.admit(request)
            limits = request.app.state.rate_limiter.take(rate_key_of(request))
            if takes_body:
                await _read_json(request, needed=needs_body)
            _check_address(request, known)
            response = await self.perform(request, handler)
            for name, value in limits.items():
                response.headers[name] = value
            return response

        return handle

    async def perform(self, request: Request, handler: Handler) -> Response:
        """Run the handler."""
        return await handler(request)


class TransactionalRoute(ApiRoute):
    """A route whose handler works in one transaction: committed before the answer, or rolled back as a whole."""

    async def perform(self, request: Request, handler: Handler) -> Response:
        """Run the handler in a transaction, at most once per Idempotency-Key."""
        if request.method != "POST":
            return await _in_transaction(request, handler, keyed=None)
        caller: Caller | None = getattr(request.state, "caller", None)
        keyed = idempotency.keyed_request(
            request,
            workspace_id=caller.workspace_id if caller else ALL_WORKSPACES,
            application_id=caller.application_id if caller else None,
            body=await request.body(),
        )
        if keyed is None:
            return await _in_transaction(request, handler, keyed=None)
        in_flight: idempotency.KeysInFlight = request.app.state.keys_in_flight
        async with in_flight.one_at_a_time(keyed):
            return await _in_transaction(request, handler, keyed=keyed)


async def _in_transaction(
    request: Request, handler: Handler, *, keyed: idempotency.KeyedRequest | None
) -> Response:
    for attempt in range(1, MAX_TRIES + 1):
        try:
            return await _try(request, handler, keyed=keyed)
        except SQLAlchemyError as error:
            if attempt == MAX_TRIES or not db.may_retry(error):
                raise
    raise AssertionError("unreachable")


async def _try(request: Request, handler: Handler, *, keyed: idempotency.KeyedRequest | None) -> Response:
    runtime = runtime_of(request)
    async with runtime.sessions() as session:
        request.state.session = session
        caller: Caller | None = getattr(request.state, "caller", None)
        if caller is not None:
            confine(session, caller.workspace_id)
        if keyed is not None:
            kept = await idempotency.claim(session, keyed, keyring=runtime.keyring)
            if kept is not None:
                return Response(
                    kept.body,
                    status_code=kept.status,
                    media_type="application/json" if kept.body else None,
                    headers={idempotency.REPLAYED_HEADER: "true"},
                )
        response = await handler(request)
        if keyed is not None and 200 <= response.status_code < 300:  # noqa: PLR2004 - only successes are kept
            await idempotency.keep(
                session,
                keyed,
                keyring=runtime.keyring,
                status=response.status_code,
                body=bytes(response.body),
            )
        try:
            await session.commit()
        except SQLAlchemyError as error:
            if db.is_away(error):
                raise DatabaseUnavailable(
                    "The connection to the database was lost while this request was being stored, so it may or may "
                    "not have taken effect. Look before you repeat it; with an Idempotency-Key repeating is safe."
                ) from error
            raise
        return response


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _query_parameters(dependant: Dependant) -> frozenset[str]:
    names = {field.alias for field in dependant.query_params}
    for dependency in dependant.dependencies:
        names |= _query_parameters(dependency)
    return frozenset(names)


def rate_key_of(request: Request) -> UUID:
    """Return whose token bucket a request draws from: its key's."""
    caller: Caller | None = getattr(request.state, "caller", None)
    return rate_key_of_caller(caller) if caller else ALL_WORKSPACES


def rate_key_of_caller(caller: Caller) -> UUID:
    """Return whose token bucket a caller draws from."""
    return caller.api_key_id or caller.workspace_id


async def _read_json(request: Request, *, needed: bool) -> None:
    body = await request.body()
    if not body:
        if needed:
            raise Invalid.at("", "A JSON object is required as the body.")
        return
    require_json_type(request)
    await request.json()


def require_json_type(request: Request) -> None:
    """Refuse a body that is not JSON by its own account.

    Raises:
        UnsupportedMediaType: its Content-Type is another, its charset is not UTF-8, or it is compressed.

    """
    kind, _, parameters = (header_of(request, b"content-type") or "").partition(";")
    kind = kind.strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType(
            f"The body's Content-Type is {kind or 'not given'}, but it must be JSON: send "
            "`Content-Type: application/json`."
        )
    charset = parameters.replace(" ", "").replace('"', "").lower() if parameters else ""
    if charset.startswith("charset=") and charset not in {"charset=utf-8", "charset=us-ascii"}:
        raise UnsupportedMediaType("JSON is sent in UTF-8. Leave the charset out, or make it utf-8.")
    encoding = header_of(request, b"content-encoding")
    if encoding is not None and encoding.strip().lower() != "identity":
        raise UnsupportedMediaType(
            "The body is compressed, which this server does not take. Send it as it is."
        )


def _check_address(request: Request, known: frozenset[str]) -> None:
    if "\x00" in request.url.path:
        raise NotFound("There is no object with such an id.")
    errors = []
    for name, value in request.query_params.multi_items():
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            errors.append(
                FieldError(pointer_to([name]), f"There is no such query parameter here. Known: {names}.")
            )
        elif "\x00" in value:
            errors.append(FieldError(pointer_to([name]), "Texts cannot hold the NUL character."))
    if errors:
        raise Invalid(f"{errors[0].pointer}: {errors[0].detail}", errors=errors)
