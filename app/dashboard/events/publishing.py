"""Publishing from the dashboard: read, counted against the quotas and stored as the API does it.

The API's events keep no key; what a person publishes is in the audit log, so that it can be told from a program's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import orjson

from app.access import audit
from app.access.workspaces import read_quotas
from app.core import ids
from app.core.errors import FieldError, Invalid, Malformed
from app.dashboard.page import act
from app.events.envelope import read_event

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.api.browser import Visit
    from app.events.envelope import CheckedEvent
    from app.events.ingest import IngestBuffer
    from app.events.published import Published

_JSON = msgspec.json.Decoder(msgspec.Raw)
FIELDS = ("type", "application", "data")


def read_form(form: dict[str, str]) -> tuple[CheckedEvent, int]:
    """Return the event that a form describes, and how large a program would have sent it.

    Raises:
        Invalid: a field breaks a rule; the pointers begin with the field's name.

    """
    data = form.get("data", "").strip().encode()
    try:
        _JSON.decode(data)
    except RecursionError:
        raise Invalid.at("/data", "The JSON is nested too deeply. Flatten it.") from None
    except msgspec.DecodeError as error:
        raise Invalid.at("/data", f"This is not JSON: {error}. Correct it and send it again.") from None
    head = {
        "type": form.get("type", "").strip(),
        "application": form.get("application", "").strip() or "default",
    }
    body = orjson.dumps(head)[:-1] + b',"data":' + data + b"}"
    try:
        return read_event(body), len(body)
    except Malformed as error:
        raise Invalid.at("/data", error.detail) from None


async def publish(request: Request, visit: Visit, event: CheckedEvent, *, size: int) -> Published:
    """Store an event as `POST /v1/events` does; `size` is that of the whole body.

    Raises:
        NotFound, Conflict, Invalid, TooBusy, QuotaExceeded: as a publish by the API.

    """
    state = request.app.state
    async with act(request, visit) as (session, caller):
        quotas = await read_quotas(session, caller.workspace_id)
    state.publish_meter.take(caller.workspace_id, quotas, events=1, payload_bytes=size)
    ingest: IngestBuffer = state.ingest
    published = await ingest.publish(
        event,
        workspace_id=caller.workspace_id,
        api_key_id=None,
        bound_to=caller.application_id,
        traceparent=request.scope["state"].get("traceparent"),
    )
    async with act(request, visit) as (session, caller):
        await audit.record(
            session,
            caller,
            action="event.published",
            object_kind="event",
            object_id=ids.to_text(ids.EVENT, published.id),
            after={
                "type": event.type,
                "application": ids.to_text(ids.APPLICATION, published.application_id),
            },
        )
    return published


def faults_by_field(errors: list[FieldError], detail: str) -> dict[str, str]:
    """Return the first sentence for each field of the form; what belongs to none stands under `""`."""
    found: dict[str, str] = {}
    for error in errors:
        name = error.pointer.strip("/").partition("/")[0]
        found.setdefault(name if name in FIELDS else "", error.detail)
    return found or {"": detail}
