"""ed25519 keys (token `v1a`), which need the optional `cryptography` package."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from bellwire._errors import InvalidSecretError

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )
except ImportError as missing:
    raise ImportError(
        "ed25519 keys (whsk_, whpk_) need the package `cryptography`, which cannot be imported. Install it with: "
        "pip install 'bellwire[ed25519]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Sequence

SEED_BYTES = 32
PUBLIC_BYTES = 32
_SIGNATURE_BYTES = 64


class Ed25519PublicKey:
    """A key that checks tokens but cannot make them."""

    __slots__ = ("_public",)

    version = "v1a"

    def __init__(self, public: ed25519.Ed25519PublicKey) -> None:
        self._public = public

    @property
    def raw(self) -> bytes:
        """The 32 bytes of the public key."""
        return self._public.public_bytes(Encoding.Raw, PublicFormat.Raw)

    def verifies(self, signatures: Sequence[str], prefix: bytes, body: bytes) -> bool:
        """Say whether one of the base64 signatures is this key's; a malformed one is simply not."""
        signed = prefix + body
        return any(self._verifies(signature, signed) for signature in signatures)

    def _verifies(self, signature: str, signed: bytes) -> bool:
        try:
            raw = base64.b64decode(signature, validate=True)
            # Base64 leaves spare bits in the last character; only the one canonical text counts.
            if len(raw) != _SIGNATURE_BYTES or base64.b64encode(raw) != signature.encode("ascii"):
                return False
            self._public.verify(raw, signed)
        except (ValueError, InvalidSignature):
            return False
        return True


class Ed25519PrivateKey(Ed25519PublicKey):
    """A key that makes tokens and checks them."""

    __slots__ = ("_private",)

    def __init__(self, private: ed25519.Ed25519PrivateKey) -> None:
        super().__init__(private.public_key())
        self._private = private

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes."""
        return self._private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())

    def token(self, prefix: bytes, body: bytes) -> str:
        """Return `v1a,` and the base64 of the 64-byte signature."""
        return "v1a," + base64.b64encode(self._private.sign(prefix + body)).decode("ascii")


def load_private(raw: bytes) -> Ed25519PrivateKey:
    """Load a 32-byte seed, or 64 bytes of seed and public key. Raises InvalidSecretError if they disagree."""
    key = Ed25519PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(raw[:SEED_BYTES]))
    if raw[SEED_BYTES:] not in {b"", key.raw}:
        raise InvalidSecretError(
            "it holds a private key with a public key that does not belong to it. Copy the private key again, whole."
        )
    return key


def load_public(raw: bytes) -> Ed25519PublicKey:
    """Load the 32 bytes of a public key."""
    return Ed25519PublicKey(ed25519.Ed25519PublicKey.from_public_bytes(raw))


def generate_private() -> Ed25519PrivateKey:
    """Make a new private key from the system's randomness."""
    return Ed25519PrivateKey(ed25519.Ed25519PrivateKey.generate())
