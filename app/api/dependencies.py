"""What handlers name in their signatures. A route's policy is readable there: `caller: Operator`."""

from typing import Annotated

from fastapi import Depends
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from app.api.auth import RequireInstanceKey, RequireRole, runtime_of
from app.core.context import Caller
from app.core.runtime import Runtime
from app.models import Role


def _session_of(request: Request) -> AsyncSession:
    session: AsyncSession = request.state.session
    return session


Session = Annotated[AsyncSession, Depends(_session_of)]
"""The request's transaction (`TransactionalRoute` only). Never commit it: the route does."""

RuntimeDep = Annotated[Runtime, Depends(runtime_of)]
"""Settings, clock, key ring and engines of this process."""

Viewer = Annotated[Caller, Depends(RequireRole(Role.VIEWER, Role.OPERATOR, Role.ADMIN))]
"""May read."""

Operator = Annotated[Caller, Depends(RequireRole(Role.OPERATOR, Role.ADMIN))]
"""May retry, replay, cancel, pause."""

Admin = Annotated[Caller, Depends(RequireRole(Role.ADMIN))]
"""May change everything in its workspace and see secrets."""

Publisher = Annotated[Caller, Depends(RequireRole(Role.PUBLISHER, Role.ADMIN))]
"""May publish events."""

InstanceOperator = Annotated[None, Depends(RequireInstanceKey())]
"""Holds the instance key: manages workspaces, and sees nothing inside them."""
