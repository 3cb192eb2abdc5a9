"""Event types as JSON, with their examples as the very bytes that were given.

Postgres gives a schema's large numbers back as integers of any length, which orjson refuses to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from app.event_types.schemas import EventTypeAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.core.pagination import Page
    from app.models import EventType

_NULL = msgspec.Raw(b"null")


def event_type_json(row: EventType) -> bytes:
    """Return one event type as JSON."""
    return msgspec.json.encode(_members(row))


def page_json(page: Page[EventType]) -> bytes:
    """Return a page of event types as JSON."""
    return msgspec.json.encode(
        {
            "data": [_members(row) for row in page.rows],
            "next_cursor": page.next_cursor,
            "prev_cursor": page.prev_cursor,
        }
    )


def catalogue_json(rows: Iterable[EventType], *, base_url: str) -> bytes:
    """Return the catalogue as an OpenAPI 3.1 document whose `webhooks` are what receivers get."""
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Webhooks",
                "version": "1",
                "description": "What endpoints receive: each event as one signed POST (Standard Webhooks 1.0.0).",
            },
            "servers": [{"url": base_url}],
            "webhooks": {row.name: {"post": _webhook(row)} for row in rows},
            "components": {"parameters": _HEADERS},
        }
    )


_HEADERS = {
    "webhook-id": {
        "name": "webhook-id",
        "in": "header",
        "required": True,
        "description": "The event's id, the same at every attempt: drop what you have seen.",
        "schema": {"type": "string"},
    },
    "webhook-timestamp": {
        "name": "webhook-timestamp",
        "in": "header",
        "required": True,
        "description": "When this attempt was made, in seconds since 1970.",
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "webhook-signature": {
        "name": "webhook-signature",
        "in": "header",
        "required": True,
        "description": "One or more signatures of `id.timestamp.body`, separated by spaces.",
        "schema": {"type": "string"},
    },
}


def _members(row: EventType) -> dict[str, Any]:
    shown = EventTypeAnswer.of(row).model_dump(mode="json", by_alias=True)
    return shown | {"example": _fragment(row.example)}


def _webhook(row: EventType) -> dict[str, Any]:
    data: dict[str, Any] = row.json_schema if row.json_schema is not None else {}
    if data and "$id" not in data:
        # With an id of its own, `#/$defs/...` inside it still means the schema and not this document.
        data = {"$id": f"urn:bellwire:event-type:{row.name}", **data}
    media: dict[str, Any] = {
        "schema": {
            "type": "object",
            "required": ["type", "timestamp", "data"],
            "properties": {
                "type": {"const": row.name},
                "timestamp": {"type": "string", "format": "date-time"},
                "data": data,
            },
        }
    }
    if row.example is not None:
        media["example"] = {
            "type": row.name,
            "timestamp": "2026-01-31T12:00:00.123Z",
            "data": _fragment(row.example),
        }
    return {
        "operationId": row.name,
        "summary": row.name,
        **({"description": row.description} if row.description else {}),
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in _HEADERS],
        "requestBody": {"required": True, "content": {"application/json": media}},
        "responses": {"2XX": {"description": "Received. Anything else is tried again later."}},
    }


def _fragment(example: bytes | None) -> msgspec.Raw:
    return msgspec.Raw(example) if example is not None else _NULL
