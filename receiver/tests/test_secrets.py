"""Secrets as text: what is accepted, and what the error for the rest says."""

from __future__ import annotations

import base64

import pytest

from bellwire import InvalidSecretError, Signer, Webhook, generate_keypair, generate_secret, public_key


def encoded(prefix, size):
    return prefix + base64.b64encode(bytes(range(size))).decode()


@pytest.mark.parametrize("size", [24, 32, 64])
def test_accepts_24_to_64_bytes(size):
    """The lengths that the standard allows, at both ends."""
    signature = Signer(encoded("whsec_", size)).sign("evt_1", 1, b"")

    assert signature.startswith("v1,")


@pytest.mark.parametrize("alter", [lambda text: text.rstrip("="), lambda text: f"  {text}\n"])
def test_forgives_how_secrets_are_copied(alter):
    """Padding that was not selected and white space around it change nothing."""
    secret = encoded("whsec_", 32)

    signature = Signer(alter(secret)).sign("evt_1", 1, b"")

    assert signature == Signer(secret).sign("evt_1", 1, b"")


@pytest.mark.parametrize(
    ("secret", "says"),
    [
        (encoded("whsec_", 23), "23 bytes"),
        (encoded("whsec_", 65), "65 bytes"),
        ("whsec_", "0 bytes"),
        ("", "empty"),
        (" \n", "empty"),
        (None, "environment variable"),
        (b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "bytes, not str"),
        (7, "int, not str"),
        ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with none of"),
        ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "starts with none of"),
        ('"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"', "starts with none of"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!", "not base64"),
        ("whsec_MfKQ9r8GKYqr TwjUPD8ILPZIo2LaLaSw", "not base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSé", "not base64"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwA", "not base64"),
        ([], "no secret"),
        ([encoded("whsec_", 24), ""], "Secret 2 of 2"),
        (encoded("whsk_", 31), "31 bytes"),
        (encoded("whpk_", 33), "33 bytes"),
        (encoded("whsk_", 64), "does not belong"),
    ],
)
def test_says_what_is_wrong_with_a_secret(secret, says):
    """A secret that cannot be used is a ValueError at construction that says why and what to do."""
    with pytest.raises(InvalidSecretError, match=says) as caught:
        Webhook(secret)

    assert isinstance(caught.value, ValueError)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("secret", ["whsec_MfKQ9r8GKYqrTwjUPD8", "hunter2hunter2", "whsec_MfKQ9r8GKYq!"])
def test_never_repeats_the_secret(secret):
    """The message may be logged, so it holds nothing of the secret but its prefix."""
    with pytest.raises(InvalidSecretError) as caught:
        Webhook(secret)

    assert secret[6:] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_objects_do_not_show_their_secret():
    """Neither repr tells the key."""
    secret = generate_secret()

    shown = repr(Webhook(secret)) + repr(Signer(secret))

    assert secret[6:] not in shown


def test_several_secrets_may_come_from_a_generator():
    """Any iterable of secrets will do, and is read once."""
    webhook = Webhook(secret for secret in [generate_secret(), generate_secret()])

    signature = webhook.sign("evt_1", 1, b"")

    assert len(signature.split(" ")) == 2


def test_generated_secrets_are_new_and_need_no_padding():
    """Each secret is another one, and a double click selects all of it."""
    secrets = {generate_secret() for _ in range(100)}

    assert len(secrets) == 100
    assert not any(secret.endswith("=") for secret in secrets)


@pytest.mark.parametrize("size", [0, 23, 65])
def test_generates_no_secret_that_would_be_refused(size):
    """The same limits hold for making as for reading."""
    with pytest.raises(ValueError, match="24 to 64"):
        generate_secret(size=size)


def test_a_private_key_may_carry_its_public_key():
    """64 bytes, seed and public key, as some tools write it, are the same key."""
    private, public = generate_keypair()
    raw = base64.b64decode(private[5:]) + base64.b64decode(public[5:])

    found = public_key("whsk_" + base64.b64encode(raw).decode())

    assert found == public


@pytest.mark.parametrize("secret", ["", None, encoded("whsec_", 32), encoded("whpk_", 32), "whsk_AAAA"])
def test_only_a_private_key_has_a_public_one(secret):
    """Anything else is refused by name."""
    with pytest.raises(InvalidSecretError, match="private key"):
        public_key(secret)
