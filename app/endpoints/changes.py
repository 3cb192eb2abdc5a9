"""What every change of an endpoint does: lock in the order of settled.md §2, then tell workers and publishers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from app.access.actors import caller_in_words
from app.applications.queries import bump_routing, lock_application
from app.deliveries import ranks
from app.endpoints.queries import no_such_endpoint, require_endpoint
from app.models import Endpoint

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller

# How the reason begins where somebody has disabled an endpoint; who it was follows.
DISABLED_BY = "Disabled by "

# The settings that a claim reads are copied in the transaction that changes them. A bucket starts full again when
# its size or rate changes.
_COPY = text("""
UPDATE endpoint_runtime r
   SET settings_version = e.settings_version,
       open = e.enabled AND NOT e.paused AND e.deleted_at IS NULL,
       fifo = e.ordering = 'fifo',
       block_on_dead = e.ordering = 'fifo' AND e.fifo_on_dead = 'block',
       fifo_blocked_by = CASE WHEN e.ordering = 'fifo' AND e.fifo_on_dead = 'block' THEN r.fifo_blocked_by END,
       max_in_flight = e.max_in_flight,
       timeout_seconds = e.timeout_seconds,
       tokens = CASE WHEN (r.rate_per_second, r.rate_burst) IS DISTINCT FROM (e.rate_per_second, e.rate_burst)
                     THEN NULL ELSE r.tokens END,
       -- Days in which nothing was sent are no days of failing: they begin anew when it is opened.
       failing_since = CASE WHEN r.open THEN r.failing_since END,
       failure_warnings = CASE WHEN r.open THEN r.failure_warnings ELSE 0 END,
       rate_per_second = e.rate_per_second,
       rate_burst = e.rate_burst
  FROM endpoints e
 WHERE e.workspace_id = :workspace AND e.id = :endpoint AND r.workspace_id = :workspace AND r.endpoint_id = e.id
""")

# What a person asked to be sent at once, before it was asked that nothing be sent. Tests (trigger 3) go all the same.
_FORGET_RETRIES = text(f"""
UPDATE delivery_queue q SET rank = CASE WHEN r.fifo THEN {ranks.FIFO} ELSE {ranks.RETRY} END
  FROM endpoint_runtime r, (
    SELECT id FROM delivery_queue
     WHERE workspace_id = :workspace AND application_id = :application AND endpoint_id = :endpoint
       AND state = 0 AND rank < 0 AND trigger <> 3 ORDER BY id FOR UPDATE
  ) AS asked
 WHERE q.workspace_id = :workspace AND q.id = asked.id
   AND r.workspace_id = :workspace AND r.endpoint_id = :endpoint
""")  # noqa: S608 - Bellwire's own constants


async def lock_endpoint(session: AsyncSession, caller: Caller, reference: str) -> Endpoint:
    """Lock an endpoint's application and the endpoint, and return it as it is now.

    The application comes first in the lock order, so no two changes of one application run into each other.

    Raises:
        NotFound: there is no such endpoint, or it was deleted meanwhile.

    """
    found = await require_endpoint(session, caller, reference)
    if await lock_application(session, found.application_id) is None:
        raise no_such_endpoint(reference)
    locked = (
        await session.scalars(
            select(Endpoint)
            .where(Endpoint.id == found.id, Endpoint.deleted_at.is_(None))
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    ).one_or_none()
    if locked is None:
        raise no_such_endpoint(reference)
    return locked


async def disabled_by(session: AsyncSession, caller: Caller) -> str:
    """Return the reason that is kept with an endpoint that the caller disables: it names who did it, and from where."""
    return f"{DISABLED_BY}{await caller_in_words(session, caller)}."


async def make_visible_to_workers(
    session: AsyncSession, endpoint: Endpoint, *, routing: bool = False
) -> None:
    """Write a locked endpoint, raise its version, and copy what a claim reads.

    With `routing`, events that were matched against the endpoint as it was are matched again. This locks the
    endpoint's runtime row: lock queue rows before.
    """
    if routing:
        await bump_routing(session, endpoint.application_id)
    endpoint.settings_version += 1
    endpoint.updated_at = func.now()
    await session.flush()
    await session.refresh(endpoint)
    await session.execute(_COPY, {"workspace": endpoint.workspace_id, "endpoint": endpoint.id})


async def forget_retries(session: AsyncSession, endpoint: Endpoint) -> None:
    """Put deliveries that were asked to be sent at once back among the others: the endpoint is to be closed.

    Locks queue rows: belongs before `make_visible_to_workers`.
    """
    await session.execute(
        _FORGET_RETRIES,
        {
            "workspace": endpoint.workspace_id,
            "application": endpoint.application_id,
            "endpoint": endpoint.id,
        },
    )
