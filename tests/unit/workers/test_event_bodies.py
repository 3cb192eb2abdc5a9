"""The bytes that receivers get."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest

from app.core import ids
from workers.event_bodies import EventBody

EVENT, APPLICATION = UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0001), UUID(int=7)


def body_of(data: bytes | None = b'{"n":1}', *, occurred_at: datetime | None = None) -> EventBody:
    """Return an event as a worker keeps it."""
    return EventBody(
        id=EVENT,
        text_id=ids.to_text(ids.EVENT, EVENT),
        type="order.placed",
        data=data,
        occurred_at=occurred_at or datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC),
        application_id=APPLICATION,
        traceparent=None,
        test=False,
    )


def test_standard_body() -> None:
    """Compact, in the order type, timestamp, data; the time in UTC with milliseconds."""
    assert body_of().encoded("standard") == (
        b'{"type":"order.placed","timestamp":"2026-01-31T12:00:00.123Z","data":{"n":1}}'
    )


def test_cloudevents_body() -> None:
    """The structured mode of CloudEvents 1.0, with the event's id as its id."""
    event, application = ids.to_text(ids.EVENT, EVENT), ids.to_text(ids.APPLICATION, APPLICATION)
    assert body_of().encoded("cloudevents").decode() == (
        f'{{"specversion":"1.0","id":"{event}","source":"/applications/{application}","type":"order.placed",'
        '"time":"2026-01-31T12:00:00.123Z","datacontenttype":"application/json","data":{"n":1}}'
    )


@pytest.mark.parametrize("body_format", ["standard", "cloudevents"])
@pytest.mark.parametrize(
    "data",
    [b"9007199254740993", b"1.10", b'{ "a" : 1, "a":2 }', '"é\u2028"'.encode(), b'"\\ud83d\\ude00"', b"null"],
)
def test_data_is_sent_as_it_came(body_format: str, data: bytes) -> None:
    """The published bytes are the end of the body, and the whole is JSON."""
    sent = body_of(data).encoded(body_format)

    assert sent.endswith(b',"data":' + data + b"}")
    assert json.loads(sent)["data"] == json.loads(data)


@pytest.mark.parametrize(
    ("occurred_at", "shown"),
    [
        (datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00.000Z"),
        (datetime(2026, 1, 31, 1, tzinfo=timezone(timedelta(hours=2))), "2026-01-30T23:00:00.000Z"),
        (datetime(1970, 1, 1, tzinfo=UTC), "1970-01-01T00:00:00.000Z"),
        (datetime(2026, 1, 31, 23, 59, 59, 999_999, tzinfo=UTC), "2026-01-31T23:59:59.999Z"),
    ],
)
def test_timestamps(occurred_at: datetime, shown: str) -> None:
    """Any zone is told in UTC, and no moment is rounded into the future."""
    body = body_of(occurred_at=occurred_at)

    assert json.loads(body.encoded("standard"))["timestamp"] == shown
    assert json.loads(body.encoded("cloudevents"))["time"] == shown


def test_body_is_made_once() -> None:
    """Retries and other endpoints get the same object."""
    event = body_of()

    assert event.encoded("standard") is event.encoded("standard")
    assert event.encoded("cloudevents") is event.encoded("cloudevents")
