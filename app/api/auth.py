"""Who is calling: from the `Authorization` header to a `Caller`, and the roles that a route asks for.

A guard stands in a handler's signature as a dependency; the route runs it before anything of the body is read.
The key is looked up in Postgres on each request, so a revoked key is refused at once.
"""

import hmac
from collections.abc import Awaitable
from datetime import datetime
from functools import lru_cache
from typing import Protocol
from uuid import UUID

from fastapi.dependencies.models import Dependant
from sqlalchemy.ext.asyncio import AsyncConnection
from starlette.requests import Request

from app.api.client_address import address_of
from app.core import ids
from app.core.context import Caller
from app.core.db import Autocommit
from app.core.errors import Forbidden, Unauthenticated
from app.core.runtime import Runtime
from app.models import Role

MAX_KEY_CHARS = 512
ALL_WORKSPACES = UUID(int=0)  # The scope of the instance key, for idempotency keys and rates.

_NO_KEY = (
    "This request has no API key. Send the header `Authorization: Bearer <api key>`; "
    "`bellwire keys create` makes a key."
)


class Key(Protocol):
    """A valid API key, as the look-up returns it."""

    @property
    def api_key_id(self) -> UUID:
        """Its id."""

    @property
    def workspace_id(self) -> UUID:
        """The workspace that it belongs to."""

    @property
    def application_id(self) -> UUID | None:
        """The one application that it is bound to, if any."""

    @property
    def role(self) -> Role:
        """What it may do."""

    @property
    def expires_at(self) -> datetime | None:
        """When it stops being valid."""


class FindKey(Protocol):
    """Looks a key up; `app.access.authenticate.find_key` does it, the application's start-up puts it in place."""

    def __call__(self, connection: AsyncConnection, text: str, /) -> Awaitable[Key]:
        """Return the key, or raise `Unauthenticated`."""


class Guard(Protocol):
    """Decides whether a request may go on; raises `Unauthenticated` or `Forbidden`."""

    async def admit(self, request: Request) -> None:
        """Check the request's key and remember who calls."""

    def __call__(self, request: Request) -> Caller | None:
        """Return who calls, to the handler."""


class RequireRole:
    """Admits callers with one of these roles."""

    def __init__(self, *roles: Role) -> None:
        self.roles = frozenset(roles)

    async def admit(self, request: Request) -> None:
        """Check the request's key and remember who calls."""
        caller = await authenticate(request)
        if caller.role not in self.roles:
            wanted = " or ".join(role.value for role in Role if role in self.roles)
            raise Forbidden(
                f"This key's role is {caller.role.value}, but this needs the role {wanted}. "
                "Use another key, or ask an admin of the workspace for one."
            )

    def __call__(self, request: Request) -> Caller:
        """Return who calls, to the handler."""
        caller: Caller = request.state.caller
        return caller


class RequireInstanceKey:
    """Admits the instance key only: what it does concerns all workspaces."""

    async def admit(self, request: Request) -> None:
        """Check that the request carries the instance key."""
        if _is_instance_key(request):
            return
        await authenticate(request)
        expected = runtime_of(request).settings.instance_key.get_secret_value()
        raise Forbidden(
            "Workspaces are managed with the instance key only, which the operator sets as BELLWIRE_INSTANCE_KEY; "
            "an API key of one workspace is not enough."
            if expected
            else "Workspaces cannot be managed here: no instance key is set. The operator may set "
            "BELLWIRE_INSTANCE_KEY and start the API again."
        )

    def __call__(self, request: Request) -> None:
        """Return nothing: the instance key stands for no one workspace."""


def guard_of(dependant: Dependant) -> Guard | None:
    """Return the guard among a route's dependencies."""
    for dependency in dependant.dependencies:
        if isinstance(dependency.call, RequireRole | RequireInstanceKey):
            return dependency.call
        found = guard_of(dependency)
        if found is not None:
            return found
    return None


async def authenticate(request: Request) -> Caller:
    """Return who calls, and keep it as `request.state.caller`.

    Raises:
        Unauthenticated: no key, or one that is unknown, revoked or expired.

    """
    text = bearer_of(request)
    state = request.app.state
    # Its own short transaction: a caller that sends its body slowly must not hold one open.
    async with Autocommit(state.runtime.engine).connect() as connection:
        key = await state.find_key(connection, text)
    caller = caller_of(key, request)
    request.state.caller = caller
    return caller


async def admit_any_key(request: Request) -> None:
    """Check that the request carries any valid key, the instance key included.

    Raises:
        Unauthenticated: it does not.

    """
    if not _is_instance_key(request):
        await authenticate(request)


def caller_of(key: Key, request: Request) -> Caller:
    """Return the caller that a valid key stands for in this request."""
    return Caller(
        workspace_id=key.workspace_id,
        role=key.role,
        actor_kind="api_key",
        actor_id=_text_of_key(key.api_key_id),
        application_id=key.application_id,
        address=address_of(request),
        request_id=request.scope.get("state", {}).get("request_id"),
        api_key_id=key.api_key_id,
    )


@lru_cache(maxsize=10_000)
def _text_of_key(api_key_id: UUID) -> str:
    return ids.to_text(ids.API_KEY, api_key_id)


def bearer_of(request: Request) -> str:
    """Return the key that the request carries.

    Raises:
        Unauthenticated: it carries none.

    """
    header = header_of(request, b"authorization")
    if header is None:
        raise Unauthenticated(_NO_KEY)
    scheme, _, text = header.partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text or len(text) > MAX_KEY_CHARS or not text.isascii():
        raise Unauthenticated(
            "The Authorization header is not of the form `Bearer <api key>`. " + _NO_KEY.split(". ", 1)[1]
        )
    return text


def header_of(request: Request, name: bytes) -> str | None:
    """Return a header of the request by its name in lower case: a tenth of what Starlette's mapping costs."""
    for given, value in request.scope["headers"]:
        if given == name:
            return bytes(value).decode("latin-1")
    return None


def runtime_of(request: Request) -> Runtime:
    """Return what the process holds."""
    runtime: Runtime = request.app.state.runtime
    return runtime


def _is_instance_key(request: Request) -> bool:
    expected = runtime_of(request).settings.instance_key.get_secret_value()
    given = bearer_of(request)
    return bool(expected) and hmac.compare_digest(given.encode(), expected.encode())
