"""Verify and sign Bellwire webhooks, which follow Standard Webhooks 1.0. Standard library only.

`Webhook(secret).verify(body, headers)` returns the message, or raises WebhookVerificationError.
"""

from __future__ import annotations

from bellwire._errors import InvalidSecretError, Reason, WebhookVerificationError
from bellwire._message import VerifiedMessage
from bellwire._secrets import generate_keypair, generate_secret, public_key
from bellwire._signer import Signer
from bellwire._webhook import Webhook

__all__ = [
    "InvalidSecretError",
    "Reason",
    "Signer",
    "VerifiedMessage",
    "Webhook",
    "WebhookVerificationError",
    "generate_keypair",
    "generate_secret",
    "public_key",
]
