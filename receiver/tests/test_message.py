"""`VerifiedMessage`: what a receiver reads after verification."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from bellwire import Webhook, WebhookVerificationError, generate_secret


@pytest.fixture
def receive():
    """Return a function that signs a body, verifies it, and returns the message."""
    webhook = Webhook(generate_secret())

    def receive(body):
        return webhook.verify(body, webhook.signed_headers("evt_1", body))

    return receive


def test_reads_the_standard_envelope(receive):
    """Type, data and the time of the event come from the body."""
    message = receive(b'{"type":"order.placed","timestamp":"2026-01-02T03:04:05.678Z","data":{"number":7}}')

    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone.utc)
    assert (message.type, message.data, message.occurred_at) == ("order.placed", {"number": 7}, moment)


def test_reads_a_cloudevent(receive):
    """The same attributes work for an endpoint that asked for CloudEvents."""
    message = receive(
        b'{"specversion":"1.0","id":"evt_1","source":"/bellwire","type":"order.placed",'
        b'"time":"2026-01-02T05:04:05+02:00","data":[1]}'
    )

    moment = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert (message.type, message.data, message.occurred_at) == ("order.placed", [1], moment)


def test_data_may_be_null(receive):
    """A null that was published is not a missing value."""
    message = receive(b'{"type":"order.placed","data":null}')

    assert message.data is None


def test_json_is_parsed_once(receive):
    """Calling `json()` again costs nothing."""
    message = receive(b'{"a": [1, 2]}')

    first = message.json()

    assert first == {"a": [1, 2]}
    assert message.json() is first


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (b"", lambda message: message.json()),
        (b"not json", lambda message: message.json()),
        (b"\xff\xfe\xfd", lambda message: message.json()),
        (b"[" * 200_000, lambda message: message.json()),
        (b"[]", lambda message: message.data),
        (b"{}", lambda message: message.data),
        (b"{}", lambda message: message.type),
        (b'{"type": 7}', lambda message: message.type),
        (b"{}", lambda message: message.occurred_at),
        (b'{"timestamp": 7}', lambda message: message.occurred_at),
        (b'{"timestamp": "soon"}', lambda message: message.occurred_at),
        (b'{"timestamp": "2026-01-02T03:04:05"}', lambda message: message.occurred_at),
    ],
)
def test_a_body_of_another_shape_is_the_one_error(receive, body, read):
    """Whatever was signed, reading it raises nothing but the package's own error."""
    message = receive(body)

    with pytest.raises(WebhookVerificationError, match="genuine") as caught:
        read(message)

    assert caught.value.reason == "unexpected_payload"


def test_repr_keeps_the_payload_out_of_logs(receive):
    """A message may be logged."""
    message = receive(b'{"card":"4242"}')

    shown = repr(message)

    assert "evt_1" in shown
    assert "4242" not in shown


def test_a_message_cannot_be_changed(receive):
    """What was verified stays what was verified."""
    message = receive(b"{}")

    with pytest.raises(AttributeError):
        message.payload = b"other"
