"""The form that publishes an event: read as the API reads it, and stored the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import orjson

from app.core import ids
from app.core.errors import FieldError, Invalid, Malformed
from app.core.quotas import NO_QUOTAS
from app.events.envelope import read_event

if TYPE_CHECKING:
    from starlette.requests import Request

    from app.core.context import Caller
    from app.events.envelope import CheckedEvent
    from app.events.ingest import IngestBuffer

_JSON = msgspec.json.Decoder(msgspec.Raw)
FIELDS = ("type", "application", "data")


def read_form(form: dict[str, str]) -> CheckedEvent:
    """Return the event that a form describes.

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
    try:
        return read_event(orjson.dumps(head)[:-1] + b',"data":' + data + b"}")
    except Malformed as error:
        raise Invalid.at("/data", error.detail) from None


async def publish(request: Request, caller: Caller, event: CheckedEvent, *, size: int) -> str:
    """Store an event as `POST /v1/events` does, and return its id.

    Raises:
        NotFound, Conflict, Invalid, TooBusy, QuotaExceeded: as a publish by the API.

    """
    state = request.app.state
    state.publish_meter.take(caller.workspace_id, NO_QUOTAS, events=1, payload_bytes=size)
    ingest: IngestBuffer = state.ingest
    published = await ingest.publish(
        event,
        workspace_id=caller.workspace_id,
        api_key_id=None,
        bound_to=caller.application_id,
        traceparent=request.scope["state"].get("traceparent"),
    )
    return ids.to_text(ids.EVENT, published.id)


def faults_by_field(errors: list[FieldError], detail: str) -> dict[str, str]:
    """Return the first sentence for each field of the form; what belongs to none stands under `""`."""
    found: dict[str, str] = {}
    for error in errors:
        name = error.pointer.strip("/").partition("/")[0]
        found.setdefault(name if name in FIELDS else "", error.detail)
    return found or {"": detail}
