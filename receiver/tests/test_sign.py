"""`Signer.sign` and `Webhook.sign`: tokens as the standard defines them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime, timedelta, timezone

import pytest

from bellwire import (
    InvalidSecretError,
    Signer,
    Webhook,
    WebhookVerificationError,
    generate_keypair,
    generate_secret,
    public_key,
)


def test_signs_the_published_vector(vector):
    """The signer gives exactly the published signature."""
    signature = Signer(vector.secret).sign(vector.message_id, vector.timestamp, vector.body)

    assert signature == vector.signature


@pytest.mark.parametrize("size", [24, 36, 64])
@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 100_000])
def test_signs_as_hmac_sha256_does(size, length):
    """The prepared state gives what a one-shot HMAC over the joined bytes gives."""
    secret = generate_secret(size=size)
    body = bytes(range(256)) * (length // 256) + bytes(length % 256)

    signature = Signer(secret).sign("evt_1", 1_700_000_000, body)

    key = base64.b64decode(secret[len("whsec_") :])
    mac = hmac.new(key, b"evt_1.1700000000." + body, hashlib.sha256).digest()
    assert signature == "v1," + base64.b64encode(mac).decode()


def test_a_signer_can_be_used_again(vector):
    """One message leaves no trace in the next."""
    signer = Signer(vector.secret)
    signer.sign("evt_other", 1, b"other")

    signature = signer.sign(vector.message_id, vector.timestamp, vector.body)

    assert signature == vector.signature


def test_several_secrets_give_several_tokens(vector):
    """Tokens are separated by one space, in the order of the secrets."""
    other = generate_secret()

    signature = Signer([other, vector.secret]).sign(vector.message_id, vector.timestamp, vector.body)

    alone = Signer(other).sign(vector.message_id, vector.timestamp, vector.body)
    assert signature == f"{alone} {vector.signature}"


@pytest.mark.parametrize("message_id", ["", "a.b", "a b", "é", "a\n", "a\r\nx: y"])
def test_refuses_ids_that_cannot_be_verified(vector, message_id):
    """An id that would break the header, or blur where the body begins, is not signed."""
    with pytest.raises(ValueError, match="message id"):
        Signer(vector.secret).sign(message_id, 1, b"")


@pytest.mark.parametrize("timestamp", [-1, 1.5, "1614265330", None, 10**12])
def test_refuses_timestamps_that_cannot_be_verified(vector, timestamp):
    """Only whole Unix seconds are signed, as only they are accepted."""
    with pytest.raises(ValueError, match="Unix seconds"):
        Signer(vector.secret).sign("evt_1", timestamp, b"")


@pytest.mark.parametrize("hours", [-8, 0, 9])
def test_webhook_signs_the_instant_of_a_datetime(vector, hours):
    """An aware datetime is signed as its instant, not as the digits of its wall clock."""
    moment = datetime.fromtimestamp(vector.timestamp, tz=timezone(timedelta(hours=hours)))

    signature = Webhook(vector.secret).sign(
        vector.message_id, moment + timedelta(microseconds=999_999), vector.body
    )

    assert signature == vector.signature


def test_webhook_signs_text_as_utf8(vector):
    """Text and its UTF-8 bytes have one signature."""
    webhook = Webhook(vector.secret)

    signature = webhook.sign("evt_1", 1, "é")

    assert signature == webhook.sign("evt_1", 1, "é".encode())


@pytest.mark.parametrize("body", [None, {"a": 1}, "\ud800"])
def test_webhook_refuses_to_sign_what_is_no_body(vector, body):
    """A parsed body is the caller's mistake: ValueError."""
    with pytest.raises(ValueError, match="bytes"):
        Webhook(vector.secret).sign("evt_1", 1, body)


def test_webhook_refuses_to_sign_a_naive_datetime(vector):
    """A datetime without a zone has no instant."""
    with pytest.raises(ValueError, match="time zone"):
        Webhook(vector.secret).sign("evt_1", datetime(2021, 2, 25), b"")  # noqa: DTZ001 - that is the point.


def test_signed_headers_carry_the_time_they_were_given(vector):
    """The three headers are those of the vector."""
    headers = Webhook(vector.secret).signed_headers(
        vector.message_id, vector.body, timestamp=vector.timestamp
    )

    assert headers == vector.headers


def test_ed25519_verifies_with_the_public_key_alone():
    """What the private key signed, the public key accepts."""
    private, public = generate_keypair()

    message = Webhook(public).verify(b"{}", Webhook(private).signed_headers("evt_1", b"{}"))

    assert message.id == "evt_1"


def test_ed25519_refuses_another_key_and_malformed_tokens():
    """A signature of another pair, and tokens that are no signatures, are a mismatch and nothing worse."""
    private, _ = generate_keypair()
    _, public = generate_keypair()
    foreign = Signer(private).sign("evt_1", 1, b"{}")
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": "1",
        "webhook-signature": f"{foreign} v1a, v1a,%%% v1a,AAAA v1a,{'A' * 200}",
    }

    with pytest.raises(WebhookVerificationError) as caught:
        Webhook(public).verify(b"{}", headers, now=1)

    assert caught.value.reason == "signature_mismatch"


def test_ed25519_accepts_one_spelling_of_a_signature():
    """Base64 has spare bits at its end; a token that differs in them only is another token, and refused."""
    private, public = generate_keypair()
    headers = Webhook(private).signed_headers("evt_1", b"{}")
    token = headers["webhook-signature"]
    last = token[-3]  # One of A, Q, g, w: the letter after it stands for the same two bits.
    headers["webhook-signature"] = token[:-3] + chr(ord(last) + 1) + "=="

    with pytest.raises(WebhookVerificationError) as caught:
        Webhook(public).verify(b"{}", headers)

    assert caught.value.reason == "signature_mismatch"


@pytest.mark.parametrize("receiver", ["hmac", "ed25519"])
def test_hmac_and_ed25519_go_side_by_side(receiver):
    """An endpoint that moves from one to the other sends both tokens, and each kind of receiver finds its own."""
    secret = generate_secret()
    private, public = generate_keypair()
    signature = Signer([secret, private]).sign("evt_1", 1, b"{}")
    headers = {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": signature}

    message = Webhook({"hmac": secret, "ed25519": public}[receiver]).verify(b"{}", headers, now=1)

    assert [token.split(",")[0] for token in signature.split()] == ["v1", "v1a"]
    assert message.id == "evt_1"


def test_a_public_key_cannot_sign():
    """The error says which key can."""
    _, public = generate_keypair()

    with pytest.raises(InvalidSecretError, match="private"):
        Signer([generate_secret(), public])


def test_a_webhook_with_a_public_key_cannot_sign():
    """A receiver's Webhook refuses to sign rather than leaving a token out."""
    _, public = generate_keypair()

    with pytest.raises(InvalidSecretError, match="private"):
        Webhook([generate_secret(), public]).sign("evt_1", 1, b"")


def test_the_public_key_of_a_private_one():
    """It is the one that was made with it."""
    private, public = generate_keypair()

    found = public_key(private)

    assert found == public
