"""`Webhook.verify`: what it accepts, what it refuses, and which reason it gives."""

from __future__ import annotations

import pickle
from datetime import datetime, timedelta, timezone

import pytest

from bellwire import Signer, VerifiedMessage, Webhook, WebhookVerificationError, generate_secret

BODY = b'{"type":"order.placed","timestamp":"2026-01-02T03:04:05.678Z","data":{"number":7}}'


def refusal(webhook, body, headers, **options):
    """Verify what must be refused and return the error."""
    with pytest.raises(WebhookVerificationError) as caught:
        webhook.verify(body, headers, **options)
    return caught.value


def test_accepts_the_published_vector(vector):
    """The vector of Standard Webhooks verifies, and comes back as a message."""
    message = Webhook(vector.secret).verify(vector.body, vector.headers, now=vector.timestamp)

    sent_at = datetime(2021, 2, 25, 15, 2, 10, tzinfo=timezone.utc)
    assert message == VerifiedMessage(vector.message_id, sent_at, vector.body)


def test_uses_the_clock_of_the_machine():
    """Without `now`, a message that was signed this moment is fresh."""
    webhook = Webhook(generate_secret())

    message = webhook.verify(BODY, webhook.signed_headers("evt_1", BODY))

    assert message.id == "evt_1"


@pytest.mark.parametrize(
    "shape",
    [
        lambda headers: {name.title(): value for name, value in headers.items()},
        lambda headers: {name.upper(): value for name, value in headers.items()},
        lambda headers: {name.encode(): value.encode() for name, value in headers.items()},
        lambda headers: [(name.encode(), value.encode()) for name, value in headers.items()],
        lambda headers: iter([(name, value) for name, value in headers.items()]),
        lambda headers: {**headers, "content-type": "application/json", "x-other": None, 7: object()},
        lambda headers: {name: f" {value}\t" for name, value in headers.items()},
        lambda headers: [*headers.items(), ("Webhook-Id", headers["webhook-id"])],
    ],
    ids=["title", "upper", "bytes", "asgi-pairs", "iterator", "others", "padded", "repeated-alike"],
)
def test_reads_headers_of_every_framework(vector, shape):
    """Names in any case, text or bytes, mappings or pairs are the same headers."""
    message = Webhook(vector.secret).verify(vector.body, shape(vector.headers), now=vector.timestamp)

    assert message.id == vector.message_id


@pytest.mark.parametrize(
    "convert", [bytes.decode, bytearray, memoryview], ids=["str", "bytearray", "memoryview"]
)
def test_reads_bodies_of_every_kind(vector, convert):
    """Text and byte buffers are taken as the bytes they stand for."""
    message = Webhook(vector.secret).verify(convert(vector.body), vector.headers, now=vector.timestamp)

    assert message.payload == vector.body


def test_accepts_a_body_that_is_not_utf8():
    """Bodies are bytes: they need not be text."""
    webhook = Webhook(generate_secret())
    body = b"\xff\x00\xfe"

    message = webhook.verify(body, webhook.signed_headers("evt_1", body))

    assert message.payload == body


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"webhook-id": None}, "missing_header"),
        ({"webhook-timestamp": None}, "missing_header"),
        ({"webhook-signature": None}, "missing_header"),
        ({"webhook-id": ""}, "missing_header"),
        ({"webhook-id": ["msg_1"]}, "missing_header"),
        ({"Webhook-ID": "msg_other"}, "duplicate_header"),
        ({"webhook-id": "msg p5"}, "malformed_header"),
        ({"webhook-id": "msg_é"}, "malformed_header"),
        ({"webhook-id": "msg\n"}, "malformed_header"),
        ({"webhook-id": "msg_1.2"}, "malformed_header"),
        ({"webhook-timestamp": "1614265330.0"}, "malformed_header"),
        ({"webhook-timestamp": "-1614265330"}, "malformed_header"),
        ({"webhook-timestamp": "1e9"}, "malformed_header"),
        ({"webhook-timestamp": "nan"}, "malformed_header"),
        ({"webhook-timestamp": "1_614_265_330"}, "malformed_header"),
        ({"webhook-timestamp": "١٦١٤٢٦٥٣٣٠"}, "malformed_header"),
        ({"webhook-timestamp": "999999999999"}, "malformed_header"),
        ({"webhook-timestamp": "9" * 5000}, "malformed_header"),
        ({"webhook-signature": "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, "malformed_header"),
        ({"webhook-signature": "v1,é"}, "malformed_header"),
        ({"webhook-signature": "v1,\ud800"}, "malformed_header"),
        ({"webhook-signature": "v1,AAAA " * 33}, "malformed_header"),
        ({"webhook-signature": "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, "unsupported_signature"),
        ({"webhook-signature": "v1a,AAAA"}, "unsupported_signature"),
        ({"webhook-signature": ",AAAA"}, "unsupported_signature"),
        ({"webhook-signature": "v1,"}, "signature_mismatch"),
        ({"webhook-signature": "v1,AAAA"}, "signature_mismatch"),
        ({"webhook-signature": "v1,not base64,at,all"}, "signature_mismatch"),
        ({"webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE"}, "signature_mismatch"),
        ({"webhook-id": "msg_other"}, "signature_mismatch"),
        ({"webhook-timestamp": "1614265331"}, "signature_mismatch"),
        ({"webhook-timestamp": "01614265330"}, "signature_mismatch"),
    ],
)
def test_refuses_changed_headers(vector, change, reason):
    """Every fault in a header has its own reason, and none escapes as another exception."""
    headers = {name: value for name, value in {**vector.headers, **change}.items() if value is not None}

    error = refusal(Webhook(vector.secret), vector.body, headers, now=vector.timestamp)

    assert error.reason == reason


@pytest.mark.parametrize("headers", [None, 7, "webhook-id", [("webhook-id",)], [None], dict, {1, 2}])
def test_refuses_headers_that_are_none(vector, headers):
    """An argument that is no headers at all is refused, with what to pass instead."""
    error = refusal(Webhook(vector.secret), vector.body, headers, now=vector.timestamp)

    assert error.reason == "unusable_headers"
    assert "request.headers" in str(error)


@pytest.mark.parametrize("body", [None, {"test": 2432232314}, ["a"], 7, "\ud800"])
def test_refuses_bodies_that_are_not_raw(vector, body):
    """A parsed body, the commonest mistake, is refused with what to pass instead."""
    error = refusal(Webhook(vector.secret), body, vector.headers, now=vector.timestamp)

    assert error.reason == "unusable_body"
    assert "request.body" in str(error)


def test_a_token_without_a_comma_does_not_hide_a_good_one(vector):
    """Tokens that mean nothing to this version are passed over."""
    headers = {**vector.headers, "webhook-signature": f"what v9,x {vector.signature} v1,AAAA"}

    message = Webhook(vector.secret).verify(vector.body, headers, now=vector.timestamp)

    assert message.id == vector.message_id


def test_the_border_of_id_and_body_cannot_be_moved():
    """A body that begins like a timestamp does not let its signature vouch for another id, time and body."""
    webhook = Webhook(generate_secret())
    signature = webhook.sign("evt_1", 1_700_000_000, b"1800000000.5")
    forged = {
        "webhook-id": "evt_1.1700000000",
        "webhook-timestamp": "1800000000",
        "webhook-signature": signature,
    }

    error = refusal(webhook, b"5", forged, now=1_800_000_000)

    assert error.reason == "malformed_header"


@pytest.mark.parametrize("offset", [-300, 0, 300])
def test_tolerates_five_minutes_both_ways(vector, offset):
    """The default tolerance is 300 s, its edges included."""
    message = Webhook(vector.secret).verify(vector.body, vector.headers, now=vector.timestamp + offset)

    assert message.id == vector.message_id


@pytest.mark.parametrize(
    ("offset", "reason"),
    [(300.5, "timestamp_too_old"), (-300.5, "timestamp_too_new"), (10**9, "timestamp_too_old")],
)
def test_refuses_what_is_out_of_tolerance(vector, offset, reason):
    """Past five minutes a genuine message is refused, and the sentence speaks of clocks."""
    error = refusal(Webhook(vector.secret), vector.body, vector.headers, now=vector.timestamp + offset)

    assert error.reason == reason
    assert "clock" in str(error)


@pytest.mark.parametrize("tolerance", [60, 60.0, timedelta(minutes=1)])
def test_tolerance_can_be_narrowed(vector, tolerance):
    """Seconds or a timedelta replace the five minutes."""
    error = refusal(
        Webhook(vector.secret), vector.body, vector.headers, now=vector.timestamp + 61, tolerance=tolerance
    )

    assert error.reason == "timestamp_too_old"


def test_tolerance_none_accepts_any_age(vector):
    """A stored message can be checked again, years later."""
    message = Webhook(vector.secret).verify(vector.body, vector.headers, tolerance=None)

    assert message.id == vector.message_id


def test_now_may_be_an_aware_datetime_of_any_zone(vector):
    """A datetime stands for its instant, whatever its offset from UTC."""
    zone = timezone(timedelta(hours=5, minutes=30))
    now = datetime.fromtimestamp(vector.timestamp, tz=zone)

    message = Webhook(vector.secret).verify(vector.body, vector.headers, now=now, tolerance=0)

    assert message.id == vector.message_id


@pytest.mark.parametrize(
    "options",
    [
        {"now": datetime(2021, 2, 25, 15, 2, 10)},  # noqa: DTZ001 - the naive datetime is what must be refused.
        {"now": float("nan")},
        {"tolerance": -1},
        {"tolerance": float("nan")},
    ],
)
def test_a_mistaken_option_is_the_callers_error(vector, options):
    """A naive `now` or a senseless tolerance is a ValueError, never a message that passes."""
    with pytest.raises(ValueError, match=r"datetime|finite|tolerance"):
        Webhook(vector.secret).verify(vector.body, vector.headers, **options)


def test_a_stale_forgery_is_called_a_forgery(vector):
    """Age is only judged of messages that are genuine."""
    error = refusal(Webhook(vector.secret), b"other", vector.headers)

    assert error.reason == "signature_mismatch"


@pytest.mark.parametrize("position", [0, 1, 2])
def test_each_of_several_secrets_verifies(position):
    """During a rotation the receiver may hold old and new secrets in any order."""
    secrets = [generate_secret() for _ in range(3)]
    headers = Webhook(secrets[position]).signed_headers("evt_1", BODY)

    message = Webhook(secrets).verify(BODY, headers)

    assert message.id == "evt_1"


@pytest.mark.parametrize("position", [0, 1])
def test_each_of_several_tokens_is_tried(position):
    """During a rotation the sender signs with both, and a receiver with either one is content."""
    secrets = [generate_secret(), generate_secret()]
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": "1700000000",
        "webhook-signature": Signer(secrets).sign("evt_1", 1_700_000_000, BODY),
    }

    message = Webhook(secrets[position]).verify(BODY, headers, now=1_700_000_000)

    assert message.id == "evt_1"


def test_another_secret_refuses():
    """A message of another endpoint is not accepted."""
    headers = Webhook(generate_secret()).signed_headers("evt_1", BODY)

    error = refusal(Webhook([generate_secret(), generate_secret()]), BODY, headers)

    assert error.reason == "signature_mismatch"


def test_errors_tell_nothing_secret(vector):
    """Neither the right signature nor the secret nor the body is in the message, so it may be logged."""
    error = refusal(Webhook(vector.secret), b"private", vector.headers)

    text = repr(error) + str(error)
    right = Webhook(vector.secret).sign(vector.message_id, vector.timestamp, b"private")
    assert right[3:] not in text
    assert vector.secret[6:] not in text
    assert "private" not in text


def test_errors_survive_pickling(vector):
    """A task queue may carry the error to another process, reason included."""
    error = refusal(Webhook(vector.secret), b"other", vector.headers)

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes.

    assert (copy.reason, str(copy)) == (error.reason, str(error))
