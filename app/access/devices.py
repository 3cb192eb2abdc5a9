"""The device cookie: a browser in which a person has signed in before, so that strangers cannot slow it down.

It opens nothing. It says whose device it is, sealed, so that only this server can have made it.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING

from app.core.crypto import CannotDecrypt

if TYPE_CHECKING:
    from uuid import UUID

    from app.core.crypto import Keyring

_COLUMN = "users.device"
_NAME_BYTES = 16
_MAX_CHARS = 200


def make_device(keyring: Keyring, user_id: UUID) -> str:
    """Return the cookie of a device on which this person has just signed in."""
    sealed = keyring.seal(os.urandom(_NAME_BYTES), row=user_id, column=_COLUMN)
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def device_of(keyring: Keyring, cookie: str | None, user_id: UUID) -> str | None:
    """Return the device's name if the cookie is one that was made for this person."""
    if not cookie or len(cookie) > _MAX_CHARS:
        return None
    try:
        sealed = base64.b64decode(cookie + "=" * (-len(cookie) % 4), altchars=b"-_", validate=True)
        return keyring.open(sealed, row=user_id, column=_COLUMN).hex()
    except (CannotDecrypt, binascii.Error, ValueError):
        return None
