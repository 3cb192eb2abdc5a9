"""The bytes that receivers get for an event: what was published, untouched, inside an envelope.

Workers send them, and whoever shows an attempt makes the same bytes again, so that its signature can be checked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from app.core import ids
from app.core.clock import rfc3339_ms

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

STANDARD, CLOUDEVENTS = "standard", "cloudevents"


def standard_body(*, event_type: str, occurred_at: datetime, data: bytes | None) -> bytes:
    """Return the body in the format `standard`."""
    return b"".join(
        (
            b'{"type":',
            orjson.dumps(event_type),
            b',"timestamp":"',
            rfc3339_ms(occurred_at).encode(),
            b'","data":',
            data or b"null",
            b"}",
        )
    )


def cloudevents_body(
    *, event_id: str, application_id: UUID, event_type: str, occurred_at: datetime, data: bytes | None
) -> bytes:
    """Return the body in the format `cloudevents`: structured mode, CloudEvents 1.0."""
    return b"".join(
        (
            b'{"specversion":"1.0","id":',
            orjson.dumps(event_id),
            b',"source":',
            orjson.dumps("/applications/" + ids.to_text(ids.APPLICATION, application_id)),
            b',"type":',
            orjson.dumps(event_type),
            b',"time":"',
            rfc3339_ms(occurred_at).encode(),
            b'","datacontenttype":"application/json","data":',
            data or b"null",
            b"}",
        )
    )
