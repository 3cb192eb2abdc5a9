"""An event's payload in the forms in which it is shown and copied. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import orjson

from app.core import ids
from app.core.clock import rfc3339, rfc3339_ms

if TYPE_CHECKING:
    from app.dashboard.events.queries import OneEvent
    from app.models import Event

VIEWS = {"pretty": "Pretty", "bytes": "Exact bytes", "cloudevents": "CloudEvents"}


def cloud_event(event: Event) -> bytes:
    """Return the body that endpoints of the format `cloudevents` get; the workers make the same."""
    head = {
        "specversion": "1.0",
        "id": ids.to_text(ids.EVENT, event.id),
        "source": "/applications/" + ids.to_text(ids.APPLICATION, event.application_id),
        "type": event.type,
        "time": rfc3339_ms(event.occurred_at),
        "datacontenttype": "application/json",
    }
    return orjson.dumps(head)[:-1] + b',"data":' + (event.data or b"null") + b"}"


def publish_body(event: Event, *, application: str) -> bytes:
    """Return what publishes the event again, its data byte for byte. The uid is left out: it would be no new event."""
    fields: dict[str, object] = {"type": event.type, "application": application}
    if event.correlation_id is not None:
        fields["correlation_id"] = event.correlation_id
    if event.custom:
        fields["metadata"] = event.custom
    fields["occurred_at"] = rfc3339(event.occurred_at)
    return orjson.dumps(fields)[:-1] + b',"data":' + (event.data or b"null") + b"}"


def curl(found: OneEvent, *, base_url: str) -> str:
    """Return the command that publishes the event again; the key comes from the reader's environment."""
    application = found.application_uid or ids.to_text(ids.APPLICATION, found.row.application_id)
    body = publish_body(found.row, application=application).decode()
    return (
        f"curl {shlex.quote(base_url + '/v1/events')} \\\n"
        '  -H "Authorization: Bearer $BELLWIRE_API_KEY" \\\n'
        "  -H 'Content-Type: application/json' \\\n"
        f"  --data-binary {shlex.quote(body)}"
    )
