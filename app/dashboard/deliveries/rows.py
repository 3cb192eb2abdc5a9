"""A delivery as lists show it, made of one joined row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core import ids
from app.core.error_classes import ErrorClass, explain
from app.deliveries.queries import lane_of, place_of
from app.deliveries.waiting import LEASED, WaitReason, next_attempt_at, wait_of
from app.endpoints.targets import shown_url

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from app.core.context import Caller
    from app.models import Delivery, Endpoint, EndpointRuntime, QueuedDelivery

WAITS: dict[WaitReason, str] = {
    WaitReason.ENDPOINT_DISABLED: "endpoint disabled",
    WaitReason.ENDPOINT_PAUSED: "endpoint paused",
    WaitReason.FIFO_BLOCKED: "line held up by a dead one",
    WaitReason.CIRCUIT_OPEN: "circuit open",
    WaitReason.RETRY_AFTER: "Retry-After",
    WaitReason.BACKOFF: "backoff",
    WaitReason.FIFO_ORDER: "behind another, in order",
    WaitReason.CONCURRENCY_LIMIT: "endpoint is full",
    WaitReason.RATE_LIMIT: "rate limit",
    WaitReason.QUEUED: "queued",
}
# Stands for whatever is being sent before a delivery of a line that keeps its order.
ANOTHER = ids.lowest_uuid_at(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One row of a list; ids as the API writes them, but for `id`, by which pages are ordered."""

    id: UUID
    delivery: str
    event: str
    event_type: str
    test: bool
    endpoint: str
    url: str
    application: str
    application_name: str
    # As people say it: `retrying` is pending after an attempt.
    status: str
    tries: int
    code: int | None
    error_class: str | None
    # The error in a sentence, and what to do about it.
    error: str | None
    hint: str | None
    duration_ms: float | None
    created_at: datetime
    completed_at: datetime | None
    next_at: datetime | None
    # Why it waits, in a few words; None if it does not.
    wait: str | None
    can_retry: bool
    # What each attempt brought, the first one first, where that was asked for.
    outcomes: Sequence[str]


def status_of(state: str, *, leased: bool, attempts: int) -> str:
    """Return a delivery's state as people say it."""
    if state == "pending":
        return "sending" if leased else "retrying" if attempts else "pending"
    return state


def delivery_row(
    delivery: Delivery,
    endpoint: Endpoint,
    runtime: EndpointRuntime,
    queued: QueuedDelivery | None,
    *,
    application_name: str,
    duration_ms: float | None,
    head: UUID | None,
    caller: Caller,
    now: datetime,
    outcomes: Sequence[str] = (),
) -> DeliveryRow:
    """Return the row of a delivery; `head` is the first that waits in a line that keeps its order."""
    lane = lane_of(endpoint, runtime)
    if runtime.fifo and runtime.in_flight:
        head = ANOTHER
    place = place_of(queued, runtime, head=head) if queued is not None else None
    wait = wait_of(place, lane, now=now) if place is not None else None
    sending = queued is not None and queued.state == LEASED
    error = _explained(delivery)
    return DeliveryRow(
        id=delivery.id,
        delivery=ids.to_text(ids.DELIVERY, delivery.id),
        event=ids.to_text(ids.EVENT, delivery.event_id),
        event_type=delivery.event_type,
        test=delivery.test,
        endpoint=ids.to_text(ids.ENDPOINT, delivery.endpoint_id),
        url=shown_url(endpoint.url, caller),
        application=ids.to_text(ids.APPLICATION, delivery.application_id),
        application_name=application_name,
        status=status_of(delivery.state, leased=sending, attempts=delivery.attempt_count),
        tries=delivery.attempt_count,
        code=delivery.last_status,
        error_class=delivery.last_error_class,
        error=error[0],
        hint=error[1],
        duration_ms=duration_ms,
        created_at=delivery.created_at,
        completed_at=delivery.completed_at,
        next_at=next_attempt_at(place, lane, now=now) if place is not None else None,
        wait=WAITS[wait.reason] if wait is not None else None,
        can_retry=not sending and endpoint.deleted_at is None and (endpoint.enabled or delivery.test),
        outcomes=outcomes,
    )


def _explained(delivery: Delivery) -> tuple[str | None, str | None]:
    if delivery.last_error_class is None:
        return None, None
    sentence, hint = explain(ErrorClass(delivery.last_error_class), delivery.last_status)
    return delivery.last_error_message or sentence, hint
