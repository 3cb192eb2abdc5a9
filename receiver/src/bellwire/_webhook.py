"""Verify what arrived, and sign for tests and tools: the class that receivers use."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta, timezone
from typing import Union

from bellwire._errors import WebhookVerificationError
from bellwire._headers import ID, SIGNATURE, TIMESTAMP, Headers, SignatureHeaders, read_signature_headers
from bellwire._message import VerifiedMessage
from bellwire._secrets import Secrets, load_keys, require_signing_keys
from bellwire._signer import signature

DEFAULT_TOLERANCE = timedelta(minutes=5)
"""How far the sender's clock may be from ours, either way: what Standard Webhooks recommends."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

Body = Union[bytes, bytearray, memoryview, str]
Moment = Union[datetime, float]
"""An aware datetime, or Unix seconds."""

Duration = Union[timedelta, float]
"""A timedelta, or seconds."""


class Webhook:
    """Verifies messages with the secret of an endpoint, or with several while a rotation lasts.

    Secrets are text: `whsec_...`, or `whpk_...` for ed25519 (`pip install 'bellwire[ed25519]'`). Construction
    raises InvalidSecretError for one that cannot be used, so make it once, at start. Threads may share it.
    """

    __slots__ = ("_keys",)

    def __init__(self, secrets: Secrets) -> None:
        self._keys = load_keys(secrets)

    def verify(
        self,
        body: Body,
        headers: Headers,
        *,
        now: Moment | None = None,
        tolerance: Duration | None = DEFAULT_TOLERANCE,
    ) -> VerifiedMessage:
        """Return the message if it is genuine and fresh, or raise WebhookVerificationError and nothing else.

        `body` is what arrived, unparsed. `headers` is a mapping or pairs, names in any case, text or bytes.
        `now` replaces the clock. `tolerance` is how far the timestamp may be from it, either way; None accepts
        any age, which is right only for messages that you stored yourself.

        A `now` without a time zone, or a negative `tolerance`, is a mistake of the caller: ValueError.
        """
        payload = _bytes_to_verify(body)
        found = read_signature_headers(headers)
        self._check_signature(found, payload)
        if tolerance is not None:
            # After the signature, so that "too old" is only ever said about a genuine message.
            _check_age(found.timestamp, now=now, tolerance=tolerance)
        return VerifiedMessage(found.message_id, _EPOCH + timedelta(seconds=found.timestamp), payload)

    def sign(self, message_id: str, timestamp: Moment, body: Body) -> str:
        """Return the value of `webhook-signature`. Raises InvalidSecretError if a secret is a public key.

        Fractions of a second are cut off. To sign thousands a second, keep a `Signer`.
        """
        seconds = math.floor(_unix_seconds(timestamp))
        return signature(require_signing_keys(self._keys), message_id, seconds, _bytes_to_sign(body))

    def signed_headers(
        self, message_id: str, body: Body, *, timestamp: Moment | None = None
    ) -> dict[str, str]:
        """Return the three headers of a request with this body: what a test of a receiver sends."""
        seconds = math.floor(time.time() if timestamp is None else _unix_seconds(timestamp))
        return {
            ID: message_id,
            TIMESTAMP: str(seconds),
            SIGNATURE: self.sign(message_id, seconds, body),
        }

    def _check_signature(self, found: SignatureHeaders, payload: bytes) -> None:
        by_version: dict[str, list[str]] = {}
        for token in found.tokens:
            version, _, signature = token.partition(",")
            by_version.setdefault(version, []).append(signature)
        candidates = [(key, by_version[key.version]) for key in self._keys if key.version in by_version]
        if not candidates:
            expected = " or ".join(sorted({key.version for key in self._keys}))
            raise WebhookVerificationError(
                "unsupported_signature",
                f"The header {SIGNATURE} has no token {expected}, the only kind that the configured secret can "
                "check. Use the endpoint's whsec_ secret for v1, its whpk_ public key for v1a.",
            )
        matched = False
        for key, signatures in candidates:
            matched |= key.verifies(signatures, found.signed_prefix, payload)
        if not matched:
            raise WebhookVerificationError(
                "signature_mismatch",
                "No signature fits the body and the configured secrets. Check that the secret is this endpoint's "
                "(after a rotation: the new one), and that the body is the raw bytes that arrived, not JSON that "
                "was parsed and written again.",
            )


def _bytes_to_verify(body: Body) -> bytes:
    try:
        return _to_bytes(body)
    except (TypeError, ValueError, BufferError) as error:
        raise WebhookVerificationError(
            "unusable_body",
            f"The body ({type(body).__name__}) is not the raw bytes that arrived. Pass the request's body before "
            "anything parses it: await request.body() in FastAPI, request.get_data() in Flask, request.body in "
            "Django.",
        ) from error


def _bytes_to_sign(body: Body) -> bytes:
    try:
        return _to_bytes(body)
    except (TypeError, ValueError, BufferError) as error:
        raise ValueError("The body to sign is bytes, or text that can be written as UTF-8.") from error


def _to_bytes(body: Body) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, str):
        return body.encode("utf-8")
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    raise TypeError(type(body).__name__)


def _check_age(timestamp: int, *, now: Moment | None, tolerance: Duration) -> None:
    seconds = tolerance.total_seconds() if isinstance(tolerance, timedelta) else float(tolerance)
    if not seconds >= 0:  # Also refuses NaN, which would accept every message.
        raise ValueError(
            "`tolerance` is 0 or more seconds, or a timedelta; None accepts messages of any age."
        )
    age = (time.time() if now is None else _unix_seconds(now)) - timestamp
    if age > seconds:
        raise WebhookVerificationError(
            "timestamp_too_old",
            f"The signature is genuine, but the message was signed {age:.0f} s ago and {seconds:.0f} s are "
            "allowed: it is a replay, or this machine's clock is ahead. Check the clock (NTP); Bellwire signs "
            "every retry anew.",
        )
    if -age > seconds:
        raise WebhookVerificationError(
            "timestamp_too_new",
            f"The signature is genuine, but the message was signed {-age:.0f} s in the future and {seconds:.0f} s "
            "are allowed: this machine's clock is behind, or the sender's is ahead. Check the clocks (NTP).",
        )


def _unix_seconds(moment: Moment) -> float:
    if isinstance(moment, datetime):
        if moment.tzinfo is None:
            raise ValueError("A datetime without a time zone is ambiguous. Use datetime.now(timezone.utc).")
        return moment.timestamp()
    if not math.isfinite(moment):
        raise ValueError("A time is a finite number of Unix seconds, or an aware datetime.")
    return moment
