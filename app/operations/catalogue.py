"""The events that Bellwire publishes itself, to the application `operations`: when each comes, and what it holds.

`docs/reference/operations.md` is made from this, and a test holds what is published against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from app.operations import notices


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One type of event: when it is published, and the members of its `data` with what each means."""

    type: str
    when: str
    members: Mapping[str, str]
    example: Mapping[str, Any]


_ENDPOINT = {
    "endpoint": "the endpoint's id",
    "url": "its URL, without the query string, which may be a secret",
    "application": "the id of the application that it belongs to",
    "application_uid": "that application's `uid`, or null",
}
_ENDPOINT_EXAMPLE = {
    "endpoint": "ep_01kb2m9w4e8f3tq6v7xz1y5n0r",
    "url": "https://shop.example.com/webhooks",
    "application": "app_01kb2m9w4e8f3tq6v7xz1y5n0r",
    "application_uid": "shop_42",
}

CATALOGUE: tuple[Told, ...] = (
    Told(
        type=notices.DELIVERY_DEAD,
        when="A delivery is given up: its schedule is used up, the receiver refused it for good, or it grew too old. "
        "Not for tests.",
        members={
            "delivery": "the delivery's id",
            "event": "the `id` and `type` of the event that was not delivered",
            "endpoint": "the id of the endpoint that did not take it",
            "application": _ENDPOINT["application"],
            "application_uid": _ENDPOINT["application_uid"],
            "attempt_count": "how many attempts were made",
            "error": "the `class` of the last error (see [errors](errors.md)), and a `message` for a person",
        },
        example={
            "delivery": "dlv_01kb2m9w4e8f3tq6v7xz1y5n0r",
            "event": {"id": "evt_01kb2m9w4e8f3tq6v7xz1y5n0r", "type": "order.placed"},
            "endpoint": _ENDPOINT_EXAMPLE["endpoint"],
            "application": _ENDPOINT_EXAMPLE["application"],
            "application_uid": _ENDPOINT_EXAMPLE["application_uid"],
            "attempt_count": 12,
            "error": {
                "class": "http_5xx",
                "message": "The receiver failed while it handled the request. (HTTP 503)",
            },
        },
    ),
    Told(
        type=notices.ENDPOINT_FAILING,
        when="Nothing has succeeded at an endpoint for 24 hours, and again for 72 hours. Each comes once, until a "
        "success comes between.",
        members=_ENDPOINT
        | {
            "warning": "1 after 24 hours, 2 after 72",
            "failing_since": "when the first attempt since the last success failed",
            "consecutive_failures": "how many attempts have failed since",
            "disable_at": "when it will be disabled if nothing succeeds until then, after at least 20 failures",
        },
        example=_ENDPOINT_EXAMPLE
        | {
            "warning": 1,
            "failing_since": "2026-01-30T12:00:00.123456Z",
            "consecutive_failures": 14,
            "disable_at": "2026-02-04T12:00:00.123456Z",
        },
    ),
    Told(
        type=notices.ENDPOINT_DISABLED,
        when="An endpoint is disabled, by Bellwire or by a person.",
        members=_ENDPOINT
        | {
            "by": "`gone`: the receiver answered 410; `failing`: five days and at least 20 failures without one "
            "success; `person`: somebody did, from the dashboard or with an API key",
            "reason": "the same for a person, as the endpoint's `disabled_reason` has it",
            "failing_since": "with `failing`: when the first attempt since the last success failed; else null",
            "consecutive_failures": "with `failing`: how many attempts failed; else null",
        },
        example=_ENDPOINT_EXAMPLE
        | {
            "by": "gone",
            "reason": "The receiver answered 410 Gone: it wants no more webhooks. Enable the endpoint when it does "
            "again.",
            "failing_since": None,
            "consecutive_failures": None,
        },
    ),
    Told(
        type=notices.CIRCUIT_OPENED,
        when="An endpoint's circuit opens: so much has failed that it is only probed for now.",
        members=_ENDPOINT | {"reason": "why, for a person"},
        example=_ENDPOINT_EXAMPLE | {"reason": "10 requests in a row failed."},
    ),
    Told(
        type=notices.CIRCUIT_CLOSED,
        when="The circuit closes: what waits is sent again.",
        members=_ENDPOINT | {"reason": "why, for a person"},
        example=_ENDPOINT_EXAMPLE | {"reason": "3 probes in a row succeeded."},
    ),
    Told(
        type=notices.SECRET_ROTATED,
        when="An endpoint's signing secret is another one: it was rotated, or the kind of signature was changed.",
        members=_ENDPOINT
        | {
            "grace_seconds": "how long the secret before signs beside the new one",
            "actor": "the `kind` and `id` of who did it, as in the audit log",
        },
        example=_ENDPOINT_EXAMPLE
        | {
            "grace_seconds": 86_400,
            "actor": {"kind": "api_key", "id": "key_01kb2m9w4e8f3tq6v7xz1y5n0r"},
        },
    ),
)
