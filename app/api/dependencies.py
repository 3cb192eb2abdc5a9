"""What handlers name in their signatures. A route's policy is readable there: `caller: Operator`."""

from typing import Annotated

import msgspec
from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from app.api.auth import RequireInstanceKey, RequireRole, runtime_of
from app.core.context import Caller
from app.core.errors import Malformed
from app.core.runtime import Runtime
from app.models import Role


def _session_of(request: Request) -> AsyncSession:
    session: AsyncSession = request.state.session
    return session


async def _raw_fields(request: Request) -> dict[str, bytes]:
    try:
        fields = msgspec.json.decode(await request.body(), type=dict[str, msgspec.Raw])
    except RecursionError:
        raise Malformed("The body is nested more deeply than this server reads.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Whatever is wrong with it, the validation of the body says so.
        return {}
    return {name: bytes(value) for name, value in fields.items()}


Session = Annotated[AsyncSession, Depends(_session_of)]
"""The request's transaction (`TransactionalRoute` only). Never commit it: the route does."""

RuntimeDep = Annotated[Runtime, Depends(runtime_of)]
"""Settings, clock, key ring and engines of this process."""

RawFields = Annotated[dict[str, bytes], Depends(_raw_fields)]
"""The body's fields, each as the very bytes that were sent."""

Viewer = Annotated[Caller, Depends(RequireRole(Role.VIEWER, Role.OPERATOR, Role.ADMIN))]
"""May read."""

Operator = Annotated[Caller, Depends(RequireRole(Role.OPERATOR, Role.ADMIN))]
"""May retry, replay, cancel, pause."""

Admin = Annotated[Caller, Depends(RequireRole(Role.ADMIN))]
"""May change everything in its workspace."""

SecretReader = Annotated[Caller, Depends(RequireRole(Role.ADMIN))]
"""May see signing secrets. A right of its own: it may be given to fewer than may change things, never to more."""

Publisher = Annotated[Caller, Depends(RequireRole(Role.PUBLISHER, Role.ADMIN))]
"""May publish events."""

InstanceOperator = Annotated[None, Depends(RequireInstanceKey())]
"""Holds the instance key: manages workspaces, and sees nothing inside them."""
