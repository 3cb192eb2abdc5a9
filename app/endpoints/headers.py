"""An endpoint's own headers: what may be set, how they are kept, and how they are shown.

Their values are often credentials: they are sealed at rest and masked in every answer. A masked value that comes
back in a PATCH means "as it is".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import orjson

from app.core.errors import FieldError, Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from app.core.crypto import Keyring

MASK = "***"
MAX_HEADERS = 32
MAX_NAME_LENGTH = 128
MAX_VALUE_LENGTH = 4_096
# Most receivers take 8 KiB of headers in all; ours need some of it.
MAX_TOTAL_LENGTH = 6_144
COLUMN = "sealed_headers"

_FRAMING = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "expect"}
)
_OURS = frozenset({"accept-encoding", "traceparent"})
_OUR_PREFIXES = ("proxy-", "webhook-")
# RFC 9110, 5.6.2 and 5.5: a token; visible ASCII with spaces and tabs between.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")


def check_headers(headers: Mapping[str, str], *, pointer: str = "/headers") -> None:
    """Refuse headers that an endpoint may not have.

    Raises:
        Invalid: `errors` points at each header that is not allowed and says why.

    """
    if len(headers) > MAX_HEADERS:
        raise Invalid.at(pointer, f"There are {len(headers)} headers, and at most {MAX_HEADERS} are allowed.")
    faults = []
    seen: set[str] = set()
    for name, value in headers.items():
        fault = header_fault(name, value)
        if fault is None and name.lower() in seen:
            fault = "This header is given twice; the case of its letters makes no difference."
        seen.add(name.lower())
        if fault is not None:
            faults.append(FieldError(f"{pointer}/{_escaped(name)}", fault))
    if faults:
        raise Invalid("A header cannot be set on an endpoint.", errors=faults)
    if sum(len(name) + len(value) for name, value in headers.items()) > MAX_TOTAL_LENGTH:
        raise Invalid.at(pointer, f"The headers may have {MAX_TOTAL_LENGTH} characters in all.")


def header_fault(name: str, value: str) -> str | None:
    """Return a sentence on why a header may not be set, or None."""
    plain = name.lower()
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        return f"A header's name is 1 to {MAX_NAME_LENGTH} letters, digits and !#$%&'*+-.^_`|~ (RFC 9110)."
    if plain in _FRAMING:
        return "This header belongs to the connection and cannot be set."
    if plain in _OURS or plain.startswith(_OUR_PREFIXES):
        return "Bellwire sets this header itself; choose another name."
    if not _VALUE.fullmatch(value) or len(value) > MAX_VALUE_LENGTH:
        return (
            f"A header's value is 1 to {MAX_VALUE_LENGTH} visible ASCII characters, "
            "with spaces or tabs between them only."
        )
    return None


def merge_headers(current: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the new headers: `given`, where a masked value stands for the one that is stored.

    Raises:
        Invalid: a masked value for a header that is not stored.

    """
    stored = {name.lower(): value for name, value in current.items()}
    faults = [
        FieldError(
            f"/headers/{_escaped(name)}",
            f"`{MASK}` stands for a stored value, and there is none. Give the value.",
        )
        for name, value in given.items()
        if value == MASK and name.lower() not in stored
    ]
    if faults:
        raise Invalid("A masked header has no stored value.", errors=faults)
    return {name: stored[name.lower()] if value == MASK else value for name, value in given.items()}


def masked(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers as answers show them."""
    return dict.fromkeys(headers, MASK)


def seal_headers(headers: Mapping[str, str], *, keyring: Keyring, endpoint_id: UUID) -> bytes | None:
    """Return what is stored; None for no headers."""
    if not headers:
        return None
    return keyring.seal(orjson.dumps(dict(headers)), row=endpoint_id, column=COLUMN)


def open_headers(sealed: bytes | None, *, keyring: Keyring, endpoint_id: UUID) -> dict[str, str]:
    """Return the headers of an endpoint with their values.

    Raises:
        CannotDecrypt: they were sealed with a key that is not in the ring.

    """
    if sealed is None:
        return {}
    opened: dict[str, str] = orjson.loads(keyring.open(sealed, row=endpoint_id, column=COLUMN))
    return opened


def _escaped(name: str) -> str:
    """Return a name as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")
