"""Test deliveries: one event to one endpoint, one attempt, outside feed, statistics and health.

A test ignores that the endpoint is disabled or paused and that its circuit is open: it is how a person finds out
whether the receiver works. A test of the type `bellwire.forged` is signed with a key that nobody has: it is how a
person finds out whether the receiver refuses what Bellwire did not send.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from app.access import audit
from app.core import ids
from app.core.errors import Invalid
from app.deliveries import ranks
from app.endpoints.patterns import event_type_fault
from app.endpoints.queries import require_endpoint
from app.models import Delivery, Event, QueuedDelivery

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession

    from app.core.clock import DatabaseClock
    from app.core.context import Caller

DEFAULT_TYPE = "bellwire.test"
FORGED_TYPE = "bellwire.forged"
GREETING = b'{"message":"This is a test from Bellwire."}'
FORGERY = b'{"message":"This is signed with a key that nobody has. Refuse it."}'
# A person waits for the answer; an hour later nobody wants it sent.
MAX_AGE_SECONDS = 900
TRIGGER_TEST = 3


async def send_test(
    session: AsyncSession,
    caller: Caller,
    reference: str,
    *,
    clock: DatabaseClock,
    event_type: str | None,
    data: bytes,
) -> Delivery:
    """Queue a test delivery of this JSON and return it; the caller wakes the workers after the commit.

    Raises:
        Invalid: the event type is not a legal name.
        NotFound: there is no such endpoint.

    """
    event_type = event_type or DEFAULT_TYPE
    fault = event_type_fault(event_type)
    if fault is not None:
        raise Invalid.at("/type", fault)
    endpoint = await require_endpoint(session, caller, reference)
    now, unix_ms = clock.now(), clock.unix_ms()
    event = Event(
        id=ids.uuid7(unix_ms),
        workspace_id=endpoint.workspace_id,
        application_id=endpoint.application_id,
        type=event_type,
        data=data,
        occurred_at=now,
        created_at=now,
        deliveries=1,
        test=True,
    )
    whose = {
        "workspace_id": endpoint.workspace_id,
        "application_id": endpoint.application_id,
        "endpoint_id": endpoint.id,
        "event_id": event.id,
    }
    deadline = now + timedelta(seconds=MAX_AGE_SECONDS)
    delivery = Delivery(
        id=ids.uuid7(unix_ms), event_type=event_type, test=True, created_at=now, deadline_at=deadline, **whose
    )
    queued = QueuedDelivery(
        id=delivery.id,
        rank=ranks.FORCED,
        trigger=TRIGGER_TEST,
        due_at=now,
        deadline_at=deadline,
        **whose,
    )
    session.add_all([event, delivery, queued])
    await session.flush()
    await session.refresh(delivery)
    await audit.record(
        session,
        caller,
        action="endpoint.tested",
        object_kind="endpoint",
        object_id=ids.to_text(ids.ENDPOINT, endpoint.id),
        after={"type": event_type, "delivery": ids.to_text(ids.DELIVERY, delivery.id)},
    )
    return delivery
