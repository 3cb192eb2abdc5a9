"""The first steps of a newcomer, which tick themselves off, and the sample event that does two of them at a click."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from app.core import ids
from app.endpoints.targets import shown_url

if TYPE_CHECKING:
    from app.core.context import Caller
    from app.dashboard.overview.queries import Firsts

SAMPLE_TYPE = "order.placed"
SAMPLE_DATA = {"order": 1001, "total": "49.90", "currency": "EUR"}
KEY_PLACE = "YOUR_API_KEY"
# When all is done the steps stay for a while, so that who has just done them sees the last one ticked off.
STAY = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class FirstSteps:
    """The three steps: what there is already, and what to paste for what there is not."""

    endpoint: str | None
    endpoint_url: str | None
    event: str | None
    delivery: str | None
    delivered: bool
    curl: str

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.endpoint and self.event and self.delivered)


def first_steps_of(firsts: Firsts, caller: Caller, *, base_url: str, now: datetime) -> FirstSteps | None:
    """Return the steps; None where they are done, and have been for a while."""
    delivered = firsts.last_success_at is not None
    if delivered and (firsts.event_at is None or now - firsts.event_at > STAY):
        return None
    return FirstSteps(
        endpoint=ids.to_text(ids.ENDPOINT, firsts.endpoint_id) if firsts.endpoint_id else None,
        endpoint_url=shown_url(firsts.endpoint_url, caller) if firsts.endpoint_url else None,
        event=ids.to_text(ids.EVENT, firsts.event_id) if firsts.event_id else None,
        delivery=ids.to_text(ids.DELIVERY, firsts.delivery_id) if firsts.delivery_id else None,
        delivered=delivered,
        curl=curl(base_url),
    )


def curl(base_url: str) -> str:
    """Return the command that publishes the sample event, with a place for the key."""
    return " \\\n  ".join(
        (
            f"curl {shlex.quote(base_url + '/v1/events')}",
            f"-H 'Authorization: Bearer {KEY_PLACE}'",
            "-H 'Content-Type: application/json'",
            "-d " + shlex.quote(json.dumps({"type": SAMPLE_TYPE, "data": SAMPLE_DATA})),
        )
    )


def sample_body(*, event_type: str, application: str | None) -> bytes:
    """Return the body with which the sample event is published, as a program would send it."""
    body: dict[str, object] = {"type": event_type, "data": SAMPLE_DATA}
    if application:
        body["application"] = application
    return json.dumps(body).encode()
