"""The hot path: `POST /v1/events` and `/v1/events/batch`, without what FastAPI does around a handler.

The checks and their order are those of every route (settled.md §4.4); the API key comes from a ten-second memory,
and the accept statement checks again that it was not revoked. FastAPI keeps the route's description, and routes
other methods; a POST goes from `app.main` to `PublishRoute.answer` at once (docs/decisions/0009).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.api import idempotency
from app.api.auth import RequireRole, bearer_of, caller_of, header_of, runtime_of
from app.api.problems import as_problem
from app.api.routing import rate_key_of_caller, require_json_type
from app.core import db
from app.core.errors import DatabaseUnavailable, Forbidden, Malformed, RequestError
from app.models import Role, confine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    from app.core.context import Caller
    from app.events.meter import PublishMeter

MAY_PUBLISH = frozenset({Role.PUBLISHER, Role.ADMIN})


class PublishRoute(APIRoute):
    """A route whose handler takes the request, the caller and the body, and returns the whole response.

    `answer` is an ASGI application of its own. What it raises becomes a problem in `RequestMiddleware`.
    """

    # For the description only: the key is looked up in memory, see `_admit`.
    guard = RequireRole(*MAY_PUBLISH)

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = self.answer

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one POST: key, role, rate, size, type, then the handler."""
        scope["route"] = self
        request = Request(scope, receive)
        caller = await _admit(request)
        limits = scope["app"].state.rate_limiter.take(rate_key_of_caller(caller))
        body = await _body_of(receive)
        if not body:
            raise Malformed(
                'The body is empty. Send a JSON object, such as {"type": "order.placed", "data": {}}.'
            )
        require_json_type(request)
        response: Response = await self.endpoint(request, caller=caller, body=body)
        for name, value in limits.items():
            response.headers[name] = value
        await response(scope, receive, send)


async def at_most_once(
    request: Request,
    caller: Caller,
    body: bytes,
    *,
    publish: Callable[[Any], Awaitable[Response]],
) -> Response | None:
    """Run `publish(session)` in a transaction that keeps its answer, if the request has an `Idempotency-Key`.

    Returns None where it has none.
    """
    if header_of(request, idempotency.HEADER.lower().encode()) is None:
        return None
    keyed = idempotency.keyed_request(
        request, workspace_id=caller.workspace_id, application_id=caller.application_id, body=body
    )
    if keyed is None:
        return None
    runtime = runtime_of(request)
    async with request.app.state.keys_in_flight.one_at_a_time(keyed), runtime.sessions() as session:
        confine(session, caller.workspace_id)
        kept = await idempotency.claim(session, keyed, keyring=runtime.keyring)
        if kept is not None:
            return Response(
                kept.body,
                status_code=kept.status,
                media_type="application/json",
                headers={idempotency.REPLAYED_HEADER: "true"},
            )
        response = await publish(session)
        await idempotency.keep(
            session, keyed, keyring=runtime.keyring, status=response.status_code, body=bytes(response.body)
        )
        try:
            await session.commit()
        except Exception as error:
            if db.is_away(error):
                raise DatabaseUnavailable(
                    "The connection to the database was lost while the event was being stored, so it may or may not "
                    "be there. Send the same request with the same Idempotency-Key again."
                ) from error
            raise
        return response


def meter(request: Request, caller: Caller, *, events: int, body: bytes) -> None:
    """Count a publish against the quotas of its workspace.

    Raises:
        QuotaExceeded: they are used up for now.

    """
    state: dict[str, Any] = request.scope["state"]
    publish_meter: PublishMeter = request.app.state.publish_meter
    publish_meter.take(caller.workspace_id, state["quotas"], events=events, payload_bytes=len(body))


def problem_of(error: RequestError, request: Request) -> dict[str, Any]:
    """Return the problem that stands among a batch's results."""
    return as_problem(error, instance=request.url.path, request_id=request.state.request_id)


async def _admit(request: Request) -> Caller:
    key = await request.app.state.key_cache.get(bearer_of(request))
    request.scope["state"]["quotas"] = key.quotas
    caller = caller_of(key, request)
    if caller.role not in MAY_PUBLISH:
        raise Forbidden(
            f"This key's role is {caller.role.value}, but publishing needs the role publisher or admin. "
            "Use another key, or ask an admin of the workspace for one."
        )
    return caller


async def _body_of(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)
