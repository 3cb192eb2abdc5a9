"""Secrets at rest, and API keys.

Secrets are sealed with AES-256-GCM. The row's identity is the associated data, so a sealed value that is
copied to another row cannot be opened there. A sealed value is: one byte version, four bytes that name the
key, twelve bytes nonce, ciphertext with its tag.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.core.errors import BellwireError, StartupError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

_VERSION = b"\x01"
_NONCE_BYTES = 12
_KEY_NAME_BYTES = 4
# How much of a sealed value says which key it needs.
SEALED_HEAD_BYTES = 1 + _KEY_NAME_BYTES
_HEAD_BYTES = 1 + _KEY_NAME_BYTES + _NONCE_BYTES
_KEY_ID_BYTES = 8
_SECRET_BYTES = 24
_CHECKSUM_CHARS = 6
_KEY_PARTS = 3


class CannotDecrypt(BellwireError):
    """A stored secret cannot be opened: its key is not in BELLWIRE_ENCRYPTION_KEYS, or the row was altered."""


class Keyring:
    """Seals with the newest key and opens with any of them."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._ciphers: dict[bytes, AESGCM] = {}
        self._newest = b""
        for text in keys:
            raw = base64.b64decode(text)
            name = hashlib.sha256(b"bellwire key name" + raw).digest()[:_KEY_NAME_BYTES]
            self._ciphers[name] = AESGCM(raw)
            self._newest = self._newest or name
        if not self._ciphers:
            raise StartupError(
                "There is no encryption key. Set BELLWIRE_ENCRYPTION_KEYS (make one: openssl rand -base64 32)."
            )

    def seal(self, plain: bytes, *, row: UUID, column: str) -> bytes:
        """Encrypt a value for one column of one row."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._newest].encrypt(nonce, plain, _associated(row, column))
        return _VERSION + self._newest + nonce + sealed

    def open(self, sealed: bytes, *, row: UUID, column: str) -> bytes:
        """Decrypt what `seal` made for the same column of the same row.

        Raises:
            CannotDecrypt: no key of the ring fits, or the value was altered or moved.

        """
        cipher = self._ciphers.get(sealed[1 : 1 + _KEY_NAME_BYTES])
        if sealed[:1] != _VERSION or cipher is None:
            raise CannotDecrypt(
                f"The secret of row {row} was sealed with a key that is not in BELLWIRE_ENCRYPTION_KEYS. "
                "Add that key after the newest one and start again."
            )
        try:
            return cipher.decrypt(
                sealed[1 + _KEY_NAME_BYTES : _HEAD_BYTES], sealed[_HEAD_BYTES:], _associated(row, column)
            )
        except InvalidTag:
            raise CannotDecrypt(
                f"The stored {column} of row {row} was altered; restore it from a backup."
            ) from None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the keys, newest first. A name tells keys apart and gives nothing of them away."""
        return tuple(name.hex() for name in self._ciphers)

    @property
    def newest_head(self) -> bytes:
        """The head of every value that is sealed with the newest key."""
        return _VERSION + self._newest

    def has_key_of(self, sealed: bytes) -> bool:
        """Tell whether a sealed value, or only its head, names a key of this ring."""
        return sealed[:1] == _VERSION and sealed[1 : 1 + _KEY_NAME_BYTES] in self._ciphers

    def is_newest(self, sealed: bytes) -> bool:
        """Tell whether a value is sealed with the newest key (rotation looks for those that are not)."""
        return sealed[1 : 1 + _KEY_NAME_BYTES] == self._newest


def key_name_of(sealed: bytes) -> str:
    """Return the name of the key that a sealed value, or its head, needs."""
    return sealed[1:SEALED_HEAD_BYTES].hex()


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key as it is shown once, and what is kept of it."""

    text: str
    key_id: str
    digest: bytes


def new_api_key() -> NewApiKey:
    """Make a key `bw_<keyid>_<secret><checksum>`; the checksum lets scanners tell real keys from noise."""
    key_id = secrets.token_hex(_KEY_ID_BYTES)
    body = f"bw_{key_id}_{secrets.token_hex(_SECRET_BYTES)}"
    text = body + _checksum(body)
    return NewApiKey(text=text, key_id=key_id, digest=api_key_digest(text))


def key_id_of(text: str) -> str:
    """Return the part of a key by which it is looked up: the whole digest's head for keys of other forms."""
    parts = text.split("_")
    if _has_form_of_key(parts) and parts[2][-_CHECKSUM_CHARS:] == _checksum(text[:-_CHECKSUM_CHARS]):
        return parts[1]
    return hashlib.sha256(b"bellwire bootstrap" + text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def is_mistyped_key(text: str) -> bool:
    """Tell whether a text looks like a key of ours whose checksum does not fit: cut off, or a letter is wrong."""
    return _has_form_of_key(text.split("_")) and key_id_of(text) != text.split("_")[1]


def api_key_digest(text: str) -> bytes:
    """Return what is stored of a key. Keys are random, so a fast hash is the right one."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def same_digest(one: bytes, other: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one, other)


def _has_form_of_key(parts: list[str]) -> bool:
    return len(parts) == _KEY_PARTS and parts[0] == "bw" and len(parts[1]) == 2 * _KEY_ID_BYTES


def _checksum(body: str) -> str:
    return f"{binascii.crc32(body.encode('utf-8', 'surrogatepass')):08x}"[:_CHECKSUM_CHARS]


def _associated(row: UUID, column: str) -> bytes:
    return row.bytes + column.encode()
