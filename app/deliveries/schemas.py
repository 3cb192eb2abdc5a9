"""Deliveries as the API shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, JsonValue

from app.api.schemas import Answer, Timestamp
from app.core import ids
from app.core.error_classes import ErrorClass
from app.deliveries.selection import StateName
from app.deliveries.waiting import LEASED, WaitReason, next_attempt_at, wait_of
from app.endpoints.targets import shown_url

if TYPE_CHECKING:
    from datetime import datetime

    from app.core.context import Caller
    from app.deliveries.queries import DeliveryView

_SHOWN: dict[str, JsonValue] = {
    "id": "dlv_01kb2m9w4e8f3tq6v7xz1y5n0r",
    "event": {"id": "evt_01kb2m9w4e8f3tq6v7xz1y5n0s", "type": "order.placed"},
    "endpoint": {"id": "ep_01kb2m9w4e8f3tq6v7xz1y5n0t", "url": "https://shop.example.com/webhooks"},
    "application": "app_01kb2m9w4e8f3tq6v7xz1y5n0v",
    "application_uid": "default",
    "state": "pending",
    "test": False,
    "attempt_count": 1,
    "next_attempt_at": "2026-01-31T12:00:05.123456Z",
    "last_status": 503,
    "last_error": {"class": "http_5xx", "message": "The receiver failed while it handled the request."},
    "waiting": {"reason": "backoff", "until": "2026-01-31T12:00:05.123456Z"},
    "created_at": "2026-01-31T12:00:00.123456Z",
    "completed_at": None,
    "deadline_at": "2026-02-05T12:00:00.123456Z",
}


class EventReference(Answer):
    """The event that is delivered."""

    id: str
    type: str


class EndpointReference(Answer):
    """The endpoint that it goes to."""

    id: str
    url: str = Field(description="Without its query string for viewers.")


class LastError(Answer):
    """Why the last attempt failed."""

    model_config = ConfigDict(populate_by_name=True)

    error_class: ErrorClass = Field(alias="class")
    message: str


class Waiting(Answer):
    """Why a delivery waits."""

    reason: WaitReason
    until: Timestamp | None = Field(description="Null where no time is known.")


class DeliveryAnswer(Answer):
    """One event on its way to one endpoint."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    id: str
    event: EventReference
    endpoint: EndpointReference
    application: str
    application_uid: str | None
    state: StateName
    test: bool = Field(description="A test delivery: outside feed, statistics and health.")
    attempt_count: int
    next_attempt_at: Timestamp | None
    last_status: int | None = Field(description="Status of the last response, if there was one.")
    last_error: LastError | None
    waiting: Waiting | None
    created_at: Timestamp
    completed_at: Timestamp | None
    deadline_at: Timestamp = Field(description="Older than this it is dead.")

    @classmethod
    def of(cls, view: DeliveryView, *, caller: Caller, now: datetime) -> DeliveryAnswer:
        """Show a delivery to a caller; `now` is the database's time."""
        row, place = view.delivery, view.place
        wait = wait_of(place, view.lane, now=now) if place else None
        return cls.model_validate(
            {
                "id": ids.to_text(ids.DELIVERY, row.id),
                "event": {"id": ids.to_text(ids.EVENT, row.event_id), "type": row.event_type},
                "endpoint": {
                    "id": ids.to_text(ids.ENDPOINT, row.endpoint_id),
                    "url": shown_url(view.endpoint_url, caller),
                },
                "application": ids.to_text(ids.APPLICATION, row.application_id),
                "application_uid": view.application_uid,
                "state": "sending" if place and place.state == LEASED else row.state,
                "test": row.test,
                "attempt_count": row.attempt_count,
                "next_attempt_at": next_attempt_at(place, view.lane, now=now) if place else None,
                "last_status": row.last_status,
                "last_error": _last_error(row.last_error_class, row.last_error_message),
                "waiting": {"reason": wait.reason, "until": wait.until} if wait else None,
                "created_at": row.created_at,
                "completed_at": row.completed_at,
                "deadline_at": row.deadline_at,
            }
        )


def _last_error(error_class: str | None, message: str | None) -> dict[str, Any] | None:
    return {"class": error_class, "message": message or ""} if error_class else None
