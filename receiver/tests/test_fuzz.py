"""Whatever arrives, `verify` returns a message that was signed or raises its own error, and nothing else."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from bellwire import Signer, VerifiedMessage, Webhook, WebhookVerificationError, generate_keypair

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PRIVATE, PUBLIC = generate_keypair()
WEBHOOKS = [Webhook(SECRET), Webhook(PUBLIC), Webhook([SECRET, PUBLIC])]
NOW = 1_700_000_000
NAMES = ["webhook-id", "webhook-timestamp", "webhook-signature"]

any_text = st.text(st.characters(exclude_categories=()), max_size=40)  # Lone surrogates too.
bodies = st.one_of(st.binary(), any_text, st.none(), st.integers(), st.dictionaries(st.text(), st.integers()))
names = st.one_of(
    st.sampled_from(NAMES), st.sampled_from([name.title().encode() for name in NAMES]), any_text
)
ids = st.from_regex(r"[A-Za-z0-9_-]{1,40}", fullmatch=True)
timestamps = st.one_of(st.integers(NOW - 600, NOW + 600), st.integers()).map(str)
tokens = st.one_of(
    st.builds(
        "{},{}".format,
        st.sampled_from(["v1", "v1a", "v2", ""]),
        st.from_regex(r"[A-Za-z0-9+/=,]*", fullmatch=True),
    ),
    any_text,
)
values = st.one_of(
    any_text,
    st.binary(max_size=40),
    ids,
    timestamps,
    timestamps.map(str.encode),
    st.lists(tokens, max_size=40).map(" ".join),
    st.none(),
    st.integers(),
    st.lists(any_text, max_size=2),
)
headers = st.one_of(
    st.dictionaries(names, values),
    st.fixed_dictionaries(dict.fromkeys(NAMES, values)),
    st.fixed_dictionaries(
        {
            "webhook-id": ids,
            "webhook-timestamp": timestamps,
            "webhook-signature": st.lists(tokens, max_size=40).map(" ".join),
        }
    ),
    st.lists(st.tuples(names, values)),
    st.lists(st.one_of(any_text, st.binary(max_size=3), st.none(), st.tuples(any_text))),
    st.none(),
    st.integers(),
    any_text,
    st.binary(),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.datetimes().map(str))
members = st.sampled_from(["type", "timestamp", "time", "data", "specversion"])
documents = st.one_of(
    st.binary(),
    st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.one_of(members, st.text()), inner)),
    ).map(lambda value: json.dumps(value).encode()),
    st.dictionaries(members, scalars).map(lambda value: json.dumps(value).encode()),
)


def attempt(webhook, body, given_headers, **options):
    """Return the message, or the error if it is the package's own; let every other exception through."""
    try:
        return webhook.verify(body, given_headers, **options)
    except WebhookVerificationError as error:
        return error


@settings(max_examples=600, deadline=None)
@given(
    webhook=st.sampled_from(WEBHOOKS),
    body=bodies,
    given_headers=headers,
    tolerance=st.sampled_from([300, None]),
)
def test_arbitrary_input_is_refused_by_the_own_error_only(webhook, body, given_headers, tolerance):
    """Nobody without the key gets in, and nobody makes the receiver crash."""
    result = attempt(webhook, body, given_headers, now=NOW, tolerance=tolerance)

    assert isinstance(result, WebhookVerificationError)
    assert result.reason
    assert str(result).endswith(".")


@settings(max_examples=200, deadline=None)
@given(
    message_id=ids,
    timestamp=st.integers(0, 253_402_300_799),
    body=st.binary(),
    secret=st.sampled_from([SECRET, PRIVATE]),
)
def test_what_was_signed_is_what_is_returned(message_id, timestamp, body, secret):
    """Signing and verifying agree on every id, every second that a datetime can hold, and every body."""
    webhook = Webhook(secret)
    signed = webhook.signed_headers(message_id, body, timestamp=timestamp)

    message = webhook.verify(body, signed, now=timestamp)

    assert isinstance(message, VerifiedMessage)
    assert (message.id, message.timestamp.timestamp(), message.payload) == (message_id, timestamp, body)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), body=st.binary(min_size=1, max_size=200), secret=st.sampled_from([SECRET, PRIVATE]))
def test_no_changed_byte_gets_through(data, body, secret):
    """One bit flipped anywhere, in the body or in a header, is refused."""
    webhook = Webhook(secret)
    signed = {
        name: value.encode() for name, value in webhook.signed_headers("evt_1", body, timestamp=NOW).items()
    }
    parts = {**signed, "body": body}
    name = data.draw(st.sampled_from(sorted(parts)))
    place = data.draw(st.integers(0, len(parts[name]) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(parts[name])
    changed[place] ^= 1 << bit
    parts[name] = bytes(changed)

    result = attempt(webhook, parts.pop("body"), parts, now=NOW)

    assert isinstance(result, WebhookVerificationError)


@settings(max_examples=200, deadline=None)
@given(
    before=st.lists(st.from_regex(r"[!-~]{1,30}", fullmatch=True), max_size=15),
    after=st.lists(st.from_regex(r"[!-~]{1,30}", fullmatch=True), max_size=15),
)
def test_a_good_token_is_found_among_any_others(before, after):
    """Tokens of versions to come, and nonsense, do not hide the one that counts."""
    good = Signer(SECRET).sign("evt_1", NOW, b"{}")
    signed = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(NOW),
        "webhook-signature": " ".join([*before, good, *after]),
    }

    result = attempt(Webhook(SECRET), b"{}", signed, now=NOW)

    assert isinstance(result, VerifiedMessage)


@settings(max_examples=200, deadline=None)
@given(body=documents, name=st.sampled_from(["json", "type", "data", "occurred_at"]))
def test_reading_any_signed_body_raises_the_own_error_only(body, name):
    """A sender with the key may still send nonsense; reading it is safe."""
    webhook = Webhook(SECRET)
    message = webhook.verify(body, webhook.signed_headers("evt_1", body, timestamp=NOW), now=NOW)

    try:
        value = getattr(message, name)
        value() if callable(value) else value
    except WebhookVerificationError as error:
        assert error.reason == "unexpected_payload"  # noqa: PT017 - any other exception must fail the test.
