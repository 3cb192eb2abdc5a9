"""What can go wrong, as two classes: one for a request, one for the configuration.

Exception
├── WebhookVerificationError    a request that must not be trusted; answer it with status 400
└── ValueError
    └── InvalidSecretError      a secret that cannot be used; raised at start, not per request
"""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "unusable_body",
    "unusable_headers",
    "missing_header",
    "duplicate_header",
    "malformed_header",
    "unsupported_signature",
    "signature_mismatch",
    "timestamp_too_old",
    "timestamp_too_new",
    "unexpected_payload",
]
"""The values of `WebhookVerificationError.reason`. More may be added; none changes its meaning."""


class WebhookVerificationError(Exception):
    """The request is not a genuine, fresh message. Answer with status 400 and do not act on it.

    `reason` is for programs, `str(error)` is for people: what happened and what to do next. Neither holds a
    secret, an expected signature, or a piece of the request's body, so both may be logged.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(reason, message)  # Both arguments, so that the error survives pickling.
        self.reason = reason
        self.message = message

    def __str__(self) -> str:
        return self.message


class InvalidSecretError(ValueError):
    """A secret cannot be used as it is configured. The message never repeats the secret."""
