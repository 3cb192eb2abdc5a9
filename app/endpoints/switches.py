"""Enable, disable, pause, resume: whether an endpoint gets new events, and whether what waits is sent.

Disabled: nothing new for it, and what waits stays pending. Paused: events keep collecting, and wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from app.access import audit
from app.core import ids
from app.endpoints.changes import (
    disabled_by,
    forget_retries,
    lock_endpoint,
    make_visible_to_workers,
)
from app.endpoints.circuit import close_after_enabling
from app.endpoints.disabling import tell_of_disabled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.models import Endpoint

_UNBLOCK = text(
    "UPDATE endpoint_runtime SET fifo_blocked_by = NULL"
    " WHERE workspace_id = :workspace AND endpoint_id = :endpoint AND fifo_blocked_by IS NOT NULL RETURNING 1"
)


async def set_enabled(session: AsyncSession, caller: Caller, reference: str, *, enabled: bool) -> Endpoint:
    """Enable or disable an endpoint. Safe to repeat: a second time nothing changes.

    Raises:
        NotFound: there is no such endpoint.

    """
    endpoint = await lock_endpoint(session, caller, reference)
    if endpoint.enabled is enabled:
        return endpoint
    endpoint.enabled = enabled
    endpoint.disabled_reason = None if enabled else await disabled_by(session, caller)
    await _switch(
        session,
        caller,
        endpoint,
        on=enabled,
        action="enabled" if enabled else "disabled",
        changed={"enabled": (not enabled, enabled)},
        routing=True,
    )
    if enabled:
        await close_after_enabling(session, caller, endpoint)
    if not enabled:
        await tell_of_disabled(session, endpoint)
    return endpoint


async def set_paused(session: AsyncSession, caller: Caller, reference: str, *, paused: bool) -> Endpoint:
    """Pause or resume an endpoint. Safe to repeat: a second time nothing changes.

    Resuming lets a FIFO line go on that a dead delivery holds up, also where the endpoint is not paused.

    Raises:
        NotFound: there is no such endpoint.

    """
    endpoint = await lock_endpoint(session, caller, reference)
    which = {"workspace": endpoint.workspace_id, "endpoint": endpoint.id}
    unblocked = not paused and (await session.execute(_UNBLOCK, which)).first() is not None
    if endpoint.paused is paused and not unblocked:
        return endpoint
    changed = {"paused": (endpoint.paused, paused)}
    if unblocked:
        changed["line_blocked"] = (True, False)
    endpoint.paused = paused
    await _switch(
        session,
        caller,
        endpoint,
        on=not paused,
        action="paused" if paused else "resumed",
        changed=changed,
        routing=False,
    )
    return endpoint


async def _switch(
    session: AsyncSession,
    caller: Caller,
    endpoint: Endpoint,
    *,
    on: bool,
    action: str,
    changed: Mapping[str, tuple[bool, bool]],
    routing: bool,
) -> None:
    if not on:
        await forget_retries(session, endpoint)
    await make_visible_to_workers(session, endpoint, routing=routing)
    await audit.record(
        session,
        caller,
        action=f"endpoint.{action}",
        object_kind="endpoint",
        object_id=ids.to_text(ids.ENDPOINT, endpoint.id),
        before={name: was for name, (was, _) in changed.items()},
        after={name: now for name, (_, now) in changed.items()},
    )
