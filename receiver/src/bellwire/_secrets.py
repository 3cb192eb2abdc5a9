"""Secrets as text: `whsec_` (HMAC), `whsk_` (ed25519 private), `whpk_` (ed25519 public), each with base64."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from typing import Union

from bellwire._errors import InvalidSecretError
from bellwire._keys import HmacKey, SigningKey, VerifyingKey

HMAC_PREFIX = "whsec_"
PRIVATE_PREFIX = "whsk_"
PUBLIC_PREFIX = "whpk_"

MIN_HMAC_BYTES = 24
MAX_HMAC_BYTES = 64
DEFAULT_HMAC_BYTES = 36
"""A multiple of three, so that the text has no `=` at its end for a double click to leave out."""

Secrets = Union[str, Iterable[str]]
"""One secret, or several while a rotation lasts."""


def generate_secret(*, size: int = DEFAULT_HMAC_BYTES) -> str:
    """Return a new HMAC secret of `size` random bytes (24..64) as `whsec_` and base64."""
    if not MIN_HMAC_BYTES <= size <= MAX_HMAC_BYTES:
        raise ValueError(
            f"A secret has {MIN_HMAC_BYTES} to {MAX_HMAC_BYTES} bytes, not {size}. Leave `size` out for a good one."
        )
    return _encode(HMAC_PREFIX, secrets.token_bytes(size))


def generate_keypair() -> tuple[str, str]:
    """Return a new ed25519 pair: the private `whsk_` for the sender, the public `whpk_` for receivers.

    Raises ImportError with the command to run if `cryptography` is not installed.
    """
    from bellwire import _ed25519

    key = _ed25519.generate_private()
    return _encode(PRIVATE_PREFIX, key.seed), _encode(PUBLIC_PREFIX, key.raw)


def public_key(private: str) -> str:
    """Return the public `whpk_` that belongs to a private `whsk_`.

    Raises InvalidSecretError for anything but a usable `whsk_`, ImportError if `cryptography` is not installed.
    """
    if not isinstance(private, str) or not private.strip().startswith(PRIVATE_PREFIX):
        raise InvalidSecretError(
            f"Only a private key, {PRIVATE_PREFIX} and base64, has a public key to show."
        )
    from bellwire import _ed25519

    (key,) = load_keys(private)
    if not isinstance(key, _ed25519.Ed25519PrivateKey):  # The prefix decided it; this tells the type checker.
        raise TypeError(type(key).__name__)
    return _encode(PUBLIC_PREFIX, key.raw)


def load_keys(given: Secrets) -> tuple[VerifyingKey, ...]:
    """Return the keys of one or several secrets. Raises InvalidSecretError, naming which one is at fault."""
    texts = _listed(given)
    return tuple(
        _load_named(text, "The secret" if len(texts) == 1 else f"Secret {position} of {len(texts)}")
        for position, text in enumerate(texts, start=1)
    )


def require_signing_keys(keys: Iterable[VerifyingKey]) -> tuple[SigningKey, ...]:
    """Return the keys as ones that can sign. Raises InvalidSecretError if one is a public key."""
    signing = []
    for key in keys:
        if not isinstance(key, SigningKey):
            raise InvalidSecretError(
                f"A public key ({PUBLIC_PREFIX}) can check signatures but not make them. Sign with the private "
                f"key ({PRIVATE_PREFIX}) that belongs to it."
            )
        signing.append(key)
    return tuple(signing)


def _listed(given: object) -> list[object]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        return [given]  # If it is not text, `_load` explains what to pass.
    texts = list(given)
    if not texts:
        raise InvalidSecretError(
            "There is no secret to verify with. Pass the endpoint's secret as text, or a list with at least one."
        )
    return texts


def _load_named(text: object, which: str) -> VerifyingKey:
    try:
        return _load(text)
    except InvalidSecretError as error:
        raise InvalidSecretError(f"{which} cannot be used: {error}") from None


def _load(text: object) -> VerifyingKey:
    if not isinstance(text, str):
        raise InvalidSecretError(
            f"it is {type(text).__name__}, not str. Pass the text that Bellwire shows, {HMAC_PREFIX} included; if "
            "it comes from an environment variable, check that the variable is set."
        )
    text = text.strip()
    if not text:
        raise InvalidSecretError(
            "it is empty. Set it to the endpoint's secret, which the dashboard shows on the endpoint's page."
        )
    if text.startswith(HMAC_PREFIX):
        raw = _decode(text, HMAC_PREFIX)
        if not MIN_HMAC_BYTES <= len(raw) <= MAX_HMAC_BYTES:
            raise InvalidSecretError(
                f"it holds {len(raw)} bytes, and {MIN_HMAC_BYTES} to {MAX_HMAC_BYTES} are allowed. Copy it again, "
                "whole; to choose your own, let bellwire.generate_secret() make it."
            )
        return HmacKey(raw)
    if text.startswith(PRIVATE_PREFIX):
        return _load_private(_decode(text, PRIVATE_PREFIX))
    if text.startswith(PUBLIC_PREFIX):
        return _load_public(_decode(text, PUBLIC_PREFIX))
    raise InvalidSecretError(
        f"it starts with none of {HMAC_PREFIX}, {PRIVATE_PREFIX} and {PUBLIC_PREFIX}. Copy the endpoint's secret "
        "again, its first letters included."
    )


def _load_private(raw: bytes) -> VerifyingKey:
    from bellwire import _ed25519

    if len(raw) not in {_ed25519.SEED_BYTES, _ed25519.SEED_BYTES + _ed25519.PUBLIC_BYTES}:
        raise InvalidSecretError(
            f"it holds {len(raw)} bytes, and an ed25519 private key has {_ed25519.SEED_BYTES}, or 64 with its "
            "public key. Copy it again, whole."
        )
    return _ed25519.load_private(raw)


def _load_public(raw: bytes) -> VerifyingKey:
    from bellwire import _ed25519

    if len(raw) != _ed25519.PUBLIC_BYTES:
        raise InvalidSecretError(
            f"it holds {len(raw)} bytes, and an ed25519 public key has {_ed25519.PUBLIC_BYTES}. Copy it again, whole."
        )
    return _ed25519.load_public(raw)


def _encode(prefix: str, raw: bytes) -> str:
    return prefix + base64.b64encode(raw).decode("ascii")


def _decode(text: str, prefix: str) -> bytes:
    encoded = text[len(prefix) :].rstrip("=")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        raise InvalidSecretError(
            f"what follows {prefix} is not base64 (letters, digits, + and /). Copy it again, whole and without "
            "quotes or spaces inside."
        ) from None
