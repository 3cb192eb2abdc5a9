"""Attempts as the API shows them: the delivery log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import ConfigDict, Field, JsonValue

from app.api.schemas import Answer, Timestamp
from app.core import ids
from app.core.error_classes import ErrorClass, explain
from app.deliveries.schemas import EventReference
from app.endpoints.targets import shown_url

if TYPE_CHECKING:
    from app.core.context import Caller
    from app.models import Attempt

Trigger = Literal["scheduled", "manual", "replay", "test"]
OutcomeName = Literal["succeeded", "failed", "unknown"]

_SHOWN: dict[str, JsonValue] = {
    "id": "att_01kb2m9w4e8f3tq6v7xz1y5n0r",
    "delivery": "dlv_01kb2m9w4e8f3tq6v7xz1y5n0s",
    "endpoint": "ep_01kb2m9w4e8f3tq6v7xz1y5n0t",
    "event": {"id": "evt_01kb2m9w4e8f3tq6v7xz1y5n0v", "type": "order.placed"},
    "number": 1,
    "trigger": "scheduled",
    "outcome": "failed",
    "stale": False,
    "started_at": "2026-01-31T12:00:00.123456Z",
    "duration_ms": 81.4,
    "timing": {
        "queue_ms": 3.1,
        "dns_ms": 12.0,
        "connect_ms": 20.5,
        "tls_ms": 24.9,
        "send_ms": 0.1,
        "wait_ms": 23.6,
        "receive_ms": 0.3,
    },
    "request": {
        "method": "POST",
        "url": "https://shop.example.com/webhooks",
        "headers": {"content-type": "application/json", "webhook-id": "evt_01kb2m9w4e8f3tq6v7xz1y5n0v"},
    },
    "response": {
        "status": 503,
        "headers": {"retry-after": "5"},
        "body": "busy",
        "body_truncated": False,
    },
    "error": {
        "class": "http_5xx",
        "message": "The receiver failed while it handled the request.",
        "hint": "Search the receiver's logs for the webhook-id of this delivery.",
    },
    "connection": {
        "ip": "198.51.100.7",
        "http_version": "1.1",
        "tls_version": "TLSv1.3",
        "certificate_expires_at": "2026-04-01T00:00:00.000000Z",
        "reused": False,
    },
    "note": None,
    "worker": "worker-1:4711",
}


class Timing(Answer):
    """Milliseconds of each phase; null where it was not reached, or not needed on a kept connection."""

    queue_ms: float | None = Field(description="From being due to being claimed by a worker.")
    dns_ms: float | None
    connect_ms: float | None
    tls_ms: float | None
    send_ms: float | None
    wait_ms: float | None = Field(description="From the last byte sent to the first byte of the response.")
    receive_ms: float | None


class AttemptRequest(Answer):
    """What was sent; the body is the event's."""

    method: str
    url: str = Field(description="Without its query string for viewers.")
    headers: dict[str, str] = Field(description="The values of the endpoint's own headers are masked.")


class AttemptResponse(Answer):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: str = Field(description="As UTF-8; what is not UTF-8 is replaced.")
    body_truncated: bool


class AttemptError(Answer):
    """What went wrong, why, and what to do next."""

    model_config = ConfigDict(populate_by_name=True)

    error_class: ErrorClass = Field(alias="class")
    message: str
    hint: str


class Connection(Answer):
    """The connection that was used."""

    ip: str | None
    http_version: str | None
    tls_version: str | None
    certificate_expires_at: Timestamp | None
    reused: bool | None


class AttemptAnswer(Answer):
    """One HTTP request made for a delivery."""

    model_config = ConfigDict(json_schema_extra={"examples": [_SHOWN]})

    id: str
    delivery: str
    endpoint: str
    event: EventReference
    number: int
    trigger: Trigger
    outcome: OutcomeName
    stale: bool = Field(description="The result came after the lease had ended, so it changed nothing.")
    started_at: Timestamp
    duration_ms: float | None
    timing: Timing
    request: AttemptRequest
    response: AttemptResponse | None
    error: AttemptError | None
    connection: Connection | None
    note: str | None = Field(description="What happened beside the outcome.")
    worker: str | None

    @classmethod
    def of(cls, row: Attempt, *, caller: Caller) -> AttemptAnswer:
        """Show a row to a caller."""
        return cls.model_validate(
            {
                "id": ids.to_text(ids.ATTEMPT, row.id),
                "delivery": ids.to_text(ids.DELIVERY, row.delivery_id),
                "endpoint": ids.to_text(ids.ENDPOINT, row.endpoint_id),
                "event": {"id": ids.to_text(ids.EVENT, row.event_id), "type": row.event_type},
                "number": row.number,
                "trigger": row.trigger,
                "outcome": row.outcome,
                "stale": row.stale,
                "started_at": row.started_at,
                "duration_ms": _ms(row.duration_ms),
                "timing": {name: _ms(getattr(row, name)) for name in Timing.model_fields},
                "request": {
                    "method": "POST",
                    "url": shown_url(row.request_url, caller),
                    "headers": _headers(row.request_headers),
                },
                "response": _response(row),
                "error": _error(row),
                "connection": _connection(row),
                "note": row.note,
                "worker": row.worker,
            }
        )


def _ms(value: float | None) -> float | None:
    """Round away what single precision adds."""
    return None if value is None else round(value, 3)


def _headers(stored: bytes | None) -> dict[str, str]:
    """Return headers as an object; the values of a repeated one are joined, as RFC 9110 allows."""
    joined: dict[str, str] = {}
    for name, value in orjson.loads(stored) if stored else ():
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _response(row: Attempt) -> dict[str, Any] | None:
    if row.response_status is None:
        return None
    return {
        "status": row.response_status,
        "headers": _headers(row.response_headers),
        "body": (row.response_body or b"").decode("utf-8", "replace"),
        "body_truncated": row.response_body_truncated,
    }


def _error(row: Attempt) -> dict[str, Any] | None:
    if row.error_class is None:
        return None
    sentence, hint = explain(ErrorClass(row.error_class), row.response_status)
    return {"class": row.error_class, "message": row.error_message or sentence, "hint": hint}


def _connection(row: Attempt) -> dict[str, Any] | None:
    if row.ip is None and row.http_version is None:
        return None
    return {
        "ip": row.ip,
        "http_version": row.http_version,
        "tls_version": row.tls_version,
        "certificate_expires_at": row.certificate_expires_at,
        "reused": row.connection_reused,
    }
