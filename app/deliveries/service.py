"""What a person can do with a delivery: look at it, send it again, cancel it (and `resolve.py`).

A delivery's queue row is locked first, its own row after it, as the record of a result does: what is read of the
two is of one moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from app.access import audit
from app.core import ids
from app.core.errors import Conflict, NotFound, TooBusy
from app.deliveries import queries, ranks
from app.deliveries.cancel import cancel_pending
from app.deliveries.state import FINAL, Cause, State, require_move
from app.deliveries.waiting import LEASED, TRIGGER_TEST
from app.models import Delivery, Endpoint, Event, QueuedDelivery

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.context import Caller
    from app.core.runtime import Runtime

TRIGGER_MANUAL = 1
# A delivery may change between a look at its queue row and one at its own row; twice in a row is odd.
_MAX_LOOKS = 3

# A FIFO lane is passed by nobody: only its first in line is sent at once, the others keep their place.
_DUE_NOW = text("""
UPDATE delivery_queue q
   SET state = 0, due_at = now(), schedule_step = 0, blocked_count = 0, trigger = :trigger, deadline_at = :deadline,
       rank = CASE WHEN behind.another THEN q.rank ELSE :rank END,
       cancel_requested = false
  FROM (
    SELECT r.fifo AND EXISTS (
      SELECT 1 FROM delivery_queue b
       WHERE b.workspace_id = :workspace AND b.endpoint_id = r.endpoint_id AND b.id <> :id AND b.trigger <> 3
         AND (b.state = 1 OR b.rank < 0
           OR b.seq < (SELECT seq FROM delivery_queue WHERE workspace_id = :workspace AND id = :id))
    ) AS another
      FROM endpoint_runtime r WHERE r.workspace_id = :workspace AND r.endpoint_id = :endpoint
  ) AS behind
 WHERE q.workspace_id = :workspace AND q.id = :id
""")
# The dead head that a FIFO line waits for goes back to its place: before all others.
_PLACE_IN_LINE = text(f"""
SELECT coalesce(
  (SELECT q.seq - 1 FROM delivery_queue q JOIN endpoint_runtime r ON r.endpoint_id = q.endpoint_id
    WHERE q.state = 0 AND q.workspace_id = :workspace AND r.workspace_id = :workspace AND q.application_id = :application
      AND q.endpoint_id = :endpoint AND q.rank = {ranks.FIFO} AND r.fifo_blocked_by = :id
    ORDER BY q.seq LIMIT 1),
  nextval('delivery_queue_seq'))
""")  # noqa: S608 - Bellwire's own constants


@dataclass(frozen=True, slots=True)
class LockedDelivery:
    """A delivery and its queue row, both locked; no queue row means that it is final."""

    delivery: Delivery
    queued: QueuedDelivery | None


async def require_delivery(session: AsyncSession, caller: Caller, reference: str) -> Delivery:
    """Return the delivery that a request means by its id.

    Raises:
        NotFound: there is none, or the caller may not see it.

    """
    delivery_id = ids.from_text(ids.DELIVERY, reference)
    found = await queries.find_delivery(session, caller, delivery_id) if delivery_id is not None else None
    if found is None:
        raise NotFound(
            f"There is no delivery {reference[:64]!r} here. GET /v1/deliveries lists those there are; "
            "an id begins with dlv_."
        )
    return found


async def lock_delivery(session: AsyncSession, delivery_id: UUID) -> LockedDelivery:
    """Lock a delivery and its queue row.

    Raises:
        TooBusy: it changes all the time.

    """
    for _ in range(_MAX_LOOKS):
        queued = (
            await session.scalars(
                select(QueuedDelivery)
                .where(QueuedDelivery.id == delivery_id)
                .with_for_update()
                .execution_options(populate_existing=True)
            )
        ).one_or_none()
        delivery = (
            await session.scalars(
                select(Delivery)
                .where(Delivery.id == delivery_id)
                .with_for_update()
                .execution_options(populate_existing=True)
            )
        ).one()
        if (queued is None) == (State(delivery.state) in FINAL):
            return LockedDelivery(delivery=delivery, queued=queued)
    raise TooBusy("The delivery is changing at this moment. Send the same request again.")


async def retry_delivery(
    session: AsyncSession, caller: Caller, reference: str, *, runtime: Runtime
) -> Delivery:
    """Make a delivery due at once, with a fresh schedule and deadline; a final one is opened again.

    It skips circuit and schedule, not caps, rates or the egress policy. The caller wakes the workers after the
    commit.

    Raises:
        Conflict: it is being sent, its endpoint is disabled or deleted, or its event's data was erased.
        NotFound: there is no such delivery.

    """
    found = await lock_delivery(session, (await require_delivery(session, caller, reference)).id)
    delivery, queued = found.delivery, found.queued
    if queued is not None and queued.state == LEASED:
        raise Conflict(
            "The delivery is being sent at this moment. Look at it again when the attempt has ended."
        )
    endpoint = await _require_open(session, delivery)
    await _require_data(session, delivery)
    now = runtime.clock.now()
    seconds = endpoint.max_age_seconds or runtime.settings.max_age_seconds
    deadline = now + timedelta(seconds=seconds)
    trigger = TRIGGER_TEST if delivery.test else TRIGGER_MANUAL
    before = delivery.state
    require_move(State(delivery.state), State.PENDING, cause=Cause.RETRY)
    if queued is None:
        queued = _reopened(delivery, trigger=trigger, now=now, deadline=deadline)
        queued.seq = await _place_in_line(session, delivery)
        session.add(queued)
        delivery.state = State.PENDING
        delivery.completed_at = None
    else:
        await session.execute(
            _DUE_NOW,
            {
                "id": delivery.id,
                "workspace": delivery.workspace_id,
                "endpoint": delivery.endpoint_id,
                "trigger": trigger,
                "deadline": deadline,
                "rank": ranks.FORCED,
            },
        )
    delivery.deadline_at = deadline
    await session.flush()
    await _record(session, caller, delivery, action="delivery.retried", before=before)
    return delivery


async def cancel_delivery(session: AsyncSession, caller: Caller, reference: str) -> tuple[Delivery, bool]:
    """Cancel a delivery; return it, and whether that is final (False: it is being sent and ends with its result).

    Raises:
        Conflict: it is final already.
        NotFound: there is no such delivery.

    """
    found = await lock_delivery(session, (await require_delivery(session, caller, reference)).id)
    delivery, queued = found.delivery, found.queued
    if queued is None:
        raise Conflict(f"The delivery is {delivery.state} already, so there is nothing left to cancel.")
    sending = queued.state == LEASED
    require_move(State.SENDING if sending else State.PENDING, State.CANCELLED, cause=Cause.CANCEL)
    await cancel_pending(session, workspace_id=delivery.workspace_id, delivery_id=delivery.id)
    await session.refresh(delivery)
    await _record(
        session, caller, delivery, action="delivery.cancelled", before="sending" if sending else "pending"
    )
    return delivery, not sending


async def _require_open(session: AsyncSession, delivery: Delivery) -> Endpoint:
    endpoint = (
        await session.scalars(
            select(Endpoint)
            .where(Endpoint.id == delivery.endpoint_id)
            .execution_options(populate_existing=True)
        )
    ).one_or_none()
    if endpoint is None or endpoint.deleted_at is not None:
        raise Conflict("The endpoint of this delivery was deleted, so it cannot be sent again.")
    if not endpoint.enabled and not delivery.test:
        name = ids.to_text(ids.ENDPOINT, endpoint.id)
        raise Conflict(
            f"The endpoint of this delivery is disabled, so nothing is sent to it. Enable it first: "
            f"POST /v1/endpoints/{name}/enable."
        )
    return endpoint


async def _require_data(session: AsyncSession, delivery: Delivery) -> None:
    found = (
        await session.execute(select(Event.data_erased_at).where(Event.id == delivery.event_id))
    ).one_or_none()
    if found is None or found[0] is not None:
        raise Conflict("The data of this delivery's event is gone, so there is nothing to send again.")


def _reopened(delivery: Delivery, *, trigger: int, now: datetime, deadline: datetime) -> QueuedDelivery:
    """Return the queue row of a delivery that was final; its attempts go on counting."""
    return QueuedDelivery(
        id=delivery.id,
        workspace_id=delivery.workspace_id,
        application_id=delivery.application_id,
        endpoint_id=delivery.endpoint_id,
        event_id=delivery.event_id,
        rank=ranks.FORCED,
        trigger=trigger,
        due_at=now,
        deadline_at=deadline,
        attempt_count=delivery.attempt_count,
    )


async def _place_in_line(session: AsyncSession, delivery: Delivery) -> int:
    """Return the number that a delivery gets in its lane: the next one, or the first where the line waits for it."""
    return int(
        (
            await session.execute(
                _PLACE_IN_LINE,
                {
                    "id": delivery.id,
                    "workspace": delivery.workspace_id,
                    "application": delivery.application_id,
                    "endpoint": delivery.endpoint_id,
                },
            )
        ).scalar_one()
    )


async def _record(
    session: AsyncSession, caller: Caller, delivery: Delivery, *, action: str, before: str
) -> None:
    await audit.record(
        session,
        caller,
        action=action,
        object_kind="delivery",
        object_id=ids.to_text(ids.DELIVERY, delivery.id),
        before={"state": before},
        after={"state": delivery.state},
    )
