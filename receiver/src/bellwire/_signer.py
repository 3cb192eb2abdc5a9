"""Sign messages: what a sender needs for each attempt, with the keys prepared once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bellwire._headers import MAX_TIMESTAMP, MESSAGE_ID
from bellwire._secrets import Secrets, load_keys, require_signing_keys

if TYPE_CHECKING:
    from bellwire._keys import SigningKey


class Signer:
    """Signs many messages with the same secret, or with several while a rotation lasts.

    Construction decodes the secrets and raises InvalidSecretError if one cannot sign. A signer holds no other
    state, so threads may share it.
    """

    __slots__ = ("_keys",)

    def __init__(self, secrets: Secrets) -> None:
        self._keys = require_signing_keys(load_keys(secrets))

    def sign(self, message_id: str, timestamp: int, body: bytes) -> str:
        """Return the value of `webhook-signature`: one token per secret, in their order, space-separated.

        `timestamp` is in whole Unix seconds and must be sent as `webhook-timestamp`, `message_id` as `webhook-id`.
        Raises ValueError for an id or a timestamp that no receiver could verify.
        """
        return signature(self._keys, message_id, timestamp, body)


def signature(keys: tuple[SigningKey, ...], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the tokens of all keys; see `Signer.sign`."""
    if not MESSAGE_ID.fullmatch(message_id):
        raise ValueError(
            "A message id is visible ASCII without a full stop, because it is a header and a full stop ends "
            "it in the signed text. Use letters, digits, - and _."
        )
    if not isinstance(timestamp, int) or not 0 <= timestamp <= MAX_TIMESTAMP:
        raise ValueError("A timestamp is a whole number of Unix seconds, such as int(time.time()).")
    prefix = b"%b.%d." % (message_id.encode("ascii"), timestamp)
    if len(keys) == 1:
        return keys[0].token(prefix, body)
    return " ".join([key.token(prefix, body) for key in keys])
