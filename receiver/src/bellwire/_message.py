"""What verification returns: the message, and nothing that was not verified."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from bellwire._errors import WebhookVerificationError


@dataclass(frozen=True)
class VerifiedMessage:
    """A message whose signature was right and whose timestamp was fresh.

    The payload stays out of `repr`, so a message may be logged.
    """

    id: str
    """The `webhook-id`: the same on every retry, so store it and drop what you have already handled."""

    timestamp: datetime
    """When this attempt was sent (UTC, whole seconds). It differs between retries; see `occurred_at`."""

    payload: bytes = field(repr=False)
    """The body, byte for byte as it was signed."""

    def json(self) -> Any:
        """Return the whole body as parsed JSON; the same object on every call.

        Raises WebhookVerificationError (`unexpected_payload`) if the body is not JSON.
        """
        return self._parsed

    @property
    def type(self) -> str:
        """The event type, such as `order.placed`. Raises WebhookVerificationError if the body names none."""
        value = self._field("type")
        if not isinstance(value, str):
            raise _unexpected("has a `type` that is not a text")
        return value

    @property
    def data(self) -> Any:
        """The published data: `data` of the body. Raises WebhookVerificationError if the body has none."""
        return self._field("data")

    @property
    def occurred_at(self) -> datetime:
        """When the event happened (aware): `timestamp` of the body, or `time` in a CloudEvent.

        Raises WebhookVerificationError if the body has no such time.
        """
        text = self._field("time" if "specversion" in self._object else "timestamp")
        try:
            # Python 3.9 and 3.10 do not read a trailing Z.
            moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
        except (AttributeError, TypeError, ValueError) as error:
            raise _unexpected("has a time that is not written as in RFC 3339") from error
        if moment.tzinfo is None:
            raise _unexpected("has a time without an offset from UTC")
        return moment

    @cached_property
    def _parsed(self) -> Any:
        try:
            return json.loads(self.payload)
        except (ValueError, RecursionError) as error:
            raise _unexpected("is not JSON that can be parsed") from error

    @property
    def _object(self) -> dict[str, Any]:
        if not isinstance(self._parsed, dict):
            raise _unexpected("is not a JSON object")
        return self._parsed

    def _field(self, name: str) -> Any:
        try:
            return self._object[name]
        except KeyError:
            raise _unexpected(f"has no `{name}`") from None


def _unexpected(fault: str) -> WebhookVerificationError:
    return WebhookVerificationError(
        "unexpected_payload",
        f"The signature is genuine, but the body {fault}. Read `payload`, the raw bytes, or `json()`, and check "
        "what the sender publishes.",
    )
