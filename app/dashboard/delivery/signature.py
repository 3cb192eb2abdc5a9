"""Does the signature of an attempt hold? Made again from the stored bytes and the endpoint's secrets: pure but for time.

Retired secrets are kept as long as the attempts that they signed, so an old attempt can be checked, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from app.core.crypto import CannotDecrypt
from app.dashboard.delivery.exchange import Headers, header_of
from app.endpoints.secrets import COLUMN
from bellwire import InvalidSecretError, Webhook, WebhookVerificationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from app.core.crypto import Keyring
    from app.dashboard.delivery.queries import SealedSecret

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
ED25519_TOKEN = "v1a,"  # noqa: S105 - how a token begins
# No attempt carries more.
MAX_TOKENS = 10


@dataclass(frozen=True, slots=True)
class Token:
    """One signature of the header, and the key that made it; None: no key that is kept."""

    text: str
    key: SealedSecret | None
    # How the key stands today, in words.
    words: str


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """The signed text begins with `head`, and `body` follows. `fault` says why nothing could be checked."""

    head: str
    tokens: Sequence[Token] = ()
    body_format: str | None = None
    fault: str | None = None
    unopened: int = field(default=0)

    @property
    def verifies(self) -> bool:
        """Tell whether every signature was made by a key of the endpoint, over these bytes."""
        return bool(self.tokens) and all(token.key is not None for token in self.tokens)

    @property
    def ed25519(self) -> bool:
        """Tell whether receivers check it with a public key."""
        return any(token.text.startswith(ED25519_TOKEN) for token in self.tokens)


def check_signature(
    headers: Headers,
    bodies: Mapping[str, bytes],
    secrets: Sequence[SealedSecret],
    *,
    keyring: Keyring,
    now: datetime,
) -> SignatureCheck | None:
    """Check an attempt's signature against the bodies that may have been sent; None if it was not signed."""
    message_id, timestamp, signature = (header_of(headers, name) for name in (ID, TIMESTAMP, SIGNATURE))
    if message_id is None or timestamp is None or signature is None:
        return None
    head = f"{message_id}.{timestamp}."
    texts = signature.split()[:MAX_TOKENS]
    if not bodies:
        return SignatureCheck(
            head=head,
            tokens=[Token(text=text, key=None, words="") for text in texts],
            fault="The event's data is gone, so what was signed cannot be made again.",
        )
    keys, unopened = _open(secrets, keyring=keyring)
    best: SignatureCheck | None = None
    for body_format, body in bodies.items():
        tokens = []
        for text in texts:
            signed = {ID: message_id, TIMESTAMP: timestamp, SIGNATURE: text}
            key = next((secret for secret, webhook in keys if _verifies(webhook, body, signed)), None)
            tokens.append(Token(text=text, key=key, words=_words(key, now=now)))
        check = SignatureCheck(head=head, tokens=tokens, body_format=body_format, unopened=unopened)
        if any(token.key is not None for token in tokens):
            return check
        best = best or check
    return best


def _open(
    secrets: Sequence[SealedSecret], *, keyring: Keyring
) -> tuple[list[tuple[SealedSecret, Webhook]], int]:
    """Return what checks with each secret, and how many could not be opened."""
    opened = []
    unopened = 0
    for secret in secrets:
        try:
            plain = keyring.open(secret.sealed, row=secret.id, column=COLUMN).decode()
            opened.append((secret, Webhook(plain)))
        except (CannotDecrypt, InvalidSecretError, UnicodeDecodeError):
            unopened += 1
    return opened, unopened


def _verifies(webhook: Webhook, body: bytes, headers: dict[str, str]) -> bool:
    try:
        webhook.verify(body, headers, tolerance=None)
    except WebhookVerificationError:
        return False
    return True


def _words(key: SealedSecret | None, *, now: datetime) -> str:
    if key is None:
        return "no key of this endpoint"
    made = f"made {key.created_at:%d %b %Y, %H:%M} UTC"
    if key.expires_at is None:
        return f"current key, {made}"
    until = f"{key.expires_at:%d %b %Y, %H:%M} UTC"
    return (
        f"previous key, signs until {until}" if key.expires_at > now else f"retired key, signed until {until}"
    )
