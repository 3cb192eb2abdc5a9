"""Find the three webhook headers in whatever a framework calls its headers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Union

from bellwire._errors import WebhookVerificationError

ID = "webhook-id"
TIMESTAMP = "webhook-timestamp"
SIGNATURE = "webhook-signature"

HeaderText = Union[str, bytes]
Headers = Union[Mapping[str, str], Mapping[bytes, bytes], Iterable[tuple[HeaderText, HeaderText]]]
"""A mapping, or pairs as in an ASGI scope; names in any case; text or bytes."""

MESSAGE_ID = re.compile(r"[!-\-/-~]+")
"""Visible ASCII but no full stop: with one, the end of an id and the start of a body could be exchanged."""

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
MAX_TIMESTAMP = 253_402_300_799
"""Unix seconds of the last moment that `datetime` can hold (end of the year 9999)."""

_SIGNATURE = re.compile(r"[ -~]+")
_MAX_TOKENS = 32
"""A sender in the middle of a rotation sends two or three; each costs a comparison or an ed25519 check."""


class SignatureHeaders(NamedTuple):
    """The three headers, well-formed but not yet verified. `signed_prefix` is `{id}.{timestamp}.`."""

    message_id: str
    timestamp: int
    tokens: list[str]
    signed_prefix: bytes


def read_signature_headers(headers: Headers) -> SignatureHeaders:
    """Return the three headers.

    Raises WebhookVerificationError if one is missing, given twice with different values, or malformed.
    """
    found = _find(headers)
    message_id = _require(found, ID)
    timestamp = _require(found, TIMESTAMP)
    signature = _require(found, SIGNATURE)
    if not MESSAGE_ID.fullmatch(message_id):
        raise _malformed(ID, "must be visible ASCII characters without a full stop")
    if not _TIMESTAMP.fullmatch(timestamp) or int(timestamp) > MAX_TIMESTAMP:
        raise _malformed(TIMESTAMP, "must be whole Unix seconds, digits only, such as 1614265330")
    tokens = signature.split()
    if not _SIGNATURE.fullmatch(signature) or not any("," in token for token in tokens):
        raise _malformed(SIGNATURE, "must be tokens like v1,<base64>, separated by spaces")
    if len(tokens) > _MAX_TOKENS:
        raise _malformed(SIGNATURE, f"must have at most {_MAX_TOKENS} tokens")
    return SignatureHeaders(message_id, int(timestamp), tokens, f"{message_id}.{timestamp}.".encode("ascii"))


def _find(headers: Headers) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        items = getattr(headers, "items", None)
        pairs: Iterable[Any] = items() if callable(items) else headers
        for raw_name, raw_value in pairs:
            name = _text(raw_name).lower()
            if name not in {ID, TIMESTAMP, SIGNATURE}:
                continue
            value = _text(raw_value).strip(" \t")
            if found.setdefault(name, value) != value:
                raise WebhookVerificationError(
                    "duplicate_header",
                    f"The request carries the header {name} twice with different values, so it is unclear which "
                    "one is meant. Look for a proxy that adds headers; Bellwire sends each once.",
                )
    except (TypeError, ValueError) as error:
        raise WebhookVerificationError(
            "unusable_headers",
            "The headers cannot be read as names and values. Pass the request's headers as the framework gives "
            "them, such as request.headers, or a list of (name, value) pairs.",
        ) from error
    return found


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return ""


def _require(found: dict[str, str], name: str) -> str:
    value = found.get(name)
    if not value:
        raise WebhookVerificationError(
            "missing_header",
            f"The request has no header {name}, so it was not signed by Bellwire or a proxy removed the header. "
            "Pass all of the request's headers, and let every proxy on the way forward webhook-* headers.",
        )
    return value


def _malformed(name: str, rule: str) -> WebhookVerificationError:
    return WebhookVerificationError(
        "malformed_header",
        f"The header {name} {rule}, and it is not. The request was not sent by Bellwire, or something on "
        "the way changed the header; compare with the attempt that Bellwire has on record.",
    )
