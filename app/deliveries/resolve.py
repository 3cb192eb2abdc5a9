"""Marking a dead delivery as resolved: somebody dealt with it by other means, and it is a dead letter no more.

It ends as cancelled, so it may still be sent again; who marked it, and why, is in the audit log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, text

from app.access import audit
from app.core import ids
from app.core.errors import Conflict, Invalid
from app.deliveries.service import lock_delivery, require_delivery
from app.deliveries.state import Cause, State, require_move

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.models import Delivery

MAX_REASON_CHARS = 200

# A FIFO line that waits for this delivery to be settled goes on.
_UNBLOCK = text(
    "UPDATE endpoint_runtime SET fifo_blocked_by = NULL"
    " WHERE workspace_id = :workspace AND endpoint_id = :endpoint AND fifo_blocked_by = :id"
)


def read_reason(given: str) -> str | None:
    """Return a reason as it is kept, None for none.

    Raises:
        Invalid: it is too long, or holds characters that cannot be read.

    """
    reason = " ".join(given.split())
    if len(reason) > MAX_REASON_CHARS:
        raise Invalid.at(
            "/reason",
            f"The reason has {len(reason):,} characters, and {MAX_REASON_CHARS} are kept. Say it shorter.",
        )
    if not reason.isprintable():
        raise Invalid.at("/reason", "The reason holds characters that cannot be read. Type it again.")
    return reason or None


async def resolve_delivery(
    session: AsyncSession, caller: Caller, reference: str, *, reason: str | None
) -> Delivery:
    """Mark a dead delivery as resolved; a line that it held up goes on. The caller wakes the workers after the commit.

    Raises:
        Conflict: it is not dead.
        NotFound: there is no such delivery.

    """
    found = await lock_delivery(session, (await require_delivery(session, caller, reference)).id)
    delivery = found.delivery
    if delivery.state != State.DEAD:
        state = "on its way" if delivery.state == State.PENDING else delivery.state
        raise Conflict(
            f"The delivery is {state}, and only a dead one can be marked as resolved. Load the page again to see how "
            "it is now."
        )
    require_move(State.DEAD, State.CANCELLED, cause=Cause.RESOLVED)
    await session.execute(
        _UNBLOCK,
        {"workspace": delivery.workspace_id, "endpoint": delivery.endpoint_id, "id": delivery.id},
    )
    delivery.state = State.CANCELLED
    delivery.completed_at = func.now()
    await session.flush()
    await session.refresh(delivery)
    await audit.record(
        session,
        caller,
        action="delivery.resolved",
        object_kind="delivery",
        object_id=ids.to_text(ids.DELIVERY, delivery.id),
        before={"state": State.DEAD},
        after={"state": delivery.state} | ({"reason": reason} if reason is not None else {}),
    )
    return delivery
