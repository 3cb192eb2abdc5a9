"""Events as the API takes and shows them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from app.api.schemas import Answer, Problem, Timestamp
from app.core import ids
from app.events.envelope import EVENT_TYPE_PATTERN, MAX_BATCH_EVENTS, UID_PATTERN

_EXAMPLE: dict[str, JsonValue] = {"type": "order.placed", "data": {"id": "ord_1042", "total": 99.5}}


class EventIn(Answer):
    """What is published. Read by `app/events/envelope.py`; this is its description."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    type: str = Field(pattern=EVENT_TYPE_PATTERN, max_length=128, examples=["order.placed"])
    data: Any = Field(
        description="Any JSON. It is stored and delivered as exactly these bytes.",
        examples=[{"id": "ord_1042", "total": 99.5}],
    )
    application: str = Field(default="default", description="Id or uid of the application that receives it.")
    uid: str | None = Field(
        default=None,
        pattern=UID_PATTERN,
        description="Your own id of the event: a repeat returns the first event, other content is refused.",
    )
    occurred_at: Timestamp | None = Field(default=None, description="When it happened; now, if left out.")
    correlation_id: str | None = Field(default=None, min_length=1, max_length=256)
    metadata: dict[str, str] | None = Field(
        default=None, description="For filters and for you; not delivered."
    )
    priority: Literal["normal", "high"] = "normal"


class BatchIn(Answer):
    """Up to 1,000 events; one bad one does not sink the others."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": [_EXAMPLE]}]})

    events: list[EventIn] = Field(min_length=1, max_length=MAX_BATCH_EVENTS)


class EventOut(Answer):
    """An event as it was accepted, without its data."""

    id: str = Field(examples=["evt_01m820pnrqe22ajshqxky75d5v"])
    type: str
    application: str
    application_uid: str | None
    uid: str | None
    occurred_at: Timestamp
    correlation_id: str | None
    metadata: dict[str, str] | None
    priority: Literal["normal", "high"]
    created_at: Timestamp
    deliveries: int = Field(description="How many endpoints matched.")
    data_erased_at: Timestamp | None


class EventWithData(EventOut):
    """An event with its data, as it was published; null after an erasure."""

    data: Any


class Feed(Answer):
    """A page of the feed, oldest first."""

    data: list[EventWithData]
    cursor: str = Field(description="Store it when the page is processed, and send it for the next one.")


class BatchResult(Answer):
    """What became of one event of a batch: its id, or a problem."""

    id: str | None = None
    deliveries: int | None = None
    replayed: bool | None = Field(default=None, description="The same uid and content had come before.")
    error: Problem | None = None


class BatchOut(Answer):
    """What became of a batch, in its order."""

    accepted: int
    rejected: int
    results: list[BatchResult]


def text_id(event_id: Any) -> str:
    """Return an event's id as the API shows it."""
    return ids.to_text(ids.EVENT, event_id)
